"""The random networks of the Monte Carlo, and the mini-batches that they see."""

import torch
from pydantic import PositiveInt, model_validator
from torch import Tensor, nn

from reluprime.config import DatasetName, Seed
from reluprime.instruments import data, models
from reluprime.instruments.activations import ReLU
from reluprime.instruments.precision import Precision

Batch = tuple[Tensor, Tensor]  # images (batch, channels, height, width), labels int64 (batch,)


class VolumeConfig(models.NetworkConfig):
    """One cell of the Monte Carlo: `n_networks` random networks on one data set."""

    dataset: DatasetName = "mnist"  # its training images, raw in [0, 1], in file order
    hidden_sizes: tuple[PositiveInt, ...] = (256, 256, 256)  # B21 Table 1
    precision: Precision = "fp32"  # of weights, activations and gradients
    batch_size: PositiveInt = 256  # images; B21 Table 1
    n_networks: PositiveInt = 50  # drawn with seeds seed, seed + 1, ...
    seed: Seed = 0  # the same seed is the same network in each precision
    relu_after_first: bool = True  # False: the network that B21's release built for Table 1
    stop_at_first: bool = False  # leave a network at its first affected mini-batch (Fig. 2, 5)
    max_batches: PositiveInt | None = None  # the first mini-batches alone; None: all

    @model_validator(mode="after")
    def _gradients_are_comparable(self):
        if not self.relu_after_first and "relu_after_first" not in self.traits.options:
            raise ValueError("relu_after_first=False: only an mlp can be without its first ReLU")
        if self.traits.own_dropout:
            raise ValueError(
                f"architecture={self.architecture!r} has dropout: its gradients differ by chance"
            )
        return self


def random_network(
    config: VolumeConfig, x: Tensor, n_classes: int, seed: int, s: float, rule: str
) -> nn.Module:
    """The network of a seed with ReLU'(0) = s, on the device and in the dtype of the images x."""
    network = models.build(config, x.shape[1:], n_classes, lambda: ReLU(s, rule), seed=seed)
    return network.to(x.device, x.dtype)


def raw_batches(
    config: VolumeConfig, dtype: torch.dtype, device: torch.device
) -> tuple[list[Batch], int]:
    """-> the mini-batches of the training set, images in [0, 1], and its number of classes."""
    dataset = models.as_input(data.load(config.dataset, device=device), config)
    parts = (
        whole.split(config.batch_size)[: config.max_batches]
        for whole in (dataset.train_images, dataset.train_labels)
    )
    batches = [(data.unit_images(x, dtype), y) for x, y in zip(*parts, strict=True)]
    return batches, 1 + int(dataset.train_labels.max())
