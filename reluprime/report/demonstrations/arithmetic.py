"""Formats and sums: where exact zeros can come from."""

import pandas as pd
import torch
from torch import nn

from reluprime.instruments import data, kernels


def formats() -> pd.DataFrame:
    """The two formats that are both called 16 bits."""
    names = {"fp16 (B21's Monte Carlo)": torch.float16, "bf16 (M23's training)": torch.bfloat16}
    return pd.DataFrame(
        {
            "format": name,
            "spacing at 1": torch.finfo(dtype).eps,
            "smallest number": torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps,
            "largest": torch.finfo(dtype).max,
        }
        for name, dtype in names.items()
    )


def zero_pixels() -> pd.DataFrame:
    """The share of inputs that are exactly 0, for raw and for normalised images of MNIST."""
    images = data.load("mnist-5k", device="cpu").train_images
    images = data.unit_images(images, torch.float32)
    inputs = {"raw, in [0, 1]": images, "normalised, (x - 0.5) / 0.5": (images - 0.5) / 0.5}
    return pd.DataFrame(
        {"images": name, "exactly 0": f"{float((x == 0).float().mean()):.1%}"}
        for name, x in inputs.items()
    )


def structural_zero() -> pd.DataFrame:
    """A convolution without bias over a patch of zeros, at fp64 and fp32."""
    layer = nn.Conv2d(1, 8, 3, bias=False)
    rows = []
    for name, dtype in {"fp64": torch.float64, "fp32": torch.float32}.items():
        z = layer.to(dtype)(torch.zeros(1, 1, 3, 3, dtype=dtype))
        rows.append({"precision": name, "outputs": z.numel(), "exactly 0": int((z == 0).sum())})
    return pd.DataFrame(rows)


def dead_channel(beta: float = 0.0) -> pd.DataFrame:
    """Outputs of batch norm, in each form, on a channel that is 0 everywhere."""
    layer = nn.BatchNorm2d(1)
    nn.init.constant_(layer.bias, beta)
    rows = []
    for form in ("native", *kernels.NORM_FORMS):
        z = kernels.BatchNorm(layer, form)(torch.zeros(4, 1, 2, 2)).detach()
        hits = int((z == layer.bias).sum())
        rows.append({"form": form, "beta": beta, "outputs": z.numel(), "equal to beta": hits})
    return pd.DataFrame(rows)


def one_or_two_roundings() -> pd.DataFrame:
    """x a - round(x a) in fp32 on 1000 random pairs: with the product rounded before the sum, 0."""
    generator = torch.Generator().manual_seed(0)
    x, a = torch.rand(2, 1000, generator=generator)
    b = -(x * a)
    twice, once = x * a + b, (x.double() * a.double() + b.double()).float()
    forms = {"product rounded, then sum": twice, "fused multiply-add": once}
    return pd.DataFrame(
        {"form": name, "of 1000 exactly 0": int((z == 0).sum())} for name, z in forms.items()
    )
