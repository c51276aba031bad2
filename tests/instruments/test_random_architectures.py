"""Both rules in every arithmetic on random architectures, against integers in plain loops.

Weights, inputs and upstream gradients are small integers, so that every sum is exact in every
precision and exact zeros are many: one reference in numpy's integers then says all bits of all of
them. It writes convolutions as loops over the kernel and each gradient by hand.
"""

import random
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from reluprime.instruments.activations import GRADIENT_RULES, ReLU
from reluprime.instruments.arithmetic import emulate
from reluprime.instruments.watch import count_kinks

# Precision: integers up to here are numbers of it, one by one.
EXACT = {"fp64": 2**53, "fp32": 2**24, "fp16": 2**11, "bf16": 2**8}
DTYPES = {
    "fp64": torch.float64,
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}
CONDITIONS = [(name, precision) for name in ("native", "epilogue") for precision in EXACT]
CONDITIONS += [("separate", precision) for precision in ("fp16", "bf16")]


# ---- the reference ----


class Linear:
    """x (batch, inputs)."""

    def __init__(self, draw, n_in, n_out):
        self.weight, self.bias = draw((n_out, n_in)), draw((n_out,))

    def module(self):
        return filled(nn.Linear(self.weight.shape[1], self.weight.shape[0]), self)

    def forward(self, x):
        self.x = x
        return x @ self.weight.T + self.bias

    def backward(self, upstream):
        self.gradients = [upstream.T @ self.x, upstream.sum(0)]
        return upstream @ self.weight


class Conv:
    """x (batch, channels, height, width); 3 x 3 with a padding of 1, by its nine positions."""

    def __init__(self, draw, n_in, n_out, stride):
        self.weight, self.bias, self.stride = draw((n_out, n_in, 3, 3)), draw((n_out,)), stride

    def module(self):
        n_out, n_in = self.weight.shape[:2]
        return filled(nn.Conv2d(n_in, n_out, 3, self.stride, padding=1), self)

    def _places(self, height, width):
        rows, columns = (len(range(0, size, self.stride)) for size in (height, width))
        for i in range(3):
            for j in range(3):
                down = slice(i, i + self.stride * rows, self.stride)
                across = slice(j, j + self.stride * columns, self.stride)
                yield i, j, (slice(None), slice(None), down, across)

    def forward(self, x):
        self.padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
        y = self.bias[None, :, None, None]
        for i, j, place in self._places(*x.shape[2:]):
            y = y + np.einsum("bchw,oc->bohw", self.padded[place], self.weight[:, :, i, j])
        return y

    def backward(self, upstream):
        to_weight, to_x = np.zeros_like(self.weight), np.zeros_like(self.padded)
        height, width = (size - 2 for size in self.padded.shape[2:])
        for i, j, place in self._places(height, width):
            to_weight[:, :, i, j] = np.einsum("bohw,bchw->oc", upstream, self.padded[place])
            to_x[place] += np.einsum("bohw,oc->bchw", upstream, self.weight[:, :, i, j])
        self.gradients = [to_weight, upstream.sum((0, 2, 3))]
        return to_x[:, :, 1:-1, 1:-1]


class Kink:
    """ReLU with a derivative at 0; `zeros`: its inputs that are."""

    gradients = ()

    def __init__(self, s, rule):
        self.s, self.rule = s, rule

    def module(self):
        return ReLU(float(self.s), self.rule)

    def forward(self, x):
        self.x, self.zeros = x, int((x == 0).sum())
        return np.maximum(x, 0)

    def backward(self, upstream):
        at_zero = self.s * upstream if self.rule == "chain" else np.full_like(upstream, self.s)
        return np.where(self.x == 0, at_zero, upstream * (self.x > 0))


class Flat:
    gradients = ()

    def module(self):
        return nn.Flatten()

    def forward(self, x):
        self.shape = x.shape
        return x.reshape(len(x), -1)

    def backward(self, upstream):
        return upstream.reshape(self.shape)


class Residual:
    """x + f(x)."""

    def __init__(self, inner):
        self.inner = inner

    def module(self):
        return Sum(nn.Sequential(*(layer.module() for layer in self.inner)))

    def forward(self, x):
        return x + forward(self.inner, x)

    def backward(self, upstream):
        return upstream + backward(self.inner, upstream)


