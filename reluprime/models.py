"""The networks of the papers, with the activation passed in."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import nn

from reluprime.activations import ACTIVATIONS

Initialisation = Literal["torch", "kaiming-uniform"]


def _kaiming_uniform(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
        nn.init.zeros_(module.bias)


def _hidden_block(
    index: int,
    sizes: tuple[int, int],
    activation: Callable[[], nn.Module] | None,
    batch_norm: bool,
    dropout: float,
) -> Iterable[tuple[str, nn.Module]]:
    yield f"linear{index}", nn.Linear(*sizes)
    if batch_norm:
        yield f"norm{index}", nn.BatchNorm1d(sizes[1])
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
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # the CPU's alone; manual_seed is CUDA's too
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for index, shape in enumerate(hidden, start=1):
            active = activation if relu_after_first or index > 1 else None
            layers.update(_hidden_block(index, shape, active, batch_norm, dropout))
        layers["output"] = nn.Linear(*sizes[-2:])
        network = nn.Sequential(layers)
        if initialisation == "kaiming-uniform":
            network.apply(_kaiming_uniform)
    sites = sum(isinstance(module, ACTIVATIONS) for module in network)
    expected = len(hidden) - (not relu_after_first and bool(hidden))
    if sites != expected:
        raise ValueError(
            f"activation built {sites} of the {expected} activations; it must return one of "
            f"{[a.__name__ for a in ACTIVATIONS]}"
        )
    return network
