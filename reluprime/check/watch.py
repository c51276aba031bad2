"""Any model with a given derivative at its kinks, or watched at them, without changing the model.

PyTorch calls a function mode for each call of its own functions while the mode is active; the mode
here answers in the place of those that have kinks (`functions`).
"""

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode

from reluprime.check.calls import Call
from reluprime.check.functions import find
from reluprime.instruments.activations import GRADIENT_RULES, GradientRule

COMPILED = "a compiled model (it runs uncompiled here, and may round otherwise)"
SCRIPTED = "a scripted or traced model"
THREADS = "nn.DataParallel (its copies run in threads of their own)"
OWN_FUNCTION = "a function of the model with a backward pass of its own, or a checkpoint"


class NotReachedWarning(UserWarning):
    """Something in the block keeps PyTorch's derivative at its kinks, or its own."""


class _Mode(TorchFunctionMode):
    """Computes known calls with the derivative s, or as PyTorch does; tells of the others."""

    def __init__(
        self,
        s: float | None,
        gradient_rule: str,
        see: Callable[[Call], None] | None,
        not_reached: Callable[[str], None],
    ):
        super().__init__()
        self._s, self._rule, self._see, self._not_reached = s, gradient_rule, see, not_reached

    def __torch_function__(self, func, types, args=(), kwargs=None) -> Any:
        kwargs = kwargs or {}
        call, overwrites = find(func, args, kwargs)
        if call is None or isinstance(call, str):
            if call is not None and _has_gradient(*args, *kwargs.values()):
                self._not_reached(call)
            return func(*args, **kwargs)
        if call.x.grad_fn is not None and _within_own_function():
            self._not_reached(OWN_FUNCTION)
        if self._see is not None:
            with torch._C.DisableTorchFunction(), torch.no_grad():
                self._see(call)
        if self._s is None:
            return func(*args, **kwargs)
        with torch._C.DisableTorchFunction():  # an outer block must not answer in our place
            if not overwrites:
                return call.compute(call.x, self._s, self._rule)
            return call.x.copy_(call.compute(call.x.clone(), self._s, self._rule))


def _has_gradient(*arguments: Any) -> bool:
    """Whether autograd follows the call of a function."""
    tensors = (a for a in arguments if isinstance(a, Tensor))
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def _within_own_function() -> bool:
    """Whether an autograd.Function's forward pass runs, which turns both modes of autograd off.

    `torch.no_grad` leaves the forward mode on; `torch.inference_mode` says that it is there.
    """
    off = not torch.is_grad_enabled() and not torch._C._is_fwd_grad_enabled()
    return off and not torch.is_inference_mode_enabled()


def _name_modules(not_reached: Callable[[str], None]) -> Callable:
    def hook(module: nn.Module, _: tuple) -> None:
        if isinstance(module, torch.jit.ScriptModule):
            not_reached(SCRIPTED)
        elif isinstance(module, nn.DataParallel):
            not_reached(THREADS)
        elif type(module).__name__ == "OptimizedModule":
            not_reached(COMPILED)

    return hook


@contextmanager
def watching(
    s: float | None,
    gradient_rule: str,
    see: Callable[[Call], None] | None,
    not_reached: Callable[[str], None],
) -> Iterator[None]:
    """:func:`kinks` with `see(call)` before each known call, and `not_reached(what)` for others."""
    with ExitStack() as stack:
        handle = register_module_forward_pre_hook(_name_modules(not_reached))
        stack.callback(handle.remove)
        if "torch._dynamo" in sys.modules:  # without it nothing is compiled, and it loads slowly
            stack.enter_context(torch.compiler.set_stance("force_eager"))
            stack.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", r"Using `torch\.compile\(module\)` when there are")
        stack.enter_context(_Mode(s, gradient_rule, see, not_reached))
        yield


@contextmanager
def kinks(s: float | None = None, gradient_rule: GradientRule = "chain") -> Iterator[None]:
    """In the block any model has the derivative left + s * (right - left) at its kinks.

    left and right are the one-sided derivatives, so that ReLU's at 0 is s. Between equal arguments
    of a maximum or minimum, and equal maxima in a window of a max-pool, the first gets s of the
    upstream gradient and the second 1 - s. Without s everything is PyTorch's own, bit for bit, and
    the block says only what it would not reach. Under ``injected`` the derivative itself is the
    input gradient, whatever the upstream one, as in the code released with B21 and M23.

    Reached are relu, relu6, hardtanh, leaky_relu, hardswish, hardsigmoid, abs, clamp between
    numbers, max_pool2d, and the maximum or minimum of two tensors, by modules and functions alike,
    in this thread. A NotReachedWarning names, once each, what keeps its own derivative: PyTorch's
    other functions with kinks, scripted models, functions with a backward pass of their own,
    reentrant checkpoints (others raise PyTorch's CheckpointError). Compiled models run uncompiled.
    A scripted function (not a module) is neither reached nor named, and neither are
    `torch.ops.aten`'s functions.

    Raises ValueError for an unknown rule, for s that is not finite, and for ``injected`` without s.
    """
    if gradient_rule not in GRADIENT_RULES:
        raise ValueError(f"gradient_rule={gradient_rule!r}; choose one of {GRADIENT_RULES}")
    if s is None and gradient_rule != "chain":
        raise ValueError(f"gradient_rule={gradient_rule!r} needs an s to send")
    if s is not None and not abs(s) < float("inf"):
        raise ValueError(f"s={s!r} must be finite")
    told: set[str] = set()

    def tell(what: str) -> None:
        if what not in told:
            told.add(what)
            warnings.warn(f"kinks() does not reach {what}", NotReachedWarning, stacklevel=3)

    with watching(None if s is None else float(s), gradient_rule, None, tell):
        yield
