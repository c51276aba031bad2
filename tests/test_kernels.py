"""Layers in forms: one function in exact arithmetic, zeros where the form predicts them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from reluprime import kernels, models
from reluprime.activations import ReLU

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


@pytest.mark.parametrize("form", sorted(kernels.LINEAR_FORMS))
@pytest.mark.parametrize("layer", [nn.Linear(8, 5), nn.Conv2d(8, 5, 3)])
def test_linear_forms_agree_up_to_rounding(form, layer):
    torch.manual_seed(0)
    x = torch.rand(3, 8) if isinstance(layer, nn.Linear) else torch.rand(3, 8, 4, 4)
    z = kernels.Linear(layer, form)(x)
    tolerance = 1e-2 if form == "tf32" else 1e-5
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


def test_tf32_keeps_eleven_bits():
    kept, dropped = 1 + 2**-10, 1 + 2**-12
    rounded = kernels._to_tf32(torch.tensor([kept, dropped, -kept]))
    assert rounded.tolist() == [kept, 1.0, -kept]


def test_widths_follow_the_precision_of_the_last_addition():
    bias = torch.tensor([1.0], dtype=torch.float16)
    eps16, eps32, least = 2**-10, 2**-23, 2**-24
    assert float(kernels.linear_width("unfused", bias)) == eps16
    assert float(kernels.linear_width("split", bias)) == eps16
    assert float(kernels.linear_width("fused", bias)) == eps32 + least
    assert float(kernels.linear_width("wide", bias)) == 2**-52 + least
    assert float(kernels.linear_width("native", bias.float())) == eps32


def test_what_has_no_form_is_refused():
    with pytest.raises(ValueError, match="has no bias"):
        kernels.Linear(nn.Linear(2, 2, bias=False), "fused")
    with pytest.raises(ValueError, match="fp32"):
        kernels.Linear(nn.Linear(2, 2, dtype=torch.bfloat16), "tf32")
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
    mlp = kernels.in_forms(models.mlp((4, 3, 3, 2), ReLU, seed=0), "unfused", "native")
    assert sum(isinstance(m, kernels.Linear) for m in mlp.modules()) == 3
    vgg = models.vgg11(10, ReLU, seed=0, width=0.0625, batch_norm=True)
    kernels.in_forms(vgg, "native", "affine")
    assert sum(isinstance(m, kernels.BatchNorm) for m in vgg.modules()) == 8
    assert not any(isinstance(m, nn.Conv2d) for m in vgg.features)
