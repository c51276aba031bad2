"""Paired training runs and the event that parts them (B21 3.1, Fig. 1, 7, 8)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn
from torch.func import functional_call

from reluprime.config import Config, DatasetName, later, study
from reluprime.instruments import data, models
from reluprime.instruments.activations import ACTIVATIONS, GradientRule, ReLU, ReLU6
from reluprime.instruments.arithmetic import Arithmetic, emulate, require
from reluprime.instruments.precision import Precision, best_device, numerics


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
    arithmetic: Arithmetic = later("native")  # how the layers round
    batch_size: PositiveInt = 128  # images; B21 3.1
    epochs: PositiveInt = 1
    optimizer: Literal["sgd", "adam"] = later("sgd")
    lr: PositiveFloat | None = None  # None: uniform on [0.01, 0.012] by the seed (B21 3.1)
    variants: Annotated[tuple[Variant, ...], Field(min_length=1)] = (
        Variant(s=1.0, gradient_rule="chain"),
        Variant(s=1.0, gradient_rule="injected"),
    )
    seed: Annotated[int, Field(ge=0)] = 0  # of the initial weights and of lr

    @model_validator(mode="after")
    def _has_its_arithmetic(self):
        require(self.arithmetic, self.precision)
        return self


class WeightPlaneConfig(Config):
    """A plane in the event's weight space (B21 Fig. 1 right, Fig. 7 right)."""

    run: PairedRunConfig
    radius: PositiveFloat = 2e-8  # half side of the square; a few fp32 spacings of a weight
    resolution: Annotated[int, Field(ge=3)] = 81  # points a side, odd: the event is a point
    seed: Annotated[int, Field(ge=0)] = 0  # of the two directions

    @property
    def precision(self) -> Precision:
        return self.run.precision


def _batches(config: PairedRunConfig, dtype: torch.dtype, device: torch.device):
    dataset = data.load(config.dataset, device=device)
    images = data.unit_images(dataset.train_images, dtype).flatten(1)
    pairs = zip(
        images.split(config.batch_size),
        dataset.train_labels.split(config.batch_size),
        strict=True,
    )
    return list(pairs)


def _network(config: PairedRunConfig, variant: Variant, batches: list) -> nn.Sequential:
    def activation() -> nn.Module:
        if config.activation == "relu6":
            return ReLU6(variant.s, variant.s_upper, variant.gradient_rule)
        return ReLU(variant.s, variant.gradient_rule)

    n_classes = int(max(y.max() for _, y in batches)) + 1
    sizes = (batches[0][0].shape[1], *config.hidden_sizes, n_classes)
    network = emulate(models.mlp(sizes, activation, seed=config.seed), config.arithmetic)
    return network.to(batches[0][0].device, batches[0][0].dtype)


def learning_rate(config: PairedRunConfig) -> float:
    """The run's step size: `lr`, or B21's random draw (3.1: gamma in [0.01, 0.012])."""
    if config.lr is not None:
        return config.lr
    return float(np.random.RandomState(config.seed).uniform(0.01, 0.012))


