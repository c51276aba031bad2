"""Linear layers and batch norms written out in forms that round differently.

In exact arithmetic all forms of a layer are one function. They differ in which sums are rounded,
and so in how often their output is exactly 0. Each predicts its `width`: how wide the set of exact
results is that come out as 0. Width times density is the rate of exact zeros.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reluprime.instruments.sums import in_blocks

LinearForm = Literal[
    "native", "fused", "unfused", "split", "wide", "tf32",
    "tf32-unfused", "split-2", "split-8", "sequential", "blocks-8", "blocks-32", "blocks-128",
]  # fmt: skip
NormForm = Literal["native", "fused", "affine", "centred"]

SLICES = {"split-2": 2, "split": 4, "split-8": 8}  # of the inputs
BLOCKS = {"blocks-8": 8, "blocks-32": 32, "blocks-128": 128}  # inputs of each
ORDERED = ("sequential", *BLOCKS)  # forms of a linear layer that say the order of every sum
FP32_FORMS = ("tf32", "tf32-unfused", *ORDERED)
NEAR = 0.02  # pre-activations within this share of their standard deviation give the density at 0


def spacing(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Distance from |x| to the next larger number of `dtype`, as fp64, of x's shape.

    2**(e - p + 1) for |x| in [2**e, 2**(e + 1)) and a significand of p bits; below the normal
    numbers, and at 0, the smallest positive number. Source: Goldberg 1991.
    """
    info = torch.finfo(dtype)
    exponent = torch.frexp(x.double().abs()).exponent - 1
    normal = info.eps * torch.ldexp(torch.ones_like(x, dtype=torch.float64), exponent)
    return torch.where(x == 0, 0.0, normal).clamp(min=underflow(dtype))  # frexp(0) is (0, 0)


def underflow(dtype: torch.dtype) -> float:
    """The smallest positive number of `dtype`. A wider result up to half of it is stored as 0."""
    info = torch.finfo(dtype)
    return info.smallest_normal * info.eps


def _to_tf32(x: Tensor) -> Tensor:
    """fp32 rounded to the 11-bit significand of TF32, ties away from 0, as NVIDIA's GPUs do."""
    bits = x.contiguous().view(torch.int32)
    return ((bits + (1 << 12)) & ~((1 << 13) - 1)).view(torch.float32)


