"""The networks that are trained side by side: their config, their steps, and their kinks."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn

from reluprime.config import Config, DatasetName, Epochs, Seed, added_field
from reluprime.instruments import data
from reluprime.instruments.activations import GradientRule, ReLU, ReLU6
from reluprime.instruments.arithmetic import Arithmetic, emulate, require
from reluprime.instruments.fully_connected import mlp
from reluprime.instruments.precision import Precision
from reluprime.instruments.watch import watched

Batch = tuple[Tensor, Tensor]  # flat images (batch, inputs), labels int64 (batch,)


class Variant(Config):
    """One derivative at the kinks, to be compared with s=0."""

    s: float  # derivative at 0
    gradient_rule: GradientRule
    s_upper: float = 0.0  # derivative at 6, ReLU6 only

    @property
    def label(self) -> str:
        return f"{self.gradient_rule} s={self.s:g}"


class PairedRunConfig(Config):
    """Networks that differ in the derivative at the kinks alone, trained side by side."""

    dataset: DatasetName = "mnist"  # its training images, raw in [0, 1], in file order
    hidden_sizes: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (2000, 128)  # B21 3.1
    activation: Literal["relu", "relu6"] = "relu"
    precision: Precision = "fp32"
    arithmetic: Arithmetic = added_field("native")  # how the layers round
    batch_size: PositiveInt = 128  # images; B21 3.1
    epochs: Epochs = 1
    optimizer: Literal["sgd", "adam"] = added_field("sgd")
    lr: PositiveFloat | None = None  # None: uniform on [0.01, 0.012] by the seed (B21 3.1)
    variants: Annotated[tuple[Variant, ...], Field(min_length=1)] = (
        Variant(s=1.0, gradient_rule="chain"),
        Variant(s=1.0, gradient_rule="injected"),
    )
    seed: Seed = 0  # of the initial weights and of lr

    @model_validator(mode="after")
    def _has_its_arithmetic(self):
        require(self.arithmetic, self.precision)
        return self


def batches_of(config: PairedRunConfig, dtype: torch.dtype, device: torch.device) -> list[Batch]:
    """The mini-batches of the training set in file order, images in [0, 1]."""
    dataset = data.load(config.dataset, device=device)
    images = data.unit_images(dataset.train_images, dtype).flatten(1)
    parts = (whole.split(config.batch_size) for whole in (images, dataset.train_labels))
    return list(zip(*parts, strict=True))


def build(config: PairedRunConfig, variant: Variant, batches: list[Batch]) -> nn.Sequential:
    """The network of the config's seed and a variant's derivatives, for these mini-batches."""

    def activation() -> nn.Module:
        if config.activation == "relu6":
            return ReLU6(variant.s, variant.s_upper, variant.gradient_rule)
        return ReLU(variant.s, variant.gradient_rule)

    n_classes = int(max(y.max() for _, y in batches)) + 1
    sizes = (batches[0][0].shape[1], *config.hidden_sizes, n_classes)
    network = emulate(mlp(sizes, activation, seed=config.seed), config.arithmetic)
    return network.to(batches[0][0].device, batches[0][0].dtype)


def learning_rate(config: PairedRunConfig) -> float:
    """The run's step size: `lr`, or B21's random draw (3.1: gamma in [0.01, 0.012])."""
    if config.lr is not None:
        return config.lr
    return float(np.random.RandomState(config.seed).uniform(0.01, 0.012))


@contextmanager
def preactivations(network: nn.Sequential) -> Iterator[dict[str, Tensor]]:
    """While the network runs, {activation: its latest input}."""
    seen: dict[str, Tensor] = {}
    with watched(network, lambda name, _, z: seen.__setitem__(name, z.detach())):
        yield seen


def gradients(network: nn.Module, x: Tensor, y: Tensor) -> list[Tensor]:
    """Of the mean cross-entropy, one tensor a parameter, in its shape and dtype."""
    loss = F.cross_entropy(network(x), y)
    return list(torch.autograd.grad(loss, list(network.parameters())))


def stepper(config: PairedRunConfig, network: nn.Module) -> Callable[[list[Tensor]], None]:
    """One step of the run's optimizer with given gradients."""
    # B21, eq. 4, with the mean over the mini-batch; M23 3.3, PyTorch's defaults otherwise.
    make = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[config.optimizer]
    optimizer = make(network.parameters(), learning_rate(config))

    def step(gradients: list[Tensor]) -> None:
        for parameter, gradient in zip(network.parameters(), gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()

    return step


def first_hit(network: nn.Sequential, seen: dict[str, Tensor]) -> dict | None:
    """Row, layer, neuron and kink of the first exact hit in this mini-batch, if there is one."""
    for name, x in seen.items():
        for kink in network.get_submodule(name).kinks:
            where = (x == kink).nonzero()
            if len(where):
                row, neuron = where[0].tolist()
                return {"row": row, "layer": name, "neuron": neuron, "kink": kink}
    return None