@contextmanager
def _preactivations(network: nn.Sequential) -> Iterator[dict[str, Tensor]]:
    """The latest input of each activation, by the activation's name."""
    seen: dict[str, Tensor] = {}

    def watch(name: str):
        return lambda _, inputs: seen.__setitem__(name, inputs[0].detach())

    handles = [
        module.register_forward_pre_hook(watch(name))
        for name, module in network.named_children()
        if isinstance(module, ACTIVATIONS)
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _gradients(network: nn.Module, x: Tensor, y: Tensor) -> list[Tensor]:
    loss = F.cross_entropy(network(x), y)
    return list(torch.autograd.grad(loss, list(network.parameters())))


def _stepper(config: PairedRunConfig, network: nn.Module) -> Callable[[list[Tensor]], None]:
    """One step of the run's optimizer with given gradients."""
    # B21, eq. 4, with the mean over the mini-batch; M23 3.3, PyTorch's defaults otherwise.
    make = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[config.optimizer]
    optimizer = make(network.parameters(), learning_rate(config))

    def step(gradients: list[Tensor]) -> None:
        for parameter, gradient in zip(network.parameters(), gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()

    return step


def _norm(tensors: list[Tensor], order: int) -> float:
    """Norm over all parameters, in fp64."""
    flat = torch.cat([t.detach().double().flatten() for t in tensors])
    return float(torch.linalg.vector_norm(flat, order))


def _difference(a: list[Tensor], b: list[Tensor]) -> list[Tensor]:
    return [p.detach().double() - q.detach().double() for p, q in zip(a, b, strict=True)]


def _first_hit(network: nn.Sequential, seen: dict[str, Tensor]) -> dict | None:
    """Row, layer, neuron and kink of the first exact hit in this mini-batch, if there is one."""
    for name, x in seen.items():
        for kink in network.get_submodule(name).kinks:
            where = (x == kink).nonzero()
            if len(where):
                row, neuron = where[0].tolist()
                return {"row": row, "layer": name, "neuron": neuron, "kink": kink}
    return None


def _hits(network: nn.Sequential, name: str, x: Tensor) -> int:
    return sum(int((x == kink).sum()) for kink in network.get_submodule(name).kinks)


def _event(config, step: int, n_batches: int, hit: dict, gradients: dict) -> dict:
    reference = gradients["s=0"]
    size = _norm(reference, 2)
    row = hit.pop("row")
    return {
        "step": step,
        "sample": step % n_batches * config.batch_size + row,
        **hit,
        "relative_gradient_difference": {
            label: _norm(_difference(g, reference), 2) / size
            for label, g in gradients.items()
            if label != "s=0"
        },
    }


@study("bifurcation.paired_run", version=1)
def paired_run(config: PairedRunConfig, device: torch.device | None = None) -> dict:
    """Train s=0, s=0 again (control) and each variant from one start on the same mini-batches.

    Returns, with K steps and one entry per hidden layer, named as in `models.mlp`:

    - learning_rate: the step size used
    - distance: {label: K floats}, L1 distance to the s=0 network over all parameters after each
      step; the labels are "control" and those of the variants
    - sum_difference: with adam alone, {label: K floats}: the sum over all tensors of
      |sum of its weights less that of the s=0 network|, which M23's release plots as the distance
    - min_abs_preactivation: {layer: K floats}, smallest |z| of the s=0 network in the step's
      mini-batch, before the step
    - exact_zeros: {layer: K ints}, its pre-activations exactly at a kink (0; for ReLU6 also 6)
    - event: None, or the first hit: step (from 0), sample (index in the training set), layer,
      neuron, kink, and relative_gradient_difference {label: |g - g0|_2 / |g0|_2} at that step,
      where all networks still have the same weights

    Source: B21 3.1, Fig. 1, 7 and 8.
    """
    device = best_device() if device is None else device
    with numerics(config.precision, device) as dtype:
        return _paired_run(config, _batches(config, dtype, device))


def _paired_run(config: PairedRunConfig, batches: list) -> dict:
    unchanged = Variant(s=0.0, gradient_rule="chain")
    variants = {"s=0": unchanged, "control": unchanged, **{v.label: v for v in config.variants}}
    if len(variants) != len(config.variants) + 2:
        raise ValueError(f"variants must differ in s or gradient_rule, got {config.variants}")
    networks = {label: _network(config, v, batches) for label, v in variants.items()}
    reference = networks["s=0"]
    steppers = {label: _stepper(config, network) for label, network in networks.items()}
    distance = {label: [] for label in networks if label != "s=0"}
    sums = {label: [] for label in distance}
    smallest, zeros, event = {}, {}, None
    with _preactivations(reference) as seen:
        for step in range(config.epochs * len(batches)):
            x, y = batches[step % len(batches)]
            gradients = {label: _gradients(n, x, y) for label, n in networks.items()}
            for name, z in seen.items():
                smallest.setdefault(name, []).append(float(z.abs().min()))
                zeros.setdefault(name, []).append(_hits(reference, name, z))
            if event is None and (hit := _first_hit(reference, seen)):
                event = _event(config, step, len(batches), hit, gradients)
            for label, step_of in steppers.items():
                step_of(gradients[label])
            for label, values in distance.items():
                apart = _difference(networks[label].parameters(), reference.parameters())
                values.append(_norm(apart, 1))
                sums[label].append(sum(abs(float(part.sum())) for part in apart))
    return {
        "learning_rate": learning_rate(config),
        "distance": distance,
        **({"sum_difference": sums} if config.optimizer == "adam" else {}),
        "min_abs_preactivation": smallest,
        "exact_zeros": zeros,
        "event": event,
    }


@study("bifurcation.weight_plane", version=1)
def weight_plane(config: WeightPlaneConfig, device: torch.device | None = None) -> dict:
    """|z| of the neuron that was hit, over a random plane of its weights through the event.

    The s=0 network is trained to the event of `config.run`. The neuron's weights w become
    w + u d1 + v d2, with u and v on an even grid of [-radius, radius] and d1, d2 uniform on
    [-1, 1], drawn in fp64. Its pre-activation at the event's sample is evaluated in the run's
    precision and arithmetic, and in fp64. The grid is laid into weight matrices of the layer's own
    shape and multiplied with the whole mini-batch, so the run's precision sums in its own order.

    Returns event (layer, neuron, sample, step, kink; None if the run has none, and then nothing
    else), coordinates (R floats), and plane and plane_fp64 (R lists of R floats, |z - kink|,
    u down, v across, 4 significant digits). Source: B21 Fig. 1 and 7, right.
    """
    device = best_device() if device is None else device
    with numerics(config.run.precision, device) as dtype:
        found = _train_to_event(config.run, _batches(config.run, dtype, device))
        if found is None:
            return {"event": None}
        event, layer, inputs = found
        return {"event": event} | _plane(config, event, layer, inputs)


def _train_to_event(run: PairedRunConfig, batches: list):
    """-> (event, the layer that was hit, its input for the mini-batch), or None."""
    network = _network(run, Variant(s=0.0, gradient_rule="chain"), batches)
    step_of = _stepper(run, network)
    with _preactivations(network) as seen:
        for step in range(run.epochs * len(batches)):
            x, y = batches[step % len(batches)]
            gradients = _gradients(network, x, y)
            if hit := _first_hit(network, seen):
                layer = hit["layer"].replace("activation", "linear")
                depth = [name for name, _ in network.named_children()].index(layer)
                with torch.no_grad():
                    inputs = network[:depth](x)
                sample = step % len(batches) * run.batch_size + hit["row"]
                return {"step": step, "sample": sample} | hit, network[depth], inputs
            step_of(gradients)
    return None


@torch.no_grad()
def _plane(config: WeightPlaneConfig, event: dict, layer: nn.Linear, inputs: Tensor) -> dict:
    random = np.random.RandomState(config.seed)
    d1, d2 = (
        torch.from_numpy(random.uniform(-1, 1, layer.in_features)).to(inputs.device)
        for _ in range(2)
    )
    axis = torch.linspace(-1, 1, config.resolution, dtype=torch.float64, device=inputs.device)
    axis = axis * config.radius
    u, v = torch.meshgrid(axis, axis, indexing="ij")
    weight, bias = layer.weight[event["neuron"]], layer.bias[event["neuron"]]
    rows = weight.double() + u.reshape(-1, 1) * d1 + v.reshape(-1, 1) * d2  # (R * R, in)

    def evaluate(dtype: torch.dtype) -> list[list[float]]:
        # A whole bias, as the layer has it: a GPU adds an expanded one by another kernel.
        biases = bias.to(dtype).repeat(layer.out_features)
        x, blocks = inputs.to(dtype), _same_shape(rows.to(dtype), layer.out_features)
        outputs = [
            functional_call(layer, {"weight": block, "bias": biases}, x)[event["row"]]
            for block in blocks
        ]
        z = torch.cat(outputs)[: len(rows)].double() - event["kink"]
        return [[float(f"{x:.4g}") for x in line] for line in z.abs().view(u.shape).tolist()]

    return {
        "coordinates": axis.tolist(),
        "plane": evaluate(inputs.dtype),
        "plane_fp64": evaluate(torch.float64),
    }


def _same_shape(rows: Tensor, size: int) -> Iterator[Tensor]:
    """Blocks of exactly `size` rows; the last is filled up with repeats of the last row."""
    for block in rows.split(size):
        yield torch.cat([block, block[-1:].expand(size - len(block), -1)])
