import math
from contextlib import nullcontext
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from reluprime.check.watch import kinks
from reluprime.instruments import activations
from reluprime.instruments.activations import GRADIENT_RULES


def gradient(function, x, upstream=1.0, dtype=torch.float64):
    """Input gradients at the numbers x; the function may overwrite its input."""
    x = torch.tensor(x, dtype=dtype, requires_grad=True)
    (function(x * 1) * upstream).sum().backward()
    return x.grad


# Each function with the points where it has kinks, and its distance to the next kink.
FUNCTIONS = {
    "nn.ReLU": (nn.ReLU(), (0,)),
    "nn.ReLU(inplace)": (nn.ReLU(inplace=True), (0,)),
    "F.relu": (F.relu, (0,)),
    "F.relu(inplace)": (partial(F.relu, inplace=True), (0,)),
    "F.relu by position": (lambda x: F.relu(x, True), (0,)),
    "F.relu by name": (lambda x: F.relu(input=x), (0,)),
    "torch.relu": (torch.relu, (0,)),
    "torch.relu_": (torch.relu_, (0,)),
    "x.relu": (torch.Tensor.relu, (0,)),
    "x.relu_": (torch.Tensor.relu_, (0,)),
    "x.clamp(min)": (lambda x: x.clamp(min=0), (0,)),
    "x.clamp_(min)": (lambda x: x.clamp_(min=0), (0,)),
    "torch.clamp(min, max)": (lambda x: torch.clamp(x, -1, 2), (-1, 2)),
    "torch.clip(max)": (lambda x: torch.clip(x, max=1), (1,)),
    "clamp_min": (lambda x: torch.clamp_min(x, 0), (0,)),
    "x.clamp_min_": (lambda x: x.clamp_min_(0.0), (0,)),
    "x.clamp_max": (lambda x: x.clamp_max(1.0), (1,)),
    "nn.ReLU6": (nn.ReLU6(inplace=True), (0, 6)),
    "F.relu6": (F.relu6, (0, 6)),
    "nn.Hardtanh": (nn.Hardtanh(), (-1, 1)),
    "nn.Hardtanh(-2, 1)": (nn.Hardtanh(-2.0, 1.0, inplace=True), (-2, 1)),
    "F.hardtanh_": (F.hardtanh_, (-1, 1)),
    "nn.LeakyReLU": (nn.LeakyReLU(0.1), (0,)),
    "nn.LeakyReLU(inplace)": (nn.LeakyReLU(0.1, inplace=True), (0,)),
    "F.leaky_relu_": (F.leaky_relu_, (0,)),
    "nn.Hardswish": (nn.Hardswish(), (-3, 3)),
    "nn.Hardswish(inplace)": (nn.Hardswish(inplace=True), (-3, 3)),
    "nn.Hardsigmoid": (nn.Hardsigmoid(inplace=True), (-3, 3)),
    "abs": (abs, (0,)),
    "torch.abs": (torch.abs, (0,)),
    "x.abs_": (torch.Tensor.abs_, (0,)),
    "torch.maximum": (lambda x: torch.maximum(x, torch.zeros(())), (0,)),
    "torch.max": (lambda x: torch.max(x, torch.zeros(())), (0,)),
    "x.minimum": (lambda x: -(-x).minimum(torch.zeros(())), (0,)),
}
by_function = pytest.mark.parametrize("name", FUNCTIONS)


def one_sided(function, x, step):
    """The difference quotient, in fp64, of a function that is almost linear between x and there."""
    there = torch.tensor([x, x + step], dtype=torch.float64)
    low, high = function(there)
    return float((high - low) / step)


@by_function
@pytest.mark.parametrize("rule", GRADIENT_RULES)
@pytest.mark.parametrize("s", [0.0, 0.25, 1.0, -2.0])
def test_the_derivative_lies_at_s_between_the_one_sided_ones(name, rule, s):
    function, points = FUNCTIONS[name]
    for x in points:
        left, right = (one_sided(function, x, step) for step in (-1e-6, 1e-6))
        derivative = left + s * (right - left)
        if name == "torch.maximum" or name == "torch.max":
            derivative = s  # of the first argument
        with kinks(s, rule):
            found = gradient(function, [x], upstream=3.0)
        expected = derivative * (3.0 if rule == "chain" else 1.0)
        if name == "x.minimum" and rule == "injected":
            expected = s  # -min(-x, 0): what is injected meets the inner minus
            found = -found
        assert float(found) == pytest.approx(expected, abs=1e-5)


@by_function
def test_values_and_gradients_away_from_kinks_do_not_change(name):
    function, points = FUNCTIONS[name]
    x = [p + d for p in points for d in (-0.3, 0.2, math.nan)]
    values = torch.tensor([*x, *map(float, points)])
    native = function(values.clone()), gradient(function, x, 3.0)
    with kinks(0.3):
        found = function(values.clone()), gradient(function, x, 3.0)
    torch.testing.assert_close(found, native, rtol=0, atol=0, equal_nan=True)


