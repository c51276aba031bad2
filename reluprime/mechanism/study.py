"""Where exact zeros come from: predicted and measured rates by layer, precision and kernel."""

import copy
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import NonNegativeInt, PositiveInt, model_validator
from torch import Tensor, nn

from reluprime.config import Config, DatasetName, Seed, study
from reluprime.instruments import data, kernels, models
from reluprime.instruments.activations import ACTIVATIONS, ReLU
from reluprime.instruments.arithmetic import Arithmetic, emulate
from reluprime.instruments.precision import Precision, best_device, numerics
from reluprime.instruments.watch import watched


class ForwardZerosConfig(models.NetworkConfig):
    """Networks whose exact zeros are counted over forward passes, layers in a given form."""

    dataset: DatasetName = "mnist"  # its first training images, raw in [0, 1], in file order
    hidden_sizes: tuple[PositiveInt, ...] = (256, 256, 256)  # B21 Table 1
    precision: Precision = "fp32"  # of weights and activations
    linear_form: kernels.LinearForm = "native"
    norm_form: kernels.NormForm = "native"
    n_images: PositiveInt = 60_000
    batch_size: PositiveInt = 256  # images; B21 Table 1
    epochs: NonNegativeInt = 0  # of training at fp32 before the passes; 0: at initialisation
    n_networks: PositiveInt = 1  # drawn with seeds seed, seed + 1, ...
    seed: Seed = 0

    @model_validator(mode="after")
    def _fits_the_forms(self):
        if self.norm_form != "native" and self.precision != "fp32":
            raise ValueError(f"norm_form={self.norm_form!r} needs precision='fp32'")
        if self.linear_form in kernels.FP32_FORMS and self.precision != "fp32":
            raise ValueError(f"linear_form={self.linear_form!r} needs precision='fp32'")
        if self.linear_form in kernels.ORDERED and not self.traits.fully_connected:
            raise ValueError(f"linear_form={self.linear_form!r} needs architecture='mlp'")
        if self.epochs and self.batch_norm:
            raise ValueError("epochs: networks with batch norm are looked at untrained")
        if self.arithmetic != "native" and {self.linear_form, self.norm_form} != {"native"}:
            raise ValueError(f"arithmetic={self.arithmetic!r} says the form of every layer itself")
        return self


class _Counts:
    """Sums over images and networks for one activation."""

    def __init__(self):
        self.calls = self.zeros = self.structural = 0
        self.predicted: float | None = 0.0

    def add(self, z: Tensor, width: Tensor | None) -> None:
        self.calls += z.numel()
        self.zeros += z.numel() - int(torch.count_nonzero(z))
        self.predicted = (
            None if width is None else self.predicted + kernels.expected_zeros(z, width)
        )


def _forms_before(network: nn.Module, chain: bool) -> dict[str, nn.Module | None]:
    """{activation: the form of the layer before it}; None in a network that is no chain."""
    before, found = None, {}
    for name, module in network.named_modules():
        if isinstance(module, (kernels.Linear, kernels.BatchNorm)):
            before = module
        if isinstance(module, ACTIVATIONS):
            found[name] = before if chain else None
    return found


def _count(
    network: nn.Module, exact: nn.Module, x: Tensor, counts: dict[str, _Counts], chain: bool
) -> None:
    """One mini-batch: zeros and the model's expectation; a batch with zeros again in fp64."""
    masks: dict[str, list[Tensor]] = {}
    forms = _forms_before(network, chain)

    def see(name: str, _: nn.Module, z: Tensor) -> None:
        width = None if forms[name] is None else forms[name].width(z)
        counts.setdefault(name, _Counts()).add(z, width)
        masks.setdefault(name, []).append(z == 0)

    def see_exact(name: str, _: nn.Module, z: Tensor) -> None:
        counts[name].structural += int(((z == 0) & masks[name].pop(0)).sum())

    with watched(network, see):
        network(x)
    if any(bool(mask.any()) for found in masks.values() for mask in found):
        with watched(exact, see_exact):
            exact(x.double())


def _train(network: nn.Module, batches: list[tuple[Tensor, Tensor]], epochs: int) -> None:
    """Plain SGD as in B21 3.1 (s=0, learning rate 0.01), on mini-batches in file order."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    for _ in range(epochs):
        for x, y in batches:
            optimizer.zero_grad()
            F.cross_entropy(network(x), y).backward()
            optimizer.step()


def network_of_seed(
    config: models.NetworkConfig,
    images: Sequence[Tensor],
    labels: Sequence[Tensor],
    seed: int,
    epochs: int = 0,
) -> nn.Module:
    """The network of a seed, fp32 on the images' device, trained on these mini-batches."""
    shape = data.unit_images(images[0][:1], torch.float32).shape[1:]
    n_classes = 1 + int(torch.cat(tuple(labels)).max())
    built = models.build(config, shape, n_classes, ReLU, seed=seed).to(images[0].device)
    if epochs:
        inputs = [data.unit_images(x, torch.float32) for x in images]
        _train(built, list(zip(inputs, labels, strict=True)), epochs)
    return built


