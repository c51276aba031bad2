"""Fully connected networks, with the activation passed in."""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import nn

from reluprime.instruments.activations import ACTIVATIONS

Initialisation = Literal["torch", "kaiming-uniform"]


def kaiming_uniform(module: nn.Module, random: torch.Generator | None = None) -> None:
    """Draw the weights of a layer from U(+-sqrt(6/m)), m inputs, and set its biases to 0.

    Leaves modules other than linear layers and convolutions alone. Source: B21 3.2.
    """
    if isinstance(module, (nn.Linear, nn.Conv2d)):
        nn.init.kaiming_uniform_(module.weight, nonlinearity="relu", generator=random)
        nn.init.zeros_(module.bias)


def check_sites(modules: Iterable[nn.Module], expected: int) -> None:
    """Raise ValueError unless exactly `expected` of the modules are activations of ours."""
    sites = sum(isinstance(module, ACTIVATIONS) for module in modules)
    if sites != expected:
        raise ValueError(
            f"activation built {sites} of the {expected} activations; it must return one of "
            f"{[a.__name__ for a in ACTIVATIONS]}"
        )


def _linear(sizes: tuple[int, int], random: torch.Generator) -> nn.Linear:
    """PyTorch's own initial weights, from a generator: threads draw networks at once."""
    layer = nn.utils.skip_init(nn.Linear, *sizes)
    nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5), generator=random)
    bound = 1 / math.sqrt(sizes[0])
    nn.init.uniform_(layer.bias, -bound, bound, generator=random)
    return layer


def _hidden_block(
    index: int,
    linear: nn.Linear,
    activation: Callable[[], nn.Module] | None,
    batch_norm: bool,
    dropout: float,
) -> Iterable[tuple[str, nn.Module]]:
    """Names and modules from one linear layer to the next; activation None leaves it out."""
    yield f"linear{index}", linear
    if batch_norm:
        yield f"norm{index}", nn.BatchNorm1d(linear.out_features)
    if activation is not None:
        yield f"activation{index}", activation()
    if dropout:
        yield f"dropout{index}", nn.Dropout(dropout)


def mlp(
    sizes: Sequence[int],
    activation: Callable[[], nn.Module],
    *,
    seed: int,
    batch_norm: bool = False,
    dropout: float = 0.0,
    initialisation: Initialisation = "torch",
    relu_after_first: bool = True,
) -> nn.Sequential:
    """A fully connected network, fp32 on the CPU, the same for a seed on every device.

    sizes: input, hidden and output widths, e.g. (784, 256, 256, 256, 10); inputs are
    (batch, sizes[0]). `activation` is called once for each hidden layer. Layers are named
    linear1, norm1, activation1, dropout1, linear2, ... The global random state is not touched.

    initialisation: ``torch`` draws weights and biases from U(+-1/sqrt(m)), m inputs, PyTorch's
    default; ``kaiming-uniform`` draws weights from U(+-sqrt(6/m)), as B21 3.2 writes it, and
    sets biases to 0. relu_after_first=False leaves out the first layer's activation, as the
    Monte Carlo notebook released with B21 builds its network.
    """
    sizes = tuple(sizes)
    if len(sizes) < 2:
        raise ValueError(f"sizes={sizes} needs at least an input and an output width")
    if initialisation not in ("torch", "kaiming-uniform"):
        raise ValueError(
            f"initialisation={initialisation!r}; choose one of ('torch', 'kaiming-uniform')"
        )
    hidden = list(pairwise(sizes[:-1]))
    random = torch.Generator().manual_seed(seed)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for index, shape in enumerate(hidden, start=1):
        active = activation if relu_after_first or index > 1 else None
        linear = _linear(shape, random)
        layers.update(_hidden_block(index, linear, active, batch_norm, dropout))
    layers["output"] = _linear(sizes[-2:], random)
    network = nn.Sequential(layers)
    if initialisation == "kaiming-uniform":
        for layer in network:
            kaiming_uniform(layer, random)
    check_sites(network.children(), len(hidden) - (not relu_after_first and bool(hidden)))
    return network


def mlp_of_images(
    n_classes: int,
    activation: Callable[[], nn.Module],
    *,
    seed: int,
    image_shape: Sequence[int],
    hidden_sizes: Sequence[int],
    batch_norm: bool = False,
    dropout: float = 0.0,
    initialisation: Initialisation = "torch",
    relu_after_first: bool = True,
) -> nn.Sequential:
    """:func:`mlp` for images (batch, *image_shape), any shape: a layer "flatten" comes first."""
    layers = mlp(
        (math.prod(image_shape), *hidden_sizes, n_classes),
        activation,
        seed=seed,
        batch_norm=batch_norm,
        dropout=dropout,
        initialisation=initialisation,
        relu_after_first=relu_after_first,
    )
    return nn.Sequential(OrderedDict(flatten=nn.Flatten(), **dict(layers.named_children())))
