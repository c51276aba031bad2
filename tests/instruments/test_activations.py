import math
import os
import shutil
import sys
import sysconfig
import weakref
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.autograd.functional import hessian
from torch.autograd.graph import saved_tensors_hooks
from torch.func import functional_call, grad, jacrev, stack_module_state, vjp, vmap

from reluprime.instruments import derivative
from reluprime.instruments.activations import (
    GRADIENT_RULES,
    LeakyReLU,
    ReLU,
    ReLU6,
    emulated_relu,
    leaky_relu,
    relu,
    relu6,
)
from reluprime.instruments.watch import count_kinks

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]
INTEGERS = {8: torch.int64, 4: torch.int32, 2: torch.int16}
INF, NAN = math.inf, math.nan

by_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)
by_device = pytest.mark.parametrize("device", DEVICES)
by_rule = pytest.mark.parametrize("rule", GRADIENT_RULES)


@pytest.fixture(params=["indices", "mask"])
def positions(request, monkeypatch):
    """Both forms in which the positions of a kink are kept; a mask is what CUDA uses."""
    if request.param == "mask":
        monkeypatch.setattr(derivative, "_positions", lambda x, kink: x == kink)


def assert_same_bits(found, expected):
    """Equal to the last bit, so that 0.0 is not -0.0; one NaN is as good as another."""
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    assert torch.equal(found.isnan(), expected.isnan())
    integer = INTEGERS[found.element_size()]
    a, b = (t.detach().masked_fill(t.isnan(), 0).contiguous() for t in (found, expected))
    assert torch.equal(a.view(integer), b.view(integer)), (found, expected)


def gradient(function, x, upstream):
    x = x.detach().clone().requires_grad_()
    return torch.autograd.grad(function(x), x, upstream)[0]


# ---- values at the kinks ----

# s, upstream gradient, and the input gradient at the kink under chain and under injected
AT_KINK = [
    (0.0, 1.0, 0.0, 0.0),
    (0.0, -3.0, 0.0, 0.0),
    (0.0, -0.0, 0.0, 0.0),
    (0.0, INF, 0.0, 0.0),
    (0.0, -INF, 0.0, 0.0),
    (0.0, NAN, 0.0, 0.0),
    (0.5, 1.0, 0.5, 0.5),
    (0.5, -3.0, -1.5, 0.5),
    (0.5, 0.0, 0.0, 0.5),
    (0.5, -0.0, -0.0, 0.5),
    (0.5, -INF, -INF, 0.5),
    (1.0, 1.0, 1.0, 1.0),
    (1.0, -3.0, -3.0, 1.0),
    (1.0, 0.0, 0.0, 1.0),
    (1.0, -0.0, -0.0, 1.0),
    (1.0, NAN, NAN, 1.0),
    (-2.0, 1.0, -2.0, -2.0),
    (-2.0, -3.0, 6.0, -2.0),
    (-2.0, 0.0, -0.0, -2.0),
    (-2.0, -0.0, 0.0, -2.0),
    (-2.0, INF, -INF, -2.0),
    (50.0, 1.0, 50.0, 50.0),
    (50.0, -3.0, -150.0, 50.0),
    (50.0, 0.25, 12.5, 50.0),
    (50.0, 0.0, 0.0, 50.0),
]
# name: (function of x, s and rule; kink; inputs below and above it with their slopes)
KINKS = {
    "relu at 0": (lambda x, s, r: relu(x, s, r), 0.0, (-2.0, 0.0), (2.0, 1.0)),
    "relu at -0": (lambda x, s, r: relu(x, s, r), -0.0, (-2.0, 0.0), (2.0, 1.0)),
    "relu6 at 0": (lambda x, s, r: relu6(x, s, 7.0, r), 0.0, (-2.0, 0.0), (2.0, 1.0)),
    "relu6 at 6": (lambda x, s, r: relu6(x, 7.0, s, r), 6.0, (5.0, 1.0), (7.0, 0.0)),
    "leaky_relu at 0": (lambda x, s, r: leaky_relu(x, 0.25, s, r), 0.0, (-2.0, 0.25), (2.0, 1.0)),
    "ReLU at 0": (lambda x, s, r: ReLU(s, r)(x), 0.0, (-2.0, 0.0), (2.0, 1.0)),
    "ReLU6 at 0": (lambda x, s, r: ReLU6(s, 7.0, r)(x), 0.0, (-2.0, 0.0), (2.0, 1.0)),
    "ReLU6 at 6": (lambda x, s, r: ReLU6(7.0, s, r)(x), 6.0, (5.0, 1.0), (7.0, 0.0)),
    "LeakyReLU at 0": (lambda x, s, r: LeakyReLU(0.25, s, r)(x), 0.0, (-2.0, 0.25), (2.0, 1.0)),
}


@by_device
@by_dtype
@pytest.mark.parametrize("name", KINKS)
def test_gradient_at_the_kink_is_the_tables(name, dtype, device, positions):
    function, kink, (below, left), (above, right) = KINKS[name]
    x = torch.tensor([below, kink, above, kink], dtype=dtype, device=device)
    for s, upstream, chain, injected in AT_KINK:
        g = torch.tensor([2.0, upstream, 2.0, upstream], dtype=dtype, device=device)
        for rule, at_kink in (("chain", chain), ("injected", injected)):
            found = gradient(lambda x, s=s, rule=rule: function(x, s, rule), x, g)
            expected = torch.tensor([2 * left, at_kink, 2 * right, at_kink], dtype=dtype)
            assert_same_bits(found.cpu(), expected)


