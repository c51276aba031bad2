"""Arithmetic by name, and the numerics policy of a study in one place."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

Precision = Literal["fp64", "fp32", "tf32", "bf16", "fp16"]

DTYPES: dict[str, torch.dtype] = {
    "fp64": torch.float64,
    "fp32": torch.float32,
    "tf32": torch.float32,  # stored as fp32; CUDA multiplies with 10-bit mantissas
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}

# Without a fixed workspace cuBLAS may sum in another order from run to run.
_CUBLAS_WORKSPACE = ":4096:8"


def best_device() -> torch.device:
    """CUDA where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _flags(precision: str, reduced_precision: bool) -> dict[tuple[object, str], object]:
    """Every (holder, attribute) that a study sets, with the value for `precision`."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    fp32 = "tf32" if precision == "tf32" else "ieee"
    return {
        (matmul, "fp32_precision"): fp32,
        (cudnn.conv, "fp32_precision"): fp32,
        (matmul, "allow_fp16_reduced_precision_reduction"): reduced_precision,
        (matmul, "allow_bf16_reduced_precision_reduction"): reduced_precision,
        (cudnn, "deterministic"): True,
        (cudnn, "benchmark"): False,
        # Nothing here reads memory before it is written; filling it only costs time.
        (torch.utils.deterministic, "fill_uninitialized_memory"): False,
    }


def require(precision: str, device: torch.device, reduced_precision: bool = False) -> None:
    """Raise ValueError if `device` cannot compute in `precision`, or reduce it in products."""
    if precision not in DTYPES:
        raise ValueError(f"precision={precision!r} is unknown; choose one of {list(DTYPES)}")
    if precision == "tf32" and device.type != "cuda":
        raise ValueError(
            f"precision='tf32' needs an NVIDIA GPU, but the device is {device.type!r}; "
            "choose one of fp64, fp32, bf16, fp16"
        )
    if precision == "tf32" and torch.cuda.get_device_capability(device) < (8, 0):
        raise ValueError(
            "precision='tf32' needs a GPU of compute capability 8.0 or more, but "
            f"{torch.cuda.get_device_name(device)} has {torch.cuda.get_device_capability(device)}"
        )
    if reduced_precision and device.type != "cuda":
        raise ValueError(
            "reduced_precision=True is a GPU's: it lets cuBLAS round partial sums to storage, and "
            f"the device is {device.type!r}"
        )
    if reduced_precision and precision not in ("bf16", "fp16"):
        raise ValueError(
            f"reduced_precision=True is for precision='fp16' or 'bf16', not {precision!r}"
        )


@contextmanager
def numerics(
    precision: str, device: torch.device, reduced_precision: bool = False
) -> Iterator[torch.dtype]:
    """Run a study's arithmetic: deterministic, and TF32 only when it is asked for.

    reduced_precision: whether cuBLAS may split the sums of a 16-bit product into slices whose
    partial sums are rounded to storage. That is PyTorch's default, and no study's but one.

    Yields the dtype of weights, activations and gradients. All flags are put back at the end,
    also after an error. Raises ValueError where `device` lacks the precision or the reduction.
    """
    require(precision, device, reduced_precision)
    wanted = _flags(precision, reduced_precision)
    before = {spot: getattr(*spot) for spot in wanted}
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    workspace = os.environ.get("CUBLAS_WORKSPACE_CONFIG")
    try:
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = _CUBLAS_WORKSPACE
        torch.use_deterministic_algorithms(True)
        for (holder, name), value in wanted.items():
            setattr(holder, name, value)
        yield DTYPES[precision]
    finally:
        for (holder, name), value in before.items():
            setattr(holder, name, value)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        if workspace is None:
            os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)
        else:
            os.environ["CUBLAS_WORKSPACE_CONFIG"] = workspace


def describe(
    precision: str, device: torch.device, reduced_precision: bool = False
) -> dict[str, object]:
    """The numerics that a study with `precision` runs under, for provenance."""
    with numerics(precision, device, reduced_precision) as dtype:
        matmul = torch.backends.cuda.matmul
        return {
            "dtype": str(dtype).removeprefix("torch."),
            "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
            "matmul_fp32_precision": matmul.fp32_precision,
            "conv_fp32_precision": torch.backends.cudnn.conv.fp32_precision,
            "reduced_precision_reduction": bool(
                matmul.allow_fp16_reduced_precision_reduction
                or matmul.allow_bf16_reduced_precision_reduction
            ),
            "cublas_workspace": os.environ["CUBLAS_WORKSPACE_CONFIG"],
        }
