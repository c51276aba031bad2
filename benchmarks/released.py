"""What the benchmarks share: the released activation, written anew, and how things are timed."""

import os
import time
from pathlib import Path

import torch
from torch import nn
from torchvision import datasets

from reluprime import records


class InjectedReLU(torch.autograd.Function):
    """The released rule, written plainly: keeps its input, and puts s where that is 0."""

    @staticmethod
    def forward(ctx, x, s):
        ctx.save_for_backward(x)
        ctx.s = s
        return torch.relu(x)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return torch.where(x > 0, grad, 0.0).masked_fill(x == 0, ctx.s), None


def mnist(transform, train=True):
    """MNIST as the release reads it: one image at a time."""
    root = Path(os.environ.get("RELUPRIME_DATA") or "~/.cache/reluprime").expanduser()
    return datasets.MNIST(root, train=train, transform=transform)


class ReleasedReLU(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.s = s

    def forward(self, x):
        return InjectedReLU.apply(x, self.s)


def timed(function, *arguments):
    began = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - began, result


def matrix_product_rate(rows, inner, columns):
    """Measured fp32 rate of one product's shape, in operations a second."""
    a, b = torch.rand(rows, inner), torch.rand(inner, columns)
    times = max(1, round(1e10 / (2 * rows * inner * columns)))
    best = min(timed(lambda: [a @ b for _ in range(times)])[0] for _ in range(5))
    return times * 2 * rows * inner * columns / best


def print_machine():
    origin = records.provenance("fp32", torch.device("cpu"), 0)
    names = ("device_name", "cpu_capability", "threads", "python", "torch", "torchvision")
    print(", ".join(f"{name} {origin[name]}" for name in names))