@by_function
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_without_s_everything_is_pytorchs_own(name, dtype):
    function, points = FUNCTIONS[name]
    x = [*map(float, points), 0.0, -0.5, 0.7]
    with kinks():
        found = gradient(function, x, 3.0, dtype)
    assert found.dtype == dtype
    assert torch.equal(found, gradient(function, x, 3.0, dtype))


@pytest.mark.parametrize("name", [n for n in FUNCTIONS if "inplace" in n or n.endswith("_")])
def test_in_place_calls_overwrite_and_return_their_input(name):
    function, _ = FUNCTIONS[name]
    x = torch.tensor([-4.0, 0.0, 3.0, 7.0])
    expected = function(x.clone())
    with kinks(1.0):
        y = function(x)
    assert y is x
    assert torch.equal(x, expected)


# ---- against the report's own activations ----

PAIRS = [
    (nn.ReLU, activations.ReLU),
    (partial(nn.ReLU, inplace=True), activations.ReLU),
    (nn.ReLU6, lambda s, rule: activations.ReLU6(s, 1 - s, rule)),
    (partial(nn.ReLU6, inplace=True), lambda s, rule: activations.ReLU6(s, 1 - s, rule)),
    (
        partial(nn.LeakyReLU, 0.25),
        lambda s, rule: activations.LeakyReLU(0.25, 0.25 + s * 0.75, rule),
    ),
]


def planted(activation, seed, dtype, depth, norm):
    """A random mlp on small integers: every third neuron's pre-activation is exactly 0."""
    random = torch.Generator().manual_seed(seed)
    layers = []
    for _ in range(depth):
        linear = nn.utils.skip_init(nn.Linear, 6, 6)
        with torch.no_grad():
            linear.weight.normal_(generator=random)
            linear.bias.normal_(generator=random)
            linear.weight[::3] = 0
            linear.bias[::3] = 0
            linear.weight[1] = torch.tensor([6.0, 0, 0, 0, 0, 0])  # 6 for an input of 1
            linear.bias[1] = 0
        layers += [linear, *([nn.BatchNorm1d(6)] if norm else []), activation()]
    return nn.Sequential(*layers, nn.Linear(6, 3)).to(dtype)


@given(
    seed=st.integers(0, 10_000),
    pair=st.sampled_from(PAIRS),
    s=st.sampled_from([0.0, 0.5, 1.0, -1.5, 0.1]),
    rule=st.sampled_from(GRADIENT_RULES),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16]),
    depth=st.integers(1, 3),
    norm=st.booleans(),
)
@settings(max_examples=80, deadline=None)
def test_kinks_equals_the_reports_activations_bit_for_bit(seed, pair, s, rule, dtype, depth, norm):
    native, own = pair
    ours = planted(lambda: own(s, rule), seed, dtype, depth, norm)
    theirs = planted(native, seed, dtype, depth, norm)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randint(-1, 2, (5, 6), generator=torch.Generator().manual_seed(seed)).to(dtype)
    results = []
    for network, block in ((ours, nullcontext()), (theirs, kinks(s, rule))):
        leaf = x.clone().requires_grad_()
        with block:
            output = network(leaf)
        grads = torch.autograd.grad(output.double().square().sum(), [leaf, *network.parameters()])
        results.append([output, *grads])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


# ---- ties ----


def pool_oracle(x, upstream, size, stride, padding, dilation, s, rule):
    """Window by window in plain Python: s to the first maximum, 1 - s to the second."""
    found = torch.zeros_like(x)
    for i in range(upstream.shape[0]):
        for j in range(upstream.shape[1]):
            cells = [
                (i * stride - padding + a * dilation, j * stride - padding + b * dilation)
                for a in range(size)
                for b in range(size)
            ]
            cells = [(r, c) for r, c in cells if 0 <= r < len(x) and 0 <= c < x.shape[1]]
            most = max(float(x[cell]) for cell in cells)
            best = [cell for cell in cells if float(x[cell]) == most]
            g = float(upstream[i, j])
            if len(best) == 1:
                found[best[0]] += g
            else:
                found[best[0]] += s if rule == "injected" else s * g
                found[best[1]] += (1 - s) if rule == "injected" else (1 - s) * g
    return found


@given(
    seed=st.integers(0, 10_000),
    shape=st.tuples(st.integers(3, 7), st.integers(3, 7)),
    size=st.integers(1, 3),
    stride=st.integers(1, 3),
    padded=st.booleans(),
    dilation=st.integers(1, 2),
    ceil_mode=st.booleans(),
    s=st.sampled_from([0.0, 0.25, 1.0]),
    rule=st.sampled_from(GRADIENT_RULES),
)
@settings(max_examples=80, deadline=None)
def test_ties_of_a_max_pool(seed, shape, size, stride, padded, dilation, ceil_mode, s, rule):
    if dilation * (size - 1) + 1 > min(shape):
        return
    padding = size // 2 if padded else 0
    random = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 3, shape, generator=random).double()
    pool = nn.MaxPool2d(size, stride, padding, dilation, ceil_mode=ceil_mode)
    leaf = x.view(1, 1, *shape).clone().requires_grad_()
    with kinks(s, rule):
        y = pool(leaf)
    assert torch.equal(y, pool(leaf))
    upstream = torch.randint(-3, 4, y.shape, generator=random).double()
    (found,) = torch.autograd.grad(y, leaf, upstream)
    expected = pool_oracle(x, upstream[0, 0], size, stride, padding, dilation, s, rule)
    assert torch.equal(found[0, 0], expected)


