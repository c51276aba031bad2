"""Many mlps of one shape as a stack: batched matrix products in the place of a loop over networks.

A forward pass over all networks and several mini-batches screens for exact zeros. Mini-batches with
one get the backward passes, which start from the very pre-activations of the forward pass.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reluprime.instruments.activations import ACTIVATIONS, relu

Layer = tuple[Tensor, Tensor, str | None]  # weight (networks, out, in), bias, activation's name


def layers(networks: Sequence[nn.Sequential]) -> list[Layer]:
    """The linear layers of mlps of one shape, stacked; each with the name of its activation."""
    found: list[Layer] = []
    for name, module in networks[0].named_children():
        if isinstance(module, nn.Linear):
            own = [network.get_submodule(name) for network in networks]
            weight, bias = (torch.stack([getattr(m, n) for m in own]) for n in ("weight", "bias"))
            found.append((weight.detach(), bias.detach(), None))
        elif isinstance(module, ACTIVATIONS):
            found[-1] = (*found[-1][:2], name)
        elif not isinstance(module, nn.Flatten):
            raise ValueError(f"a stack has linear layers and activations, not {module}")
    return found


def _linear(layer: Layer, h: Tensor) -> Tensor:
    """h: (rows, in), shared by the networks, or (networks, rows, in) -> (networks, rows, out)."""
    weight, bias, _ = layer
    if h.dim() == 2:  # one large product; the images are the same for all
        z = F.linear(h, weight.flatten(0, 1), bias.flatten())
        return z.unflatten(1, weight.shape[:2]).transpose(0, 1)
    return torch.baddbmm(bias.unsqueeze(1), h, weight.mT)


@torch.no_grad()
def outputs(stack: list[Layer], x: Tensor) -> list[Tensor]:
    """Each layer's outputs (networks, rows, out) for images x (rows, ...)."""
    h, found = x.flatten(1), []
    for layer in stack:
        found.append(_linear(layer, h))
        h = torch.relu(found[-1]) if layer[2] else found[-1]
    return found


def zeros(stack: list[Layer], found: list[Tensor], batch_size: int) -> Tensor:
    """Exact zeros (activations, mini-batches, networks), int64, in :func:`outputs`' result."""
    counts = []
    for (*_, activation), z in zip(stack, found, strict=True):
        if activation:
            hits = (z == 0).sum(2)  # (networks, rows)
            counts.append(torch.stack([n.sum(1) for n in hits.split(batch_size, 1)]))
    return torch.stack(counts)


class _WithValue(torch.autograd.Function):
    """apply(product, value) is `value`, with the gradient of `product`.

    Both are the same pre-activations (pairs, batch, out): `value` as the screen computed them, with
    its exact zeros; `product` by another kernel, which rounds differently, from the weights whose
    gradients are wanted.
    """

    @staticmethod
    def forward(ctx, product: Tensor, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


def gradients(
    stack: list[Layer], x: Tensor, y: Tensor, screened: list[Tensor], s: float, gradient_rule: str
) -> list[Tensor]:
    """Gradients (pairs, entries), fp64, of mean cross-entropies, one tensor for each parameter.

    A pair is a network and a mini-batch. stack: the pairs' networks; x (pairs, batch, ...),
    y (pairs, batch); screened: each layer's outputs (pairs, batch, out) of the forward pass over
    the whole stack, whose exact zeros would not all come back in products of another shape.
    """
    weights = [w.clone().requires_grad_() for layer in stack for w in layer[:2]]
    h = x.flatten(2)
    for index, ((*_, activation), value) in enumerate(zip(stack, screened, strict=True)):
        z = torch.baddbmm(weights[2 * index + 1].unsqueeze(1), h, weights[2 * index].mT)
        z = _WithValue.apply(z, value)
        h = relu(z, s, gradient_rule) if activation else z
    losses = F.cross_entropy(h.flatten(0, 1), y.flatten(), reduction="none").view(y.shape).mean(1)
    found = torch.autograd.grad(losses, weights, torch.ones_like(losses))
    return [g.flatten(1).double() for g in found]


class Comparison(NamedTuple):
    """Two gradients of one network and mini-batch."""

    finite: bool
    differs: bool
    difference: float  # |g1 - g0|_2 / |g0|_2 over all parameters
    difference_first_layer: float  # over the first layer's weights

    @property
    def affects(self) -> bool:
        """Whether the mini-batch's gradient depends on s; one that is not finite says nothing."""
        return self.finite and self.differs


def compare(g0: list[Tensor], g1: list[Tensor]) -> list[Comparison]:
    """One for each pair, from its gradients (pairs, entries)."""

    def relative(a: list[Tensor], b: list[Tensor]) -> Tensor:
        old, new = torch.cat(a, 1), torch.cat(b, 1)
        return torch.linalg.vector_norm(new - old, dim=1) / torch.linalg.vector_norm(old, dim=1)

    pairs = list(zip(g0, g1, strict=True))
    finite = torch.stack([(a.isfinite() & b.isfinite()).all(1) for a, b in pairs]).all(0)
    differs = torch.stack([(a != b).any(1) for a, b in pairs]).any(0)
    columns = (finite, differs, relative(g0, g1), relative(g0[:1], g1[:1]))
    return [Comparison(*row) for row in zip(*(c.tolist() for c in columns), strict=True)]


def halving(run: Callable[[int], object], size: int) -> object:
    """`run(size)`; where the GPU's memory is too small, with half the size, down to 1."""
    while True:
        try:
            return run(size)
        except torch.cuda.OutOfMemoryError:
            if size == 1:
                raise
        torch.cuda.empty_cache()  # here, where the error no longer holds what filled it
        size //= 2
