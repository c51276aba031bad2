"""How fast: this package against the released code, and one of its conditions against another.

The released code is written anew; what is compared runs in one process, on one device, in turns.

`reluprime bench speed` measures and puts records into a store; the report's page reads them.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Literal, NamedTuple

import pandas as pd
import torch
import torch.nn.functional as F
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from reluprime.check import check
from reluprime.config import Config, study
from reluprime.instruments import data, graphs, models
from reluprime.instruments.activations import relu
from reluprime.instruments.precision import DTYPES, best_device, numerics
from reluprime.network import study as your_network
from reluprime.network.study import NetworkCheckConfig
from reluprime.speed import released
from reluprime.training import study as training
from reluprime.training.study import TrainingConfig
from reluprime.volume import study as volume
from reluprime.volume.study import VolumeConfig

TaskName = Literal[
    "monte-carlo", "activation-images", "activation-features", "mlp-256", "mlp-2048", "vgg11",
    "resnet18", "monte-carlo-fp16", "vgg11-bf16", "mlp-256-band", "check-fp32", "check-bf16",
]  # fmt: skip


class SpeedConfig(Config):
    """One comparison; what each task is, is with its function below."""

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
    run: Callable[[], object]
    units: int  # that one run does
    as_released: bool  # in the released code's numerics


class Task(NamedTuple):
    unit: str
    contenders: dict[str, Contender]  # "ours" and what it is measured against
    operations: float | None = None  # of our matrix products in one unit
    check: Callable[[dict[str, object]], None] = lambda results: None  # raises if one is wrong


RELEASED, IN_MEMORY = "released", "released, data on the device"
TORCH, PRODUCTS = "F.relu", "matrix products"
FP32, BF16, EXACT = "native fp32", "native bf16", "exact zeros alone"
STEP = "a training step"
# Least speed relative to a contender, and share of the rate of matrix products, on each device.
GOALS = {
    ("monte-carlo", RELEASED): {"cpu": 15.0, "cuda": 500.0},
    ("monte-carlo", IN_MEMORY): {"cuda": 50.0},
    ("activation-images", TORCH): {"cuda": 1 / 1.1},
    ("activation-features", TORCH): {"cuda": 1 / 1.1},
    ("mlp-256", RELEASED): {"cpu": 5.0},
    ("mlp-2048", RELEASED): {"cpu": 1.15, "cuda": 8.0},
    ("vgg11", RELEASED): {"cuda": 3.0},
    ("resnet18", RELEASED): {"cuda": 3.0},
    ("monte-carlo", PRODUCTS): {"cuda": 0.5},
    ("monte-carlo-fp16", FP32): {"cpu": 1 / 1.5},
    ("vgg11-bf16", BF16): {"cpu": 1 / 1.3},
    ("mlp-256-band", EXACT): {"cpu": 1 / 1.3},
    # Three steps for each of two values of s.
    ("check-fp32", STEP): {"cpu": 1 / 6},
    ("check-bf16", STEP): {"cpu": 1 / 6},
}


def grid(device: torch.device) -> list[SpeedConfig]:
    """Every task in the sizes that fill the device and take minutes."""
    if device.type == "cuda":
        own = {"monte-carlo-fp16": {"n_networks": 20}}  # an arithmetic but native has no stacks
        return [SpeedConfig(task=task, **own.get(task, {})) for task in TASKS]
    small = {"repeats": 3, "n_networks": 20, "n_released": 4, "epochs": 3}
    images = small | {"width": 0.25, "n_train": 5000, "epochs": 1}
    own = dict.fromkeys(("vgg11", "resnet18", "vgg11-bf16"), images)
    own["mlp-2048"] = small | {"epochs": 1}
    return [SpeedConfig(task=task, **own.get(task, small)) for task in TASKS]


# ---- the tasks ----

SIZES = (784, 256, 256, 256, 10)


def _monte_carlo(config: SpeedConfig, device: torch.device) -> Task:
    """B21 Table 1: raw MNIST in mini-batches of 256 through random networks; unit: a network."""
    n, released_seeds = config.n_networks, range(config.n_released)
    loader = released.loader("mnist", train=True, batch_size=256, normalised=False)
    dataset = data.load("mnist", device=device)
    images = data.unit_images(dataset.train_images, torch.float32)
    there = list(zip(images.split(256), dataset.train_labels.split(256), strict=True))

    def ours() -> list[int]:
        return volume.estimate(VolumeConfig(n_networks=n), device)["affected_injected"]

    def check(results: dict[str, list[int]]) -> None:
        found = {tuple(affected[: config.n_released]) for affected in results.values()}
        if device.type == "cpu" and len(found) > 1:  # on a GPU a stack has other exact zeros
            raise RuntimeError(f"the affected mini-batches differ: {results}")

    def as_released(batches) -> Contender:
        return Contender(
            lambda: released.monte_carlo(batches, released_seeds, device), config.n_released, True
        )

    return Task(
        "network",
        {
            "ours": Contender(ours, n, False),
            RELEASED: as_released(loader),
            IN_MEMORY: as_released(there),
        },
        operations=2 * 60_000 * sum(a * b for a, b in pairwise(SIZES[:-1])),
        check=check,
    )


def _activation(*shape: int) -> Callable[[SpeedConfig, torch.device], Task]:
    """Forward and backward pass at s=1 under the chain rule; unit: one of both."""

    def task(config: SpeedConfig, device: torch.device) -> Task:
        x = torch.randn(shape, device=device).requires_grad_()
        upstream = torch.randn(shape, device=device)

        def passes(function: Callable[[Tensor], Tensor]) -> Callable[[], None]:
            def run() -> None:
                for _ in range(config.calls):
                    torch.autograd.grad(function(x), x, upstream)

            return run

        functions = {
            "ours": lambda x: relu(x, 1.0, "chain"),
            TORCH: F.relu,
            RELEASED: lambda x: released.InjectedReLU.apply(x, 1.0),
        }
        runs = {name: passes(function) for name, function in functions.items()}
        if graphs.captures(device):  # as in a training step: the kernels' time, not Python's
            for name, run in runs.items():
                graphs.warm_up(run, ())
                runs[name] = graphs.record(run, [])
        contenders = {name: Contender(run, config.calls, False) for name, run in runs.items()}
        return Task("forward and backward pass", contenders)

    return task


def _epochs(
    ours: TrainingConfig, lr: float, least: float
) -> Callable[[SpeedConfig, torch.device], Task]:
    """An epoch of training, with its evaluation on the test images; unit: an epoch.

    `least`: the test accuracy without which a contender has not learned at all.
    """

    def task(config: SpeedConfig, device: torch.device) -> Task:
        own = ours.replace(epochs=config.epochs, n_train=config.n_train, width=config.width)
        name, shape = own.dataset, (1, 28, 28) if own.architecture == "mlp" else (3, 32, 32)
        # On a CPU in this process: where processors read, they do not compute, and few are there.
        workers = released.WORKERS[name] if device.type == "cuda" else 0
        common = {"workers": workers, "batch_size": 128}
        train = released.loader(name, train=True, n_images=config.n_train, **common)
        test = released.loader(name, train=False, **common | {"batch_size": 100})

        def released_loop() -> list[float]:
            network = models.build(own, shape, 10, lambda: released.ReleasedReLU(0.0), seed=0)
            return released.train(network, train, test, lr=lr, epochs=1, device=device)

        def fit() -> list[float]:
            return training.fit(own, device)["test_accuracy"][0]

        def check(results: dict[str, list[float]]) -> None:
            if worst := {name: r for name, r in results.items() if not r or r[-1] < least}:
                raise RuntimeError(f"has not learned: {worst}")

        products = 2 * sum(a * b for a, b in pairwise((784, *own.hidden_sizes, 10)))
        first = 2 * 784 * own.hidden_sizes[0] if own.hidden_sizes else 0
        n_train = config.n_train or 60_000
        return Task(
            "epoch",
            {
                "ours": Contender(fit, config.epochs, False),
                RELEASED: Contender(released_loop, 1, True),
            },
            # Forward, and backward for weights and inputs (the images need none).
            operations=n_train * (3 * products - first) + 10_000 * products if first else None,
            check=check,
        )

    return task


def _mlp(width: int) -> TrainingConfig:
    return TrainingConfig(dataset="mnist", hidden_sizes=(width,) * 3, lr=0.01, schedule="constant")


def _convolutional(architecture: str) -> TrainingConfig:
    return TrainingConfig(
        dataset="cifar10",
        architecture=architecture,
        hidden_sizes=(),
        augment=True,
        batch_norm=True,
        lr=0.05,
        schedule="constant",
    )


def _monte_carlo_fp16(config: SpeedConfig, device: torch.device) -> Task:
    """The screen of the Monte Carlo at fp16 `epilogue` and at native fp32; unit: a network."""

    def screens(**condition) -> Contender:
        own = VolumeConfig(n_networks=config.n_networks, **condition)
        batches, n_classes = volume.raw_batches(own, DTYPES[own.precision], device)
        like = (own, batches[0][0], n_classes)

        def run() -> list[list[int]]:
            networks = (
                volume.random_network(*like, seed, 0.0, "chain") for seed in range(own.n_networks)
            )
            return [list(volume.screen(network, batches)) for network in networks]

        return Contender(run, own.n_networks, False)

    ours = screens(precision="fp16", arithmetic="epilogue")
    return Task("network", {"ours": ours, FP32: screens()})


def _vgg11_bf16(config: SpeedConfig, device: torch.device) -> Task:
    """An epoch of VGG11 at bf16, `separate` and native, with its evaluation; unit: an epoch."""
    base = TrainingConfig(
        dataset="cifar10",
        architecture="vgg11",
        width=config.width,
        precision="bf16",
        initialisation="kaiming-uniform",
        n_train=config.n_train,
        epochs=config.epochs,
    )

    def epochs(arithmetic: str) -> Contender:
        own = base.replace(arithmetic=arithmetic)
        return Contender(lambda: training.fit(own, device), config.epochs, False)

    return Task("epoch", {"ours": epochs("separate"), BF16: epochs("native")})


def _band(config: SpeedConfig, device: torch.device) -> Task:
    """An epoch at s=1, with a band of kinks and without, with its evaluation; unit: an epoch."""
    base = _mlp(256).replace(s=1.0, n_train=config.n_train, epochs=config.epochs)

    def epochs(kink_width: float) -> Contender:
        own = base.replace(kink_width=kink_width)
        return Contender(lambda: training.fit(own, device), config.epochs, False)

    # One to three of a hundred pre-activations are in a band of this width.
    return Task("epoch", {"ours": epochs(0.01), EXACT: epochs(0.0)})


def _check(precision: str) -> Callable[[SpeedConfig, torch.device], Task]:
    """`reluprime.check` of torchvision's ResNet-18 at s=0 and s=1; unit: a mini-batch of 8."""

    def task(config: SpeedConfig, device: torch.device) -> Task:
        own = NetworkCheckConfig(network="resnet18", image_size=224, batch_size=8, n_batches=2)
        network, batches = your_network.initialised(own, device)
        network = network.train().to(DTYPES[precision])
        batches = [(x.to(DTYPES[precision]), y) for x, y in batches]

        def step() -> None:
            for x, y in batches:
                network.zero_grad()
                F.cross_entropy(network(x), y).backward()

        def ours() -> None:
            check(network, batches, precision=precision, arithmetic="native")

        return Task(
            "mini-batch", {"ours": Contender(ours, 2, False), STEP: Contender(step, 2, False)}
        )

    return task


