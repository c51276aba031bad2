"""Layers in forms: one function in exact arithmetic, zeros where the form predicts them."""

from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from reluprime.instruments import kernels, sums
from reluprime.instruments.activations import ReLU
from reluprime.instruments.convolutional import vgg11
from reluprime.instruments.fully_connected import mlp

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


@pytest.mark.parametrize("dtype", DTYPES)
def test_spacing_is_the_distance_to_the_next_number(dtype):
    x = torch.tensor([0.0, 1.0, -1.0, 1.5, 2.0, 1e-3, 6.0], dtype=dtype)
    following = torch.nextafter(x.abs(), torch.tensor(torch.inf, dtype=dtype))
    expected = following.double() - x.abs().double()
    assert torch.equal(kernels.spacing(x, dtype), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_half_of_the_smallest_number_is_stored_as_zero_and_more_is_not(dtype):
    half = kernels.underflow(dtype) / 2
    results = torch.tensor([half, half * 1.01], dtype=torch.float64)
    assert (results.to(dtype) == 0).tolist() == [True, False]


def test_each_form_has_its_function():
    assert set(get_args(kernels.LinearForm)) == set(kernels.LINEAR_FORMS)


@pytest.mark.parametrize("form", sorted(kernels.LINEAR_FORMS))
@pytest.mark.parametrize("layer", [nn.Linear(8, 5), nn.Conv2d(8, 5, 3)])
def test_linear_forms_agree_up_to_rounding(form, layer):
    if form in kernels.ORDERED and isinstance(layer, nn.Conv2d):
        with pytest.raises(ValueError, match=f"form='{form}' is of a linear layer"):
            kernels.Linear(layer, form)
        return
    torch.manual_seed(0)
    x = torch.rand(3, 8) if isinstance(layer, nn.Linear) else torch.rand(3, 8, 4, 4)
    z = kernels.Linear(layer, form)(x)
    tolerance = 1e-2 if form.startswith("tf32") else 1e-5
    assert torch.allclose(z, layer(x), atol=tolerance)
    width = kernels.Linear(layer, form).width(z)
    assert torch.broadcast_shapes(width.shape, z.shape) == z.shape


def _cancelling(dtype):
    """A layer whose rounded product cancels the bias, and whose exact sum does not."""
    layer = nn.Linear(1, 1).to(dtype)
    a = 1 + torch.finfo(dtype).eps
    x = torch.tensor([[a]], dtype=dtype)
    with torch.no_grad():
        layer.weight.fill_(a)
        layer.bias.copy_(-(x[0] * a))
    return layer, x


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_place_of_the_rounding_makes_the_zero(dtype):
    layer, x = _cancelling(dtype)
    zero = {form: bool(kernels.Linear(layer, form)(x) == 0) for form in ("fused", "unfused")}
    exact_sum_is_stored = torch.finfo(dtype).eps ** 2 > kernels.underflow(dtype) / 2
    assert exact_sum_is_stored
    assert zero == {"fused": False, "unfused": True}


def test_split_rounds_each_partial_sum():
    layer = nn.Linear(4, 1, dtype=torch.bfloat16)
    with torch.no_grad():
        layer.weight.fill_(1)
        layer.bias.zero_()
    x = torch.tensor([[256.0, 0.5, 0.5, -256.0]], dtype=torch.bfloat16)  # 256.5 rounds to 256
    assert kernels.Linear(layer, "split")(x).item() == 0
    assert kernels.Linear(layer, "fused")(x).item() == 1


# ---- orders of summation at fp32 ----

ORDERS = ("unfused", "tf32-unfused", *kernels.SLICES, *kernels.ORDERED)
BIG = 2.0**24  # BIG + 1 is rounded to BIG


def _sum(form, *values):
    """Output of a layer with weights 1 and no bias, a form's sum of these inputs."""
    layer = nn.Linear(len(values), 1)
    nn.init.ones_(layer.weight)
    nn.init.zeros_(layer.bias)
    return kernels.Linear(layer, form)(torch.tensor([values])).item()


@pytest.mark.parametrize("form", ORDERS)
@pytest.mark.parametrize("shape", [(3, 784, 5), (300, 129, 256), (1, 7, 1), (5, 16, 9)])
def test_orders_are_exact_on_integers(form, shape):
    rows, inputs, outputs = shape
    random = torch.Generator().manual_seed(inputs)
    layer = nn.Linear(inputs, outputs)
    x = torch.randint(-9, 10, (rows, inputs), generator=random)
    weight = torch.randint(-9, 10, (outputs, inputs), generator=random)
    bias = torch.randint(-99, 100, (outputs,), generator=random)
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    assert torch.equal(kernels.Linear(layer, form)(x.float()).long(), x @ weight.t() + bias)


@pytest.mark.parametrize("form", [form for form in ORDERS if form != "tf32-unfused"])
def test_orders_agree_with_fp64_up_to_rounding(form):
    torch.manual_seed(0)
    layer, x = nn.Linear(784, 64), torch.rand(50, 784)
    exact = layer.double()(x.double())
    error = (kernels.Linear(layer.float(), form)(x) - exact).abs().max()
    assert 0 < error < 784 * 2**-24


def test_a_sum_in_order_is_zero_and_one_in_blocks_is_not():
    """In order BIG + 1 - BIG is 0; where a block ends before the 1 it is BIG + (1 - BIG)."""

    def sums_at(index):
        inputs = [0.0] * 130
        inputs[0], inputs[index], inputs[index + 1] = BIG, 1.0, -BIG
        return {form: _sum(form, *inputs) for form in kernels.ORDERED}

    assert sums_at(6) == {"sequential": 0, "blocks-8": 0, "blocks-32": 0, "blocks-128": 0}
    assert sums_at(8) == {"sequential": 0, "blocks-8": 1, "blocks-32": 0, "blocks-128": 0}
    assert sums_at(30) == {"sequential": 0, "blocks-8": 1, "blocks-32": 0, "blocks-128": 0}
    assert sums_at(32) == {"sequential": 0, "blocks-8": 1, "blocks-32": 1, "blocks-128": 0}
    assert sums_at(126) == {"sequential": 0, "blocks-8": 1, "blocks-32": 1, "blocks-128": 0}
    assert sums_at(128) == {"sequential": 0, "blocks-8": 1, "blocks-32": 1, "blocks-128": 1}


def test_the_number_of_slices_makes_the_zero():
    """One input a slice of eight: BIG + 1 - BIG in order; where 1 and -BIG share a slice, 1."""
    eight = {form: _sum(form, BIG, 0.0, 0.0, 0.0, 1.0, -BIG, 0.0, 0.0) for form in kernels.SLICES}
    assert eight == {"split-2": 1, "split": 1, "split-8": 0}
    four = {form: _sum(form, BIG, 0.0, 0.0, 0.0, 1.0, 0.0, -BIG, 0.0) for form in kernels.SLICES}
    assert four == {"split-2": 1, "split": 0, "split-8": 0}


@pytest.mark.parametrize("form", kernels.ORDERED)
def test_products_are_rounded_before_they_are_added(form):
    a = torch.tensor(1 + 2.0**-23)
    layer = nn.Linear(2, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.stack([-(a * a), a]))
        layer.bias.zero_()
    x = torch.stack([torch.ones(()), a]).unsqueeze(0)
    assert kernels.Linear(layer, form)(x).item() == 0
    assert kernels.Linear(layer, "wide")(x).item() == 2.0**-46


def test_a_sum_does_not_depend_on_how_many_are_taken_at_once(monkeypatch):
    torch.manual_seed(0)
    x, weight = torch.rand(50, 100), torch.randn(8, 100)
    at_once = sums.in_blocks(x, weight, 32)
    monkeypatch.setattr(sums, "CHUNK", 8 * 7)  # rows of 7
    assert torch.equal(sums.in_blocks(x, weight, 32), at_once)
    monkeypatch.setattr(sums, "CHUNK", 1)
    assert torch.equal(sums.in_blocks(x, weight, 32), at_once)


def test_the_bias_comes_last_in_tf32_unfused():
    layer = nn.Linear(2, 1)
    with torch.no_grad():
        layer.weight.fill_(1)
        layer.bias.fill_(-BIG)
    x = torch.tensor([[BIG, 1.0 + 2.0**-12]])  # 1 in TF32; above it BIG + 1 would round up
    assert kernels.Linear(layer, "tf32-unfused")(x).item() == 0
    assert kernels.Linear(layer, "unfused")(x).item() == 2


def test_tf32_keeps_eleven_bits():
    kept, dropped = 1 + 2**-10, 1 + 2**-12
    rounded = kernels._to_tf32(torch.tensor([kept, dropped, -kept]))
    assert rounded.tolist() == [kept, 1.0, -kept]


def test_widths_follow_the_precision_of_the_last_addition():
    bias = torch.tensor([1.0], dtype=torch.float16)
    eps16, eps32, least = 2**-10, 2**-23, 2**-24
    assert float(kernels.linear_width("unfused", bias)) == eps16
    for form in kernels.SLICES:
        assert float(kernels.linear_width(form, bias)) == eps16
    assert float(kernels.linear_width("fused", bias)) == eps32 + least
    assert float(kernels.linear_width("wide", bias)) == 2**-52 + least
    for form in ("native", "split-8", *kernels.FP32_FORMS):
        assert float(kernels.linear_width(form, bias.float())) == eps32


def test_what_has_no_form_is_refused():
    with pytest.raises(ValueError, match="has no bias"):
        kernels.Linear(nn.Linear(2, 2, bias=False), "fused")
    for form in kernels.FP32_FORMS:
        with pytest.raises(ValueError, match=f"form='{form}' needs fp32"):
            kernels.Linear(nn.Linear(2, 2, dtype=torch.bfloat16), form)
    with pytest.raises(ValueError, match="fp32"):
        kernels.BatchNorm(nn.BatchNorm1d(2, dtype=torch.float64), "affine")


@pytest.mark.parametrize("form", ["native", *kernels.NORM_FORMS])
@pytest.mark.parametrize("shape", [(64, 3), (16, 3, 4, 4)])
def test_norm_forms_agree_up_to_rounding(form, shape):
    torch.manual_seed(0)
    layer = (nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d)(3)
    nn.init.uniform_(layer.weight, 0.5, 2)
    nn.init.uniform_(layer.bias, -1, 1)
    x = 3 + torch.randn(shape)
    module = kernels.BatchNorm(layer, form)
    z = module(x)
    assert torch.allclose(z, layer(x), atol=1e-5)
    assert (module.width(z) > 0).all()


@given(st.integers(0, 10_000))
def test_a_rounded_product_cancels_and_a_fused_one_does_not(seed):
    x, a = torch.rand(2, 50, generator=torch.Generator().manual_seed(seed)) + 0.5
    shift = -(x * a)
    columns = (torch.zeros(50), torch.ones(50), a, shift)
    rounded = (x.double() * a.double()).float().double() != x.double() * a.double()
    assert (kernels.NORM_FORMS["affine"](x, *columns) == 0).all()
    assert torch.equal(kernels.NORM_FORMS["fused"](x, *columns) != 0, rounded)


def test_in_forms_reaches_every_layer_with_a_bias():
    network = kernels.in_forms(mlp((4, 3, 3, 2), ReLU, seed=0), "unfused", "native")
    assert sum(isinstance(m, kernels.Linear) for m in network.modules()) == 3
    vgg = vgg11(10, ReLU, seed=0, width=0.0625, batch_norm=True)
    kernels.in_forms(vgg, "native", "affine")
    assert sum(isinstance(m, kernels.BatchNorm) for m in vgg.modules()) == 8
    assert not any(isinstance(m, nn.Conv2d) for m in vgg.features)


def test_a_convolution_written_out_is_the_layers_own():
    random = torch.Generator().manual_seed(0)
    x = torch.randn(2, 4, 9, 9, generator=random)
    layer = nn.Conv2d(4, 6, 3, stride=2, padding=1, dilation=2, groups=2)
    assert torch.equal(kernels.convolve(layer, x, layer.weight, layer.bias), layer(x))
    with pytest.raises(ValueError, match="padding_mode='reflect'"):
        kernels.convolve(nn.Conv2d(4, 6, 3, padding_mode="reflect"), x, layer.weight, None)
