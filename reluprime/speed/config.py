"""What a comparison of speed is: its parameters, its contenders and their names."""

from collections.abc import Callable
from typing import Literal, NamedTuple

from pydantic import PositiveFloat, PositiveInt

from reluprime.config import Config

TaskName = Literal[
    "monte-carlo", "activation-images", "activation-features", "mlp-256", "mlp-2048", "vgg11",
    "resnet18", "monte-carlo-fp16", "vgg11-bf16", "mlp-256-band", "check-fp32", "check-bf16",
]  # fmt: skip


class SpeedConfig(Config):
    """One comparison; what each task is, is with its function in :mod:`reluprime.speed.tasks`."""

    task: TaskName
    precision: Literal["fp32"] = "fp32"
    repeats: PositiveInt = 5  # measurements of each contender, one after the other
    n_networks: PositiveInt = 1000  # monte-carlo: ours; the released code gets `n_released`
    n_released: PositiveInt = 2
    width: PositiveFloat = 1.0  # vgg11 and resnet18
    n_train: PositiveInt | None = None  # images of an epoch; None: all
    epochs: PositiveInt = 5  # of ours in one measurement; of the released loop 1
    calls: PositiveInt = 20  # activation: forward and backward passes in one measurement


class Contender(NamedTuple):
    """One way to do the work of a task."""

    run: Callable[[], object]
    units: int  # that one run does
    as_released: bool  # in the released code's numerics


class Task(NamedTuple):
    """What is compared: its contenders, and what one unit of their work is."""

    unit: str
    contenders: dict[str, Contender]  # "ours" and what it is measured against
    operations: float | None = None  # of our matrix products in one unit
    check: Callable[[dict[str, object]], None] = lambda results: None  # raises if one is wrong


RELEASED, IN_MEMORY = "released", "released, data on the device"
TORCH, PRODUCTS = "F.relu", "matrix products"
FP32, BF16, EXACT = "native fp32", "native bf16", "exact zeros alone"
STEP = "a training step"