TASKS: dict[str, Callable[[SpeedConfig, torch.device], Task]] = {
    "monte-carlo": _monte_carlo,
    "activation-images": _activation(128, 64, 32, 32),
    "activation-features": _activation(4096, 2048),
    "mlp-256": _epochs(_mlp(256), 0.01, least=0.5),
    "mlp-2048": _epochs(_mlp(2048), 0.01, least=0.5),
    "vgg11": _epochs(_convolutional("vgg11"), 0.05, least=0.15),
    "resnet18": _epochs(_convolutional("resnet18"), 0.05, least=0.15),
    "monte-carlo-fp16": _monte_carlo_fp16,
    "vgg11-bf16": _vgg11_bf16,
    "mlp-256-band": _band,
    "check-fp32": _check("fp32"),
    "check-bf16": _check("bf16"),
}


# ---- measuring ----


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
    with numerics(config.precision, device), tempfile.TemporaryDirectory() as folder:
        task = TASKS[config.task](config, device)
        rate = matrix_product_rate(device)
        for repeat in range(config.repeats + 1):  # the first warms up
            results = {}
            for name, contender in task.contenders.items():
                wall, results[name] = timed(_prepared(contender, folder), device)
                if repeat:
                    seconds.setdefault(name, []).append(wall / contender.units)
            task.check(results)
    return {
        "unit": task.unit,
        "seconds": seconds,
        "operations": task.operations,
        "matrix_product_rate": rate,
    }


