"""What the activations of a network meet while it runs: calls, exact kinks, ranges of units."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from reluprime.instruments.activations import ACTIVATIONS, ReLU
from reluprime.instruments.derivative import count_zeros, in_band


@contextmanager
def watched(model: nn.Module, see: Callable[[str, nn.Module, Tensor], None]) -> Iterator[None]:
    """While the model runs, `see(name, activation, input)` for each call of an activation."""

    def hook(name: str):
        return lambda module, inputs, named: see(name, module, [*inputs, *named.values()][0])

    handles = [
        module.register_forward_pre_hook(hook(name), with_kwargs=True)
        for name, module in model.named_modules()
        if isinstance(module, ACTIVATIONS)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def relu_calls(network: nn.Module, x: Tensor) -> dict[str, int]:
    """{activation: its pre-activations in a pass of x}, the network in evaluation mode."""
    calls: dict[str, int] = {}

    def see(name: str, _: nn.Module, z: Tensor) -> None:
        calls[name] = calls.get(name, 0) + z.numel()

    training = network.training
    with watched(network, see):
        network.eval()(x)
    network.train(training)
    return calls


def _count(x: Tensor, kink: float, under_vmap: bool) -> Tensor:
    """Inputs that are exactly at a kink, int64 ()."""
    # On a CPU PyTorch 2.11 has no vmap for counting.
    if kink == 0 and not x.is_cuda and not under_vmap:
        return count_zeros(x)
    return (x == kink).sum()


@contextmanager
def count_kinks(model: nn.Module, *, under_vmap: bool = False) -> Iterator[dict[str, Tensor]]:
    """Count the inputs that are exactly at a kink, by layer, while the model runs.

    The layers are modules of reluprime's ReLU, ReLU6 and LeakyReLU; PyTorch's own are not counted,
    :func:`reluprime.check` looks at the kinks of any model. Yields
    {module name: int64 (number of kinks,)}, on the device of the activations and added
    up over all forward passes in the block; an activation that was not called is absent. A ReLU
    with a kink_width has one number more, at the end: inputs in the band, exact zeros among them.
    Outputs and gradients do not change. under_vmap: whether the model runs within
    `torch.func.vmap`. Raises ValueError for a model that has none of the three modules.
    """
    if not any(isinstance(module, ACTIVATIONS) for module in model.modules()):
        raise ValueError(
            "the model has none of reluprime's own ReLU, ReLU6 and LeakyReLU, which count_kinks "
            "counts: build it with these, or use reluprime.check, which takes any model"
        )
    counts: dict[str, Tensor] = {}

    def see(name: str, module: nn.Module, x: Tensor) -> None:
        x = x.detach()
        counted = [_count(x, kink, under_vmap) for kink in module.kinks]
        if isinstance(module, ReLU) and module.kink_width:
            counted.append(in_band(x, module.kink_width).sum())
        hits = torch.stack(counted)
        counts[name] = counts[name] + hits if name in counts else hits

    with watched(model, see):
        yield counts


class UnitRanges:
    """The least and the largest pre-activation of each unit of a network, over several passes.

    A unit is a neuron of a linear layer or a channel of a convolution, over all its positions. An
    activation that is called several times a pass has the units of each call.
    """

    def __init__(self, network: nn.Module):
        self._network = network
        self._ranges: dict[str, tuple[Tensor, Tensor]] = {}  # (units,) each

    @contextmanager
    def one_pass(self) -> Iterator[None]:
        """The network is run once in the block."""
        calls: dict[str, list[tuple[Tensor, Tensor]]] = {}

        def see(name: str, _: nn.Module, z: Tensor) -> None:
            all_but_units = [dim for dim in range(z.dim()) if dim != 1]
            calls.setdefault(name, []).append((z.amin(all_but_units), z.amax(all_but_units)))

        with watched(self._network, see):
            yield
        for name, parts in calls.items():
            low, high = (torch.cat(part) for part in zip(*parts, strict=True))
            if name in self._ranges:
                before = self._ranges[name]
                low, high = torch.minimum(before[0], low), torch.maximum(before[1], high)
            self._ranges[name] = low, high

    def sizes(self) -> dict[str, int]:
        """{activation: its units}."""
        return {name: len(low) for name, (low, _) in self._ranges.items()}

    def counts(self) -> dict[str, dict[str, int]]:
        """{what: {activation: number of units}}; the host waits once.

        dead_units have no pre-activation above 0, always_on_units all of them. A unit that has met
        NaN is neither.
        """
        found = [
            torch.stack([(high <= 0).sum(), (low > 0).sum()]) for low, high in self._ranges.values()
        ]
        dead, on = torch.stack(found, 1).tolist()
        return {
            "dead_units": dict(zip(self._ranges, dead, strict=True)),
            "always_on_units": dict(zip(self._ranges, on, strict=True)),
        }
