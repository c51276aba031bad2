from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reluprime.check.watch import kinks
from reluprime.instruments import activations
from reluprime.speed.released import InjectedReLU
from reluprime.testing import assert_derivative_at_kinks

RIGHT = {
    "F.relu": (F.relu, (0.0,)),
    "nn.ReLU(inplace)": (nn.ReLU(inplace=True), (0.0,)),
    "clamp": (lambda x: x.clamp(min=0), (0.0,)),
    "F.relu6": (F.relu6, (0.0, 6.0)),
    "F.hardtanh": (F.hardtanh, (-1.0, 1.0)),
    "F.leaky_relu": (F.leaky_relu, (0.0,)),
    "F.hardswish": (F.hardswish, (-3.0, 3.0)),
    "F.hardsigmoid": (F.hardsigmoid, (-3.0, 3.0)),
    "F.softshrink": (F.softshrink, (-0.5, 0.5)),
    "F.elu": (partial(F.elu, alpha=0.5), (0.0,)),
    "F.selu": (F.selu, (0.0,)),
    "F.threshold": (lambda x: F.threshold(x, 1.0, 1.0), (1.0,)),
    "F.gelu": (F.gelu, (0.0,)),  # smooth: any point will do
    "abs": (torch.abs, (0.0,)),
    "maximum": (lambda x: torch.maximum(x, torch.zeros_like(x)), (0.0,)),
    "ours, s=0.5": (lambda x: activations.relu(x, 0.5), (0.0,)),
    "ours, relu6": (lambda x: activations.relu6(x, 0.25, 0.75), (0.0, 6.0)),
    "steep parabolas": (lambda x: 10 * x * x.abs(), (0.0,)),
    "nn.Softplus": (nn.Softplus(), (0.0,)),
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_activations_pass(name):
    assert_derivative_at_kinks(*RIGHT[name])


@pytest.mark.parametrize("s", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("name", ["F.relu", "F.relu6", "F.hardswish", "clamp", "abs"])
def test_kinks_makes_right_activations(name, s):
    with kinks(s):
        assert_derivative_at_kinks(*RIGHT[name])


class ReleasedReLU6(torch.autograd.Function):
    """alpha at 0 and beta at 6, whatever the upstream gradient: M23's release, written anew."""

    @staticmethod
    def forward(ctx, x: Tensor, alpha: float, beta: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.values = alpha, beta
        return x.clamp(0, 6)

    @staticmethod
    def backward(ctx, grad: Tensor):
        (x,) = ctx.saved_tensors
        result = torch.where((x > 0) & (x < 6), grad, 0.0)
        alpha, beta = ctx.values
        return result.masked_fill(x == 0, alpha).masked_fill(x == 6, beta), None, None


@pytest.mark.parametrize(
    ("function", "points", "kink"),
    [
        (lambda x: InjectedReLU.apply(x, 1.0), (0.0,), 0.0),
        (lambda x: InjectedReLU.apply(x, 0.1), (0.0,), 0.0),
        (lambda x: ReleasedReLU6.apply(x, 0.5, 0.5), (0.0, 6.0), 0.0),
        (lambda x: ReleasedReLU6.apply(x, 0.0, 1.0), (0.0, 6.0), 6.0),
        (lambda x: activations.relu(x, 1.0, "injected"), (0.0,), 0.0),
    ],
)
def test_both_releases_rule_fails_and_the_message_says_why(function, points, kink):
    with pytest.raises(AssertionError) as caught:
        assert_derivative_at_kinks(function, points)
    message = str(caught.value)
    assert f"at the kink x = {kink} does not depend on the upstream gradient" in message
    assert "the derivative was put in the place of the product" in message


def test_the_release_at_s_0_passes():
    assert_derivative_at_kinks(lambda x: InjectedReLU.apply(x, 0.0))


def with_backward(backward):
    """A ReLU whose backward pass is backward(x, upstream)."""

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return torch.relu(x)

        @staticmethod
        def backward(ctx, grad):
            return backward(ctx.saved_tensors[0], grad)

    return Function.apply


def at_kink(value):
    """A ReLU whose input gradient at 0 is value(upstream gradients)."""
    return with_backward(
        lambda x, g: torch.where(x == 0, value(g).expand_as(g), torch.where(x > 0, g, 0.0))
    )


def only_in_half(x):
    return InjectedReLU.apply(x, 1.0) if x.dtype == torch.float16 else torch.relu(x)


WRONG = {
    "does not depend on the upstream gradient": lambda x: InjectedReLU.apply(x, 1.0),
    "is 2 for an upstream gradient of 0": at_kink(lambda g: g + 2),
    "and 0 for -1": at_kink(lambda g: g + g.abs()),
    "and 1 for -1": at_kink(lambda g: g.abs()),
    "depends on other elements": at_kink(lambda g: g.mean()),
    "differs from call to call": at_kink(lambda g: g * torch.rand(())),
    "not between the one-sided derivatives 0 and 1": at_kink(lambda g: 2 * g),
    "but 0 at -0.0": with_backward(lambda x, g: torch.where(x.signbit(), 0.0, g)),
    "where there is no kink": with_backward(lambda x, g: torch.where(x > -1, g, 0.0) / 2),
    "is not finite": lambda x: (x * x).sqrt(),
    "not the input's": lambda x: F.relu(x.double()),
    "has the shape": lambda x: F.relu(x).sum(),
    "no gradient reaches the input": lambda x: F.relu(x.detach()),
    "jumps at x = 0": lambda x: torch.where(x > 0, x + 1, x),
}


@pytest.mark.parametrize("why", WRONG)
def test_wrong_functions_fail_each_for_its_own_reason(why):
    with pytest.raises(AssertionError) as caught:
        assert_derivative_at_kinks(WRONG[why])
    assert why in str(caught.value)
    assert sum(reason in str(caught.value) for reason in WRONG) == 1


def test_told_otherwise_the_derivative_may_lie_outside():
    assert_derivative_at_kinks(lambda x: activations.relu(x, 3.0), between=False)
    with pytest.raises(AssertionError, match="between=False allows it"):
        assert_derivative_at_kinks(lambda x: activations.relu(x, 3.0))


def test_a_kink_that_is_not_named_is_not_looked_at():
    assert_derivative_at_kinks(lambda x: ReleasedReLU6.apply(x, 0.0, 1.0), kinks=(0.0,))


def test_each_dtype_is_looked_at():
    with pytest.raises(AssertionError, match=r"\(float16 on cpu\)"):
        assert_derivative_at_kinks(only_in_half)
    assert_derivative_at_kinks(only_in_half, dtypes=(torch.float32,))
