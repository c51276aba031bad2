"""`reluprime check`: does the derivative at kinks matter for a model of torchvision or one's own?

reluprime check torchvision:resnet18 --random --precision bf16 --batches 4
reluprime check mypackage.module:build --shape 1,28,28 --data images/
"""

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from reluprime.check import check, inputs
from reluprime.check.passes import PRECISIONS
from reluprime.cli.options import at_least_one
from reluprime.instruments.precision import best_device


def add_commands(commands) -> None:
    """Add `check` to the subparsers of an ArgumentParser."""
    parser = commands.add_parser("check", help="does it matter for a model?")
    parser.add_argument("model", help="torchvision:NAME or package.module:factory")
    parser.add_argument("--weights", type=Path, help="a state_dict that torch.save wrote")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--data", type=Path, help="a folder of images in one folder a class")
    source.add_argument("--random", action="store_true", help="normal numbers (the default)")
    parser.add_argument("--precision", choices=PRECISIONS, help="default: that of the weights")
    parser.add_argument("--batches", type=at_least_one, default=1, help="mini-batches (1)")
    parser.add_argument("--batch-size", type=at_least_one, default=16, help="images of each (16)")
    parser.add_argument("--shape", type=_shape, default="3,224,224", help="of an image (3,224,224)")
    parser.add_argument("--json", action="store_true", help="answer and tables as JSON")
    parser.set_defaults(run=run)


def _shape(text: str) -> tuple[int, ...]:
    return tuple(at_least_one(size) for size in text.split(","))


@contextmanager
def _in_words(model: str) -> Iterator[None]:
    """What the code of a model raises in the block, as a ValueError that says so."""
    try:
        yield
    except (ValueError, OSError):
        raise
    except Exception as error:
        kind = type(error).__name__
        where = "`reluprime.check` in Python shows where"
        raise ValueError(f"{model} cannot be checked so: {kind}: {error} ({where})") from error


def run(options: argparse.Namespace) -> int:
    """Print the report on a model; ValueError or OSError for what cannot be used."""
    torch.manual_seed(0)
    with _in_words(options.model):
        model = inputs.build(options.model)
        if options.weights is not None:
            inputs.load(model, options.weights)
        images = (options.shape, options.batch_size, options.batches)
        batches = (
            inputs.folder_batches(options.data, *images)
            if options.data
            else inputs.random_batches(model, *images)
        )
        report = check(model.to(best_device()), batches, precision=options.precision)
    print(json.dumps(report.as_dict(), indent=2) if options.json else report)
    return 0
