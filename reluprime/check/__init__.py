"""Does the derivative at kinks matter for my network?"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reluprime.check.passes import AUTOCAST, PRECISIONS, Batch, Condition, Loss, run, unavailable
from reluprime.check.report import Report
from reluprime.instruments.arithmetic import ARITHMETICS, Arithmetic
from reluprime.instruments.precision import DTYPES

__all__ = ["Report", "check"]


def cross_entropy(output: Any, target: Tensor) -> Tensor:
    """Cross-entropy of the logits; summed over them where the model has auxiliary heads."""
    if isinstance(output, dict):
        raise ValueError("the model returns a dict, not logits: give a loss that reads it")
    logits = [output] if isinstance(output, Tensor) else [o for o in output if o is not None]
    return sum(F.cross_entropy(o, target) for o in logits)


def check(
    model: nn.Module,
    batch: Batch | list[Tensor] | Iterable[Batch | list[Tensor]],
    *,
    loss: Loss = cross_entropy,
    precision: str | Sequence[str] | None = None,
    arithmetic: Arithmetic | Sequence[Arithmetic] | None = None,
) -> Report:
    """Whether a model's gradient depends on the derivative at its kinks, and where it meets them.

    - batch: one (inputs, target), two Tensors in a tuple or list, or several, such as a DataLoader;
      the uncertainty is over them. Inputs go to the model's device and dtype.
    - loss: (output, target) -> a number.
    - precision: "fp64", "fp32", "tf32", "bf16" or "fp16", of all weights and activations;
      "bf16-autocast" or "fp16-autocast", of `torch.autocast`; or several. None: that of the
      model's weights.
    - arithmetic: how layers round (`reluprime.instruments.arithmetic`): "native", "epilogue" or
      "separate", or several. None: all that the model can have.

    The model is copied, and looked at in the mode that it is in: `train()` it for the gradients of
    training. On a GPU a 16-bit precision is looked at with and without reduced-precision
    reductions; a warning of PyTorch's that an operation has no deterministic algorithm means that
    part of a difference may be its noise. At most three training steps a mini-batch and condition.
    Raises ValueError for an unknown name, no mini-batch or one that is not two Tensors, a model
    without weights that are trained, a precision that the device lacks, weights of another dtype
    with no precision named, and a model that returns a dict with no loss given.
    """
    batches = _mini_batches(batch)
    weights = [p for p in model.parameters() if p.requires_grad]
    if not batches or not weights:
        raise ValueError(f"{len(batches)} mini-batches and {len(weights)} weights that are trained")
    own = _own_precision(weights[0].dtype) if precision is None else precision
    precisions = _names("precision", own, PRECISIONS)
    asked = ARITHMETICS if arithmetic is None else arithmetic
    arithmetics = _names("arithmetic", asked, ARITHMETICS)
    results, left_out = {}, {}
    for condition in _conditions(precisions, arithmetics, weights[0].device):
        why = unavailable(model, condition)
        if why is not None:
            left_out[condition] = why
        else:
            results[condition] = run(model, batches, loss, condition)
    if not results:
        raise ValueError(f"nothing to look at: {'; '.join(left_out.values())}")
    return Report(results, left_out)


def _mini_batches(batch: Any) -> list[Batch]:
    """The (inputs, target) of the argument `batch` of `check`, one or several."""
    one = isinstance(batch, (tuple, list)) and batch and isinstance(batch[0], Tensor)
    batches = [batch] if one else list(batch)
    for found in batches:
        parts = found if isinstance(found, (tuple, list)) else [found]
        if [isinstance(part, Tensor) for part in parts] != [True, True]:
            kinds = ", ".join(type(part).__name__ for part in parts)
            raise ValueError(f"a mini-batch is (inputs, target), two Tensors; this one is: {kinds}")
    return batches


def _own_precision(dtype: torch.dtype) -> str:
    for name, own in DTYPES.items():
        if own == dtype and name != "tf32":
            return name
    raise ValueError(f"the weights are {dtype}: choose a precision of {PRECISIONS}")


def _names(option: str, asked: str | Sequence[str], known: Sequence[str]) -> Sequence[str]:
    names = [asked] if isinstance(asked, str) else list(asked)
    if not names or not set(names) <= set(known):
        raise ValueError(f"{option}={asked!r}; choose of {tuple(known)}")
    return names


def _conditions(
    precisions: Sequence[str], arithmetics: Sequence[str], device: torch.device
) -> list[Condition]:
    found = []
    for precision in precisions:
        for arithmetic in arithmetics:
            short = precision.removesuffix(AUTOCAST) in ("bf16", "fp16")
            reducible = device.type == "cuda" and short and arithmetic == "native"
            for reduced in (True, False) if reducible else (False,):  # PyTorch's default first
                found.append(Condition(precision, arithmetic, reduced))
    return found
