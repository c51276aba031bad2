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

from typing import Literal

import torch
from torch import Tensor, nn

from reluprime.instruments.derivative import Rule, Shape, activate

GradientRule = Literal["chain", "injected"]
GRADIENT_RULES: tuple[str, ...] = ("chain", "injected")


def _check(gradient_rule: str, kink_width: float = 0.0) -> None:
    if gradient_rule not in GRADIENT_RULES:
        raise ValueError(f"gradient_rule={gradient_rule!r}; choose one of {GRADIENT_RULES}")
    if not kink_width >= 0:  # NaN too
        raise ValueError(f"kink_width={kink_width!r} must not be negative")


def _check_slope(negative_slope: float) -> None:
    if not negative_slope >= 0:  # NaN too
        raise ValueError(f"negative_slope={negative_slope!r} must not be negative")


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
    return activate(x, Shape(width=float(kink_width)), Rule((float(s),), gradient_rule))


def relu6(
    x: Tensor, s: float = 0.0, s_upper: float = 0.0, gradient_rule: GradientRule = "chain"
) -> Tensor:
    """min(max(x, 0), 6) with derivative `s` at exactly 0 and `s_upper` at exactly 6.

    Otherwise like :func:`relu`. Source: B21, Appendix B; M23, Section 4.5 (alpha, beta).
    """
    _check(gradient_rule)
    return activate(x, Shape(upper=6.0), Rule((float(s), float(s_upper)), gradient_rule))


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
    _check_slope(negative_slope)
    s = negative_slope if s is None else s
    return activate(x, Shape(left=float(negative_slope)), Rule((float(s),), gradient_rule))


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
        _check_slope(negative_slope)
        self.negative_slope, self.s, self.gradient_rule = negative_slope, s, gradient_rule

    def forward(self, x: Tensor) -> Tensor:
        return leaky_relu(x, self.negative_slope, self.s, self.gradient_rule)

    def extra_repr(self) -> str:
        return f"{self.negative_slope}, s={self.s}, gradient_rule={self.gradient_rule!r}"


ACTIVATIONS = (ReLU, ReLU6, LeakyReLU)
