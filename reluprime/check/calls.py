"""Calls of functions that have kinks, computed with a chosen derivative there.

At a kink the derivative becomes left + s * (right - left), where left and right are the one-sided
derivatives. Between equal arguments of a maximum, and between equal maxima in a window of a
max-pool, the first gets s of the upstream gradient and the second 1 - s.

Each class holds one call: `hits` says which of its inputs are at a kink, and `compute` gives its
result, whose backward pass has the chosen derivative. Under the rule ``injected`` the derivative
itself is the input gradient, whatever the upstream gradient.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from reluprime.instruments.derivative import Rule


class Kink(NamedTuple):
    """Where a function of one number has a kink, and its one-sided derivatives there."""

    x: float
    left: float
    right: float

    def derivative(self, s: float) -> float:
        return self.left + s * (self.right - self.left)


class _Piecewise(torch.autograd.Function):
    """A function of one number, x (any shape) -> `call.value(x)`.

    Its backward pass gives `call.regular(upstream gradient, x)`, but at the kinks what `rule` says.
    """

    @staticmethod
    def forward(x, call, rule):
        return call.value(x)

    @staticmethod
    def setup_context(ctx, inputs, _):
        x, ctx.call, ctx.rule = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        result = ctx.call.regular(grad, x)
        for number, kink in enumerate(ctx.call.kinks):
            result = torch.where(x == kink.x, ctx.rule.at_kink(number, grad), result)
        return result, None, None


class Elementwise(NamedTuple):
    """A call of a function of one number."""

    name: str
    x: Tensor
    kinks: tuple[Kink, ...]
    value: Callable[[Tensor], Tensor]
    regular: Callable[[Tensor, Tensor], Tensor] | None  # (upstream, x) -> input gradient
    # The report's own function with a chosen derivative, used in the place of _Piecewise.
    own: Callable[[Tensor, float, str], Tensor] | None = None

    def hits(self) -> Tensor:
        """Which numbers are at a kink, of x's shape."""
        return torch.stack([self.x == kink.x for kink in self.kinks]).any(0)

    def compute(self, x: Tensor, s: float, gradient_rule: str) -> Tensor:
        if self.own is not None:
            return self.own(x, s, gradient_rule)
        derivatives = tuple(kink.derivative(s) for kink in self.kinks)
        return _Piecewise.apply(x, self, Rule(derivatives, gradient_rule))


class _PairFunction(torch.autograd.Function):
    """x, y (one shape and dtype) -> the larger of each two numbers, or with sign -1 the smaller."""

    @staticmethod
    def forward(x, y, sign, rule):
        return torch.maximum(x, y) if sign > 0 else torch.minimum(x, y)

    @staticmethod
    def setup_context(ctx, inputs, _):
        x, y, ctx.sign, ctx.rule = inputs
        ctx.save_for_backward(x, y)

    @staticmethod
    def backward(ctx, grad):
        x, y = ctx.saved_tensors
        ahead, behind = (x > y, x < y) if ctx.sign > 0 else (x < y, x > y)
        tied = x == y
        own = torch.where(tied, ctx.rule.at_kink(0, grad), grad.masked_fill(behind, 0))
        other = torch.where(tied, ctx.rule.at_kink(1, grad), grad.masked_fill(ahead, 0))
        return own, other, None, None


class Pair(NamedTuple):
    """A call of the maximum of two tensors (sign 1), or of their minimum (sign -1)."""

    name: str
    x: Tensor
    other: Tensor
    sign: int

    def hits(self) -> Tensor:
        """Which pairs are equal, of the result's shape."""
        return self.x == self.other

    def compute(self, x: Tensor, s: float, gradient_rule: str) -> Tensor:
        dtype = torch.result_type(x, self.other)
        x, other = torch.broadcast_tensors(x.to(dtype), self.other.to(dtype))
        return _PairFunction.apply(x, other, self.sign, Rule((s, 1 - s), gradient_rule))


class _PoolFunction(torch.autograd.Function):
    """A max-pool, x (batch, channels, height, width) -> the windows' maxima and their places.

    A place is the number of the first maximum's pixel in its image, rows one after another.
    """

    @staticmethod
    def forward(x, call, rule):
        return torch.ops.aten.max_pool2d_with_indices(x, *call.window)

    @staticmethod
    def setup_context(ctx, inputs, outputs):
        x, ctx.call, ctx.rule = inputs
        ctx.mark_non_differentiable(outputs[1])
        ctx.save_for_backward(x, *outputs)

    @staticmethod
    def backward(ctx, grad, _):
        x, largest, first = ctx.saved_tensors
        tied, second = ctx.call.ties(x, largest)
        spread = partial(torch.ops.aten.max_pool2d_with_indices_backward, self=x)
        window = dict(zip(("kernel_size", "stride", "padding", "dilation", "ceil_mode"),
                          ctx.call.window, strict=True))  # fmt: skip
        to_first = torch.where(tied, ctx.rule.at_kink(0, grad), grad)
        result = spread(to_first, **window, indices=first)
        if ctx.rule.derivatives[1]:
            to_second = torch.where(tied, ctx.rule.at_kink(1, grad), 0)
            result = result + spread(to_second, **window, indices=torch.where(tied, second, first))
        return result, None, None


class Pool(NamedTuple):
    """A call of max_pool2d; window: kernel size, stride, padding, dilation and ceil_mode."""

    name: str
    x: Tensor
    window: tuple[list[int], list[int], list[int], list[int], bool]
    indices: bool  # whether the positions of the maxima are asked for

    def ties(self, x: Tensor, largest: Tensor) -> tuple[Tensor, Tensor]:
        """Which windows have a second maximum, and where it is in its image (rows one by one)."""
        (rows, columns), (down, across), padding, dilation, _ = self.window
        height, width = largest.shape[-2:]
        tall, wide = x.shape[-2:]
        most = [
            dilation[0] * (rows - 1) + down * height,
            dilation[1] * (columns - 1) + across * width,
        ]
        edges = [padding[1], most[1] - padding[1] - wide, padding[0], most[0] - padding[0] - tall]
        padded = F.pad(x, [max(edge, 0) for edge in edges], value=float("nan"))  # equals nothing
        where = torch.arange(tall * wide, device=x.device).view(1, 1, tall, wide)
        where = F.pad(where, [max(edge, 0) for edge in edges])[0, 0]
        found = torch.zeros_like(largest, dtype=torch.int32)
        second = torch.zeros_like(largest, dtype=torch.int64)
        for row in range(rows):
            for column in range(columns):
                top, left = row * dilation[0], column * dilation[1]
                part = (
                    slice(top, top + down * height, down),
                    slice(left, left + across * width, across),
                )
                equal = padded[(..., *part)] == largest
                found += equal
                second = torch.where(equal & (found == 2), where[part], second)
        return found > 1, second

    def hits(self) -> Tensor:
        """Which windows have several maxima, of the result's shape."""
        largest = torch.ops.aten.max_pool2d_with_indices(self.x, *self.window)[0]
        return self.ties(self.x, largest)[0]

    def compute(self, x: Tensor, s: float, gradient_rule: str) -> Tensor | tuple[Tensor, Tensor]:
        found = _PoolFunction.apply(x, self, Rule((s, 1 - s), gradient_rule))
        return found if self.indices else found[0]


Call = Elementwise | Pair | Pool