def _prepared(contender: Contender, folder: str) -> Callable[[], object]:
    """`run` in the numerics of its code; ours with its checkpoints in `folder`."""

    def run() -> object:
        with _as_released() if contender.as_released else _checkpoints_in(folder):
            return contender.run()

    return run


@contextmanager
def _checkpoints_in(folder: str) -> Iterator[None]:
    before = os.environ.get("RELUPRIME_CHECKPOINTS")
    os.environ["RELUPRIME_CHECKPOINTS"] = folder
    try:
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


# ---- the report's table ----


KINDS = {"cpu": "CPU", "cuda": "GPU"}


def devices(frame: pd.DataFrame) -> pd.DataFrame:
    """A line for each device that rows of :func:`measure` are from."""
    lines = [
        {
            "device": how["device_name"],
            "kind": KINDS[how["device"]],
            "date": how["utc"][:10],
            "threads": how["threads"],
            "torch": how["torch"],
        }
        for how in frame.get("provenance", ())
    ]
    columns = ["device", "kind", "date", "threads", "torch"]
    return pd.DataFrame(lines, columns=columns).drop_duplicates()


def table(frame: pd.DataFrame) -> pd.DataFrame:
    """A line for each task and what ours is measured against, from rows of :func:`measure`.

    `ours`, `theirs`: median seconds of one unit. `times ours`: theirs divided by ours, pair by
    pair: the median, and the least and the most; of "matrix products" the share of their rate
    that ours reaches. `goal`: the least of it that was set for this kind of device beforehand.
    """
    lines = [line for _, row in frame.iterrows() for line in _lines(row)]
    columns = ["device", "task", "ours", "against", "theirs", "times ours", "range", "goal"]
    return pd.DataFrame(lines, columns=columns)