class Sum(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return x + self.inner(x)


def filled(module, layer):
    with torch.no_grad():
        module.weight.copy_(torch.from_numpy(layer.weight))
        module.bias.copy_(torch.from_numpy(layer.bias))
    return module


def forward(layers, x):
    for layer in layers:
        x = layer.forward(x)
        layer.largest = np.abs(x).max(initial=0)
    return x


def backward(layers, upstream):
    for layer in reversed(layers):
        upstream = layer.backward(upstream)
        layer.largest = max(layer.largest, np.abs(upstream).max(initial=0))
    return upstream


def flat(layers):
    """All layers in the order of the forward pass, those within residual blocks too."""
    for layer in layers:
        yield layer
        yield from flat(getattr(layer, "inner", ()))


# ---- random architectures ----


def architecture(number, s, rule):
    """-> its layers, and the shape of an input."""
    pick = random.Random(number)
    numbers = np.random.RandomState(pick.randrange(2**31))

    def draw(shape):
        return numbers.choice([-1, 0, 1], shape, p=[0.2, 0.6, 0.2]).astype(np.int64)

    layers, channels, size = [], pick.randint(1, 3), pick.randint(2, 5)
    shape = (pick.randint(1, 3), channels, size, size)
    for _ in range(pick.randint(0, 2)):
        if pick.random() < 0.5:  # as in a residual network: the sum, and then the kink
            inner = [Conv(draw, channels, 2, 1), Kink(s, rule), Conv(draw, 2, channels, 1)]
            layers += [Residual(inner), Kink(s, rule)]
        else:
            wider, stride = pick.randint(1, 3), pick.randint(1, 2)
            layers += [Conv(draw, channels, wider, stride), Kink(s, rule)]
            channels, size = wider, -(-size // stride)
    layers += [Flat()]
    width = channels * size * size
    for _ in range(pick.randint(0, 2)):
        if pick.random() < 0.3:
            layers += [Residual([Linear(draw, width, 3), Kink(s, rule), Linear(draw, 3, width)])]
        wider = pick.randint(1, 6)
        layers += [Linear(draw, width, wider), Kink(s, rule)]
        width = wider
    return [*layers, Linear(draw, width, 2)], draw(shape), draw((shape[0], 2))


@pytest.mark.parametrize("rule", GRADIENT_RULES)
@pytest.mark.parametrize(("name", "precision"), CONDITIONS)
@settings(max_examples=25, deadline=None)
@given(number=st.integers(0, 2**31), s=st.sampled_from([0, 1, -1, 2]))
def test_a_random_network_has_the_gradients_of_the_loops(name, precision, rule, number, s):
    layers, x, upstream = architecture(number, s, rule)
    y = forward(layers, x)
    to_x = backward(layers, upstream)
    gradients = [g for layer in flat(layers) for g in getattr(layer, "gradients", ())]
    # Sums on the way are no larger than twenty-seven of their terms.
    terms = max([layer.largest for layer in flat(layers)] + [np.abs(g).max() for g in gradients])
    assume(27 * terms < EXACT[precision])

    dtype = DTYPES[precision]
    network = emulate(nn.Sequential(*(layer.module() for layer in layers)), name).to(dtype)
    given_x = torch.from_numpy(x).to(dtype).requires_grad_()
    kinks = [layer for layer in flat(layers) if isinstance(layer, Kink)]
    with count_kinks(network) if kinks else nullcontext({}) as hits:
        found = network(given_x)
    found.backward(torch.from_numpy(upstream).to(dtype))
    assert found.dtype == dtype
    assert np.array_equal(found.detach().double().numpy(), y)
    assert np.array_equal(given_x.grad.double().numpy(), to_x)
    for parameter, expected in zip(network.parameters(), gradients, strict=True):
        assert np.array_equal(parameter.grad.double().numpy(), expected)
    assert sum(int(hit.sum()) for hit in hits.values()) == sum(layer.zeros for layer in kinks)


def test_the_random_architectures_meet_every_kind_of_layer_and_many_zeros():
    """So that agreement says something: of twenty of them, and not of one that is empty."""
    kinds, zeros = set(), 0
    for number in range(20):
        layers, x, _ = architecture(number, 1, "chain")
        forward(layers, x)
        kinds |= {type(layer) for layer in flat(layers)}
        zeros += sum(layer.zeros for layer in flat(layers) if isinstance(layer, Kink))
    assert kinds == {Linear, Conv, Kink, Flat, Residual}
    assert zeros > 100
