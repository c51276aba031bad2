"""ReLU, ReLU6 and LeakyReLU whose derivative at the kinks is a parameter.

Each is a piecewise linear function y = f(x). Away from its kinks the input gradient is the
ordinary one. At an exact kink it follows one of two rules, with g the upstream gradient:

=============  ==============  ========================================================
gradient_rule  input gradient  source
=============  ==============  ========================================================
``chain``      s * g           backprop_s as B21 defines it (Section 2, footnote 1)
``injected``   s               what the code released with B21 and with M23 computes
=============  ==============  ========================================================

With the derivative that PyTorch itself uses (s = 0 for ReLU, for example) and ``chain``, the
functions are PyTorch's own, bit for bit.

ReLU's kink can be widened to a band, in the backward pass alone: the rule then holds wherever
|x| <= kink_width. That is an intervention of ours, to have more inputs at the kink than rounding
brings there; neither paper has it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GradientRule = Literal["chain", "injected"]
GRADIENT_RULES: tuple[str, ...] = ("chain", "injected")


class _Shape(NamedTuple):
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


def _in_band(x: Tensor, width: float) -> Tensor:
    """Where |x| <= width, as a mask: there may be many hits. NaN is not in it."""
    return x.abs() <= width


def _hits(x: Tensor, shape: _Shape) -> tuple[Tensor, ...]:
    if shape.width:
        return (_in_band(x, shape.width),)
    return tuple(_positions(x, kink) for kink in shape.kinks)


def _replace(grad: Tensor, positions: Tensor, upstream: Tensor, rule: Rule, kink: int) -> Tensor:
    """`grad` with the rule's value at one kink's positions."""
    if positions.dtype == torch.bool:
        return torch.where(positions, rule.at_kink(kink, upstream), grad)
    if len(positions) == 0:
        return grad
    index = positions.unbind(1)
    if not index:  # x is a single number, and at the kink
        return rule.at_kink(kink, upstream)
    return grad.index_put(index, rule.at_kink(kink, upstream[index]))


def _batch_first(tensors: tuple[Tensor, ...], dims: tuple[int | None, ...], size: int):
    """Elementwise operands under vmap: the batch dimension made explicit, and first."""
    return tuple(
        t.expand(size, *t.shape) if d is None else t.movedim(d, 0)
        for t, d in zip(tensors, dims, strict=True)
    )


def _input_gradient(grad: Tensor, output: Tensor, shape: _Shape, rule: Rule, *positions: Tensor):
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


def _activate(x: Tensor, shape: _Shape, rule: Rule) -> Tensor:
    native = rule.derivatives == (shape.left, 0.0)[: len(shape.kinks)]
    if native and not shape.width and (rule.gradient_rule == "chain" or not any(rule.derivatives)):
        return shape.value(x)
    return _Activation.apply(x, shape, rule)[0]


def _check(gradient_rule: str, kink_width: float = 0.0) -> None:
    if gradient_rule not in GRADIENT_RULES:
        raise ValueError(f"gradient_rule={gradient_rule!r}; choose one of {GRADIENT_RULES}")
    if not kink_width >= 0:  # NaN too
        raise ValueError(f"kink_width={kink_width!r} must not be negative")


def relu(
    x: Tensor, s: float = 0.0, gradient_rule: GradientRule = "chain", kink_width: float = 0.0
) -> Tensor:
    """max(x, 0) with derivative `s` at exactly 0, or wherever ``|x| <= kink_width``.

    x: floating point (any precision, shape and device); the result has its shape and dtype.
    NaN passes through, forward and backward, as in `torch.relu`. Twice differentiable under
    ``chain``. kink_width is rounded to x's dtype; the forward pass does not depend on it. Raises
    ValueError for an unknown rule or a negative width. Source: B21, Section 2; the width is an
    intervention of ours.
    """
    _check(gradient_rule, kink_width)
    return _activate(x, _Shape(width=float(kink_width)), Rule((float(s),), gradient_rule))


def relu6(
    x: Tensor, s: float = 0.0, s_upper: float = 0.0, gradient_rule: GradientRule = "chain"
) -> Tensor:
    """min(max(x, 0), 6) with derivative `s` at exactly 0 and `s_upper` at exactly 6.

    Otherwise like :func:`relu`. Source: B21, Appendix B; M23, Section 4.5 (alpha, beta).
    """
    _check(gradient_rule)
    return _activate(x, _Shape(upper=6.0), Rule((float(s), float(s_upper)), gradient_rule))


def leaky_relu(
    x: Tensor,
    negative_slope: float = 0.01,
    s: float | None = None,
    gradient_rule: GradientRule = "chain",
) -> Tensor:
    """x if x > 0, else negative_slope * x, with derivative `s` at exactly 0.

    s=None stands for `negative_slope`, which is PyTorch's choice. negative_slope must be at
    least 0 (the slope is read off the sign of the output). Otherwise like :func:`relu`.
    """
    _check(gradient_rule)
    if negative_slope < 0:
        raise ValueError(f"negative_slope={negative_slope!r} must not be negative")
    s = negative_slope if s is None else s
    return _activate(x, _Shape(left=float(negative_slope)), Rule((float(s),), gradient_rule))


def emulated_relu(x: Tensor, s: float) -> Tensor:
    """f_s(x) = ReLU(x) + s (ReLU(-x) - ReLU(x) + x), from native ReLUs alone.

    Equals ReLU(x), and PyTorch's chain rule, with ReLU'(0) = 0, gives it the derivative s at 0.
    Source: B21, footnote 1.
    """
    positive = torch.relu(x)
    return positive + s * (torch.relu(-x) - positive + x)


class ReLU(nn.Module):
    """Module of :func:`relu`."""

    kinks = (0.0,)

    def __init__(
        self, s: float = 0.0, gradient_rule: GradientRule = "chain", kink_width: float = 0.0
    ):
        super().__init__()
        _check(gradient_rule, kink_width)
        self.s, self.gradient_rule, self.kink_width = float(s), gradient_rule, float(kink_width)

    def forward(self, x: Tensor) -> Tensor:
        return relu(x, self.s, self.gradient_rule, self.kink_width)

    def extra_repr(self) -> str:
        band = f", kink_width={self.kink_width}" if self.kink_width else ""
        return f"s={self.s}, gradient_rule={self.gradient_rule!r}{band}"


class ReLU6(nn.Module):
    """Module of :func:`relu6`."""

    kinks = (0.0, 6.0)

    def __init__(self, s: float = 0.0, s_upper: float = 0.0, gradient_rule: GradientRule = "chain"):
        super().__init__()
        _check(gradient_rule)
        self.s, self.s_upper, self.gradient_rule = float(s), float(s_upper), gradient_rule

    def forward(self, x: Tensor) -> Tensor:
        return relu6(x, self.s, self.s_upper, self.gradient_rule)

    def extra_repr(self) -> str:
        return f"s={self.s}, s_upper={self.s_upper}, gradient_rule={self.gradient_rule!r}"


class LeakyReLU(nn.Module):
    """Module of :func:`leaky_relu`."""

    kinks = (0.0,)

    def __init__(
        self,
        negative_slope: float = 0.01,
        s: float | None = None,
        gradient_rule: GradientRule = "chain",
    ):
        super().__init__()
        _check(gradient_rule)
        self.negative_slope, self.s, self.gradient_rule = negative_slope, s, gradient_rule

    def forward(self, x: Tensor) -> Tensor:
        return leaky_relu(x, self.negative_slope, self.s, self.gradient_rule)

    def extra_repr(self) -> str:
        return f"{self.negative_slope}, s={self.s}, gradient_rule={self.gradient_rule!r}"


ACTIVATIONS = (ReLU, ReLU6, LeakyReLU)


def _count(x: Tensor, kink: float, under_vmap: bool) -> Tensor:
    # On a CPU PyTorch 2.11 has no vmap for counting.
    if kink == 0 and not x.is_cuda and not under_vmap:
        return count_zeros(x)
    return (x == kink).sum()


@contextmanager
def watched(model: nn.Module, see: Callable[[str, nn.Module, Tensor], None]) -> Iterator[None]:
    """While the model runs, `see(name, activation, input)` for each call of an activation."""

    def hook(name: str):
        return lambda module, inputs: see(name, module, inputs[0])

    handles = [
        module.register_forward_pre_hook(hook(name))
        for name, module in model.named_modules()
        if isinstance(module, ACTIVATIONS)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def count_kinks(model: nn.Module, *, under_vmap: bool = False) -> Iterator[dict[str, Tensor]]:
    """Count the inputs that are exactly at a kink, by layer, while the model runs.

    Yields {module name: int64 (number of kinks,)}, on the device of the activations and added
    up over all forward passes in the block; an activation that was not called is absent. A ReLU
    with a kink_width has one number more, at the end: inputs in the band, exact zeros among them.
    Outputs and gradients do not change. under_vmap: whether the model runs within
    `torch.func.vmap`.
    """
    counts: dict[str, Tensor] = {}

    def see(name: str, module: nn.Module, x: Tensor) -> None:
        x = x.detach()
        counted = [_count(x, kink, under_vmap) for kink in module.kinks]
        if isinstance(module, ReLU) and module.kink_width:
            counted.append(_in_band(x, module.kink_width).sum())
        hits = torch.stack(counted)
        counts[name] = counts[name] + hits if name in counts else hits

    with watched(model, see):
        yield counts