@pytest.mark.parametrize("size", [12, 17])  # of 144 and 289 equal maxima
def test_ties_of_a_wide_window(size):
    leaf = torch.zeros(1, 1, size, size, dtype=torch.float64, requires_grad=True)
    with kinks(0.25):
        y = nn.MaxPool2d(size)(leaf)
    (found,) = torch.autograd.grad(y, leaf, torch.full_like(y, 4.0))
    expected = torch.zeros(size * size).index_fill(0, torch.tensor(0), 1.0)
    expected[1] = 3.0
    assert torch.equal(found.flatten(), expected.double())


def test_max_pool_with_indices_has_the_same_gradient():
    x = torch.ones(1, 2, 4, 4, requires_grad=True)
    found = []
    for indices in (False, True):
        with kinks(0.25):
            y = nn.MaxPool2d(2, return_indices=indices)(x)
        if indices:
            y, where = y
            assert where[0, 0].tolist() == [[0, 2], [8, 10]]
        found.append(torch.autograd.grad(y.sum(), x)[0])
    assert torch.equal(*found)
    assert found[0][0, 0, 0].tolist() == [0.25, 0.75, 0.25, 0.75]


def test_ties_of_pairs_broadcast_and_promote():
    x = torch.tensor([[1.0, 2.0], [3.0, 2.0]], dtype=torch.bfloat16, requires_grad=True)
    y = torch.tensor([1.0, 2.0], requires_grad=True)
    with kinks(0.25):
        z = torch.maximum(x, y)
    assert z.dtype == torch.float32
    of_x, of_y = torch.autograd.grad(z.sum(), (x, y))
    assert of_x.tolist() == [[0.25, 0.25], [1.0, 0.25]]
    assert of_x.dtype == torch.bfloat16
    assert of_y.tolist() == [0.75, 1.5]


def test_at_s_one_half_a_maximum_is_pytorchs_own():
    random = torch.Generator().manual_seed(0)
    x = torch.randint(-3, 3, (64, 50), generator=random).float().requires_grad_()
    y = torch.randint(-3, 3, (50,), generator=random).bfloat16().requires_grad_()
    upstream = torch.randn(64, 50, generator=random)
    with kinks(0.5):
        z = torch.maximum(x, y)
    native = torch.autograd.grad(torch.maximum(x, y), (x, y), upstream)
    for found, expected in zip(torch.autograd.grad(z, (x, y), upstream), native, strict=True):
        assert torch.equal(found, expected)


# ---- the block ----


class Mixed(nn.Module):
    """Modules and functions, some of them in place, and a residual branch."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        out = self.act(self.conv(x))
        out = F.relu(out - 1, inplace=True) + out
        out = F.max_pool2d(out, 2).clamp(min=0)
        return self.head(out.mean((2, 3)))


def test_under_autocast():
    torch.manual_seed(0)
    network, x = Mixed(), torch.randn(2, 1, 6, 6)
    x[0] = 0
    with torch.no_grad():
        network.conv.bias[:2] = 0
    found = {}
    for s in (None, 0.0, 1.0):
        with kinks(s), torch.autocast("cpu", torch.bfloat16):
            output = network(x)
        assert output.dtype == torch.bfloat16
        found[s] = torch.autograd.grad(output.float().sum(), list(network.parameters()))
    assert any(not torch.equal(a, b) for a, b in zip(found[0.0], found[1.0], strict=True))
    with torch.autocast("cpu", torch.bfloat16):
        native = torch.autograd.grad(network(x).float().sum(), list(network.parameters()))
    for a, b in zip(found[None], native, strict=True):
        assert torch.equal(a, b)


def test_nothing_changes_outside_and_the_inner_block_wins():
    with kinks(1.0):
        with kinks(0.25):
            assert gradient(F.relu, [0.0]) == 0.25
        assert gradient(F.relu, [0.0]) == 1.0
        with kinks():
            assert gradient(F.relu, [0.0]) == 1.0  # no derivative of its own
    assert gradient(F.relu, [0.0]) == 0.0
    with pytest.raises(ZeroDivisionError), kinks(1.0):
        raise ZeroDivisionError
    assert gradient(F.relu, [0.0]) == 0.0


def test_second_derivatives():
    for function in (nn.Hardswish(), abs, nn.Hardtanh(), nn.MaxPool2d(2)):
        x = torch.randn(1, 1, 4, 4, dtype=torch.float64, requires_grad=True)
        with kinks(0.5):
            torch.autograd.gradgradcheck(lambda x, f=function: f(x.sin()), x)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gradient_rule": "x"}, "choose one of"),
        ({"gradient_rule": "injected"}, "needs an s"),
        ({"s": math.nan}, "must be finite"),
    ],
)
def test_misuse_raises(arguments, message):
    with pytest.raises(ValueError, match=message), kinks(**arguments):
        pass
