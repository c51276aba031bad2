"""Does the derivative at kinks matter for a model of torchvision, or of one's own?

reluprime check torchvision:resnet18 --random --precision bf16 --batches 4
reluprime check mypackage.module:build --shape 1,28,28 --data images/
"""

import argparse
import importlib
import json
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from reluprime.check import check
from reluprime.check.passes import PRECISIONS, Batch
from reluprime.instruments.precision import best_device

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as torchvision's weights


def build(name: str) -> nn.Module:
    """The model of "torchvision:NAME" or "package.module:factory", a function without arguments."""
    module, _, factory = name.partition(":")
    if not factory:
        raise ValueError(f"{name!r} is neither torchvision:NAME nor package.module:factory")
    if module == "torchvision":
        return _torchvision().models.get_model(factory, weights=None)
    return getattr(importlib.import_module(module), factory)()


def _torchvision():
    try:
        import torchvision
    except ImportError as error:
        raise ValueError("torchvision is needed: pip install reluprime[vision]") from error
    return torchvision


def load(model: nn.Module, path: Path) -> None:
    """Load the weights of a file that torch.save wrote; only tensors are read from it."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        model.load_state_dict(state.get("state_dict", state))
    except (pickle.UnpicklingError, AttributeError, RuntimeError) as error:
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
    classes = model.eval()(x).shape[1]
    model.train(training)
    return classes


def folder_batches(folder: Path, shape: tuple[int, ...], size: int, number: int) -> Iterator[Batch]:
    """Images of folders named by class, shuffled, cut to `shape` and normalised as ImageNet's."""
    torchvision = _torchvision()
    t = torchvision.transforms
    steps = [
        t.Resize(max(shape[1:])),
        t.CenterCrop(shape[1:]),
        t.ToTensor(),
        t.Normalize(MEAN, STD),
    ]
    images = torchvision.datasets.ImageFolder(folder, t.Compose(steps))
    if len(images) < size * number:
        raise ValueError(f"{folder} has {len(images)} images, fewer than {number} times {size}")
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0)).tolist()
    for start in range(0, size * number, size):
        pairs = [images[i] for i in order[start : start + size]]
        yield torch.stack([x for x, _ in pairs]), torch.tensor([label for _, label in pairs])


DOC = __doc__.split("\n")[0]


def add_options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("model", help="torchvision:NAME or package.module:factory")
    parser.add_argument("--weights", type=Path, help="a state_dict that torch.save wrote")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--data", type=Path, help="a folder of images in one folder a class")
    source.add_argument("--random", action="store_true", help="normal numbers (the default)")
    parser.add_argument("--precision", choices=PRECISIONS, help="default: that of the weights")
    parser.add_argument("--batches", type=int, default=1, help="number of mini-batches (1)")
    parser.add_argument("--batch-size", type=int, default=16, help="images of each (16)")
    parser.add_argument("--shape", default="3,224,224", help="of an image (3,224,224)")
    parser.add_argument("--json", action="store_true", help="answer and tables as JSON")


def main(options: argparse.Namespace) -> int:
    """Print the report; 2 for a model, file or folder that cannot be used."""
    torch.manual_seed(0)
    try:
        shape = tuple(int(size) for size in options.shape.split(","))
        model = build(options.model)
        if options.weights is not None:
            load(model, options.weights)
        images = (shape, options.batch_size, options.batches)
        batches = (
            folder_batches(options.data, *images)
            if options.data
            else random_batches(model, *images)
        )
        report = check(model.to(best_device()), batches, precision=options.precision)
    except (ValueError, OSError, ImportError, AttributeError) as error:
        print(f"reluprime check: {error}", file=sys.stderr)
        return 2
    print(json.dumps(report.as_dict(), indent=2) if options.json else report)
    return 0
