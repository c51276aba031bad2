"""Monte Carlo estimate of the bifurcation zone's share of weight space (B21 3.2, Appendix C).

A random network is in the zone if some mini-batch gives another gradient with ReLU'(0) = 1 than
with ReLU'(0) = 0. That needs a pre-activation of exactly 0, so a forward pass screens each
mini-batch and only those with an exact zero pay for backward passes.
"""

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.func import functional_call

from reluprime import data, models
from reluprime.activations import ACTIVATIONS, GRADIENT_RULES, ReLU, count_kinks
from reluprime.config import Config, DatasetName
from reluprime.precision import Precision, best_device, numerics


class VolumeConfig(Config):
    """One cell of the Monte Carlo: `n_networks` random networks on one data set."""

    dataset: DatasetName = "mnist"  # its training images, raw in [0, 1], in file order
    hidden_sizes: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (256, 256, 256)
    precision: Precision = "fp32"  # of weights, activations and gradients
    batch_size: PositiveInt = 256  # images; B21 Table 1
    n_networks: PositiveInt = 50  # drawn with seeds seed, seed + 1, ...
    seed: Annotated[int, Field(ge=0)] = 0  # the same seed is the same network in each precision
    initialisation: models.Initialisation = "torch"  # see models.mlp
    relu_after_first: bool = True  # False: the network that B21's release built for Table 1
    stop_at_first: bool = False  # leave a network at its first affected mini-batch (Fig. 2, 5)


def cells(config: VolumeConfig, size: int) -> list[VolumeConfig]:
    """Split one large estimate into cells of at most `size` networks; the networks stay."""
    return [
        config.model_copy(
            update={
                "seed": config.seed + start,
                "n_networks": min(size, config.n_networks - start),
            }
        )
        for start in range(0, config.n_networks, size)
    ]


@torch.no_grad()
def _has_exact_zero(hidden: list[nn.Module], x: Tensor) -> bool:
    """Whether any pre-activation is exactly 0 on the way of x through the hidden layers."""
    for module in hidden:
        if isinstance(module, ACTIVATIONS):
            # Counting non-zeros is the cheapest of the exact tests on the CPU.
            if x.numel() != torch.count_nonzero(x):
                return True
            x = x.relu_()
        else:
            x = module(x)
    return False


def _gradients(network: nn.Module, weights: dict[str, Tensor], x: Tensor, y: Tensor):
    """Flat fp64 gradients (n parameters,) of the mean cross-entropy, one tensor a parameter."""
    loss = F.cross_entropy(functional_call(network, weights, (x,)), y)
    return [g.double().flatten() for g in torch.autograd.grad(loss, list(weights.values()))]


def _relative_difference(g0: list[Tensor], g1: list[Tensor]) -> float:
    """|g1 - g0|_2 / |g0|_2 (B21, Appendix C, row 3); not finite where g0 is 0."""
    a, b = torch.cat(g0), torch.cat(g1)
    return float(torch.linalg.vector_norm(b - a) / torch.linalg.vector_norm(a))


class _Rule:
    """What one gradient rule did over the networks of a cell."""

    def __init__(self):
        self.affected: list[int] = []  # mini-batches, by network
        self.first: list[int | None] = []  # first affected mini-batch, by network
        self.difference: list[float] = []  # by affected (network, mini-batch)
        self.difference_first_layer: list[float] = []
        self.nonfinite = 0  # (network, mini-batch) pairs whose gradient overflowed

    def start_network(self) -> None:
        self.affected.append(0)
        self.first.append(None)

    def compare(self, batch: int, g0: list[Tensor], g1: list[Tensor]) -> None:
        if not all(bool(g.isfinite().all()) for g in (*g0, *g1)):
            self.nonfinite += 1
            return
        if all(torch.equal(a, b) for a, b in zip(g0, g1, strict=True)):
            return
        self.affected[-1] += 1
        self.first[-1] = batch if self.first[-1] is None else self.first[-1]
        self.difference.append(_relative_difference(g0, g1))
        self.difference_first_layer.append(_relative_difference(g0[:1], g1[:1]))


