"""Who is in the bifurcation zone, at the papers' own scale (B21 Fig. 2 and 5, M23 Fig. 4).

A forward pass screens each mini-batch for exact zeros, as in `study`; gradients are compared at
screened mini-batches alone, under each rule until its first affected one, and a network is left
when both rules have one.
"""

import copy
from collections import Counter
from itertools import islice
from typing import Literal

import torch
from torch import Tensor, nn

from reluprime.config import added_field, study
from reluprime.instruments import data, models
from reluprime.instruments.activations import GRADIENT_RULES
from reluprime.instruments.batches import Batches
from reluprime.instruments.precision import best_device, numerics
from reluprime.instruments.watch import watched
from reluprime.volume.networks import Batch, VolumeConfig, random_network, raw_batches
from reluprime.volume.screening import Affected, confirm, result, screen
from reluprime.volume.zone_stacks import first_affected_in_stacks


class ZoneConfig(VolumeConfig):
    """One cell of the Monte Carlo of which only the first affected mini-batches are kept."""

    stop_at_first: Literal[True] = True
    # release: as the notebooks released with B21 feed convolutional networks: the channels
    # normalised, cifar10 cropped at random after padding by 4 and flipped at random, in a random
    # order; all from seed 0, so the same for every network. raw: in [0, 1], in file order.
    inputs: Literal["raw", "release"] = added_field("raw")


@study("zone.first_affected", version=1)
def first_affected(config: ZoneConfig, device: torch.device | None = None) -> dict:
    """The first mini-batch whose gradient at s=1 is another than at s=0, under each rule.

    Returns, R standing for each gradient rule:

    - n_batches: mini-batches in the data set (at most max_batches)
    - relu_calls: pre-activations of one network on all of them
    - seen: per network, mini-batches before it was left
    - screened: per network, those of them with an exact zero
    - exact_zeros: {activation: exact zeros at screened mini-batches, over all networks}
    - structural_zeros: the same, of those that the same network in fp64 has too
    - rounded: per network, exact zeros less structural ones, over all activations
    - affected_R: per network, 1 if it is in the zone, else 0
    - first_affected_R: per network, its first affected mini-batch, from 0, or None
    - relative_difference_R, relative_difference_first_layer_R: there, by network in the zone, as
      in :func:`volume.estimate`; nonfinite_R too

    Batch norm uses the statistics of the mini-batch, as in training. Source: B21 3.2, Fig. 2
    and 5; M23 Fig. 4.
    """
    device = best_device() if device is None else device
    with numerics(config.precision, device) as dtype:
        batches_of = {"raw": raw_batches, "release": _as_released}[config.inputs]
        plain = config.traits.fully_connected and not config.batch_norm
        stacked = device.type == "cuda" and plain and config.arithmetic != "native"
        run = first_affected_in_stacks if stacked else _first_affected
        return run(config, *batches_of(config, dtype, device))


def _as_released(
    config: ZoneConfig, dtype: torch.dtype, device: torch.device
) -> tuple[list[Batch], int]:
    """-> mini-batches and number of classes, as :func:`raw_batches`; see ZoneConfig.inputs."""
    dataset = data.load(config.dataset, device=device)
    whole = Batches(
        models.as_input(dataset, config),
        dtype,
        seeds=[0],
        batch_size=config.batch_size,
        augment=config.dataset == "cifar10",
    )
    batches = [(x[0], y[0]) for x, y in islice(whole.train(0), config.max_batches)]
    return batches, whole.n_classes


def _first_affected(config: ZoneConfig, batches: list[Batch], n_classes: int) -> dict:
    """:func:`first_affected` on given mini-batches."""
    like = (config, batches[0][0], n_classes)
    found = _Counts()
    changed = {rule: random_network(*like, 0, 1.0, rule) for rule in GRADIENT_RULES}
    for seed in range(config.seed, config.seed + config.n_networks):
        network = random_network(*like, seed, 0.0, "chain")
        found.start_network(len(batches))
        exact = None
        for index in screen(network, batches, config.traits.chain):
            exact = copy.deepcopy(network).double() if exact is None else exact
            found.count(network, exact, batches[index][0], alone=not config.batch_norm)
            confirm(network, changed, batches[index], index, found.undecided(), found.zeros)
            if not found.undecided():
                found.seen[-1] = index + 1
                break
    own = {"seen": found.seen, "structural_zeros": found.structural, "rounded": found.rounded}
    return result(batches, network, found.screened, found.zeros, found.rules) | own


class _Counts:
    """What is known of the networks of a cell."""

    def __init__(self):
        self.rules = {rule: Affected() for rule in GRADIENT_RULES}
        self.seen: list[int] = []
        self.screened: list[int] = []
        self.rounded: list[int] = []
        self.zeros: dict[str, int] = {}
        self.structural: Counter[str] = Counter()

    def start_network(self, n_batches: int) -> None:
        for rule in self.rules.values():
            rule.start_network()
        self.seen.append(n_batches)
        self.screened.append(0)
        self.rounded.append(0)

    def undecided(self) -> dict[str, Affected]:
        """The rules under which the last network has no affected mini-batch yet."""
        return {name: rule for name, rule in self.rules.items() if not rule.counts[-1]}

    def count(self, network: nn.Module, exact: nn.Module, x: Tensor, alone: bool) -> None:
        """Count the exact zeros of one screened mini-batch, and those that fp64 has too.

        exact: the network in fp64; alone: whether no image depends on another (no batch norm), so
        that fp64 needs the images with a zero alone.
        """
        masks = _zeros(network, x)
        rows = torch.stack([mask.flatten(1).any(1) for _, mask in masks]).any(0)
        rows = rows if alone else torch.ones_like(rows)
        shared = [
            (name, int((mask[rows] & zero).sum()))
            for (name, mask), (_, zero) in zip(masks, _zeros(exact, x[rows].double()), strict=True)
        ]
        for name, number in shared:
            self.structural[name] += number
        self.screened[-1] += 1
        self.rounded[-1] += int(sum(mask.sum() for _, mask in masks)) - sum(n for _, n in shared)


@torch.no_grad()
def _zeros(network: nn.Module, x: Tensor) -> list[tuple[str, Tensor]]:
    """Name of the activation and where its input is exactly 0, call by call."""
    found: list[tuple[str, Tensor]] = []
    with watched(network, lambda name, _, z: found.append((name, z == 0))):
        network(x)
    return found