@by_dtype
@by_rule
def test_leaky_relu_takes_its_slope_for_s(rule, dtype):
    x, g = torch.zeros(2, dtype=dtype), torch.tensor([-4.0, 0.0], dtype=dtype)
    expected = {"chain": [-1.0, 0.0], "injected": [0.25, 0.25]}[rule]
    found = gradient(lambda x: leaky_relu(x, 0.25, gradient_rule=rule), x, g)
    assert found.tolist() == expected
    assert gradient(LeakyReLU(0.25, gradient_rule=rule), x, g).tolist() == expected


@by_rule
def test_an_input_that_only_rounds_to_the_kink_is_not_at_it(rule):
    """The output of a tiny fp16 input is -0; its gradient is still the slope's, not s."""
    x = torch.tensor([-(2.0**-24), 2.0**-24, 6 - 2.0**-8, 6 + 2.0**-8], dtype=torch.float16)
    assert leaky_relu(x, 0.25)[0] == 0
    g = torch.full_like(x, 4.0)
    assert gradient(lambda x: leaky_relu(x, 0.25, 3.0, rule), x, g)[:2].tolist() == [1, 4]
    assert gradient(lambda x: relu6(x, 3.0, 3.0, rule), x, g).tolist() == [0, 4, 4, 0]


# ---- PyTorch's own functions ----

SPECIAL = [NAN, INF, -INF, 0.0, -0.0, 6.0, -6.0, 1.5, -1.5, 6.5, 5.5, 1e-7, -1e-7, 6e4, -6e4]
NATIVE = {
    "relu": (lambda x: relu(x), torch.relu),
    "relu6": (lambda x: relu6(x), F.relu6),
    "leaky_relu": (lambda x: leaky_relu(x), F.leaky_relu),
    "leaky_relu 0.25": (lambda x: leaky_relu(x, 0.25, 0.25), lambda x: F.leaky_relu(x, 0.25)),
    "ReLU": (ReLU(), nn.ReLU()),
    "ReLU6": (ReLU6(), nn.ReLU6()),
    "LeakyReLU": (LeakyReLU(), nn.LeakyReLU()),
}


def special_pairs(dtype, device):
    """Every special input with every special upstream gradient."""
    special = torch.tensor(SPECIAL, dtype=dtype, device=device)
    return special.repeat_interleave(len(special)), special.repeat(len(special))


@by_device
@by_dtype
@pytest.mark.parametrize("name", NATIVE)
def test_native_derivative_under_chain_is_pytorch_bit_for_bit(name, dtype, device):
    ours, theirs = NATIVE[name]
    x, g = special_pairs(dtype, device)
    assert_same_bits(ours(x), theirs(x))
    assert_same_bits(gradient(ours, x, g), gradient(theirs, x, g))
    random = torch.randn(1000, dtype=dtype, device=device, generator=torch.Generator(device))
    assert_same_bits(gradient(ours, random, random), gradient(theirs, random, random))


CHANGED = {
    "relu": (lambda x, r: relu(x, 2.0, r), torch.relu, (0.0,)),
    "relu6": (lambda x, r: relu6(x, 2.0, 2.0, r), F.relu6, (0.0, 6.0)),
    "leaky_relu": (lambda x, r: leaky_relu(x, 0.01, 2.0, r), F.leaky_relu, (0.0,)),
}


@by_device
@by_dtype
@by_rule
@pytest.mark.parametrize("name", CHANGED)
def test_another_derivative_changes_the_gradient_at_the_kinks_alone(
    name, rule, dtype, device, positions
):
    ours, theirs, kinks = CHANGED[name]
    x, g = special_pairs(dtype, device)
    at_kink = sum((x == kink) for kink in kinks).bool()
    assert_same_bits(ours(x, rule), theirs(x))
    at = 2 * g if rule == "chain" else torch.full_like(g, 2.0)
    expected = torch.where(at_kink, at, gradient(theirs, x, g))
    assert_same_bits(gradient(lambda x: ours(x, rule), x, g), expected)


@by_device
@by_rule
@pytest.mark.parametrize("name", CHANGED)
def test_nan_passes_forward_and_backward(name, rule, device, positions):
    ours, theirs, _ = CHANGED[name]
    x = torch.tensor([NAN, 0.0, NAN], device=device)
    assert ours(x, rule).isnan().tolist() == [True, False, True]
    g = torch.tensor([3.0, 3.0, NAN], device=device)
    found = gradient(lambda x: ours(x, rule), x, g)
    assert found[0] == gradient(theirs, x, g)[0] != 0
    assert found.isnan().tolist() == [False, False, True]


@by_dtype
@pytest.mark.parametrize(
    ("native", "choices"),
    [
        (torch.relu, {0.0}),
        (F.relu6, {0.0}),
        (lambda x: x.clamp(min=0), {0.0, 1.0}),  # 1 until PyTorch changed it (pull 191142)
        (lambda x: torch.maximum(x, x.new_zeros(())), {0.5}),
    ],
    ids=["relu", "relu6", "clamp", "maximum"],
)
def test_pytorchs_own_ways_to_write_relu(native, choices, dtype):
    """At 0 they disagree with one another, and each is one s of the chain rule."""
    s = gradient(native, torch.zeros((), dtype=dtype), torch.ones((), dtype=dtype)).item()
    assert s in choices
    x = torch.tensor([-1.0, 0.0, -0.0, 1.0], dtype=dtype)
    g = torch.tensor([3.0, 3.0, -5.0, 3.0], dtype=dtype)
    assert gradient(native, x, g).tolist() == [0.0, 3 * s, -5 * s, 3.0]
    assert torch.equal(gradient(lambda x: relu(x, s), x, g), gradient(native, x, g))


EXACT_S = [0.0, 0.5, 1.0, -2.0, 16.0]


