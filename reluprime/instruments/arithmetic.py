"""How the layers of a network round: as PyTorch's kernels do, or as a GPU's are documented to.

In exact arithmetic all names are one network. All sums are taken in fp32 (at fp64 in fp64), in the
order of the device's product; "rounded" is to the storage, the precision of weights, activations
and gradients. ``native`` is PyTorch's own kernel for the storage and device. LAYERS is the table:

===================  ======================  =========================  ========================
layer                fp32, ``epilogue``      16 bits, ``epilogue``      16 bits, ``separate``
===================  ======================  =========================  ========================
linear, output too   product rounded; then   (product + bias), each in  product rounded; then
                     the bias added          fp32, then rounded once    the bias added, rounded
convolution          as linear               product rounded; then the  the same
                                             bias added, rounded
batch norm           mean and biased         the same in fp32, rounded  the same
                     variance; ((x - mean)   once at the end
                     * invstd) * weight +
                     bias, each rounded
residual sum, pool,  PyTorch's own at that   the same                   the same
loss                 storage
backward             fp32                    sums in fp32; each         the same
                                             gradient of a layer
                                             rounded once
optimizer            PyTorch's own at the    the same                   the same
                     storage of the weights
===================  ======================  =========================  ========================

At fp64 ``epilogue`` is its first column in fp64. At fp32 and fp64 ``separate`` would be
``epilogue``, and is refused; TF32 is a GPU's own. Source: what NVIDIA documents of cuBLAS' and
cuDNN's epilogues; the two names are ours.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reluprime.instruments.kernels import accumulator, by_channel, convolve
from reluprime.instruments.precision import Precision

Arithmetic = Literal["native", "epilogue", "separate"]
ARITHMETICS: tuple[str, ...] = get_args(Arithmetic)

CHUNK = 2**18  # numbers that batch norm handles at once on a CPU: they stay in its cache


def require(arithmetic: Arithmetic, precision: Precision) -> None:
    """Raise ValueError where `arithmetic` is another name's at `precision`, or has no meaning."""
    if arithmetic == "native":
        return
    if precision == "tf32":
        raise ValueError(f"arithmetic={arithmetic!r}: precision='tf32' is a GPU's own, native")
    if arithmetic == "separate" and precision in ("fp32", "fp64"):
        raise ValueError(
            f"arithmetic='separate' is 'epilogue' at precision={precision!r}: the product is "
            "rounded before the bias is added in both"
        )


def available(arithmetic: Arithmetic, precision: Precision) -> Arithmetic:
    """`arithmetic`, or where it would be refused the name under which `precision` has it."""
    same = arithmetic == "separate" and precision in ("fp32", "fp64")
    return "epilogue" if same else arithmetic


def emulate(network: nn.Module, arithmetic: Arithmetic) -> nn.Module:
    """Give the layers of `network` an arithmetic, in place; returns it.

    Modules, parameters, their names and hooks stay what they are. Each layer follows the dtype
    that the network is moved to, before or after.
    """
    for module in network.modules():
        module.__class__ = LAYERS[arithmetic].get(type(module), type(module))
    return network


def with_bias(
    product: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    arithmetic: Arithmetic,
) -> Tensor:
    """product(x, weight) + bias of a linear layer, rounded as "epilogue" or "separate" says.

    All in the storage, as is the result; bias is of a shape that can be added to the product.
    """
    wide = accumulator(x.dtype) if arithmetic == "epilogue" else _product_dtype(x)
    z = product(x.to(wide), weight.to(wide))
    if bias is None:
        return z.to(x.dtype)
    if arithmetic == "epilogue":
        return z.add_(bias.to(wide)).to(x.dtype)
    return z.to(x.dtype).add_(bias)


class EpilogueLinear(nn.Linear):
    """Product and bias in fp32, each rounded there, then one rounding to storage.

    x: (..., in_features) in the dtype of the weights; the result has it too.
    """

    def forward(self, x: Tensor) -> Tensor:
        return with_bias(F.linear, x, self.weight, self.bias, "epilogue")


class SeparateLinear(nn.Linear):
    """The product rounded to storage, then the bias added and the sum rounded again.

    x: (..., in_features) in the dtype of the weights; the result has it too.
    """

    def forward(self, x: Tensor) -> Tensor:
        return with_bias(F.linear, x, self.weight, self.bias, "separate")


class SeparateConv2d(nn.Conv2d):
    """The product rounded to storage, then the bias added and the sum rounded again.

    x: (batch, channels, height, width) in the dtype of the weights; the result has it too.
    """

    def forward(self, x: Tensor) -> Tensor:
        dtype = _product_dtype(x)
        z = convolve(self, x.to(dtype), self.weight.to(dtype), None).to(x.dtype)
        return z if self.bias is None else _AddBias.apply(z, self.bias)


class _AddBias(torch.autograd.Function):
    """z (batch, channels, height, width) with the bias (channels,) added in place."""

    @staticmethod
    def forward(ctx, z, bias):
        ctx.mark_dirty(z)
        column = bias.view(1, -1, 1, 1)
        if not z.is_contiguous(memory_format=torch.channels_last):
            return z.add_(column)
        row = column.expand(-1, -1, 1, z.shape[3])  # a few channels at a time would be slow
        return z.add_(row.contiguous(memory_format=torch.channels_last))

    @staticmethod
    def backward(ctx, grad):
        return grad, grad.sum((0, 2, 3))  # PyTorch takes it in fp32 and rounds once


