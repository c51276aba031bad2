"""The Monte Carlo on a GPU: all networks of a cell as one stack, group by group of mini-batches."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn

from reluprime.config import cells
from reluprime.instruments.activations import GRADIENT_RULES
from reluprime.volume import stacks
from reluprime.volume.networks import Batch, VolumeConfig, random_network
from reluprime.volume.screening import Affected, result

STACK_BYTES = 2**33  # of a GPU's memory for the pre-activations or the gradients of a stack

Pair = tuple[int, int]  # the index of a network in the stack, and of a mini-batch
Group = dict[int, Batch]  # by index; all of one size but the data set's last


def estimate_in_stacks(config: VolumeConfig, batches: list[Batch], n_classes: int) -> dict:
    """`volume.estimate` with all networks at once, or as many as the GPU has memory for.

    config: of an mlp without batch norm, in native arithmetic.
    """
    return in_parts(_estimate_stack, config, batches, n_classes)


def in_parts(
    run: Callable[[VolumeConfig, list[Batch], int], dict],
    config: VolumeConfig,
    batches: list[Batch],
    n_classes: int,
) -> dict:
    """`run` with all networks of a config, or in parts where the GPU has too little memory."""

    def joined(size: int) -> dict:
        results = [run(part, batches, n_classes) for part in cells(config, size)]
        return {
            name: values[0] if name in ("n_batches", "relu_calls") else _joined(values)
            for name, values in ((n, [r[n] for r in results]) for n in results[0])
        }

    return stacks.halving(joined, config.n_networks)


def _joined(values: list):
    """Lists one after the other, numbers added up, also by name."""
    if isinstance(values[0], list):
        return [entry for value in values for entry in value]
    if isinstance(values[0], dict):
        names = dict.fromkeys(name for value in values for name in value)
        return {name: sum(value.get(name, 0) for value in values) for name in names}
    return sum(values)


def at_once(x: Tensor, bytes_each: int, stack_bytes: int = STACK_BYTES) -> int:
    """How many are evaluated together on a GPU, of which each needs so many bytes.

    From the cell alone, not from the memory that happens to be free: the sizes of products decide
    their kernels, and so the last bits.
    """
    return max(1, stack_bytes // bytes_each) if x.is_cuda else 1


def _estimate_stack(config: VolumeConfig, batches: list[Batch], n_classes: int) -> dict:
    networks = drawn(config, batches[0][0], n_classes)
    stack, progress = stacks.layers(networks), Progress(config)
    for group in groups(config, batches):
        outputs = stacks.outputs(stack, images(group))
        # The host waits once for the counts of a group.
        progress.screened(min(group), stacks.zeros(stack, outputs, config.batch_size).tolist())
        while pairs := progress.next_pairs():
            for part in parts(pairs, group, stack):
                chosen = screened_pairs(part, group, stack, outputs, config.batch_size)
                for pair, found in zip(part, compared(*chosen), strict=True):
                    progress.add(pair, found)
    return progress.result(batches, networks[0])


def drawn(config: VolumeConfig, x: Tensor, n_classes: int) -> list[nn.Module]:
    """The networks of a config, in the dtype and on the device of the images x."""
    with ThreadPoolExecutor() as pool:  # drawing weights takes longer than a GPU needs for them
        seeds = range(config.seed, config.seed + config.n_networks)
        each = pool.map(lambda n: random_network(config, x, n_classes, n, 0.0, "chain"), seeds)
        return list(each)


def groups(
    config: VolumeConfig, batches: list[Batch], stack_bytes: int = STACK_BYTES
) -> Iterator[Group]:
    """Mini-batches one after the other, as many at once as `stack_bytes` of a GPU hold."""
    x = batches[0][0]
    copies = 4  # pre-activations, activations, what is 0 and the counts of it
    row = copies * config.n_networks * sum(config.hidden_sizes) * x.element_size()
    size = at_once(x, row * config.batch_size, stack_bytes)
    for start in range(0, len(batches), size):
        yield dict(enumerate(batches[start : start + size], start))


def images(group: Group) -> Tensor:
    """The images of a group, (rows, inputs)."""
    return torch.cat([x for x, _ in group.values()]).flatten(1)


class Progress:
    """What is known so far of the networks of a stack, mini-batch by mini-batch."""

    def __init__(self, config: VolumeConfig):
        self.config = config
        self.counts: list[list[list[int]]] = []  # exact zeros by mini-batch, activation, network
        # By rule and network: {mini-batch: what its gradients at s=0 and s=1 are}.
        self.compared = {rule: [{} for _ in range(config.n_networks)] for rule in GRADIENT_RULES}
        self.last: list[int | None] = [None] * config.n_networks  # where a network was left
        self._waiting: dict[int, list[int]] = {}  # by network, mini-batches still to be compared

    def screened(self, start: int, counts: list[list[list[int]]]) -> None:
        """Take the exact zeros (activations, mini-batches from `start` on, networks)."""
        by_batch = [list(by_activation) for by_activation in zip(*counts, strict=True)]
        self.counts += by_batch
        self._waiting = {
            n: [start + i for i, hits in enumerate(by_batch) if any(row[n] for row in hits)]
            for n in range(self.config.n_networks)
            if self.last[n] is None
        }

    def next_pairs(self) -> list[Pair]:
        """The pairs whose gradients are to be compared next; each is returned once.

        A pair is due if the network met an exact zero in the mini-batch, and the mini-batch is of
        the last :meth:`screened`. With stop_at_first a network's next one alone, as :meth:`add`
        may say that the later ones are not needed: so compare, add, and ask again until there are
        none.
        """
        due = []
        for n, waiting in self._waiting.items():
            take = min(1, len(waiting)) if self.config.stop_at_first else len(waiting)
            due += [(n, q) for q in waiting[:take]]
            self._waiting[n] = waiting[take:]
        return due

    def add(self, pair: Pair, comparisons: dict[str, stacks.Comparison]) -> None:
        """Add what the gradients of a pair are, {gradient rule: comparison}."""
        n, q = pair
        for rule, comparison in comparisons.items():
            self.compared[rule][n][q] = comparison
        affected = (any(c.affects for c in of[n].values()) for of in self.compared.values())
        if self.config.stop_at_first and all(affected):
            self.last[n] = q
            self._waiting[n] = []

    def result(self, batches: list[Batch], network: nn.Module) -> dict:
        """What `volume.estimate` returns; network: any one of the stack."""
        rules = {name: Affected() for name in GRADIENT_RULES}
        for name, rule in rules.items():
            for comparisons in self.compared[name]:
                rule.start_network()
                for q, comparison in sorted(comparisons.items()):
                    rule.add(q, comparison)
        seen = self.seen(len(batches))
        screened = [
            sum(any(row[n] for row in self.counts[q]) for q in range(end))
            for n, end in enumerate(seen)
        ]
        zeros = {}
        if any(screened):
            names = [layer.activation for layer in stacks.layers([network]) if layer.activation]
            for index, name in enumerate(names):
                of_network = (
                    sum(self.counts[q][index][n] for q in range(e)) for n, e in enumerate(seen)
                )
                zeros[name] = sum(of_network)
        return result(batches, network, screened, zeros, rules)

    def seen(self, n_batches: int) -> list[int]:
        """By network, mini-batches before it was left."""
        return [n_batches if q is None else q + 1 for q in self.last]


def parts(pairs: list[Pair], group: Group, stack: list[stacks.Layer]) -> Iterator[list[Pair]]:
    """Pairs of mini-batches of one size, as many as there is memory for their gradients."""
    entries = sum(layer.weight[0].numel() + layer.bias[0].numel() for layer in stack)
    size = at_once(stack[0].weight, 64 * entries)  # two rules' gradients in fp64, and copies
    for rows in sorted({len(group[q][1]) for _, q in pairs}):
        same = [(n, q) for n, q in pairs if len(group[q][1]) == rows]
        yield from (same[i : i + size] for i in range(0, len(same), size))


Chosen = tuple[list[stacks.Layer], Tensor, Tensor, list[Tensor]]


def screened_pairs(
    pairs: list[Pair],
    group: Group,
    stack: list[stacks.Layer],
    outputs: list[Tensor],
    batch_size: int,
) -> Chosen:
    """Networks, images, labels and screened outputs of pairs, as `stacks.gradients` takes them.

    outputs: those of each layer of the stack for the whole group, (networks, rows, out).
    """
    own = [layer.of([n for n, _ in pairs]) for layer in stack]
    x, y = (torch.stack([group[q][i] for _, q in pairs]) for i in (0, 1))
    first = min(group)
    rows = {q: (q - first) * batch_size for _, q in pairs}
    at = {q: slice(start, start + y.shape[1]) for q, start in rows.items()}
    return own, x, y, [torch.stack([z[n, at[q]] for n, q in pairs]) for z in outputs]


def compared(
    own: list[stacks.Layer], x: Tensor, y: Tensor, screened: list[Tensor]
) -> list[dict[str, stacks.Comparison]]:
    """The gradients at s=0 and s=1 of each pair, {gradient rule: comparison}."""
    g0 = stacks.gradients(own, x, y, screened, 0.0, "chain")
    by_rule = {
        rule: stacks.compare(g0, stacks.gradients(own, x, y, screened, 1.0, rule))
        for rule in GRADIENT_RULES
    }
    return [{rule: found[i] for rule, found in by_rule.items()} for i in range(len(x))]
