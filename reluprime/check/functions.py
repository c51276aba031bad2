"""PyTorch's functions that have kinks: how each is called, and its one-sided derivatives.

KNOWN and IN_PLACE (the functions whose names end in _) are all that `watch` reaches; NOT_REACHED
names others. `find` turns a call of one of them into a Call, or into its name.
"""

import inspect
from collections.abc import Callable
from functools import cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor

from reluprime.check.calls import Call, Elementwise, Kink, Pair, Pool
from reluprime.instruments import activations

# ---- how each function is called ----
# Each returns a Call, the name of what is not reached, or None for a call without a kink.


def _relu(input, inplace=False):
    return Elementwise("relu", input, (Kink(0.0, 0.0, 1.0),), torch.relu, None, activations.relu)


def _own_relu6(x: Tensor, s: float, gradient_rule: str) -> Tensor:
    return activations.relu6(x, s, 1 - s, gradient_rule)


def _hardtanh(input, min_val=-1.0, max_val=1.0, inplace=False):
    kinks = (Kink(float(min_val), 0.0, 1.0), Kink(float(max_val), 1.0, 0.0))
    if (min_val, max_val) == (0, 6):
        return Elementwise("relu6", input, kinks, F.relu6, None, _own_relu6)

    def regular(grad: Tensor, x: Tensor) -> Tensor:
        return torch.ops.aten.hardtanh_backward(grad, x, min_val, max_val)

    return Elementwise(
        "hardtanh", input, kinks, partial(F.hardtanh, min_val=min_val, max_val=max_val), regular
    )


def _relu6(input, inplace=False):
    return _hardtanh(input, 0.0, 6.0)


def _clamp(input, min=None, max=None):
    if isinstance(min, Tensor) or isinstance(max, Tensor):
        return "clamp between tensors"
    low, high = float("-inf") if min is None else min, float("inf") if max is None else max
    if not low < high:
        return None
    kinks = ((low, 0.0, 1.0), (high, 1.0, 0.0))
    finite = tuple(Kink(float(x), *sides) for x, *sides in kinks if abs(x) != float("inf"))

    def regular(grad: Tensor, x: Tensor) -> Tensor:
        return torch.where((x >= low) & (x <= high), grad, 0)

    value = partial(torch.clamp, min=min, max=max)
    return Elementwise("clamp", input, finite, value, regular) if finite else None


def _clamp_min(input, min):
    return _clamp(input, min=min)


def _clamp_max(input, max):
    return _clamp(input, max=max)


def _leaky_relu(input, negative_slope=0.01, inplace=False):
    kink = Kink(0.0, float(negative_slope), 1.0)
    if negative_slope < 0:
        return "leaky_relu with a negative slope"

    def own(x: Tensor, s: float, gradient_rule: str) -> Tensor:
        return activations.leaky_relu(x, negative_slope, kink.derivative(s), gradient_rule)

    return Elementwise(
        "leaky_relu",
        input,
        (kink,),
        partial(F.leaky_relu, negative_slope=negative_slope),
        None,
        own,
    )


def _hardswish(input, inplace=False):
    kinks = (Kink(-3.0, 0.0, -0.5), Kink(3.0, 1.5, 1.0))
    return Elementwise("hardswish", input, kinks, F.hardswish, torch.ops.aten.hardswish_backward)


def _hardsigmoid(input, inplace=False):
    kinks = (Kink(-3.0, 0.0, 1 / 6), Kink(3.0, 1 / 6, 0.0))
    return Elementwise(
        "hardsigmoid", input, kinks, F.hardsigmoid, torch.ops.aten.hardsigmoid_backward
    )


def _abs(input):
    return Elementwise(
        "abs", input, (Kink(0.0, -1.0, 1.0),), torch.abs, lambda grad, x: grad * x.sign()
    )


def _elu(input, alpha=1.0, *rest, **options):
    return None if alpha == 1 else "elu with an alpha other than 1"


def _pair(name: str, sign: int):
    def call(input, other=None, *rest, **options):
        if isinstance(other, Tensor) and not rest and not options:
            return Pair(name, input, other, sign)
        return "max, min within one tensor"

    return call


def _two(value) -> list[int]:
    values = [value] if isinstance(value, int) else list(value)
    return values * 2 if len(values) == 1 else values


def _max_pool2d(
    input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False
):
    size = _two(kernel_size)
    window = (size, _two(stride) if stride else size, _two(padding), _two(dilation), ceil_mode)
    return Pool("max_pool2d", input, window, return_indices)


def _max_pool2d_with_indices(
    input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=True
):
    return _max_pool2d(input, kernel_size, stride, padding, dilation, ceil_mode, True)


