"""Kinks beyond ReLU at 0: functions written with ReLU, other activations, max-pool ties."""

import copy
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import NonNegativeInt, PositiveInt, model_validator
from torch import Tensor, nn

from reluprime.config import DatasetName, Seed, study
from reluprime.instruments import data, models
from reluprime.instruments.activations import GRADIENT_RULES, ReLU, leaky_relu, relu, relu6
from reluprime.instruments.precision import Precision, best_device, numerics
from reluprime.mechanism.study import network_of_seed

Relu = Callable[[Tensor], Tensor]


def absolute(x: Tensor, relu: Relu) -> Tensor:
    """|x| = ReLU(2 x) - x (B21 2.2)."""
    return relu(2 * x) - x


def maximum(x: Tensor, y: Tensor, relu: Relu) -> Tensor:
    """max(x, y) = (|x - y| + x + y) / 2 (B21 2.2)."""
    return (absolute(x - y, relu) + x + y) / 2


def minimum(x: Tensor, y: Tensor, relu: Relu) -> Tensor:
    """min(x, y) = -max(-x, -y) (B21 2.2)."""
    return -maximum(-x, -y, relu)


def median(x: Tensor, y: Tensor, z: Tensor, relu: Relu) -> Tensor:
    """The middle of three numbers: min of the three pairwise maxima (B21 2.2)."""
    pairs = maximum(x, y, relu), maximum(x, z, relu), maximum(y, z, relu)
    return minimum(minimum(pairs[0], pairs[1], relu), pairs[2], relu)


def soft_threshold(x: Tensor, relu: Relu) -> Tensor:
    """x drawn towards 0 by 1: ReLU(x - 1) - ReLU(-x - 1) (B21 2.2)."""
    return relu(x - 1) - relu(-x - 1)


def _own_median(*inputs: Tensor) -> Tensor:
    return torch.stack(inputs).median(0).values


# Functions of B21 2.2 with a point on their kink, and PyTorch's own.
WRITTEN: dict[str, tuple[Callable, tuple[float, ...], Callable]] = {
    "ReLU(x) at 0": (lambda x, relu: relu(x), (0.0,), torch.relu),
    "|x| at 0": (absolute, (0.0,), torch.abs),
    "max(x, y) at x = y = 1": (maximum, (1.0, 1.0), torch.maximum),
    "min(x, y) at x = y = 1": (minimum, (1.0, 1.0), torch.minimum),
    "median(x, y, z) at x = y = 1, z = 2": (median, (1.0, 1.0, 2.0), _own_median),
    "soft threshold at x = 1": (soft_threshold, (1.0,), partial(F.softshrink, lambd=1.0)),
}
# Activations of their own, and PyTorch's: (function of x, s and gradient rule, point, own).
ACTIVATED: dict[str, tuple[Callable, tuple[float, ...], Callable]] = {
    "ReLU6(x) at 6": (lambda x, s, rule: relu6(x, 0.0, s, rule), (6.0,), F.relu6),
    "LeakyReLU(x) at 0": (lambda x, s, rule: leaky_relu(x, 0.01, s, rule), (0.0,), F.leaky_relu),
}


def _gradients(function: Callable, point: tuple[float, ...], upstream: float) -> tuple[float, ...]:
    inputs = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in point]
    function(*inputs).backward(torch.tensor(upstream, dtype=torch.float64))
    return tuple(float(x.grad) for x in inputs)


def derivatives(s: float, upstream: float) -> dict[str, dict[str, tuple[float, ...]]]:
    """Gradients at kinks for one upstream gradient, fp64: {function: {rule: by argument}}.

    A function written with ReLU has in each ReLU the derivative s and the rule; "PyTorch" is the
    library's own function.
    """
    found: dict[str, dict[str, tuple[float, ...]]] = {}
    for name, (written, point, own) in (WRITTEN | ACTIVATED).items():
        rows = found[name] = {}
        for rule in GRADIENT_RULES:
            if name in WRITTEN:
                function = partial(written, relu=partial(relu, s=s, gradient_rule=rule))
            else:
                function = partial(written, s=s, rule=rule)
            rows[rule] = _gradients(function, point, upstream)
        rows["PyTorch"] = _gradients(own, point, upstream)
    return found


class KinksConfig(models.NetworkConfig):
    """A random or briefly trained mlp whose pre-activations meet the kinks of other functions."""

    architecture: Literal["mlp"] = "mlp"
    dataset: DatasetName = "mnist"  # its first training images, raw in [0, 1], in file order
    hidden_sizes: tuple[PositiveInt, ...] = (256, 256, 256)  # even: neighbours are the pairs
    precision: Precision = "fp32"  # of weights and activations
    n_images: PositiveInt = 60_000
    batch_size: PositiveInt = 256  # images
    epochs: NonNegativeInt = 0  # of training at fp32 before the passes; 0: at initialisation
    n_networks: PositiveInt = 1  # drawn with seeds seed, seed + 1, ...
    seed: Seed = 0

    @model_validator(mode="after")
    def _has_pairs(self):
        if any(size % 2 for size in self.hidden_sizes):
            raise ValueError(
                f"hidden_sizes={self.hidden_sizes}: each must be even, as neighbouring neurons "
                "are the pairs of max and min"
            )
        return self