def _apply(layer: nn.Linear | nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if isinstance(layer, nn.Conv2d):
        return convolve(layer, x, weight, bias)
    return F.linear(x, weight, bias)


def convolve(layer: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """What `layer` computes of x, with other weights and bias; it must pad with zeros."""
    if layer.padding_mode != "zeros":
        raise ValueError(f"padding_mode={layer.padding_mode!r}: only 'zeros' is written out")
    return F.conv2d(x, weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups)


def by_channel(values: Tensor, x: Tensor) -> Tensor:
    """One value a channel (dimension 1) in the shape that broadcasts over x."""
    return values.view(-1, *[1] * (x.dim() - 2))


def accumulator(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype.itemsize == 2 else dtype


def _native(layer, x: Tensor) -> Tensor:
    return _apply(layer, x, layer.weight, layer.bias)


def _in(dtype: torch.dtype, layer, x: Tensor) -> Tensor:
    wide = _apply(layer, x.to(dtype), layer.weight.to(dtype), layer.bias.to(dtype))
    return wide.to(x.dtype)


def _fused(layer, x: Tensor) -> Tensor:
    return _in(accumulator(x.dtype), layer, x)


def _wide(layer, x: Tensor) -> Tensor:
    return _in(torch.float64, layer, x)


def _unfused(layer, x: Tensor) -> Tensor:
    product = _apply(layer, x, layer.weight, None)
    return product + by_channel(layer.bias, product)


def _split(slices: int, layer, x: Tensor) -> Tensor:
    parts = zip(x.chunk(slices, 1), layer.weight.chunk(slices, 1), strict=True)
    total = sum(_apply(layer, *part, None) for part in parts)
    return total + by_channel(layer.bias, total)


def _tf32(layer, x: Tensor) -> Tensor:
    return _apply(layer, _to_tf32(x), _to_tf32(layer.weight), layer.bias)


def _tf32_unfused(layer, x: Tensor) -> Tensor:
    product = _apply(layer, _to_tf32(x), _to_tf32(layer.weight), None)
    return product + by_channel(layer.bias, product)


def _blocks(size: int, layer: nn.Linear, x: Tensor) -> Tensor:
    return in_blocks(x, layer.weight, size) + layer.bias


def _sequential(layer: nn.Linear, x: Tensor) -> Tensor:
    return _blocks(layer.in_features, layer, x)


LINEAR_FORMS: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "native": _native,  # PyTorch's kernel for the precision and device
    "fused": _fused,  # 16 bits: sums and bias in fp32, then one rounding to storage
    "unfused": _unfused,  # the product rounded to storage, then the bias added and rounded again
    "wide": _wide,  # sums and bias in fp64, one rounding to storage
    "tf32": _tf32,  # fp32 with inputs and weights rounded to 11 bits
    "tf32-unfused": _tf32_unfused,  # the same product rounded to fp32, then the bias added
    "sequential": _sequential,  # the product summed input by input, then the bias added
    # SLICES partial products, each rounded and added in storage, in order; then the bias
    **{form: partial(_split, slices) for form, slices in SLICES.items()},
    # as sequential in blocks of BLOCKS inputs, whose sums are added in order; then the bias
    **{form: partial(_blocks, size) for form, size in BLOCKS.items()},
}


def linear_width(form: LinearForm, bias: Tensor) -> Tensor:
    """Width of the set of exact results that a form turns into 0, by output channel, fp64.

    The bias b is added last. In a precision with spacing h at b the sum is 0 when the other term
    is rounded to -b: a set of width h. A sum that is wider than its storage is also 0 in storage
    when it is at most half of the smallest number there: a set of that number's width.
    Source: B21 3.2 names the cause; the model is ours (background page).
    """
    in_storage = dict.fromkeys(("unfused", *SLICES), bias.dtype)
    dtype = ({"wide": torch.float64} | in_storage).get(form, accumulator(bias.dtype))
    return spacing(bias, dtype) + (underflow(bias.dtype) if dtype != bias.dtype else 0.0)


def expected_zeros(z: Tensor, width: Tensor) -> float:
    """Density at 0 times width, summed over z: how many exact zeros the model expects.

    z: (batch, channels, ...); width: fp64, broadcasts over z. The density is the share of the
    channel's values that are nearer to 0 than NEAR standard deviations of the layer.
    """
    near = NEAR * float(z.double().std())
    if near == 0:
        return 0.0
    is_near = z.abs() < near
    dims = [d for d in range(z.dim()) if d != 1]
    return float((is_near.sum(dims) * width.flatten()).sum() / (2 * near))


class Linear(nn.Module):
    """A linear layer or convolution with bias in one of LINEAR_FORMS; shares the weights.

    ``width(output)``: :func:`linear_width`, in a shape that broadcasts over that output.
    Raises ValueError for a layer without bias, for a form of TF32 or of ORDERED in another
    precision than fp32, and for a convolution in one of ORDERED, which have no gradient either.
    """

    def __init__(self, layer: nn.Linear | nn.Conv2d, form: LinearForm):
        super().__init__()
        if layer.bias is None:
            raise ValueError(f"{layer} has no bias, and all forms are about adding it")
        if form in FP32_FORMS and layer.weight.dtype != torch.float32:
            raise ValueError(f"form={form!r} needs fp32 weights, not {layer.weight.dtype}")
        if form in ORDERED and not isinstance(layer, nn.Linear):
            raise ValueError(f"form={form!r} is of a linear layer, not of {layer}")
        self.layer, self.form = layer, form

    def forward(self, x: Tensor) -> Tensor:
        return LINEAR_FORMS[self.form](self.layer, x)

    def width(self, output: Tensor) -> Tensor:
        return by_channel(linear_width(self.form, self.layer.bias.detach()), output)


def _centred(x, mean, invstd, weight, bias):
    return (x - mean) * invstd * weight + bias


def _affine(x, mean, invstd, weight, bias):
    scale = weight * invstd
    return x * scale + (bias - mean * scale)


def _fused_affine(x, mean, invstd, weight, bias):
    scale = weight * invstd
    shift = bias - mean * scale
    # Products of fp32 numbers are exact in fp64, and a sum of fp64 numbers is 0 only if exact.
    return (x.double() * scale.double() + shift.double()).to(x.dtype)


NORM_FORMS = {
    "centred": _centred,  # (x - mean) / std * weight + bias, each operation rounded
    "affine": _affine,  # x * a + b, product and sum rounded
    "fused": _fused_affine,  # x * a + b, the sum alone rounded
}


def norm_width(form: NormForm, layer: nn.Module, mean: Tensor, invstd: Tensor) -> Tensor:
    """Width of the set of exact results that a form of a batch norm turns into 0, by channel, fp64.

    mean, invstd: (channels,), what the layer normalises with. Source: as :func:`linear_width`.
    """
    scale = (layer.weight * invstd).detach()
    shift = (layer.bias - mean * scale).detach()
    if form == "affine":
        return spacing(shift, torch.float32)
    if form == "centred":  # without a bias the difference to the mean is the last sum
        at_mean = spacing(mean, torch.float32) * scale.double().abs()
        return torch.where(layer.bias == 0, at_mean, spacing(layer.bias.detach(), torch.float32))
    # An exact product has twice the digits, and must meet the rounded shift.
    dtype = accumulator(shift.dtype)
    width = spacing(shift, dtype) * torch.finfo(dtype).eps
    return width + (underflow(shift.dtype) if dtype != shift.dtype else 0.0)


class BatchNorm(nn.Module):
    """A batch norm with the statistics of the mini-batch, in a form of NORM_FORMS or "native".

    Shares the weights; keeps no running statistics. ``width(output)`` is as in :class:`Linear`,
    for the last pass. Raises ValueError for a form other than native in another precision than
    fp32: there a product is exact in fp64, so that "fused" rounds the sum alone.
    """

    def __init__(self, layer: nn.BatchNorm1d | nn.BatchNorm2d, form: NormForm):
        super().__init__()
        if form != "native" and layer.weight.dtype != torch.float32:
            raise ValueError(f"form={form!r} needs fp32 weights, not {layer.weight.dtype}")
        self.layer, self.form = layer, form

    def forward(self, x: Tensor) -> Tensor:
        layer = self.layer
        dims = [d for d in range(x.dim()) if d != 1]
        self._mean = x.detach().mean(dims)
        self._invstd = (x.detach().var(dims, correction=0) + layer.eps).rsqrt()
        if self.form == "native":
            return F.batch_norm(x, None, None, layer.weight, layer.bias, True, 0.0, layer.eps)
        columns = (self._mean, self._invstd, layer.weight, layer.bias)
        return NORM_FORMS[self.form](x, *(by_channel(c, x) for c in columns))

    def width(self, output: Tensor) -> Tensor:
        return by_channel(norm_width(self.form, self.layer, self._mean, self._invstd), output)


def in_forms(network: nn.Module, linear: LinearForm, norm: NormForm) -> nn.Module:
    """Put each biased linear layer, convolution and batch norm of `network` into a form, in place.

    The output layer too; layers without bias stay as they are.
    """
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, (nn.Linear, nn.Conv2d)) and child.bias is not None:
                setattr(parent, name, Linear(child, linear))
            elif isinstance(child, (nn.BatchNorm1d, nn.BatchNorm2d)):
                setattr(parent, name, BatchNorm(child, norm))
    return network
