"""Monte Carlo estimate of the bifurcation zone's share of weight space (B21 3.2, Appendix C).

A random network is in the zone if some mini-batch gives another gradient with ReLU'(0) = 1 than
with ReLU'(0) = 0. That needs a pre-activation of exactly 0, so a forward pass screens each
mini-batch and only those with an exact zero pay for backward passes.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn
from torch.func import functional_call

from reluprime.config import DatasetName, cells, study
from reluprime.instruments import data, models
from reluprime.instruments.activations import (
    ACTIVATIONS,
    GRADIENT_RULES,
    ReLU,
    count_kinks,
    count_zeros,
)
from reluprime.instruments.precision import Precision, best_device, numerics
from reluprime.volume import stacks

SCREENED_AT_ONCE = 16  # mini-batches of a network that has no stack, on a GPU
STACK_BYTES = 2**33  # of a GPU's memory for the pre-activations or the gradients of a stack


class VolumeConfig(models.NetworkConfig):
    """One cell of the Monte Carlo: `n_networks` random networks on one data set."""

    dataset: DatasetName = "mnist"  # its training images, raw in [0, 1], in file order
    hidden_sizes: tuple[PositiveInt, ...] = (256, 256, 256)  # B21 Table 1
    precision: Precision = "fp32"  # of weights, activations and gradients
    batch_size: PositiveInt = 256  # images; B21 Table 1
    n_networks: PositiveInt = 50  # drawn with seeds seed, seed + 1, ...
    seed: Annotated[int, Field(ge=0)] = 0  # the same seed is the same network in each precision
    relu_after_first: bool = True  # False: the network that B21's release built for Table 1
    stop_at_first: bool = False  # leave a network at its first affected mini-batch (Fig. 2, 5)
    max_batches: PositiveInt | None = None  # the first mini-batches alone; None: all

    @model_validator(mode="after")
    def _first_relu(self):
        if not self.relu_after_first and self.architecture != "mlp":
            raise ValueError("relu_after_first=False: only an mlp can be without its first ReLU")
        if self.architecture == "mobilenet_v3_small":
            raise ValueError(
                f"architecture={self.architecture!r} has dropout: its gradients differ by chance"
            )
        return self


def _hidden(network: nn.Module) -> list[nn.Module] | None:
    """The layers of a plain row but the output layer; None for a network with branches."""
    row = models.plain_row(network)
    return row and row[:-1]  # no activation follows the output layer


@torch.no_grad()
def _has_exact_zero(network: nn.Module, hidden: list[nn.Module] | None, x: Tensor) -> bool:
    """Whether any pre-activation is exactly 0 on the way of x through the network."""
    if hidden is None:
        return bool(_count_exact_zeros(network, x))
    for module in hidden:
        if isinstance(module, ACTIVATIONS):
            if count_zeros(x):
                return True
            x = x.relu_()
        else:
            x = module(x)
    return False


@torch.no_grad()
def _count_exact_zeros(network: nn.Module, x: Tensor) -> Tensor:
    """Pre-activations that are exactly 0 on the way of x, int64 (), on the device of x."""
    with count_kinks(network) as hits:
        network(x)
    return torch.cat(list(hits.values())).sum()


def screen(network: nn.Module, batches: list) -> Iterator[int]:
    """The mini-batches with an exact zero, in order."""
    if batches[0][0].is_cuda:
        yield from _screen_at_once(network, batches)
        return
    hidden = _hidden(network)
    yield from (n for n, (x, _) in enumerate(batches) if _has_exact_zero(network, hidden, x))


def _screen_at_once(network: nn.Module, batches: list) -> Iterator[int]:
    """The same for a GPU: its host waits once for several mini-batches."""
    for start in range(0, len(batches), SCREENED_AT_ONCE):
        part = batches[start : start + SCREENED_AT_ONCE]
        counts = torch.stack([_count_exact_zeros(network, x) for x, _ in part]).tolist()
        yield from (start + n for n, count in enumerate(counts) if count)


def _gradients(network: nn.Module, weights: dict[str, Tensor], x: Tensor, y: Tensor):
    """Flat fp64 gradients (n parameters,) of the mean cross-entropy, one tensor a parameter."""
    loss = F.cross_entropy(functional_call(network, weights, (x,)), y)
    return [g.double().flatten() for g in torch.autograd.grad(loss, list(weights.values()))]


class Rule:
    """What one gradient rule did over the networks of a cell."""

    def __init__(self):
        self.affected: list[int] = []  # mini-batches, by network
        self.first: list[int | None] = []  # first affected mini-batch, by network
        self.difference: list[float] = []  # by affected (network, mini-batch)
        self.difference_first_layer: list[float] = []
        self.nonfinite = 0  # (network, mini-batch) pairs whose gradient overflowed

    def start_network(self) -> None:
        self.affected.append(0)
        self.first.append(None)

    def add(self, batch: int, found: stacks.Comparison) -> None:
        if not found.finite:
            self.nonfinite += 1
        elif found.affects:
            self.affected[-1] += 1
            self.first[-1] = batch if self.first[-1] is None else self.first[-1]
            self.difference.append(found.difference)
            self.difference_first_layer.append(found.difference_first_layer)


def random_network(
    config: VolumeConfig, x: Tensor, n_classes: int, seed: int, s: float, rule: str
) -> nn.Module:
    """The network of a seed, on the device and in the dtype of mini-batches like x."""
    network = models.build(
        config,
        x.shape[1:],
        n_classes,
        lambda: ReLU(s, rule),
        seed=seed,
        relu_after_first=config.relu_after_first,
    )
    return network.to(x.device, x.dtype)


@study("volume.estimate", version=1)
def estimate(config: VolumeConfig, device: torch.device | None = None) -> dict:
    """Gradients at s=0 against s=1, under both rules, on every mini-batch of the training set.

    Returns, R standing for each gradient rule:

    - n_batches: mini-batches in the data set (at most max_batches), Q
    - relu_calls: pre-activations of one network on all of them
    - screened: per network, mini-batches with an exact zero (of those seen)
    - exact_zeros: {activation: exact zeros, over all networks}
    - affected_R: per network, mini-batches whose gradient differs in any bit (row 1; without
      `stop_at_first` also row 2)
    - first_affected_R: per network, the first of them, counted from 0, or None
    - relative_difference_R: |g1 - g0|_2 / |g0|_2 for each affected pair, over all parameters;
      relative_difference_first_layer_R: over the first layer's weights, as the release did
    - nonfinite_R: pairs whose gradient is not finite; they count as neither

    The loss is the mean over the mini-batch, as in the release: under ``injected`` the relative
    difference would be 1 / batch_size as large with the sum that Appendix C writes.
    Source: B21 3.2, Table 1 and Appendix C.
    """
    device = best_device() if device is None else device
    with numerics(config.precision, device) as dtype:
        batches, n_classes = raw_batches(config, dtype, device)
        plain = config.architecture == "mlp" and not config.batch_norm
        stacked = device.type == "cuda" and plain and config.arithmetic == "native"
        run = _estimate_in_stacks if stacked else _estimate
        return run(config, batches, n_classes)


def raw_batches(config: VolumeConfig, dtype: torch.dtype, device: torch.device):
    """-> mini-batches [(images in [0, 1], labels)] of the training set, and its classes."""
    dataset = data.load(config.dataset, device=device)
    if config.architecture != "mlp":
        dataset = data.as_rgb_32(dataset)
    batches = [
        (data.unit_images(images, dtype), labels)
        for images, labels in zip(
            dataset.train_images.split(config.batch_size)[: config.max_batches],
            dataset.train_labels.split(config.batch_size)[: config.max_batches],
            strict=True,
        )
    ]
    return batches, 1 + int(dataset.train_labels.max())


def _estimate(config: VolumeConfig, batches: list, n_classes: int) -> dict:
    like = (config, batches[0][0], n_classes)
    rules = {rule: Rule() for rule in GRADIENT_RULES}
    changed = {r: random_network(*like, 0, 1.0, r) for r in rules}
    screened, zeros = [], {}
    for seed in range(config.seed, config.seed + config.n_networks):
        network = random_network(*like, seed, 0.0, "chain")
        screened.append(0)
        for rule in rules.values():
            rule.start_network()
        for index in screen(network, batches):
            screened[-1] += 1
            confirm(network, changed, batches[index], index, rules, zeros)
            if config.stop_at_first and all(r.affected[-1] for r in rules.values()):
                break
    return result(batches, network, screened, zeros, rules)


def result(batches: list, network: nn.Module, screened: list, zeros: dict, rules: dict) -> dict:
    return {
        "n_batches": len(batches),
        "relu_calls": sum(len(x) for x, _ in batches) * _calls_of_an_image(network, batches[0][0]),
        "screened": screened,
        "exact_zeros": zeros,
        **{f"affected_{name}": rule.affected for name, rule in rules.items()},
        **{f"first_affected_{name}": rule.first for name, rule in rules.items()},
        **{f"relative_difference_{name}": rule.difference for name, rule in rules.items()},
        **{
            f"relative_difference_first_layer_{name}": rule.difference_first_layer
            for name, rule in rules.items()
        },
        **{f"nonfinite_{name}": rule.nonfinite for name, rule in rules.items()},
    }


def _calls_of_an_image(network: nn.Module, x: Tensor) -> int:
    return sum(models.relu_calls(network, x[:1]).values())


def confirm(network, changed, batch, index, rules, zeros) -> None:
    """The backward passes of one mini-batch with an exact zero, and what they say."""
    weights = dict(network.named_parameters())
    with count_kinks(network) as hits:
        g0 = _gradients(network, weights, *batch)
    for name, count in hits.items():
        zeros[name] = zeros.get(name, 0) + int(count.sum())
    for name, rule in rules.items():
        g1 = _gradients(changed[name], weights, *batch)
        rule.add(index, *stacks.compare(_one(g0), _one(g1)))


def _one(gradients: list[Tensor]) -> list[Tensor]:
    """Gradients of one network, (entries,) each, as a stack of one: (1, entries).

    :func:`stacks.compare` takes the gradients of many networks at once.
    """
    return [g.unsqueeze(0) for g in gradients]


def _estimate_in_stacks(config: VolumeConfig, batches: list, n_classes: int) -> dict:
    """:func:`_estimate` with all networks at once, or as many as the GPU has memory for."""

    def run(size: int) -> dict:
        results = [_estimate_stack(part, batches, n_classes) for part in cells(config, size)]
        return {
            name: values[0] if name in ("n_batches", "relu_calls") else _joined(values)
            for name, values in ((n, [r[n] for r in results]) for n in results[0])
        }

    return stacks.halving(run, config.n_networks)


def _joined(values: list):
    """Lists one after the other, numbers added up, also by name."""
    if isinstance(values[0], list):
        return [entry for value in values for entry in value]
    if isinstance(values[0], dict):
        names = dict.fromkeys(name for value in values for name in value)
        return {name: sum(value.get(name, 0) for value in values) for name in names}
    return sum(values)


def _at_once(x: Tensor, bytes_each: int) -> int:
    """How many are evaluated together on a GPU.

    From the cell alone, not from the memory that happens to be free: the sizes of products decide
    their kernels, and so the last bits.
    """
    return max(1, STACK_BYTES // bytes_each) if x.is_cuda else 1


def _estimate_stack(config: VolumeConfig, batches: list, n_classes: int) -> dict:
    like = (batches[0][0], n_classes)
    with ThreadPoolExecutor() as pool:  # drawing weights takes longer than a GPU needs for them
        seeds = range(config.seed, config.seed + config.n_networks)
        networks = list(pool.map(lambda n: random_network(config, *like, n, 0.0, "chain"), seeds))
    stack, found = stacks.layers(networks), _Found(config)
    copies = 4  # pre-activations, activations, what is 0 and the counts of it
    row = copies * config.n_networks * sum(config.hidden_sizes) * like[0].element_size()
    at_once = _at_once(like[0], row * config.batch_size)
    for start in range(0, len(batches), at_once):
        group = batches[start : start + at_once]
        outputs = stacks.outputs(stack, torch.cat([x for x, _ in group]))
        # The host waits once for the counts of a group.
        counts = stacks.zeros(stack, outputs, config.batch_size).tolist()
        found.screen(start, counts)
        while pairs := found.pairs():
            for part in _parts(pairs, group, start, stack):
                _confirm_pairs(part, group, start, stack, outputs, found)
    return _result_of_stack(batches, networks[0], found)


class _Found:
    """What is known of the networks of a stack, mini-batch by mini-batch."""

    def __init__(self, config: VolumeConfig):
        self.config = config
        self.counts: list[list[list[int]]] = []  # exact zeros by mini-batch, activation, network
        self.compared = {rule: [{} for _ in range(config.n_networks)] for rule in GRADIENT_RULES}
        self.last: list[int | None] = [None] * config.n_networks  # where a network was left

    def screen(self, start: int, counts: list[list[list[int]]]) -> None:
        """counts: (activations, mini-batches from `start`, networks)."""
        by_batch = [list(by_activation) for by_activation in zip(*counts, strict=True)]
        self.counts += by_batch
        self._waiting = {
            n: [start + i for i, hits in enumerate(by_batch) if any(row[n] for row in hits)]
            for n in range(self.config.n_networks)
            if self.last[n] is None
        }

    def pairs(self) -> list[tuple[int, int]]:
        """(network, mini-batch) whose gradients are to be compared next; each is returned once.

        Of the mini-batches that :meth:`screen` was given last, those on which the network met an
        exact zero: without stop_at_first all of them; with it only a network's next one, as
        :meth:`add` may say that the later ones are not needed. So call this, compare, add, and
        repeat until the list is empty.
        """
        due = []
        for n, waiting in self._waiting.items():
            take = min(1, len(waiting)) if self.config.stop_at_first else len(waiting)
            due += [(n, q) for q in waiting[:take]]
            self._waiting[n] = waiting[take:]
        return due

    def add(self, n: int, q: int, comparisons: dict[str, stacks.Comparison]) -> None:
        for rule, comparison in comparisons.items():
            self.compared[rule][n][q] = comparison
        affected = (any(c.affects for c in of[n].values()) for of in self.compared.values())
        if self.config.stop_at_first and all(affected):
            self.last[n] = q
            self._waiting[n] = []


def _parts(pairs: list, group: list, start: int, stack: list) -> Iterator[list]:
    """Pairs of mini-batches of one size, as many as there is memory for their gradients."""
    entries = sum(w[0].numel() + b[0].numel() for w, b, _ in stack)
    at_once = _at_once(stack[0][0], 64 * entries)  # two rules' gradients in fp64, and copies
    for size in sorted({len(group[q - start][1]) for _, q in pairs}):
        same = [(n, q) for n, q in pairs if len(group[q - start][1]) == size]
        yield from (same[i : i + at_once] for i in range(0, len(same), at_once))


def _confirm_pairs(pairs, group, start, stack, outputs, found: _Found) -> None:
    """The backward passes of pairs with an exact zero, and what they say."""
    own = [n for n, _ in pairs]
    part = [(weight[own], bias[own], name) for weight, bias, name in stack]
    x, y = (torch.stack([group[q - start][i] for _, q in pairs]) for i in (0, 1))
    rows = {q: (q - start) * found.config.batch_size for _, q in pairs}
    pinned = [
        torch.stack([z[n, rows[q] : rows[q] + y.shape[1]] for n, q in pairs]) for z in outputs
    ]
    g0 = stacks.gradients(part, x, y, pinned, 0.0, "chain")
    comparisons = {
        rule: stacks.compare(g0, stacks.gradients(part, x, y, pinned, 1.0, rule))
        for rule in GRADIENT_RULES
    }
    for index, (n, q) in enumerate(pairs):
        found.add(n, q, {rule: of_pairs[index] for rule, of_pairs in comparisons.items()})


def _result_of_stack(batches: list, network: nn.Module, found: _Found) -> dict:
    rules = {name: Rule() for name in GRADIENT_RULES}
    for name, rule in rules.items():
        for comparisons in found.compared[name]:
            rule.start_network()
            for q, comparison in sorted(comparisons.items()):
                rule.add(q, comparison)
    seen = [len(batches) if q is None else q + 1 for q in found.last]
    names = [name for _, _, name in stacks.layers([network]) if name]
    zeros = {
        name: sum(found.counts[q][index][n] for n, end in enumerate(seen) for q in range(end))
        for index, name in enumerate(names)
    }
    screened = [
        sum(any(row[n] for row in found.counts[q]) for q in range(end))
        for n, end in enumerate(seen)
    ]
    return result(batches, network, screened, zeros if any(screened) else {}, rules)