AT_ZERO, AT_TIE = "ReLU, LeakyReLU, |x|: x = 0", "max, min: x = y"


def _hits(z: Tensor) -> dict[str, int]:
    """Kinks that pre-activations z (batch, neurons) meet, by function."""
    left, right = z[:, 0::2], z[:, 1::2]
    return {
        AT_ZERO: int((z == 0).sum()),
        "ReLU6: x = 6": int((z == 6).sum()),
        "soft threshold: |x| = 1": int((z.abs() == 1).sum()),
        AT_TIE: int((left == right).sum()),
    }


@study("kinks.count", version=1)
def count(config: KinksConfig, device: torch.device | None = None) -> dict:
    """Count how often the pre-activations of an mlp are exactly at the kinks of other functions.

    Returns {function: number} over all layers, networks and images: hits, and calls (neighbouring
    neurons are the pairs of max and min); and largest, the largest |pre-activation|.
    """
    device = best_device() if device is None else device
    hits: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    largest = 0.0

    def see(_, inputs: tuple[Tensor, ...]) -> None:
        nonlocal largest
        z = inputs[0]
        largest = max(largest, float(z.abs().max()))
        for name, number in _hits(z).items():
            hits[name] += number
            calls[name] += z.numel() // (2 if name == AT_TIE else 1)

    with numerics(config.precision, device) as dtype:
        dataset = data.load(config.dataset, device=device)
        images = dataset.train_images[: config.n_images].split(config.batch_size)
        labels = dataset.train_labels[: config.n_images].split(config.batch_size)
        for seed in range(config.seed, config.seed + config.n_networks):
            network = network_of_seed(config, images, labels, seed, config.epochs).to(dtype)
            for module in network:
                if isinstance(module, ReLU):
                    module.register_forward_pre_hook(see)
            with torch.no_grad():
                for x in images:
                    network(data.unit_images(x, dtype))
    return {"hits": dict(hits), "calls": dict(calls), "largest": largest}


class PoolTiesConfig(models.NetworkConfig):
    """A random VGG11 whose max-pools meet ties."""

    architecture: Literal["vgg11"] = "vgg11"
    dataset: DatasetName = "cifar10"  # its first training images, raw in [0, 1], in file order
    precision: Precision = "fp32"  # of weights, activations and gradients
    n_images: PositiveInt = 1000
    batch_size: PositiveInt = 100  # images
    seed: Seed = 0


class _LastMaximum(nn.Module):
    """A 2x2 max-pool whose gradient goes to the last of equal maxima; PyTorch's takes the first."""

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x.flip(2, 3), 2).flip(2, 3)


def _ties(x: Tensor) -> tuple[int, int, int]:
    """2x2 windows of x (batch, channels, height, width): all, tied at 0, tied above 0."""
    windows = x.unfold(2, 2, 2).unfold(3, 2, 2).flatten(4)  # (batch, channels, h, w, 4)
    largest = windows.amax(-1)
    tied = (windows == largest.unsqueeze(-1)).sum(-1) > 1
    return largest.numel(), int((tied & (largest == 0)).sum()), int((tied & (largest > 0)).sum())


@study("kinks.pool_ties", version=1)
def pool_ties(config: PoolTiesConfig, device: torch.device | None = None) -> dict:
    """Ties in VGG11's max-pools, and what it changes which of equal maxima gets the gradient.

    Returns windows, tied_at_zero and tied_above_zero (numbers over all pools and images), and
    relative_difference: for each mini-batch |g_last - g_first|_2 / |g_first|_2 over all parameters
    (B21 Appendix C for a max-pool; Boustany 2024). The chain rule holds for both.
    """
    device = best_device() if device is None else device
    numbers, differences = [], []
    with numerics(config.precision, device) as dtype:
        dataset = data.as_rgb_32(data.load(config.dataset, device=device))
        images = dataset.train_images[: config.n_images].split(config.batch_size)
        labels = dataset.train_labels[: config.n_images].split(config.batch_size)
        first = network_of_seed(config, images, labels, config.seed).to(dtype)
        last = copy.deepcopy(first)
        for name, module in first.named_modules():
            if isinstance(module, nn.MaxPool2d):
                last.set_submodule(name, _LastMaximum())
                module.register_forward_pre_hook(lambda _, x: numbers.append(_ties(x[0].detach())))
        for x, y in zip(images, labels, strict=True):
            x = data.unit_images(x, dtype)
            flat = []
            for network in (first, last):
                gradients = torch.autograd.grad(
                    F.cross_entropy(network(x), y), list(network.parameters())
                )
                flat.append(torch.cat([g.double().flatten() for g in gradients]))
            differences.append(float((flat[1] - flat[0]).norm() / flat[0].norm()))
    windows, at_zero, above_zero = (sum(n) for n in zip(*numbers, strict=True))
    return {
        "windows": windows,
        "tied_at_zero": at_zero,
        "tied_above_zero": above_zero,
        "relative_difference": differences,
    }