def _lines(row: pd.Series) -> Iterator[dict]:
    ours = row["seconds"]["ours"]
    common = {
        "device": row["provenance"]["device_name"],
        "task": row["task"],
        "ours": f"{statistics.median(ours):.3g}",
    }
    for name, values in row["seconds"].items():
        if name == "ours":
            continue
        ratios = [value / own for value, own in zip(values, ours, strict=True)]
        yield common | {
            "against": name,
            "theirs": f"{statistics.median(values):.3g}",
            "times ours": f"{statistics.median(ratios):.3g}",
            "range": f"{min(ratios):.3g} to {max(ratios):.3g}",
            "goal": _goal(row, name, statistics.median(ratios)),
        }
    if pd.notna(row["operations"]):
        products = row["operations"] / row["matrix_product_rate"]
        share = products / statistics.median(ours)
        yield common | {
            "against": PRODUCTS,
            "theirs": f"{products:.3g}",
            "times ours": f"{share:.2f}",
            "range": "",
            "goal": _goal(row, PRODUCTS, share),
        }


def _goal(row: pd.Series, against: str, value: float) -> str:
    goal = GOALS.get((row["task"], against), {}).get(row["provenance"]["device"])
    if goal is None:
        return ""
    return f"{goal:.3g}, {'reached' if value >= goal else 'not reached'}"


def unmeasured_goals(frame: pd.DataFrame) -> pd.DataFrame:
    """The goals for a GPU that no row has measured."""
    measured = {row["task"] for _, row in frame.iterrows() if row["provenance"]["device"] == "cuda"}
    lines = [
        {"task": task, "against": against, "goal": f"{goal['cuda']:.3g}"}
        for (task, against), goal in GOALS.items()
        if "cuda" in goal and task not in measured
    ]
    return pd.DataFrame(lines, columns=["task", "against", "goal"])
