"""How fast: this package against the released code, and one of its conditions against another.

The released code is written anew; what is compared runs in one process, on one device, in turns.

`reluprime bench speed` measures and puts records into a store; the report's page reads them.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from reluprime.config import study
from reluprime.instruments.precision import best_device, numerics
from reluprime.speed.config import Contender, SpeedConfig
from reluprime.speed.tasks import TASKS


def timed(run: Callable[[], object], device: torch.device) -> tuple[float, object]:
    """-> seconds between device events around `run` (on a CPU by the clock), and its result."""
    if device.type != "cuda":
        began = time.perf_counter()
        result = run()
        return time.perf_counter() - began, result
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize(device)
    start.record()
    result = run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1000, result


def matrix_product_rate(device: torch.device) -> float:
    """Operations a second of square fp32 products, the best of five measurements."""
    size = 8192 if device.type == "cuda" else 2048
    a, b = torch.randn(size, size, device=device), torch.randn(size, size, device=device)
    out = torch.empty_like(a)
    torch.mm(a, b, out=out)
    best = min(timed(lambda: torch.mm(a, b, out=out), device)[0] for _ in range(5))
    return 2 * size**3 / best


@study("speed.measure", version=1)
def measure(config: SpeedConfig, device: torch.device | None = None) -> dict:
    """The contenders of a task, warmed up once and then in turns.

    Returns {"unit": what is counted, "seconds": {contender: seconds a unit, one for each repeat},
    "operations": of our matrix products in a unit, or None, "matrix_product_rate": operations a
    second, measured in the same run}. Raises RuntimeError if a contender's result is wrong.
    """
    device = best_device() if device is None else torch.device(device)
    seconds: dict[str, list[float]] = {}
    with numerics(config.precision, device):
        task = TASKS[config.task](config, device)
        rate = matrix_product_rate(device)
        for repeat in range(config.repeats + 1):  # the first warms up
            results = {}
            for name, contender in task.contenders.items():
                wall, results[name] = timed(_prepared(contender), device)
                if repeat:
                    seconds.setdefault(name, []).append(wall / contender.units)
            task.check(results)
    return {
        "unit": task.unit,
        "seconds": seconds,
        "operations": task.operations,
        "matrix_product_rate": rate,
    }


def _prepared(contender: Contender) -> Callable[[], object]:
    """`run` in the numerics of its code; ours with checkpoints that no other run goes on from."""

    def run() -> object:
        with _as_released() if contender.as_released else _checkpoints_of_its_own():
            return contender.run()

    return run


@contextmanager
def _checkpoints_of_its_own() -> Iterator[None]:
    before = os.environ.get("RELUPRIME_CHECKPOINTS")
    try:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["RELUPRIME_CHECKPOINTS"] = folder
            yield
    finally:
        if before is None:
            del os.environ["RELUPRIME_CHECKPOINTS"]
        else:
            os.environ["RELUPRIME_CHECKPOINTS"] = before


@contextmanager
def _as_released() -> Iterator[None]:
    """The release lets cuDNN choose the fastest kernels; TF32 stays off, as in ours."""
    cudnn = torch.backends.cudnn
    before = (cudnn.benchmark, cudnn.deterministic)
    torch.use_deterministic_algorithms(False)
    cudnn.benchmark, cudnn.deterministic = True, False
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.deterministic = before
        torch.use_deterministic_algorithms(True)
