"""The comparisons: what each runs, by its name."""

from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from reluprime.check import check
from reluprime.instruments import data, graphs, models
from reluprime.instruments.activations import relu
from reluprime.instruments.precision import DTYPES
from reluprime.network.study import NetworkCheckConfig, initialised
from reluprime.speed import released
from reluprime.speed.config import (
    BF16,
    EXACT,
    FP32,
    IN_MEMORY,
    RELEASED,
    STEP,
    TORCH,
    Contender,
    SpeedConfig,
    Task,
)
from reluprime.training import study as training
from reluprime.training.config import TrainingConfig
from reluprime.volume.networks import VolumeConfig, random_network, raw_batches
from reluprime.volume.screening import screen
from reluprime.volume.study import estimate

SIZES = (784, 256, 256, 256, 10)


def _monte_carlo(config: SpeedConfig, device: torch.device) -> Task:
    """B21 Table 1: raw MNIST in mini-batches of 256 through random networks; unit: a network."""
    n, released_seeds = config.n_networks, range(config.n_released)
    dataset = data.load("mnist", device=device)  # first: it says where the set can be had
    loader = released.loader("mnist", train=True, batch_size=256, normalised=False)
    images = data.unit_images(dataset.train_images, torch.float32)
    there = list(zip(images.split(256), dataset.train_labels.split(256), strict=True))

    def ours() -> list[int]:
        return estimate(VolumeConfig(n_networks=n), device)["affected_injected"]

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
    """Forward and backward pass at s=1 under the chain rule, without a kink; unit: one of both."""

    def task(config: SpeedConfig, device: torch.device) -> Task:
        x = torch.randn(shape, device=device)
        x = x.masked_fill_(x == 0, 1.0).requires_grad_()  # of millions, one can be 0
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
        name, shape = own.dataset, (1, 28, 28) if own.traits.fully_connected else (3, 32, 32)
        data.load(name, device=device)  # first: it says where the set can be had
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
        batches, n_classes = raw_batches(own, DTYPES[own.precision], device)
        like = (own, batches[0][0], n_classes)

        def run() -> list[list[int]]:
            networks = (random_network(*like, seed, 0.0, "chain") for seed in range(own.n_networks))
            return [list(screen(network, batches, own.traits.chain)) for network in networks]

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
        network, batches = initialised(own, device)
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