KNOWN: dict[Callable, Callable[..., Call | str | None]] = {
    F.relu: _relu,
    F.relu6: _relu6,
    F.hardtanh: _hardtanh,
    F.leaky_relu: _leaky_relu,
    F.elu: _elu,
    F.hardswish: _hardswish,
    F.hardsigmoid: _hardsigmoid,
    F.max_pool2d: _max_pool2d,
    F.max_pool2d_with_indices: _max_pool2d_with_indices,
    torch.max_pool2d: _max_pool2d,
    Tensor.__abs__: _abs,
}
IN_PLACE: dict[Callable, Callable[..., Call | str | None]] = {
    F.hardtanh_: _hardtanh,
    F.leaky_relu_: _leaky_relu,
    F.elu_: _elu,
}
_BY_NAME = {
    "relu": _relu,
    "abs": _abs,
    "absolute": _abs,
    "clamp": _clamp,
    "clip": _clamp,
    "clamp_min": _clamp_min,
    "clamp_max": _clamp_max,
    "maximum": _pair("maximum", 1),
    "minimum": _pair("minimum", -1),
    "max": _pair("maximum", 1),
    "min": _pair("minimum", -1),
}
for _name, _call in _BY_NAME.items():
    for _home in (torch, Tensor):
        KNOWN[getattr(_home, _name)] = _call
        if hasattr(_home, f"{_name}_"):
            IN_PLACE[getattr(_home, f"{_name}_")] = _call


def _both(*names: str) -> tuple[Callable, ...]:
    """The functions of these names, and the methods of a tensor."""
    return tuple(getattr(home, name) for name in names for home in (torch, Tensor))


# Functions with kinks, or jumps, that keep PyTorch's derivative there.
NOT_REACHED: dict[Callable, str] = {
    function: name
    for name, functions in {
        "amax, amin": (
            *(torch.amax, torch.amin, torch.aminmax),
            *(Tensor.amax, Tensor.amin, Tensor.aminmax),
        ),
        "fmax, fmin": (torch.fmax, torch.fmin, Tensor.fmax, Tensor.fmin),
        "max_pool1d": (F.max_pool1d, F.max_pool1d_with_indices, torch.max_pool1d),
        "max_pool3d": (F.max_pool3d, F.max_pool3d_with_indices, torch.max_pool3d),
        "adaptive_max_pool1d": (F.adaptive_max_pool1d, F.adaptive_max_pool1d_with_indices),
        "adaptive_max_pool2d": (F.adaptive_max_pool2d, F.adaptive_max_pool2d_with_indices),
        "adaptive_max_pool3d": (F.adaptive_max_pool3d, F.adaptive_max_pool3d_with_indices),
        "fractional_max_pool2d": (F.fractional_max_pool2d, F.fractional_max_pool2d_with_indices),
        "fractional_max_pool3d": (F.fractional_max_pool3d, F.fractional_max_pool3d_with_indices),
        "lp_pool1d": (F.lp_pool1d,),
        "lp_pool2d": (F.lp_pool2d,),
        "lp_pool3d": (F.lp_pool3d,),
        "prelu": (F.prelu, Tensor.prelu),
        "rrelu": (F.rrelu, F.rrelu_, torch.rrelu),
        "selu": (F.selu, F.selu_, torch.selu),
        "threshold": (F.threshold, F.threshold_, torch.threshold),
        "softshrink": (F.softshrink,),
        "hardshrink": (F.hardshrink, Tensor.hardshrink),
        # With these a kink is written by hand, as in x * (x > 0).
        "comparisons": _both(
            *("gt", "ge", "lt", "le"),
            *("greater", "greater_equal", "less", "less_equal"),
        ),
        "sign, heaviside": _both("sign", "sgn", "heaviside"),
        "sort, topk, median": _both("sort", "msort", "argsort", "topk", "kthvalue", "median"),
    }.items()
    for function in functions
}


_signature = cache(inspect.signature)


def find(func: Callable, args: tuple, kwargs: dict) -> tuple[Call | str | None, bool]:
    """The call of a PyTorch function, and whether it overwrites its input.

    A name in its place where the function keeps PyTorch's derivative at its kinks, and None where
    it has no kink that is known here: another function, integers, `out=`.
    """
    make = KNOWN.get(func) or IN_PLACE.get(func)
    if make is None:
        return NOT_REACHED.get(func), False
    if "out" in kwargs:
        return None, False
    bound = _signature(make).bind(*args, **kwargs)
    if not bound.arguments["input"].is_floating_point():
        return None, False
    inplace = func in IN_PLACE or bound.arguments.get("inplace", False)
    return make(*args, **kwargs), inplace
