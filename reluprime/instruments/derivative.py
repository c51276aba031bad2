"""Piecewise linear functions whose derivative at the kinks is a parameter: forward and backward.

The functions that others call, and what they compute, are in `activations`.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Shape(NamedTuple):
    """A piecewise linear function: slope `left` below `lower`, 1 between, 0 above `upper`."""

    left: float = 0.0
    upper: float | None = None
    width: float = 0.0  # of the band, with one kink alone

    def value(self, x: Tensor) -> Tensor:
        if self.upper is not None:
            return F.relu6(x)
        return F.leaky_relu(x, self.left) if self.left else torch.relu(x)

    def regular_gradient(self, grad: Tensor, output: Tensor) -> Tensor:
        """Upstream gradient times the slope, read off the output (PyTorch's own kernels)."""
        if self.upper is not None:
            return torch.ops.aten.hardtanh_backward(grad, output, 0.0, self.upper)
        if self.left:
            return torch.ops.aten.leaky_relu_backward(grad, output, self.left, True)
        return torch.ops.aten.threshold_backward(grad, output, 0)

    @property
    def kinks(self) -> tuple[float, ...]:
        return (0.0,) if self.upper is None else (0.0, self.upper)


class Rule(NamedTuple):
    """The derivative at each kink, and how it meets the upstream gradient."""

    derivatives: tuple[float, ...]
    gradient_rule: str

    def at_kink(self, kink: int, upstream: Tensor) -> Tensor:
        s = self.derivatives[kink]
        if self.gradient_rule == "injected" or s == 0:  # 0 times an infinite gradient is 0 too
            return torch.full_like(upstream, s)
        return s * upstream


def count_zeros(x: Tensor) -> Tensor:
    """How many numbers are exactly 0 or -0, (); on a CPU faster than looking for them."""
    bits = x.view(torch.int16) << 1 if x.dtype.itemsize == 2 else x  # all but the sign
    return x.numel() - torch.count_nonzero(bits)


def _positions(x: Tensor, kink: float) -> Tensor:
    """Where x is exactly at the kink: int64 (n, x.dim()), n small.

    A mask of x's shape instead where the number of hits must not shape the program: a CUDA
    kernel would have to wait for the host, a compiled graph would break.
    """
    if x.is_cuda or torch.compiler.is_compiling():
        return x == kink
    if kink == 0 and count_zeros(x) == 0:
        return x.new_empty((0, x.dim()), dtype=torch.int64)
    return (x == kink).nonzero()


def in_band(x: Tensor, width: float) -> Tensor:
    """Where |x| <= width, as a mask: there may be many hits. NaN is not in it."""
    return x.abs() <= width


def _hits(x: Tensor, shape: Shape) -> tuple[Tensor, ...]:
    if shape.width:
        return (in_band(x, shape.width),)
    return tuple(_positions(x, kink) for kink in shape.kinks)


def _replace(grad: Tensor, positions: Tensor, upstream: Tensor, rule: Rule, kink: int) -> Tensor:
    """The rule's value at one kink's positions of `grad`, which nobody else has: it is changed."""
    if positions.dtype == torch.bool:
        return torch.where(positions, rule.at_kink(kink, upstream), grad)
    if len(positions) == 0:
        return grad
    index = positions.unbind(1)
    if not index:  # x is a single number, and at the kink
        return rule.at_kink(kink, upstream)
    return grad.index_put_(index, rule.at_kink(kink, upstream[index]))


def _batch_first(tensors: tuple[Tensor, ...], dims: tuple[int | None, ...], size: int):
    """Elementwise operands under vmap: the batch dimension made explicit, and first."""
    return tuple(
        t.expand(size, *t.shape) if d is None else t.movedim(d, 0)
        for t, d in zip(tensors, dims, strict=True)
    )


def _input_gradient(grad: Tensor, output: Tensor, shape: Shape, rule: Rule, *positions: Tensor):
    """The upstream gradient times the slope, and at each kink what the rule says."""
    result = shape.regular_gradient(grad, output)
    for kink, where in enumerate(positions):
        result = _replace(result, where, grad, rule, kink)
    return result


class _Backward(torch.autograd.Function):
    """:func:`_input_gradient`, itself differentiable and batchable."""

    @staticmethod
    def forward(grad, output, shape, rule, *positions):
        return _input_gradient(grad, output, shape, rule, *positions)

    @staticmethod
    def setup_context(ctx, inputs, _):
        _, output, ctx.shape, ctx.rule, *positions = inputs
        ctx.save_for_backward(output, *positions)

    @staticmethod
    def backward(ctx, grad):
        output, *positions = ctx.saved_tensors
        rule = ctx.rule
        if rule.gradient_rule == "injected":  # the derivative of a constant
            rule = Rule((0.0,) * len(positions), "chain")
        result = _Backward.apply(grad, output, ctx.shape, rule, *positions)
        return result, None, None, None, *(None for _ in positions)

    @staticmethod
    def vmap(info, in_dims, grad, output, shape, rule, *positions):
        if in_dims[1] is None:  # many upstream gradients of one x: positions count along x alone,
            grad = grad.movedim(in_dims[0], -1)  # so its dimensions must stay in front
            output = output.unsqueeze(-1).expand_as(grad)
            positions = [p.unsqueeze(-1) if p.dtype == torch.bool else p for p in positions]
            return _Backward.apply(grad, output, shape, rule, *positions), grad.dim() - 1
        grad, output = _batch_first((grad, output), in_dims[:2], info.batch_size)
        return _Backward.apply(grad, output, shape, rule, *positions), 0


class _Activation(torch.autograd.Function):
    """x -> (f(x), positions of its kinks). Keeps the output and the positions, not the input."""

    @staticmethod
    def forward(x, shape, rule):
        return shape.value(x), *_hits(x, shape)

    @staticmethod
    def setup_context(ctx, inputs, outputs):
        _, ctx.shape, ctx.rule = inputs
        ctx.mark_non_differentiable(*outputs[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*outputs)

    @staticmethod
    def backward(ctx, grad, *_):
        if grad is None:
            return None, None, None
        # A compiled graph has no second derivative, and traces one Function at a time.
        compute = _input_gradient if torch.compiler.is_compiling() else _Backward.apply
        return (
            compute(grad, ctx.saved_tensors[0], ctx.shape, ctx.rule, *ctx.saved_tensors[1:]),
            None,
            None,
        )

    @staticmethod
    def vmap(info, in_dims, x, shape, rule):
        # Indices count along the batch dimension too, so they carry no batch dimension.
        outputs = _Activation.apply(x.movedim(in_dims[0], 0), shape, rule)
        return outputs, tuple(0 if o.dtype != torch.int64 else None for o in outputs)


def activate(x: Tensor, shape: Shape, rule: Rule) -> Tensor:
    native = rule.derivatives == (shape.left, 0.0)[: len(shape.kinks)]
    if native and not shape.width and (rule.gradient_rule == "chain" or not any(rule.derivatives)):
        return shape.value(x)
    return _Activation.apply(x, shape, rule)[0]