def _product_dtype(x: Tensor) -> torch.dtype:
    """In which PyTorch takes the sums of a product and of its gradients in fp32, fast.

    In 16 bits a GPU does, and of a CPU's kernels oneDNN's at bf16. At fp16 they are slow, and the
    weights' gradient of a convolution is added up in storage, image by image.
    """
    if x.is_cuda or x.dtype.itemsize != 2:
        return x.dtype
    own = x.dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return x.dtype if own else torch.float32


class _Centred(nn.modules.batchnorm._BatchNorm):
    """Batch norm with all operations rounded to fp32, and then one rounding to storage.

    x: (batch, channels, ...) in the dtype of the weights; the result has it too. While training
    the statistics are the mini-batch's, and the running ones follow as PyTorch's do; affine, with
    a momentum. Raises ValueError while training on one value a channel.
    """

    def forward(self, x: Tensor) -> Tensor:
        self._check_input_dim(x)
        wide = accumulator(x.dtype)
        if self.training:
            with torch.no_grad():
                mean, var = _statistics(x)
                self._follow(mean, var, x.numel() // x.shape[1])
        else:
            mean, var = self.running_mean.to(wide), self.running_var.to(wide)
        scale_and_shift = self.weight.to(wide), self.bias.to(wide)
        return _Normalise.apply(x, *scale_and_shift, mean, var, self.eps, self.training)

    def _follow(self, mean: Tensor, var: Tensor, n: int) -> None:
        if n == 1:
            raise ValueError("batch norm needs more than one value a channel while it trains")
        self.num_batches_tracked.add_(1)
        for running, new in ((self.running_mean, mean), (self.running_var, var * (n / (n - 1)))):
            running.copy_(torch.lerp(running.to(new.dtype), new, self.momentum))


class CentredBatchNorm1d(_Centred, nn.BatchNorm1d):
    pass


class CentredBatchNorm2d(_Centred, nn.BatchNorm2d):
    pass


def _chunks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Views of a few images each, of tensors of one shape."""
    first = tensors[0]
    size = len(first) if first.is_cuda else max(1, CHUNK * len(first) // first.numel())
    return zip(*(tensor.split(size) for tensor in tensors), strict=True)


def _sums(parts: Iterable[Tensor]) -> Tensor:
    """Sums of each channel over parts (images, channels, ...) -> (channels,)."""
    return sum(part.sum([d for d in range(part.dim()) if d != 1]) for part in parts)


def _statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of the channels, each (channels,), in fp32 (of fp64 in fp64)."""
    wide, n = accumulator(x.dtype), x.numel() // x.shape[1]
    mean = _sums(part.to(wide) for (part,) in _chunks(x)) / n
    column = by_channel(mean, x)
    var = _sums((part.to(wide) - column).pow_(2) for (part,) in _chunks(x)) / n
    return mean, var


class _Normalise(torch.autograd.Function):
    """((x - mean) * invstd) * weight + bias; with `training`, mean and var are functions of x.

    x: (images, channels, ...) in storage, as are the result and x's gradient; the others are
    (channels,) in fp32, or in fp64 with x.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x, weight, bias, mean, var, eps, training):
        invstd = (var + eps).rsqrt()
        mean, invstd, scale, shift = (by_channel(c, x) for c in (mean, invstd, weight, bias))
        out = torch.empty_like(x)
        for part, into in _chunks(x, out):
            into.copy_((part.to(weight.dtype) - mean).mul_(invstd).mul_(scale).add_(shift))
        return out

    @staticmethod
    def setup_context(ctx, inputs, _):
        x, weight, _, mean, var, eps, ctx.training = inputs
        ctx.save_for_backward(x, weight, mean, (var + eps).rsqrt())

    @staticmethod
    def backward(ctx, grad):
        x, weight, mean, invstd = ctx.saved_tensors
        wide, n, column = mean.dtype, x.numel() // x.shape[1], by_channel(mean, x)
        of_bias = _sums(g.to(wide) for (g,) in _chunks(grad))
        of_weight = invstd * _sums((p.to(wide) - column).mul_(g) for p, g in _chunks(x, grad))
        constants = (of_bias / n, of_weight * invstd / n, weight * invstd)
        centre, slope, scale = (by_channel(c, x) for c in constants)
        of_x = torch.empty_like(x)
        for part, g, into in _chunks(x, grad, of_x):
            own = g.to(wide)
            if ctx.training:
                own = own - (part.to(wide) - column).mul_(slope).add_(centre)
            into.copy_(own * scale)
        return of_x, of_weight, of_bias, None, None, None, None


_CENTRED = {nn.BatchNorm1d: CentredBatchNorm1d, nn.BatchNorm2d: CentredBatchNorm2d}
LAYERS: dict[str, dict[type, type]] = {
    "native": {},
    "epilogue": {nn.Linear: EpilogueLinear, nn.Conv2d: SeparateConv2d} | _CENTRED,
    "separate": {nn.Linear: SeparateLinear, nn.Conv2d: SeparateConv2d} | _CENTRED,
}