@by_device
@by_dtype
@pytest.mark.parametrize("s", EXACT_S)
@pytest.mark.parametrize("other", ["emulated", "where"])
def test_other_ways_to_write_the_chain_rule_agree(other, s, dtype, device, positions):
    """B21's f_s and torch.where; s and inputs such that no operation rounds."""
    where = lambda x: torch.where(x == 0, s * x, x.clamp(min=0))  # noqa: E731
    theirs = {"emulated": lambda x: emulated_relu(x, s), "where": where}[other]
    x = torch.arange(-8, 9, dtype=dtype, device=device).repeat(4)
    x[5::7] = 0.0
    g = (torch.arange(68, device=device) % 19 - 9).to(dtype)
    assert torch.equal(relu(x, s), theirs(x))
    assert torch.equal(gradient(lambda x: relu(x, s), x, g), gradient(theirs, x, g))


# ---- properties ----


@st.composite
def tensors_with_kinks(draw):
    """x with planted kinks, and an upstream gradient; no product with a quarter rounds."""
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(st.lists(st.integers(0, 4), max_size=3))
    numbers = st.sampled_from([0.0, -0.0, 6.0, -1.25, 0.5, 3.0, 7.0, -(2.0**-14), 2.0**-14])
    n = math.prod(shape)
    x = draw(st.lists(numbers, min_size=n, max_size=n))
    g = draw(st.lists(st.integers(-8, 8).map(float), min_size=n, max_size=n))
    return torch.tensor(x, dtype=dtype).reshape(shape), torch.tensor(g, dtype=dtype).reshape(shape)


quarters = st.integers(-8, 8).map(lambda n: n / 4)
functions = st.sampled_from(
    [
        (lambda x, s, r: relu(x, s, r), torch.relu, (0.0,)),
        (lambda x, s, r: relu6(x, s, s, r), F.relu6, (0.0, 6.0)),
        (lambda x, s, r: leaky_relu(x, 0.25, s, r), lambda x: F.leaky_relu(x, 0.25), (0.0,)),
    ]
)
drawn = settings(max_examples=150, deadline=None, derandomize=True, database=None)


@drawn
@given(tensors_with_kinks(), functions, quarters, quarters, st.sampled_from(GRADIENT_RULES))
def test_gradient_is_affine_in_s(pair, function, a, b, rule):
    x, g = pair
    ours, _, kinks = function
    at = {s: gradient(lambda x, s=s: ours(x, s, rule), x, g) for s in (a, b, a + b, 0.0)}
    assert torch.equal(at[a] + at[b], at[a + b] + at[0.0])
    slope = g if rule == "chain" else torch.ones_like(g)
    at_kink = sum((x == kink).to(x.dtype) for kink in kinks)
    assert torch.equal(at[a], at[0.0] + a * slope * at_kink)


@drawn
@given(tensors_with_kinks(), functions, quarters)
def test_no_upstream_gradient_gives_none_under_chain_and_s_under_injected(pair, function, s):
    x, _ = pair
    ours, _, kinks = function
    zero = torch.zeros_like(x)
    assert not gradient(lambda x: ours(x, s, "chain"), x, zero).any()
    at_kink = sum((x == kink).to(x.dtype) for kink in kinks)
    assert torch.equal(gradient(lambda x: ours(x, s, "injected"), x, zero), s * at_kink)


@drawn
@given(tensors_with_kinks(), functions, quarters, st.sampled_from(GRADIENT_RULES))
def test_values_dtype_and_shape_are_pytorchs(pair, function, s, rule):
    x, g = pair
    ours, theirs, _ = function
    assert_same_bits(ours(x, s, rule), theirs(x))
    found = gradient(lambda x: ours(x, s, rule), x, g)
    assert found.dtype == x.dtype
    assert found.shape == x.shape


@by_rule
def test_layout_does_not_matter(rule, positions):
    """Transposed, sliced and expanded tensors, as input and as upstream gradient."""
    x = torch.tensor([[0.0, 1.0, -1.0, 0.0], [2.0, 0.0, 0.0, -3.0]])
    g = torch.arange(8.0).reshape(4, 2)
    expected = gradient(lambda x: relu(x, 0.5, rule), x.T.contiguous(), g)
    at = {"chain": 0.5 * g, "injected": torch.full_like(g, 0.5)}[rule]
    assert torch.equal(expected, torch.where(x.T == 0, at, g * (x.T > 0)))
    assert torch.equal(gradient(lambda x: relu(x.T, 0.5, rule), x, g), expected.T)
    wide = torch.zeros(4, 4)
    wide[:, ::2] = x.T
    assert torch.equal(gradient(lambda x: relu(x[:, ::2], 0.5, rule), wide, g)[:, ::2], expected)
    found = gradient(lambda x: relu(x, 0.5, rule).sum(), x, torch.tensor(2.0))
    assert torch.equal(found, gradient(lambda x: relu(x, 0.5, rule), x, torch.full((2, 4), 2.0)))


# ---- derivatives against differences, and second derivatives ----

SMOOTH = {
    "relu": lambda x, r: relu(x, 0.5, r),
    "relu6": lambda x, r: relu6(x, 0.5, 0.25, r),
    "leaky_relu": lambda x, r: leaky_relu(x, 0.25, 0.5, r),
}


