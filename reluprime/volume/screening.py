"""One network and one mini-batch: exact zeros first, and gradients only where there is one.

Without an exact zero ReLU'(0) is in no formula, so the gradient cannot depend on it.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from reluprime.instruments.activations import ACTIVATIONS
from reluprime.instruments.derivative import count_zeros
from reluprime.instruments.watch import count_kinks, relu_calls
from reluprime.volume.networks import Batch
from reluprime.volume.stacks import Comparison, compare

SCREENED_AT_ONCE = 16  # mini-batches of a network that has no stack, on a GPU


def screen(network: nn.Module, batches: list[Batch], chain: bool) -> Iterator[int]:
    """The indices of the mini-batches with an exact zero, in order.

    chain: whether each layer takes the output of the one before it alone (see `models.Traits`);
    then a pass on a CPU ends at the first zero.
    """
    if batches[0][0].is_cuda:
        yield from _screen_at_once(network, batches)
    elif chain:
        leaves = [module for module in network.modules() if not list(module.children())]
        layers = leaves[:-1]  # no activation follows the output layer
        yield from (n for n, (x, _) in enumerate(batches) if _has_exact_zero(layers, x))
    else:
        yield from (n for n, (x, _) in enumerate(batches) if count_exact_zeros(network, x))


@torch.no_grad()
def _has_exact_zero(layers: list[nn.Module], x: Tensor) -> bool:
    """Whether any pre-activation is exactly 0 on the way of x through a chain of layers."""
    for layer in layers:
        if isinstance(layer, ACTIVATIONS):
            if count_zeros(x):
                return True
            x = x.relu_()
        else:
            x = layer(x)
    return False


@torch.no_grad()
def count_exact_zeros(network: nn.Module, x: Tensor) -> Tensor:
    """Pre-activations that are exactly 0 on the way of x, int64 (), on the device of x."""
    with count_kinks(network) as hits:
        network(x)
    return torch.cat(list(hits.values())).sum()


def _screen_at_once(network: nn.Module, batches: list[Batch]) -> Iterator[int]:
    """:func:`screen` for a GPU: its host waits once for several mini-batches."""
    for start in range(0, len(batches), SCREENED_AT_ONCE):
        part = batches[start : start + SCREENED_AT_ONCE]
        counts = torch.stack([count_exact_zeros(network, x) for x, _ in part]).tolist()
        yield from (start + n for n, count in enumerate(counts) if count)


class Affected:
    """The mini-batches whose gradient depends on ReLU'(0), under one gradient rule.

    Networks come one after the other, each with its mini-batches in order.
    """

    def __init__(self):
        self.counts: list[int] = []  # affected mini-batches, by network
        self.first: list[int | None] = []  # the first of them, by network
        self.difference: list[float] = []  # by affected (network, mini-batch)
        self.difference_first_layer: list[float] = []
        self.nonfinite = 0  # (network, mini-batch) pairs whose gradient overflowed

    def start_network(self) -> None:
        self.counts.append(0)
        self.first.append(None)

    def add(self, batch: int, found: Comparison) -> None:
        """Add the gradients of the present network on the mini-batch of an index."""
        if not found.finite:
            self.nonfinite += 1
        elif found.affects:
            self.counts[-1] += 1
            self.first[-1] = batch if self.first[-1] is None else self.first[-1]
            self.difference.append(found.difference)
            self.difference_first_layer.append(found.difference_first_layer)


def confirm(
    network: nn.Module,
    changed: dict[str, nn.Module],
    batch: Batch,
    index: int,
    rules: dict[str, Affected],
    zeros: dict[str, int],
) -> None:
    """The backward passes of one mini-batch with an exact zero; adds to `rules` and `zeros`.

    network: with ReLU'(0) = 0; changed: {gradient rule: a network of its shape with ReLU'(0) = 1},
    which gets its weights; index: of the mini-batch; zeros: {activation: exact zeros}.
    """
    weights = dict(network.named_parameters())
    with count_kinks(network) as hits:
        g0 = _gradients(network, weights, batch)
    for name, count in hits.items():
        zeros[name] = zeros.get(name, 0) + int(count.sum())
    for name, rule in rules.items():
        rule.add(index, *compare(g0, _gradients(changed[name], weights, batch)))


def _gradients(network: nn.Module, weights: dict[str, Tensor], batch: Batch) -> list[Tensor]:
    """fp64 gradients (1, entries) of the mean cross-entropy, one tensor a parameter.

    As :func:`stacks.compare` takes them: of a stack of one network.
    """
    x, y = batch
    loss = F.cross_entropy(functional_call(network, weights, (x,)), y)
    found = torch.autograd.grad(loss, list(weights.values()))
    return [g.double().flatten().unsqueeze(0) for g in found]


def result(
    batches: list[Batch],
    network: nn.Module,
    screened: list[int],
    zeros: dict[str, int],
    rules: dict[str, Affected],
) -> dict:
    """What `volume.estimate` returns (see there); network: any one of the cell."""
    x = batches[0][0]
    found = {
        "n_batches": len(batches),
        "relu_calls": sum(len(y) for _, y in batches) * sum(relu_calls(network, x[:1]).values()),
        "screened": screened,
        "exact_zeros": zeros,
    }
    columns = {
        "affected": "counts",
        "first_affected": "first",
        "relative_difference": "difference",
        "relative_difference_first_layer": "difference_first_layer",
        "nonfinite": "nonfinite",
    }
    for column, attribute in columns.items():
        found |= {f"{column}_{name}": getattr(rule, attribute) for name, rule in rules.items()}
    return found
