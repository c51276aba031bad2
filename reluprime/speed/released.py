"""What B21's release runs, written anew from its description: what our speed is measured against.

Source: deel-ai/relu-prime, `data_utils.py`, `train_vgg.py`, `train_mnist.py` and the notebook
`MNIST_volume_estimation.ipynb`, as :mod:`reluprime.report.demonstrations` cites them.
"""

import os
from collections.abc import Iterable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset
from torchvision import datasets, transforms

from reluprime.instruments.activations import ReLU
from reluprime.instruments.fully_connected import mlp

Batches = Iterable[tuple[Tensor, Tensor]]

_DATASETS = {"mnist": datasets.MNIST, "cifar10": datasets.CIFAR10}
WORKERS = {"mnist": 4, "cifar10": 8}
_NORMALISATION = {
    "mnist": ((0.5,), (0.5,)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
}


class InjectedReLU(torch.autograd.Function):
    """The released rule, plainly: keeps its input, and puts s where that is 0."""

    @staticmethod
    def forward(ctx, x: Tensor, s: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.s = s
        return torch.relu(x)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return torch.where(x > 0, grad, 0.0).masked_fill(x == 0, ctx.s), None


class ReleasedReLU(ReLU):
    """Module of :class:`InjectedReLU`."""

    def forward(self, x: Tensor) -> Tensor:
        return InjectedReLU.apply(x, self.s)


def loader(
    name: str,
    train: bool,
    *,
    batch_size: int,
    normalised: bool = True,
    n_images: int | None = None,
    workers: int = 0,
) -> DataLoader:
    """The release's mini-batches: each image converted (and for CIFAR-10 cropped) by itself.

    workers: processes that read, WORKERS in the release and none in the notebook of the Monte
    Carlo, which takes raw images. n_images: the first images alone.
    """
    root = Path(os.environ.get("RELUPRIME_DATA") or "~/.cache/reluprime").expanduser()
    moved = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()]
    steps = [
        *(moved if train and name == "cifar10" else ()),
        transforms.ToTensor(),
        *([transforms.Normalize(*_NORMALISATION[name])] if normalised else ()),
    ]
    images = _DATASETS[name](root, train=train, transform=transforms.Compose(steps))
    return DataLoader(
        images if n_images is None else Subset(images, range(n_images)),
        batch_size,
        shuffle=train and normalised,
        num_workers=workers,
    )


def monte_carlo(batches: Batches, networks: Iterable[int], device: torch.device) -> list[int]:
    """For each seed, how many mini-batches have first-layer gradients that differ.

    The notebook's last cell, which has a line for every mini-batch (rows 2 and 3 of Table 1): a
    network and a twin that differs in ReLU'(0) alone, a forward and a backward pass of both, a
    comparison and six norms. Other than there, each hidden layer has a ReLU, as in the paper, and
    no table grows.
    """
    affected = []
    for seed in networks:
        twins = [
            mlp((784, 256, 256, 256, 10), lambda s=s: ReleasedReLU(s), seed=seed).to(device)
            for s in (0.0, 1.0)
        ]
        affected.append(0)
        for images, labels in batches:
            x, y = images.to(device).flatten(1), labels.to(device)
            for network in twins:
                network.zero_grad()
                F.cross_entropy(network(x), y).backward()
            first, second = (network.linear1.weight.grad for network in twins)
            affected[-1] += not torch.equal(first, second)
            for norm in (1, 2):
                for gradient in (first, second, first - second):
                    torch.linalg.vector_norm(gradient, norm).item()
    return affected


def train(
    network: nn.Module, train: Batches, test: Batches, *, lr: float, epochs: int, device
) -> list[float]:
    """SGD with momentum 0.9 and weight decay; the share of test images after each epoch.

    The loss and the number of correct answers are read back at every mini-batch.
    """
    network = network.to(device)
    optimizer = torch.optim.SGD(network.parameters(), lr=lr, momentum=0.9, weight_decay=5e-4)
    accuracies = []
    for _ in range(epochs):
        network.train()
        for images, labels in train:
            images, labels = images.to(device), labels.to(device)
            optimizer.zero_grad()
            logits = network(images)
            loss = F.cross_entropy(logits, labels)
            loss.backward()
            optimizer.step()
            loss.item()
            (logits.argmax(1) == labels).sum().item()
        network.eval()
        with torch.no_grad():
            answers = [
                (
                    (network(images.to(device)).argmax(1) == labels.to(device)).sum().item(),
                    len(labels),
                )
                for images, labels in test
            ]
        accuracies.append(sum(n for n, _ in answers) / sum(n for _, n in answers))
    return accuracies
