"""Who meets an exact zero at fp32, by the order in which a linear layer takes its sums.

B21 and M23 recorded no kernel, and an order of summation is a kernel's own. The spread of a share
over orders says how far a published share at fp32 can be reproduced at all.
"""

from collections.abc import Iterator
from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from reluprime.config import Config, DatasetName, Seed, study
from reluprime.instruments import data, kernels
from reluprime.instruments.activations import ReLU
from reluprime.instruments.derivative import count_zeros
from reluprime.instruments.fully_connected import mlp
from reluprime.instruments.precision import best_device, numerics


class SharesConfig(Config):
    """Random fully connected networks, all layers in one form, on one data set."""

    dataset: DatasetName = "mnist"  # its training images, raw in [0, 1], in file order
    hidden_sizes: tuple[PositiveInt, ...] = (256, 256, 256)  # B21 Table 1
    precision: Literal["fp32"] = "fp32"  # of weights and activations
    linear_form: kernels.LinearForm = "unfused"  # at fp32 what `arithmetic` names epilogue
    # Images of a product. A library chooses its kernel by it; kernels.ORDERED do not know it.
    batch_size: PositiveInt = 256
    n_networks: PositiveInt = 50  # drawn with seeds seed, seed + 1, ...
    seed: Seed = 0  # the same seed is the same network in each form


@study("orders.shares", version=1)
def shares(config: SharesConfig, device: torch.device | None = None) -> dict:
    """The first mini-batch of each random network with an exact zero before any ReLU.

    Returns relu_calls (pre-activations of one network on all images), n_batches, and first_zero:
    by network, its first such mini-batch, from 0, or None. The share of networks that have one is
    the share in the zone, up to a few: a network without an exact zero is in no zone, and at fp32,
    where zeros are rare, nearly every zero changes the gradient under the constant s of B21's
    release. So forward passes suffice. Source: B21 3.2 and Fig. 2; M23 Fig. 4.
    """
    device = best_device() if device is None else device
    with numerics(config.precision, device) as dtype, torch.no_grad():
        dataset = data.load(config.dataset, device=device)
        n_classes = 1 + int(dataset.train_labels.max())
        images = data.unit_images(dataset.train_images, dtype).flatten(1)
        batches, first = images.split(config.batch_size), []
        for seed in range(config.seed, config.seed + config.n_networks):
            sizes = (images.shape[1], *config.hidden_sizes, n_classes)
            network = mlp(sizes, ReLU, seed=seed).to(device)
            kernels.in_forms(network, config.linear_form, "native")
            first.append(next(_with_zero(network, batches), None))
    calls = len(images) * sum(config.hidden_sizes)
    return {"relu_calls": calls, "n_batches": len(batches), "first_zero": first}


def _with_zero(network: nn.Sequential, batches: tuple[Tensor, ...]) -> Iterator[int]:
    """The mini-batches on which an activation meets an exact zero, in order."""
    return (index for index, x in enumerate(batches) if _meets_zero(network, x))


def _meets_zero(network: nn.Sequential, x: Tensor) -> bool:
    """Whether a pre-activation is exactly 0; layers after the first such one are not computed."""
    for linear in network[:-1:2]:  # each followed by its activation; the output layer by none
        x = linear(x)
        if count_zeros(x):
            return True
        x.relu_()
    return False
