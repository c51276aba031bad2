"""One condition of a check: gradients of mini-batches at s = 0 and s = 1, and its call sites."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from reluprime.check.sites import Counts, Site, Watcher, compare
from reluprime.check.watch import watching
from reluprime.instruments.arithmetic import LAYERS, Arithmetic, available, emulate
from reluprime.instruments.precision import DTYPES, numerics

AUTOCAST = "-autocast"  # ends a precision whose weights are fp32: torch.autocast rounds in layers
PRECISIONS = (*DTYPES, f"bf16{AUTOCAST}", f"fp16{AUTOCAST}")

Batch = tuple[Tensor, Tensor]
Loss = Callable[[Any, Tensor], Tensor]


class Condition(NamedTuple):
    """How the model computes."""

    precision: str
    arithmetic: Arithmetic
    reduced_precision: bool  # a GPU's: cuBLAS may round partial sums to storage

    @property
    def base(self) -> str:
        return self.precision.removesuffix(AUTOCAST)

    @property
    def autocast(self) -> bool:
        return self.precision.endswith(AUTOCAST)


@dataclass
class Gradients:
    """What the gradient of one mini-batch does between s = 0 and s = 1, over all parameters."""

    depends: bool
    relative_l2: float  # |g_1 - g_0| / |g_0|
    non_finite: int  # numbers that are not finite in one of them; they are left out of relative_l2
    next_batch: float  # |g_0 of the mini-batch before - g_0| / |g_0|; NaN for the first


@dataclass
class Result:
    """One condition on all mini-batches."""

    gradients: list[Gradients]
    sites: dict[Site, Counts]
    not_reached: list[str]


def unavailable(model: nn.Module, condition: Condition) -> str | None:
    """Why `model` cannot have the arithmetic of `condition`; None if it can."""
    if condition.arithmetic == "native":
        return None
    if condition.autocast or condition.precision == "tf32":
        return f"{condition.precision} is PyTorch's own, native"
    if available(condition.arithmetic, condition.base) != condition.arithmetic:
        return f"at {condition.precision} it is epilogue"
    layers = [m for m in model.modules() if type(m) in LAYERS[condition.arithmetic]]
    if not layers:
        return "the model has no nn.Linear, nn.Conv2d or nn.BatchNorm"
    norms = [m for m in layers if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if any(not (m.affine and m.track_running_stats and m.momentum is not None) for m in norms):
        return "a batch norm has no weights, running statistics or momentum"
    return None


def run(model: nn.Module, batches: list[Batch], loss: Loss, condition: Condition) -> Result:
    """At most three passes a mini-batch: training steps at s = 0 and s = 1, and forward in fp64.

    The last two run only for a mini-batch that met a kink: without one, s is in no formula. The
    model is copied, and each pass starts from the same buffers and random numbers.
    """
    device = next(model.parameters()).device
    with numerics(condition.base, device, condition.reduced_precision) as dtype:
        torch.use_deterministic_algorithms(True, warn_only=True)  # numerics puts it back
        network = copy.deepcopy(model).to(torch.float32 if condition.autocast else dtype)
        exact = copy.deepcopy(network).double()
        return _Run(emulate(network, condition.arithmetic), exact, loss, condition).over(batches)


class _Run:
    """One condition: the model in it (`network`), its copy in fp64 (`exact`), and its loss."""

    def __init__(self, network: nn.Module, exact: nn.Module, loss: Loss, condition: Condition):
        self._network, self._exact = network, exact
        self._loss, self._condition = loss, condition
        self._parameters = [p for p in network.parameters() if p.requires_grad]
        self._not_reached: dict[str, None] = {}

    def over(self, batches: list[Batch]) -> Result:
        watcher, twin = Watcher(self._network), Watcher(self._exact)
        found, before = [], None
        for x, y in batches:
            x = self._input(x, self._network)
            with watcher.one_pass():
                at_zero = self._gradient(x, y, 0.0, watcher.see)
            at_one = at_zero
            if any(bool(hits.any()) for _, hits in watcher.masks):
                at_one = self._gradient(x, y, 1.0, None)
                self._compare(watcher, twin, x)
            found.append(_differ(at_zero, at_one, before))
            before = at_zero
        return Result(found, watcher.counts, list(self._not_reached))

    def _input(self, x: Tensor, network: nn.Module) -> Tensor:
        weight = next(network.parameters())
        return x.to(weight.device, weight.dtype if x.is_floating_point() else None)

    def _tell(self, what: str) -> None:
        self._not_reached[what] = None

    def _gradient(self, x: Tensor, y: Tensor, s: float, see) -> list[Tensor]:
        """The gradient of each parameter, zeros for one that the loss does not depend on."""
        device = x.device.type
        dtype = DTYPES[self._condition.base]
        cast = torch.autocast(device, dtype) if self._condition.autocast else nullcontext()
        with _unchanged(self._network):
            with cast:
                with watching(s, "chain", see, self._tell):
                    output = self._network(x)
                loss = self._loss(output, y.to(x.device))
            return list(
                torch.autograd.grad(
                    loss, self._parameters, allow_unused=True, materialize_grads=True
                )
            )

    def _compare(self, watcher: Watcher, twin: Watcher, x: Tensor) -> None:
        if self._condition.precision == "fp64" and self._condition.arithmetic == "native":
            compare(watcher, watcher)
            return
        watched = watching(None, "chain", twin.see, self._tell)
        with torch.no_grad(), _unchanged(self._exact), twin.one_pass(), watched:
            self._exact(self._input(x, self._exact))
        compare(watcher, twin)


@contextmanager
def _unchanged(network: nn.Module) -> Iterator[None]:
    """The block has the same random numbers each time, and leaves the buffers as they were."""
    before = [
        (module, name, buffer, None if buffer is None else buffer.clone())
        for module in network.modules()
        for name, buffer in module._buffers.items()
    ]
    device = next(network.parameters()).device
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(0)
            yield
    finally:
        with torch.no_grad():
            for module, name, buffer, value in before:
                if buffer is not None:
                    buffer.copy_(value)
                module._buffers[name] = buffer  # the model may have put another in its place


def _differ(at_zero: list[Tensor], at_one: list[Tensor], before: list[Tensor] | None) -> Gradients:
    """Compare the gradients of a mini-batch at s = 0 and s = 1, each a tensor a parameter.

    before: the gradient at s = 0 of the mini-batch before; None for the first.
    """
    depends, non_finite = False, 0
    change = length = to_next = 0.0
    for number, (zero, one) in enumerate(zip(at_zero, at_one, strict=True)):
        finite = zero.isfinite() & one.isfinite()
        non_finite += int((~finite).sum())
        zero, one = (g.double().masked_fill(~finite, 0) for g in (zero, one))
        depends |= not torch.equal(zero, one)
        change += float((one - zero).square().sum())
        length += float(zero.square().sum())
        if before is not None:
            other = before[number].double().nan_to_num(0.0, 0.0, 0.0).masked_fill(~finite, 0)
            to_next += float((other - zero).square().sum())
    relative, between = (_ratio(part, length) for part in (change, to_next))
    return Gradients(depends, relative, non_finite, float("nan") if before is None else between)


def _ratio(part: float, whole: float) -> float:
    """The square root of part / whole; 0 of 0 is 0."""
    return 0.0 if part == 0 else (part / whole) ** 0.5 if whole else float("inf")