@study("mechanism.forward_zeros", version=1)
def forward_zeros(config: ForwardZerosConfig, device: torch.device | None = None) -> dict:
    """Count exact zeros at every activation of random (or briefly trained) networks.

    Returns {activation: number} over all networks and images:

    - calls: pre-activations
    - zeros: those exactly 0
    - structural: those of them that are 0 in fp64 too, with the same weights and images, and so
      do not come from the rounding in `precision`
    - predicted: what density at 0 times width of the last addition expects (`kernels`), None
      where the network has branches or another arithmetic than native

    Batch norm uses the statistics of the mini-batch, as in training. The networks of a seed have
    the same weights in every precision up to rounding. Source: B21 3.2; model: background page.
    """
    device = best_device() if device is None else device
    counts: dict[str, _Counts] = {}
    with numerics(config.precision, device) as dtype:
        dataset = models.as_input(data.load(config.dataset, device=device), config)
        images = dataset.train_images[: config.n_images].split(config.batch_size)
        labels = dataset.train_labels[: config.n_images].split(config.batch_size)
        inputs = [data.unit_images(x, dtype) for x in images]
        for seed in range(config.seed, config.seed + config.n_networks):
            drawn = network_of_seed(config, images, labels, seed, config.epochs).to(dtype)
            exact = copy.deepcopy(drawn).double()
            if config.arithmetic == "native":
                kernels.in_forms(drawn, config.linear_form, config.norm_form)
            with torch.no_grad():
                for x in inputs:
                    _count(drawn, exact, x, counts, config.traits.chain)
    names = ("calls", "zeros", "structural", "predicted")
    return {name: {site: getattr(c, name) for site, c in counts.items()} for name in names}


class LinearZerosConfig(Config):
    """One linear layer alone, as PyTorch draws it, on inputs from a standard normal distribution.

    With such inputs each output has density at 0, the same up to its scale in every shape, so
    rates at two shapes differ by the kernels that a library chooses for them. Images would add the
    differences between their pixels, and need files where there may be none.
    """

    precision: Literal["fp16", "bf16"] = "fp16"  # of weights, inputs and outputs
    arithmetic: Arithmetic = "native"
    reduced_precision: bool = False  # cuBLAS may round partial sums to storage: PyTorch's default
    rows: PositiveInt = 256  # of one product: the mini-batch
    inputs: PositiveInt = 784
    outputs: PositiveInt = 256
    n_matrices: PositiveInt = 16  # layers, drawn one after the other from the seed
    n_batches: PositiveInt = 250  # products of each
    seed: Seed = 0

    @model_validator(mode="after")
    def _has_partial_sums_in_storage(self):
        if self.reduced_precision and self.arithmetic != "native":
            raise ValueError(
                f"reduced_precision=True: arithmetic={self.arithmetic!r} takes its sums in fp32"
            )
        return self


@study("mechanism.linear_zeros", version=1)
def linear_zeros(config: LinearZerosConfig, device: torch.device | None = None) -> dict:
    """Count exact zeros among the outputs of random linear layers, product by product.

    Returns calls (outputs) and zeros (those exactly 0). Raises ValueError for reduced_precision
    without a GPU. The same seed is the same layers and inputs in each arithmetic on a device; CPU
    and GPU draw other ones. Source: PyTorch's notes on numerical accuracy, "Reduced Precision
    Reduction for FP16 and BF16 GEMMs".
    """
    device = best_device() if device is None else device
    random = torch.Generator(device).manual_seed(config.seed)
    zeros = torch.zeros((), dtype=torch.int64, device=device)
    shape = (config.n_batches, config.rows, config.inputs)
    with numerics(config.precision, device, config.reduced_precision) as dtype, torch.no_grad():
        for _ in range(config.n_matrices):
            layer = emulate(_linear(config, random).to(dtype), config.arithmetic)
            for x in torch.randn(shape, generator=random, device=device).to(dtype):
                zeros += (layer(x) == 0).sum()  # on the device: its host waits once, at the end
    calls = config.n_matrices * config.n_batches * config.rows * config.outputs
    return {"calls": calls, "zeros": int(zeros)}


def _linear(config: LinearZerosConfig, random: torch.Generator) -> nn.Linear:
    """Weights and biases from U(+-1/sqrt(m)), m inputs: PyTorch's default, from a generator."""
    layer = nn.utils.skip_init(nn.Linear, config.inputs, config.outputs, device=random.device)
    bound = config.inputs**-0.5
    for values in layer.parameters():
        nn.init.uniform_(values, -bound, bound, generator=random)
    return layer
