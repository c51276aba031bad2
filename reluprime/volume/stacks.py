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
from reluprime.instruments.arithmetic import LAYERS, Arithmetic, with_bias


class Layer(NamedTuple):
    """The linear layers of one depth, and how they round."""

    weight: Tensor  # (networks, out, in)
    bias: Tensor  # (networks, out)
    activation: str | None  # the name of the one that follows
    arithmetic: Arithmetic

    def of(self, networks: Sequence[int]) -> "Layer":
        """The layers of some of the networks, by index; an index may come more than once."""
        own = list(networks)
        return self._replace(weight=self.weight[own], bias=self.bias[own])

    def double(self) -> "Layer":
        """The same in fp64."""
        return self._replace(weight=self.weight.double(), bias=self.bias.double())


def layers(networks: Sequence[nn.Sequential]) -> list[Layer]:
    """The linear layers of mlps of one shape, stacked; each with the name of its activation."""
    found: list[Layer] = []
    for name, module in networks[0].named_children():
        if isinstance(module, nn.Linear):
            own = [network.get_submodule(name) for network in networks]
            weight, bias = (torch.stack([getattr(m, n) for m in own]) for n in ("weight", "bias"))
            found.append(Layer(weight.detach(), bias.detach(), None, _arithmetic_of(module)))
        elif isinstance(module, ACTIVATIONS):
            found[-1] = found[-1]._replace(activation=name)
        elif not isinstance(module, nn.Flatten):
            raise ValueError(f"a stack has linear layers and activations, not {module}")
    return found


def _arithmetic_of(layer: nn.Linear) -> Arithmetic:
    emulated = (name for name, by_type in LAYERS.items() if type(layer) in by_type.values())
    return next(emulated, "native")


def _linear(layer: Layer, h: Tensor) -> Tensor:
    """h: (rows, in), shared by the networks, or (networks, rows, in) -> (networks, rows, out)."""
    weight, bias, _, arithmetic = layer
    bias = bias.unsqueeze(1)
    if arithmetic != "native":
        return with_bias(_product, h, weight, bias, arithmetic)
    if h.dim() == 2:
        z = F.linear(h, weight.flatten(0, 1), bias.flatten())
        return z.unflatten(1, weight.shape[:2]).transpose(0, 1)
    return torch.baddbmm(bias, h, weight.mT)


def _product(h: Tensor, weight: Tensor) -> Tensor:
    """:func:`_linear` without its bias."""
    if h.dim() == 2:  # one large product; the images are the same for all
        return F.linear(h, weight.flatten(0, 1)).unflatten(1, weight.shape[:2]).transpose(0, 1)
    return torch.bmm(h, weight.mT)


@torch.no_grad()
def outputs(stack: list[Layer], x: Tensor) -> list[Tensor]:
    """Each layer's outputs (networks, rows, out) for images x, (rows, inputs) shared by the
    networks or (networks, rows, inputs)."""
    h, found = x, []
    for layer in stack:
        found.append(_linear(layer, h))
        h = torch.relu(found[-1]) if layer.activation else found[-1]
    return found


def zeros(stack: list[Layer], found: list[Tensor], batch_size: int) -> Tensor:
    """Exact zeros (activations, mini-batches, networks), int64, in :func:`outputs`' result."""
    counts = []
    for layer, z in zip(stack, found, strict=True):
        if layer.activation:
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
    own = [layer._replace(weight=layer.weight.clone(), bias=layer.bias.clone()) for layer in stack]
    weights = [w.requires_grad_() for layer in own for w in (layer.weight, layer.bias)]
    h = x.flatten(2)
    for layer, value in zip(own, screened, strict=True):
        z = _WithValue.apply(_linear(layer, h), value)
        h = relu(z, s, gradient_rule) if layer.activation else z
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
