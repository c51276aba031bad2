"""What happens at each place of a model where a function with kinks is called."""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from reluprime.check import watch
from reluprime.check.calls import Call, Elementwise
from reluprime.instruments import kernels

_TORCH = os.path.dirname(torch.__file__) + os.sep
_HERE = os.path.dirname(__file__) + os.sep
_WATCHING = (__file__, watch.__file__)
_LINEAR, _NORM = (nn.Linear, nn.Conv2d), (nn.BatchNorm1d, nn.BatchNorm2d)


class Site(NamedTuple):
    """Where a function is called: the path of the innermost module, "" for the model's own code."""

    module: str
    line: str  # file:line of the model's code; "" where PyTorch's own modules call each other
    function: str


def _line() -> str:
    """The innermost line outside PyTorch and this tool that leads to the present call."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if name not in _WATCHING and not name.startswith(_TORCH):
            # The model itself was called from another file of this tool.
            called_here = name.startswith(_HERE)
            return "" if called_here else f"{os.path.basename(name)}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


class _Produced(NamedTuple):
    """The newest output of a linear layer, convolution or batch norm."""

    output: Tensor
    version: int
    layer: nn.Module
    x: Tensor | None  # the layer's input


@dataclass
class Counts:
    """Sums over mini-batches for one site."""

    calls: int = 0
    hits: int = 0
    structural: int | None = 0  # None: not compared with fp64
    expected: float | None = 0.0
    highest: list[Tensor] = field(default_factory=list)  # (units,) for each call of a pass
    edge: float = 0.0  # units that never get above it are dead

    def units(self) -> tuple[int, int] | tuple[None, None]:
        """Units and how many of them are dead; None for a function without a dead side."""
        if not self.highest:
            return None, None
        dead = sum(int((high <= self.edge).sum()) for high in self.highest)
        return sum(len(high) for high in self.highest), dead


class Watcher:
    """Counts at each site of a model, over the passes that run in its blocks."""

    def __init__(self, model: nn.Module):
        self._model = model
        self._path: list[str] = []  # of the modules that are running, outermost first
        self._produced: _Produced | None = None
        self._calls_of: dict[Site, int] = {}  # in this pass, the first is 0
        self.counts: dict[Site, Counts] = {}
        self.masks: list[tuple[Site, Tensor]] = []  # of the last pass: its calls' hits, in order

    @contextmanager
    def one_pass(self) -> Iterator[None]:
        """The model runs once in the block."""
        self._path, self._produced, self._calls_of, self.masks = [""], None, {}, []
        with ExitStack() as stack:
            for name, module in self._model.named_modules():
                for handle in self._hooks(name, module):
                    stack.callback(handle.remove)
            yield

    def _hooks(self, name: str, module: nn.Module) -> Iterator:
        if isinstance(module, torch.jit.ScriptModule):
            return

        def leave(*_) -> None:  # a value would become the module's output
            self._path.pop()

        yield module.register_forward_pre_hook(lambda *_: self._path.append(name))
        yield module.register_forward_hook(leave, always_call=True)
        if isinstance(module, _LINEAR + _NORM):
            yield module.register_forward_hook(self._keep, with_kwargs=True)

    def _keep(self, layer: nn.Module, inputs: tuple, named: dict, output: Tensor) -> None:
        if isinstance(output, Tensor):
            x = inputs[0] if inputs else named.get("input")  # a subclass may call it otherwise
            self._produced = _Produced(output, output._version, layer, x)

    def see(self, call: Call) -> None:
        """Count one call; its numbers are those before the call."""
        site = Site(self._path[-1], _line(), call.name)
        counts = self.counts.setdefault(site, Counts())
        hits = call.hits()
        number = int(hits.sum())
        self.masks.append((site, hits))
        counts.calls += hits.numel()
        counts.hits += number
        produced = self._produced
        if produced is None or produced.output is not call.x:
            produced = None
        elif produced.version != call.x._version:
            produced = None  # something was added to it since
        self._expect(counts, call, produced)
        self._follow_units(site, call, produced)

    def _expect(self, counts: Counts, call: Call, produced: _Produced | None) -> None:
        at_zero = isinstance(call, Elementwise) and [kink.x for kink in call.kinks] == [0.0]
        width = _width(produced) if at_zero and produced is not None else None
        if width is None:
            counts.expected = None
        elif counts.expected is not None:
            counts.expected += kernels.expected_zeros(call.x.detach(), width)

    def _follow_units(self, site: Site, call: Call, produced: _Produced | None) -> None:
        if not isinstance(call, Elementwise) or call.kinks[0].left != 0 or call.x.dim() < 2:
            return
        counts = self.counts[site]
        counts.edge = call.kinks[0].x
        unit = -1 if produced is not None and isinstance(produced.layer, nn.Linear) else 1
        unit %= call.x.dim()
        high = call.x.detach().amax([dim for dim in range(call.x.dim()) if dim != unit])
        index = self._calls_of[site] = self._calls_of.get(site, -1) + 1
        if index == len(counts.highest):
            counts.highest.append(high)
        elif len(high) == len(counts.highest[index]):
            counts.highest[index] = torch.maximum(counts.highest[index], high)


def _width(produced: _Produced) -> Tensor | None:
    """How wide the set of exact results is that PyTorch's kernel turns into 0, by channel.

    In a shape that broadcasts over the layer's output; None for a layer that the model of zeros
    (`kernels.linear_width`) does not describe.
    """
    output, layer, x = produced.output, produced.layer, produced.x
    native = type(layer) in _LINEAR + _NORM and layer.bias is not None
    if not native or layer.bias.dtype != output.dtype:  # an emulation, or autocast
        return None
    if isinstance(layer, nn.Linear) and x.dim() != 2:
        return None
    if isinstance(layer, _NORM) and layer.bias.dtype.itemsize == 2:
        return None  # with 16-bit weights a CPU rounds the mean to them, which no model of ours has
    if isinstance(layer, _LINEAR):
        width = kernels.linear_width("native", layer.bias.detach())
    else:
        width = kernels.norm_width("native", layer, *_statistics(layer, x))
    return width.view(-1, *[1] * (output.dim() - 2))


def _statistics(layer: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and 1 / standard deviation, each (channels,), with which a batch norm normalises x."""
    if layer.training or layer.running_mean is None:
        dims = [dim for dim in range(x.dim()) if dim != 1]
        return x.mean(dims), (x.var(dims, correction=0) + layer.eps).rsqrt()
    return layer.running_mean, (layer.running_var + layer.eps).rsqrt()


def compare(watcher: Watcher, twin: Watcher) -> None:
    """Count as structural the kinks of the watcher's last pass that the twin's last pass has too.

    twin: of the same model in fp64, on the same inputs. A site is left out for good (its count is
    None) where the two passes made different calls, as those of a model that branches on numbers.
    """
    same = len(watcher.masks) == len(twin.masks) and all(
        site == other and hits.shape == exact.shape
        for (site, hits), (other, exact) in zip(watcher.masks, twin.masks, strict=True)
    )
    for number, (site, hits) in enumerate(watcher.masks):
        counts = watcher.counts[site]
        if not same:
            counts.structural = None
        elif counts.structural is not None:
            counts.structural += int((hits & twin.masks[number][1]).sum())