def _architecture(config: VolumeConfig, sizes: tuple[int, ...], seed: int, s: float, rule: str):
    return models.mlp(
        sizes,
        lambda: ReLU(s, rule),
        seed=seed,
        initialisation=config.initialisation,
        relu_after_first=config.relu_after_first,
    )


def estimate(config: VolumeConfig, device: torch.device | None = None) -> dict:
    """Gradients at s=0 against s=1, under both rules, on every mini-batch of the training set.

    Returns, R standing for each gradient rule:

    - n_batches: mini-batches in the data set, Q; relu_calls: pre-activations seen by a network
    - screened: per network, mini-batches with an exact zero (of those seen)
    - exact_zeros: {activation: exact zeros, over all networks}
    - affected_R: per network, mini-batches whose gradient differs in any bit (row 1; without
      `stop_at_first` also row 2)
    - first_affected_R: per network, the first of them, counted from 0, or None
    - relative_difference_R: |g1 - g0|_2 / |g0|_2 for each affected pair, over all parameters;
      relative_difference_first_layer_R: over the first layer's weights, as the release did
    - nonfinite_R: pairs whose gradient is not finite; they count as neither

    The loss is the mean over the mini-batch, as in the release: under ``injected`` the relative
    difference would be 1 / batch_size as large with the sum that Appendix C writes.
    Source: B21 3.2, Table 1 and Appendix C.
    """
    device = best_device() if device is None else device
    with numerics(config.precision, device) as dtype:
        dataset = data.load(config.dataset, device=device)
        images = data.unit_images(dataset.train_images, dtype).flatten(1)
        batches = list(
            zip(
                images.split(config.batch_size),
                dataset.train_labels.split(config.batch_size),
                strict=True,
            )
        )
        return _estimate(config, batches, dtype, device)


def _estimate(config: VolumeConfig, batches: list, dtype: torch.dtype, device: torch.device):
    n_inputs, n_classes = batches[0][0].shape[1], int(max(y.max() for _, y in batches)) + 1
    sizes = (n_inputs, *config.hidden_sizes, n_classes)
    rules = {rule: _Rule() for rule in GRADIENT_RULES}
    changed = {r: _architecture(config, sizes, 0, 1.0, r).to(device, dtype) for r in rules}
    screened, zeros = [], {}
    for seed in range(config.seed, config.seed + config.n_networks):
        network = _architecture(config, sizes, seed, 0.0, "chain").to(device, dtype)
        hidden = list(network)[:-1]  # no activation follows the output layer
        screened.append(0)
        for rule in rules.values():
            rule.start_network()
        for index, batch in enumerate(batches):
            if not _has_exact_zero(hidden, batch[0]):
                continue
            screened[-1] += 1
            _confirm(network, changed, batch, index, rules, zeros)
            if config.stop_at_first and all(r.affected[-1] for r in rules.values()):
                break
    return {
        "n_batches": len(batches),
        "relu_calls": sum(len(x) for x, _ in batches) * _active_units(config),
        "screened": screened,
        "exact_zeros": zeros,
        **{f"affected_{name}": rule.affected for name, rule in rules.items()},
        **{f"first_affected_{name}": rule.first for name, rule in rules.items()},
        **{f"relative_difference_{name}": rule.difference for name, rule in rules.items()},
        **{
            f"relative_difference_first_layer_{name}": rule.difference_first_layer
            for name, rule in rules.items()
        },
        **{f"nonfinite_{name}": rule.nonfinite for name, rule in rules.items()},
    }


def _active_units(config: VolumeConfig) -> int:
    return sum(config.hidden_sizes[not config.relu_after_first :])


def _confirm(network, changed, batch, index, rules, zeros) -> None:
    """The backward passes of one mini-batch with an exact zero, and what they say."""
    weights = dict(network.named_parameters())
    with count_kinks(network) as hits:
        g0 = _gradients(network, weights, *batch)
    for name, count in hits.items():
        zeros[name] = zeros.get(name, 0) + int(count.sum())
    for name, rule in rules.items():
        rule.compare(index, g0, _gradients(changed[name], weights, *batch))


estimate.version = 1
