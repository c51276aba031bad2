"""Units that are off, or on, for every image."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from reluprime.instruments.activations import watched


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
