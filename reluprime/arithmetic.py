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

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reluprime.kernels import accumulator
from reluprime.precision import Precision

Arithmetic = Literal["native", "epilogue", "separate"]

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


def emulate(network: nn.Module, arithmetic: Arithmetic) -> nn.Module:
    """Give the layers of `network` an arithmetic, in place; returns it.

    Modules, parameters, their names and hooks stay what they are. Each layer follows the dtype
    that the network is moved to, before or after.
    """
    for module in network.modules():
        module.__class__ = LAYERS[arithmetic].get(type(module), type(module))
    return network


class EpilogueLinear(nn.Linear):
    """Product and bias in fp32, each rounded there, then one rounding to storage.

    x: (..., in_features) in the dtype of the weights; the result has it too.
    """

    def forward(self, x: Tensor) -> Tensor:
        wide = accumulator(x.dtype)
        z = F.linear(x.to(wide), self.weight.to(wide))
        return z.to(x.dtype) if self.bias is None else z.add_(self.bias.to(wide)).to(x.dtype)


class SeparateLinear(nn.Linear):
    """The product rounded to storage, then the bias added and the sum rounded again.

    x: (..., in_features) in the dtype of the weights; the result has it too.
    """

    def forward(self, x: Tensor) -> Tensor:
        dtype = _product_dtype(x)
        z = F.linear(x.to(dtype), self.weight.to(dtype)).to(x.dtype)
        return z if self.bias is None else z.add_(self.bias)


class SeparateConv2d(nn.Conv2d):
    """The product rounded to storage, then the bias added and the sum rounded again.

    x: (batch, channels, height, width) in the dtype of the weights; the result has it too.
    """

    def forward(self, x: Tensor) -> Tensor:
        dtype = _product_dtype(x)
        z = self._conv_forward(x.to(dtype), self.weight.to(dtype), None).to(x.dtype)
        return z if self.bias is None else z.add_(self.bias.view(-1, 1, 1))


def _product_dtype(x: Tensor) -> torch.dtype:
    """In which PyTorch takes a product's sums in fp32 and rounds them once, fast.

    16-bit kernels do, but a CPU's at fp16 are slow.
    """
    return torch.float32 if x.dtype == torch.float16 and not x.is_cuda else x.dtype


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


def _chunks(x: Tensor) -> tuple[Tensor, ...]:
    """Views of a few images each."""
    return x.split(len(x) if x.is_cuda else max(1, CHUNK * len(x) // x.numel()))


def _by_channel(values: Tensor, x: Tensor) -> Tensor:
    return values.view(-1, *[1] * (x.dim() - 2))


def _statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of the channels, each (channels,), in fp32 (of fp64 in fp64)."""
    wide, dims = accumulator(x.dtype), [d for d in range(x.dim()) if d != 1]
    n, parts = x.numel() // x.shape[1], _chunks(x)
    mean = sum(part.to(wide).sum(dims) for part in parts) / n
    column = _by_channel(mean, x)
    var = sum((part.to(wide) - column).pow_(2).sum(dims) for part in parts) / n
    return mean, var


class _Normalise(torch.autograd.Function):
    """((x - mean) * invstd) * weight + bias; the gradient is that of PyTorch's batch norm.

    With `training` mean and var count as functions of x.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x, weight, bias, mean, var, eps, training):
        invstd = (var + eps).rsqrt()
        columns = [_by_channel(c, x) for c in (mean, invstd, weight, bias)]
        out = torch.empty_like(x)
        for part, into in zip(_chunks(x), _chunks(out), strict=True):
            mean_, invstd_, weight_, bias_ = columns
            into.copy_((part.to(weight.dtype) - mean_).mul_(invstd_).mul_(weight_).add_(bias_))
        return out

    @staticmethod
    def setup_context(ctx, inputs, _):
        *tensors, ctx.eps, ctx.training = inputs
        x, weight, _, mean, var = tensors
        ctx.save_for_backward(x, weight, mean, var)

    @staticmethod
    def backward(ctx, grad):
        x, weight, mean, var = ctx.saved_tensors
        own = (mean, (var + ctx.eps).rsqrt(), ctx.training, ctx.eps, [True] * 3)
        gradients = torch.ops.aten.native_batch_norm_backward(grad, x, weight, mean, var, *own)
        return *gradients, None, None, None, None


_CENTRED = {nn.BatchNorm1d: CentredBatchNorm1d, nn.BatchNorm2d: CentredBatchNorm2d}
LAYERS: dict[str, dict[type, type]] = {
    "native": {},
    "epilogue": {nn.Linear: EpilogueLinear, nn.Conv2d: SeparateConv2d} | _CENTRED,
    "separate": {nn.Linear: SeparateLinear, nn.Conv2d: SeparateConv2d} | _CENTRED,
}