@by_rule
@pytest.mark.parametrize("name", SMOOTH)
def test_away_from_kinks_finite_differences_agree(name, rule):
    x = torch.tensor([[-3.0, -0.5, 0.5], [2.0, 5.5, 6.5]], dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(SMOOTH[name], (x, rule))
    torch.autograd.gradgradcheck(lambda x: SMOOTH[name](x, rule) ** 3, (x,))


@by_rule
def test_second_derivatives_at_planted_kinks(rule, positions):
    """The input gradient is linear in the upstream one under chain, constant under injected."""
    x = torch.tensor([-1.0, 0.0, 3.0, 6.0, 7.0, 0.0], requires_grad=True)
    upstream = torch.tensor([2.0, 3.0, 4.0, 5.0, 6.0, -7.0], requires_grad=True)
    (first,) = torch.autograd.grad(relu6(x, 0.5, -2.0, rule), x, upstream, create_graph=True)
    at_first = {"chain": [0, 1.5, 4, -10, 0, -3.5], "injected": [0, 0.5, 4, -2, 0, 0.5]}[rule]
    assert first.tolist() == at_first
    v = torch.tensor([10.0, 10.0, 10.0, 10.0, 10.0, -10.0], requires_grad=True)
    (second,) = torch.autograd.grad(first, upstream, v, create_graph=True)
    slopes = {"chain": [0, 5, 10, -20, 0, -5], "injected": [0, 0, 10, 0, 0, 0]}[rule]
    assert second.tolist() == slopes
    (third,) = torch.autograd.grad(second, v, torch.ones(6))
    slopes = {"chain": [0, 0.5, 1, -2, 0, 0.5], "injected": [0, 0, 1, 0, 0, 0]}[rule]
    assert third.tolist() == slopes


@by_rule
@pytest.mark.parametrize("reverse", ["autograd", "func"])
def test_hessian_at_a_planted_kink(reverse, rule):
    """f = relu(x)^2 / 2 has f' = s relu(x) at 0 under chain, hence f'' = s^2.

    Under injected the second pass puts s at the kink once more, for each row of the Hessian.
    """
    x = torch.tensor([2.0, 0.0, -1.0], dtype=torch.float64)

    def f(x):
        return (relu(x, 0.5, rule) ** 2).sum() / 2

    second = {"func": lambda: jacrev(jacrev(f))(x), "autograd": lambda: hessian(f, x)}[reverse]()
    at_kink = {"chain": [0.0, 0.25, 0.0], "injected": [0.5, 0.5, 0.5]}[rule]
    assert second.T.tolist() == [[1.0, 0.0, 0.0], at_kink, [0.0, 0.0, 0.0]]


# ---- a band instead of a kink ----

WIDTH = 2.0**-6  # exact in every precision
JUST = {torch.float64: 2.0**-52, torch.float32: 2.0**-23, torch.bfloat16: 2.0**-7,
        torch.float16: 2.0**-10}  # fmt: skip


def banded_gradient(x, g, s, rule, width=WIDTH):
    return gradient(lambda x: relu(x, s, rule, width), x, g)


@st.composite
def tensors_with_a_band(draw):
    """x with values within, at the edge of, just outside and far from a band; and upstream."""
    dtype = draw(st.sampled_from(DTYPES))
    outside = WIDTH * (1 + JUST[dtype])  # the next number
    magnitudes = [0.0, WIDTH / 1024, WIDTH / 2, WIDTH, outside, 2 * WIDTH, 3.0]
    numbers = st.sampled_from([sign * m for m in magnitudes for sign in (1, -1)])
    shape = draw(st.lists(st.integers(0, 4), max_size=3))
    n = math.prod(shape)
    x = torch.tensor(draw(st.lists(numbers, min_size=n, max_size=n)), dtype=dtype)
    g = draw(st.lists(st.integers(-8, 8).map(float), min_size=n, max_size=n))
    return x.reshape(shape), torch.tensor(g, dtype=dtype).reshape(shape)


def by_hand(x, g, s, rule):
    """The input gradient, number by number and in Python's own arithmetic."""

    def one(x, g):
        if -WIDTH <= x <= WIDTH:
            return s if rule == "injected" else s * g
        return g if x > 0 else 0.0

    values = [one(*pair) for pair in zip(x.flatten().tolist(), g.flatten().tolist(), strict=True)]
    return torch.tensor(values, dtype=x.dtype).reshape(x.shape)


@drawn
@given(tensors_with_a_band(), quarters, st.sampled_from(GRADIENT_RULES))
def test_the_rule_holds_in_the_band_and_the_slope_outside(pair, s, rule):
    x, g = pair
    assert_same_bits(relu(x, s, rule, WIDTH), torch.relu(x))
    assert torch.equal(banded_gradient(x, g, s, rule), by_hand(x, g, s, rule))


@drawn
@given(tensors_with_a_band(), st.floats(0, 1))
def test_the_derivative_lies_between_the_one_sided_ones(pair, s):
    x, _ = pair
    slope = banded_gradient(x, torch.ones_like(x), s, "chain")
    assert ((slope >= 0) & (slope <= 1)).all()
    assert torch.equal(slope[x > WIDTH], torch.ones_like(slope[x > WIDTH]))
    assert not slope[x < -WIDTH].any()


@drawn
@given(tensors_with_kinks(), quarters, st.sampled_from(GRADIENT_RULES))
def test_a_band_without_width_is_the_kink_bit_for_bit(pair, s, rule):
    x, g = pair
    expected = gradient(lambda x: relu(x, s, rule), x, g)
    assert_same_bits(banded_gradient(x, g, s, rule, 0.0), expected)
    # Nor does it matter by which path: no other number of x is in this band.
    assert_same_bits(banded_gradient(x, g, s, rule, 2.0**-15), expected)
    assert_same_bits(relu(x, s, rule, 0.0), torch.relu(x))


@by_rule
def test_without_width_only_a_few_indices_are_saved(rule):
    x = torch.ones(20, 50, requires_grad=True)
    for width, dtypes in ((0.0, {torch.int64}), (WIDTH, {torch.bool})):
        saved = []
        with saved_tensors_hooks(lambda t, saved=saved: saved.append(t) or t, lambda t: t):
            relu(x, 0.5, rule, width)
        assert {t.dtype for t in saved} == dtypes | {torch.float32}


def test_pytorchs_own_function_has_no_band():
    """With s=0, PyTorch's derivative, the band above 0 has the derivative 0 as well."""
    x = torch.tensor([-WIDTH, 0.0, WIDTH, 2 * WIDTH])
    for rule in GRADIENT_RULES:
        assert banded_gradient(x, torch.full((4,), 5.0), 0.0, rule).tolist() == [0, 0, 0, 5]
        own = x.clone().requires_grad_()
        ReLU(0.0, rule, WIDTH)(own).sum().backward()
        assert own.grad.tolist() == [0, 0, 0, 1]


@by_dtype
def test_the_width_is_rounded_to_the_inputs_precision(dtype):
    """0.1 is in no precision; the number next to it is the edge, and in the band."""
    edge = torch.tensor(0.1, dtype=dtype)
    x = torch.stack([edge, -edge, edge * (1 + 2 * JUST[dtype])])
    assert banded_gradient(x, torch.ones_like(x), 0.5, "chain", 0.1).tolist() == [0.5, 0.5, 1.0]


@by_device
@by_dtype
@by_rule
def test_nan_and_infinity_are_outside_the_band(rule, dtype, device):
    x = torch.tensor([NAN, INF, -INF, 0.0], dtype=dtype, device=device)
    g = torch.tensor([3.0, 3.0, 3.0, 3.0], dtype=dtype, device=device)
    expected = gradient(torch.relu, x, g)
    expected[3] = {"chain": 1.5, "injected": 0.5}[rule]
    assert_same_bits(relu(x, 0.5, rule, WIDTH), torch.relu(x))
    assert_same_bits(banded_gradient(x, g, 0.5, rule), expected)
    g[:] = NAN
    assert banded_gradient(x, g, 0.5, rule)[3].isnan() == (rule == "chain")


@by_rule
def test_second_derivatives_in_the_band(rule):
    x = torch.tensor([-1.0, -WIDTH, 0.0, WIDTH, 3.0], requires_grad=True)
    upstream = torch.tensor([2.0, 3.0, 4.0, -5.0, 6.0], requires_grad=True)
    y = relu(x, 0.5, rule, WIDTH)
    (first,) = torch.autograd.grad(y, x, upstream, create_graph=True)
    at_first = {"chain": [0, 1.5, 2, -2.5, 6], "injected": [0, 0.5, 0.5, 0.5, 6]}[rule]
    assert first.tolist() == at_first
    (second,) = torch.autograd.grad(first, upstream, torch.full((5,), 10.0))
    assert second.tolist() == {"chain": [0, 5, 5, 5, 10], "injected": [0, 0, 0, 0, 10]}[rule]


def test_hessian_in_the_band():
    """f = relu(x)^2 / 2 has f' = s relu(x) there, hence f'' = s^2, as at the kink."""
    x = torch.tensor([2.0, WIDTH, -WIDTH, -1.0], dtype=torch.float64)
    found = hessian(lambda x: (relu(x, 0.5, "chain", WIDTH) ** 2).sum() / 2, x)
    assert found.tolist() == torch.diag(torch.tensor([1.0, 0.25, 0.25, 0.0])).tolist()


@by_rule
@pytest.mark.parametrize("in_dims", [(0, 0), (1, 0), (0, None), (None, 1), (None, 0)])
def test_vmap_of_grad_with_a_band_equals_the_loop(in_dims, rule):
    """The band of these integers has three of the five values."""
    x = small_integers(3, 3, 3)[: 3 if in_dims[0] is not None else 1]
    g = small_integers(3, 3, 3, seed=1)[: 3 if in_dims[1] is not None else 1]
    x, g = (t[0] if d is None else t for t, d in zip((x, g), in_dims, strict=True))

    def pulled(x, g):
        return grad(lambda x: (g * relu(x, 0.5, rule, 1.0)).sum())(x)

    found = vmap(pulled, in_dims=in_dims)(x, g)
    for i in range(3):
        one = [t if d is None else t.select(d, i) for t, d in zip((x, g), in_dims, strict=True)]
        at = 0.5 * one[1] if rule == "chain" else torch.full_like(one[1], 0.5)
        assert torch.equal(found[i], torch.where(one[0].abs() <= 1, at, one[1] * (one[0] > 1)))


@by_rule
def test_a_single_number_in_the_band(rule):
    at = {"chain": 1.5, "injected": 0.5}[rule]
    for value, expected in ((WIDTH, at), (2.0, 3.0), (-2.0, 0.0)):
        x = torch.tensor(value)
        assert banded_gradient(x, torch.tensor(3.0), 0.5, rule).item() == expected


# ---- torch.func ----


def small_integers(*shape, seed=0):
    """Integers from -2 to 2: a fifth are exact zeros, and sums do not round."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-2, 3, shape, generator=generator).double()


@by_rule
@pytest.mark.parametrize("in_dim", [0, 1, 2, -1])
def test_vmap_of_grad_equals_the_loop(in_dim, rule, positions):
    x, g = small_integers(3, 4, 5), small_integers(3, 4, 5, seed=1)

    def loss(x, g):
        return (g * relu(x, 0.5, rule)).sum()

    found = vmap(grad(loss), in_dims=(in_dim, in_dim), out_dims=in_dim)(x, g)
    rows = [grad(loss)(a, b) for a, b in zip(x.unbind(in_dim), g.unbind(in_dim), strict=True)]
    assert torch.equal(found, torch.stack(rows, in_dim))
    at = 0.5 * g if rule == "chain" else torch.full_like(g, 0.5)
    assert torch.equal(found, torch.where(x == 0, at, g * (x > 0)))


@by_rule
@pytest.mark.parametrize("in_dims", [(None, 0), (None, 1), (0, None), (1, None)])
def test_vmap_of_grad_where_one_argument_is_shared(in_dims, rule, positions):
    """Either x or the upstream gradient is the same for all; square, so a wrong axis shows."""
    x = small_integers(3, 3, 3)[: 3 if in_dims[0] is not None else 1]
    g = small_integers(3, 3, 3, seed=1)[: 3 if in_dims[1] is not None else 1]
    x, g = (t[0] if d is None else t for t, d in zip((x, g), in_dims, strict=True))

    def loss(x, g):
        return (g * relu(x, 0.5, rule)).sum()

    found = vmap(grad(loss), in_dims=in_dims)(x, g)
    pairs = [
        [t if d is None else t.select(d, i) for t, d in zip((x, g), in_dims, strict=True)]
        for i in range(3)
    ]
    assert torch.equal(found, torch.stack([grad(loss)(*pair) for pair in pairs]))


@by_rule
@pytest.mark.parametrize(
    "in_dims", [((0, 0), (0, 0)), ((1, 0), (0, 1)), ((0, None), (1, 0)), ((0, 0), (None, 0))]
)
def test_nested_vmap_equals_the_loops(in_dims, rule, positions):
    """in_dims: of x and the upstream gradient, in the outer and in the inner vmap."""
    outer, inner = in_dims

    def pulled(x, g):
        return vjp(lambda x: relu6(x, 0.5, 0.25, rule), x)[1](g)[0]

    def take(t, dim, i):
        return t if dim is None else t.select(dim, i)

    n = 3  # of everything, so that a wrong axis is a wrong value and not an error
    x = 2 * small_integers(*[n] * (2 + sum(d is not None for d in (outer[0], inner[0]))))
    x[x == 4] = 6.0
    g = small_integers(*[n] * (2 + sum(d is not None for d in (outer[1], inner[1]))), seed=1)
    found = vmap(vmap(pulled, in_dims=inner), in_dims=outer)(x, g)
    for i in range(n):
        for j in range(n):
            one = [take(take(t, outer[k], i), inner[k], j) for k, t in enumerate((x, g))]
            assert torch.equal(found[i, j], pulled(*one))


@by_rule
def test_many_upstream_gradients_of_one_input(rule, positions):
    """As jacrev makes them: the input has no batch dimension, the upstream gradient has."""
    x, g = small_integers(4, 4), small_integers(4, 4, 4, seed=1)
    _, pull = vjp(lambda x: relu(x, 0.5, rule), x)
    at = 0.5 * g if rule == "chain" else torch.full_like(g, 0.5)
    expected = torch.where(x == 0, at, g * (x > 0))
    assert torch.equal(vmap(pull)(g)[0], expected)
    assert torch.equal(vmap(pull, in_dims=2)(g.movedim(0, 2))[0], expected)
    leaf = x.clone().requires_grad_()
    y = relu(leaf, 0.5, rule)
    (found,) = torch.autograd.grad(y, leaf, g, is_grads_batched=True)
    assert torch.equal(found, expected)


@by_rule
def test_a_single_number(rule, positions):
    """A tensor without dimensions, alone, batched, and with many upstream gradients."""
    at = {"chain": 1.5, "injected": 0.5}[rule]
    for value, expected in ((0.0, at), (2.0, 3.0), (-2.0, 0.0)):
        x, g = torch.tensor(value), torch.tensor(3.0)
        assert gradient(lambda x: relu(x, 0.5, rule), x, g).item() == expected
        _, pull = vjp(lambda x: relu(x, 0.5, rule), x)
        assert vmap(pull)(g.expand(2))[0].tolist() == [expected, expected]
    found = vmap(grad(lambda x: 3 * relu(x, 0.5, rule)))(torch.tensor([0.0, 2.0, -2.0]))
    assert found.tolist() == [at, 3.0, 0.0]


@by_rule
def test_ensemble_equals_the_loop(rule, positions):
    def network(seed):
        layers = nn.Linear(3, 4), ReLU6(0.5, 0.25, rule), nn.Linear(4, 4), LeakyReLU(0.5, 2.0, rule)
        model = nn.Sequential(*layers).double()
        with torch.no_grad():
            for i, p in enumerate(model.parameters()):
                p.copy_(small_integers(*p.shape, seed=10 * seed + i))
        return model

    models = [network(seed) for seed in range(3)]
    x = small_integers(8, 3, seed=99)

    def loss(parameters, x):
        return (functional_call(models[0], parameters, (x,)) ** 2).sum()

    stacked, _ = stack_module_state(models)
    found = vmap(grad(loss), in_dims=(0, None))(stacked, x)
    hits = 0
    for i, model in enumerate(models):
        with count_kinks(model) as counts:
            gradients = torch.autograd.grad((model(x) ** 2).sum(), list(model.parameters()))
        hits += sum(int(c.sum()) for c in counts.values())
        for (name, _), one in zip(model.named_parameters(), gradients, strict=True):
            assert torch.equal(found[name][i], one)
    assert hits > 20
    by_sample = vmap(grad(loss), in_dims=(None, 0))(dict(models[0].named_parameters()), x)
    whole = grad(loss)(dict(models[0].named_parameters()), x)
    for name, one in whole.items():
        assert torch.equal(by_sample[name].sum(0), one)


# ---- torch.compile ----


def compiled_equals_eager(backend, rule, dtype):
    x = torch.tensor([0.0, -0.0, 6.0, 1.0, -1.0, 7.0, 0.0, 3.0], dtype=dtype)
    g = torch.tensor([1.0, -3.0, 5.0, 2.0, 4.0, -2.0, 0.0, 1.0], dtype=dtype)

    def forward(x):
        return relu(x, 0.5, rule) + relu6(x, 0.5, 0.25, rule) * 2 + leaky_relu(x, 0.25, 4.0, rule)

    torch.compiler.reset()
    compiled = torch.compile(forward, backend=backend, fullgraph=True)
    assert torch.equal(compiled(x), forward(x))
    assert torch.equal(gradient(compiled, x, g), gradient(forward, x, g))
    expected = {
        "chain": [5.5, -16.5, 12.5, 8.0, 1.0, -4.0, 0.0, 4.0],
        "injected": [5.0, 5.0, 10.25, 8.0, 1.0, -4.0, 5.0, 4.0],
    }[rule]
    assert gradient(compiled, x, g).tolist() == expected


# PyTorch 2.11 warns of what its own compiler does.
compiles = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@compiles
@by_dtype
@by_rule
def test_compiled_graph_equals_eager(rule, dtype):
    compiled_equals_eager("aot_eager", rule, dtype)


@compiles
@by_rule
def test_compiled_band_equals_eager(rule):
    x, g = torch.linspace(-1.0, 1.0, 17), torch.arange(17.0)
    torch.compiler.reset()
    compiled = torch.compile(lambda x: relu(x, 0.5, rule, 0.25), backend="aot_eager")
    assert torch.equal(gradient(compiled, x, g), banded_gradient(x, g, 0.5, rule, 0.25))


def builds_cpp():
    """Whether there is what inductor builds its kernels with; it asks for the same compiler."""
    usual = "clang++" if sys.platform == "darwin" else "g++"
    header = Path(sysconfig.get_path("include"), "Python.h")
    return shutil.which(os.environ.get("CXX", usual)) is not None and header.exists()


@compiles
@by_rule
@pytest.mark.skipif(not builds_cpp(), reason="needs a C++ compiler and Python's header files")
def test_inductor_equals_eager(rule):
    compiled_equals_eager("inductor", rule, torch.float32)


# ---- memory and in-place changes ----

EACH = [
    lambda x, r: relu(x, 0.5, r),
    lambda x, r: relu6(x, 0.5, 0.25, r),
    lambda x, r: leaky_relu(x, 0.25, 0.5, r),
]
each = pytest.mark.parametrize("function", EACH, ids=["relu", "relu6", "leaky_relu"])


@each
@by_rule
def test_only_the_output_and_a_few_indices_are_saved(function, rule):
    x = torch.ones(20, 50)
    x[3, 4], x[5, 6], x[7, 8] = 0.0, 0.0, 6.0
    x.requires_grad_()
    saved = []
    with saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        y = function(x, rule)
    large = [t for t in saved if t.numel() >= x.numel()]
    assert {t.data_ptr() for t in large} == {y.data_ptr()}  # the output itself, not a copy
    assert {(t.dtype, t.shape[1]) for t in saved if t.numel() < x.numel()} == {(torch.int64, 2)}
    assert sum(t.numel() for t in saved if t.numel() < x.numel()) <= 2 * 3


@each
@by_rule
def test_the_input_is_let_go(function, rule):
    leaf = torch.zeros(3, requires_grad=True)
    inner = leaf * 1.0
    alive = weakref.ref(inner)
    y = function(inner, rule)
    del inner
    assert alive() is None
    assert y.requires_grad


@each
@by_rule
def test_changing_the_input_afterwards_does_not_change_the_gradient(function, rule):
    x = torch.tensor([-1.0, 0.0, 6.0, 2.0])
    g = torch.tensor([1.0, 2.0, 3.0, 4.0])
    expected = gradient(lambda x: function(x, rule), x, g)
    leaf = x.clone().requires_grad_()
    inner = leaf * 1.0
    y = function(inner, rule)
    with torch.no_grad():
        inner.fill_(5.0)
    assert torch.equal(torch.autograd.grad(y, leaf, g)[0], expected)


@pytest.mark.parametrize(
    "function",
    [torch.relu, *(lambda x, f=f, r=r: f(x, r) for f in EACH for r in GRADIENT_RULES)],
    ids=["torch.relu", *(f"{n} {r}" for n in CHANGED for r in GRADIENT_RULES)],
)
def test_changing_the_output_before_backward_raises(function):
    x = torch.tensor([-1.0, 0.0, 2.0], requires_grad=True)
    y = function(x)
    with torch.no_grad():
        y.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_no_gradient_is_recorded_when_none_is_wanted():
    assert not relu(torch.zeros(2), 0.5).requires_grad
    with torch.no_grad():
        assert not relu(torch.zeros(2, requires_grad=True), 0.5).requires_grad


# ---- counting ----


def counted_network():
    """Sums and products here are exact, so the hits can be counted by hand."""
    first = nn.Linear(1, 3)
    first.weight = nn.Parameter(torch.tensor([[1.0], [2.0], [-1.0]]))
    first.bias = nn.Parameter(torch.tensor([0.0, -2.0, 1.0]))
    second = nn.Linear(3, 2)
    second.weight = nn.Parameter(torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]))
    second.bias = nn.Parameter(torch.tensor([0.0, 6.0]))
    inner = nn.Sequential(second, ReLU6(1.0, 0.5))
    return nn.Sequential(first, ReLU(1.0), inner, LeakyReLU(0.5, 2.0))


def test_planted_hits_are_counted_by_layer_and_kink():
    model = counted_network()
    with count_kinks(model) as counts:
        model(torch.tensor([[0.0], [1.0]]))
        # first layer (0, -2, 1) and (1, 0, 0); second (0, 7) and (1, 6), after ReLU6 (0, 6), (1, 6)
        assert {k: v.tolist() for k, v in counts.items()} == {"1": [3], "2.1": [1, 1], "3": [1]}
        model(torch.tensor([[0.0], [1.0], [1.0]]))
    found = {k: v.tolist() for k, v in counts.items()}
    assert found == {"1": [3 + 5], "2.1": [1 + 1, 1 + 2], "3": [1 + 1]}
    model(torch.zeros(1, 1))
    assert {k: v.tolist() for k, v in counts.items()} == found


def test_an_activation_that_was_not_called_is_absent():
    model = counted_network()
    with count_kinks(model) as counts:
        model[2](torch.zeros(1, 3))
    assert list(counts) == ["2.1"]


@by_dtype
def test_inputs_in_the_band_are_counted_beside_exact_zeros(dtype):
    x = torch.tensor([0.0, -0.0, WIDTH, -WIDTH, WIDTH / 2, 2 * WIDTH, NAN, -1.0], dtype=dtype)
    model = nn.Sequential(ReLU(1.0, kink_width=WIDTH), ReLU(1.0))
    with count_kinks(model) as counts:
        model(x)
        model(x[:3])
    # after the first activation 4 of 8, and 2 of 3, are zeros
    assert {k: v.tolist() for k, v in counts.items()} == {"0": [2 + 2, 5 + 3], "1": [4 + 2]}


def test_the_band_is_counted_under_vmap():
    model = ReLU(1.0, kink_width=1.0)
    x = small_integers(3, 20)

    def counted(x):
        with count_kinks(model, under_vmap=True) as counts:
            model(x)
        return counts[""]

    expected = torch.stack([(x == 0).sum(1), (x.abs() <= 1).sum(1)], 1)
    assert torch.equal(vmap(counted)(x), expected)


def test_other_modules_are_not_counted():
    model = nn.Sequential(nn.ReLU(), ReLU())
    with count_kinks(model) as counts:
        model(torch.zeros(3))
    assert {name: n.tolist() for name, n in counts.items()} == {"1": [3]}


def test_a_model_that_has_nothing_to_count_is_said():
    model = nn.Sequential(nn.ReLU(), nn.Linear(1, 1))
    with (
        pytest.raises(ValueError, match=r"has none of .* or use reluprime\.check"),
        count_kinks(model),
    ):
        pass


def test_an_input_by_name_is_counted():
    model = ReLU()
    with count_kinks(model) as counts:
        model(x=torch.zeros(3))
    assert counts[""].tolist() == [3]


def test_counting_does_not_change_outputs_or_gradients():
    model, x = counted_network(), torch.randn(50, 1, generator=torch.Generator().manual_seed(0))
    x[::3] = torch.tensor([0.0, 1.0, 2.0]).repeat(6)[:17, None]

    def run():
        y = model(x)
        return [y, *torch.autograd.grad(y.square().sum(), list(model.parameters()))]

    plain = run()
    with count_kinks(model) as counts:
        counted = run()
    assert sum(int(c.sum()) for c in counts.values()) > 10
    assert not any(c.requires_grad for c in counts.values())
    for a, b in zip(plain, counted, strict=True):
        assert_same_bits(a, b)


def test_hooks_are_removed_also_after_an_exception():
    model = counted_network()
    with count_kinks(model):
        assert any(module._forward_pre_hooks for module in model.modules())
    assert not any(module._forward_pre_hooks for module in model.modules())
    with pytest.raises(KeyError, match="inside"), count_kinks(model):
        raise KeyError("inside")
    assert not any(module._forward_pre_hooks for module in model.modules())


# ---- misuse ----


@pytest.mark.parametrize(
    "make",
    [
        lambda r: relu(torch.zeros(1), 0.0, r),
        lambda r: relu6(torch.zeros(1), 0.0, 0.0, r),
        lambda r: leaky_relu(torch.zeros(1), 0.01, 0.0, r),
        lambda r: ReLU(0.0, r),
        lambda r: ReLU6(0.0, 0.0, r),
        lambda r: LeakyReLU(0.01, 0.0, r),
    ],
    ids=["relu", "relu6", "leaky_relu", "ReLU", "ReLU6", "LeakyReLU"],
)
@pytest.mark.parametrize("rule", ["Chain", "", None, 1.0])
def test_unknown_gradient_rule_raises(make, rule):
    with pytest.raises(ValueError, match="gradient_rule=") as error:
        make(rule)
    assert repr(rule) in str(error.value)
    assert all(choice in str(error.value) for choice in GRADIENT_RULES)


def test_negative_slope_must_not_be_negative():
    for make in (lambda slope: leaky_relu(torch.zeros(1), slope), LeakyReLU):
        for slope in (-0.01, NAN):
            with pytest.raises(ValueError, match=f"negative_slope={slope} must not be negative"):
                make(slope)


@pytest.mark.parametrize("width", [-0.5, NAN])
def test_the_width_must_not_be_negative(width):
    for make in (lambda: relu(torch.zeros(1), kink_width=width), lambda: ReLU(kink_width=width)):
        with pytest.raises(ValueError, match=f"kink_width={width} must not be negative"):
            make()


def test_modules_say_what_they_are():
    assert repr(ReLU(1.0, kink_width=0.5)).endswith("gradient_rule='chain', kink_width=0.5)")
    assert repr(ReLU(0.5, "injected")) == "ReLU(s=0.5, gradient_rule='injected')"
    assert repr(ReLU6()) == "ReLU6(s=0.0, s_upper=0.0, gradient_rule='chain')"
    assert repr(LeakyReLU()) == "LeakyReLU(0.01, s=None, gradient_rule='chain')"
