"""The model and the mini-batches that `reluprime check` names."""

import importlib
import os
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from reluprime.check.passes import Batch

# Means and standard deviations of ImageNet by channels: of colours as torchvision's weights have
# them, and of grey the averages of these.
STATISTICS = {3: ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), 1: ((0.449,), (0.226,))}


def build(name: str) -> nn.Module:
    """The model of "torchvision:NAME" or "package.module:factory", a function without arguments.

    A module is looked for in the current folder first.
    """
    module, _, factory = name.partition(":")
    if not factory:
        raise ValueError(f"{name!r} is neither torchvision:NAME nor package.module:factory")
    if module == "torchvision":
        return _torchvision().models.get_model(factory, weights=None)
    sys.path.insert(0, os.getcwd())  # a console script has its own folder there
    return getattr(importlib.import_module(module), factory)()


def _torchvision():
    try:
        import torchvision
    except ImportError as error:
        raise ValueError(
            "torchvision is needed: pip install '.[vision]' in a clone of the repository"
        ) from error
    return torchvision


def load(model: nn.Module, path: Path) -> None:
    """Load the weights of a file that torch.save wrote; only tensors are read from it."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        model.load_state_dict(state.get("state_dict", state))
    except (pickle.UnpicklingError, AttributeError, RuntimeError, EOFError, TypeError) as error:
        raise ValueError(f"{path} does not hold the weights of this model, and no more") from error


def random_batches(model: nn.Module, shape: tuple[int, ...], size: int, number: int) -> list[Batch]:
    """Inputs from a standard normal distribution, and labels drawn among the model's classes."""
    random = torch.Generator().manual_seed(0)
    inputs = torch.randn(number, size, *shape, generator=random)
    labels = torch.randint(_classes(model, inputs[0, :1]), (number, size), generator=random)
    return list(zip(inputs, labels, strict=True))


@torch.no_grad()
def _classes(model: nn.Module, x: Tensor) -> int:
    training = model.training
    logits = model.eval()(x)
    model.train(training)
    if not isinstance(logits, Tensor):
        raise ValueError(f"the model returns {type(logits).__name__}, and not a Tensor of logits")
    return logits.shape[1]


def folder_batches(folder: Path, shape: tuple[int, ...], size: int, number: int) -> Iterator[Batch]:
    """Images of folders named by class, shuffled, cut to `shape` and normalised as ImageNet's.

    shape: 3 for colours or 1 for grey, height and width.
    """
    if len(shape) != 3 or shape[0] not in STATISTICS:
        raise ValueError(f"the shape {shape} is none of images: 1 or 3 channels, height and width")
    torchvision = _torchvision()
    from reluprime.instruments.images import open_image

    t = torchvision.transforms
    steps = [
        t.Resize(max(shape[1:])),
        t.CenterCrop(shape[1:]),
        *([t.Grayscale()] if shape[0] == 1 else []),  # open_image gives colours
        t.ToTensor(),
        t.Normalize(*STATISTICS[shape[0]]),
    ]
    images = torchvision.datasets.ImageFolder(folder, t.Compose(steps), loader=open_image)
    if len(images) < size * number:
        raise ValueError(f"{folder} has {len(images)} images, fewer than {number} times {size}")
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0)).tolist()
    for start in range(0, size * number, size):
        pairs = [images[i] for i in order[start : start + size]]
        yield torch.stack([x for x, _ in pairs]), torch.tensor([label for _, label in pairs])
