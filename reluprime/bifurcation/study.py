"""Paired training runs and the event that parts them (B21 3.1, Fig. 1, 7, 8)."""

import torch
from torch import Tensor, nn

from reluprime.bifurcation.networks import (
    Batch,
    PairedRunConfig,
    Variant,
    batches_of,
    build,
    first_hit,
    gradients,
    learning_rate,
    preactivations,
    stepper,
)
from reluprime.config import study
from reluprime.instruments.precision import best_device, numerics


@study("bifurcation.paired_run", version=1)
def paired_run(config: PairedRunConfig, device: torch.device | None = None) -> dict:
    """Train s=0, s=0 again (control) and each variant from one start on the same mini-batches.

    Returns, with K steps and one entry per hidden layer, named as in `fully_connected.mlp`:

    - learning_rate: the step size used
    - distance: {label: K floats}, L1 distance to the s=0 network over all parameters after each
      step; the labels are "control" and those of the variants
    - sum_difference: with adam alone, {label: K floats}: the sum over all tensors of
      |sum of its weights less that of the s=0 network|, which M23's release plots as the distance
    - min_abs_preactivation: {layer: K floats}, smallest |z| of the s=0 network in the step's
      mini-batch, before the step
    - exact_zeros: {layer: K ints}, its pre-activations exactly at a kink (0; for ReLU6 also 6)
    - event: None, or the first hit: step (from 0), sample (index in the training set), layer,
      neuron, kink, and relative_gradient_difference {label: |g - g0|_2 / |g0|_2} at that step,
      where all networks still have the same weights

    Source: B21 3.1, Fig. 1, 7 and 8.
    """
    device = best_device() if device is None else device
    with numerics(config.precision, device) as dtype:
        return _paired_run(config, batches_of(config, dtype, device))


def _paired_run(config: PairedRunConfig, batches: list[Batch]) -> dict:
    """:func:`paired_run` on given mini-batches."""
    unchanged = Variant(s=0.0, gradient_rule="chain")
    variants = {"s=0": unchanged, "control": unchanged, **{v.label: v for v in config.variants}}
    if len(variants) != len(config.variants) + 2:
        raise ValueError(f"variants must differ in s or gradient_rule, got {config.variants}")
    networks = {label: build(config, v, batches) for label, v in variants.items()}
    reference = networks["s=0"]
    steppers = {label: stepper(config, network) for label, network in networks.items()}
    distance = {label: [] for label in networks if label != "s=0"}
    sums = {label: [] for label in distance}
    smallest, zeros, event = {}, {}, None
    with preactivations(reference) as seen:
        for step in range(config.epochs * len(batches)):
            x, y = batches[step % len(batches)]
            found = {label: gradients(n, x, y) for label, n in networks.items()}
            for name, z in seen.items():
                smallest.setdefault(name, []).append(float(z.abs().min()))
                zeros.setdefault(name, []).append(_hits(reference, name, z))
            if event is None and (hit := first_hit(reference, seen)):
                event = _event(config, step, len(batches), hit, found)
            for label, step_of in steppers.items():
                step_of(found[label])
            for label, values in distance.items():
                apart = _difference(networks[label].parameters(), reference.parameters())
                values.append(_norm(apart, 1))
                sums[label].append(sum(abs(float(part.sum())) for part in apart))
    return {
        "learning_rate": learning_rate(config),
        "distance": distance,
        **({"sum_difference": sums} if config.optimizer == "adam" else {}),
        "min_abs_preactivation": smallest,
        "exact_zeros": zeros,
        "event": event,
    }


def _norm(tensors: list[Tensor], order: int) -> float:
    """Norm over all parameters, in fp64."""
    flat = torch.cat([t.detach().double().flatten() for t in tensors])
    return float(torch.linalg.vector_norm(flat, order))


def _difference(a: list[Tensor], b: list[Tensor]) -> list[Tensor]:
    """a - b, tensor by tensor, in fp64."""
    return [p.detach().double() - q.detach().double() for p, q in zip(a, b, strict=True)]


def _hits(network: nn.Sequential, name: str, x: Tensor) -> int:
    """How many of the activation's inputs x are exactly at one of its kinks."""
    return sum(int((x == kink).sum()) for kink in network.get_submodule(name).kinks)


def _event(
    config: PairedRunConfig, step: int, n_batches: int, hit: dict, found: dict[str, list[Tensor]]
) -> dict:
    """The event as the study returns it, from a hit and the gradients of each network."""
    reference = found["s=0"]
    size = _norm(reference, 2)
    row = hit.pop("row")
    return {
        "step": step,
        "sample": step % n_batches * config.batch_size + row,
        **hit,
        "relative_gradient_difference": {
            label: _norm(_difference(g, reference), 2) / size
            for label, g in found.items()
            if label != "s=0"
        },
    }
