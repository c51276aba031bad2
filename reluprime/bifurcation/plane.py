"""The plane of a neuron's weights around an event, and where its kink is met exactly."""

from collections.abc import Iterator
from typing import Annotated

import numpy as np
import torch
from pydantic import AfterValidator, Field, PositiveFloat
from torch import Tensor, nn
from torch.func import functional_call

from reluprime.bifurcation.networks import (
    Batch,
    PairedRunConfig,
    Variant,
    batches_of,
    build,
    first_hit,
    gradients,
    preactivations,
    stepper,
)
from reluprime.config import Config, Seed, study
from reluprime.instruments.precision import Precision, best_device, numerics


def _odd(points: int) -> int:
    if points % 2 == 0:
        raise ValueError("an even number of points a side has none at the event")
    return points


class WeightPlaneConfig(Config):
    """A plane in the event's weight space (B21 Fig. 1 right, Fig. 7 right)."""

    run: PairedRunConfig
    radius: PositiveFloat = 2e-8  # half side of the square; a few fp32 spacings of a weight
    # Points a side, odd: the event is a point.
    resolution: Annotated[int, Field(ge=3), AfterValidator(_odd)] = 81
    seed: Seed = 0  # of the two directions

    @property
    def precision(self) -> Precision:
        return self.run.precision


@study("bifurcation.weight_plane", version=1)
def weight_plane(config: WeightPlaneConfig, device: torch.device | None = None) -> dict:
    """|z| of the neuron that was hit, over a random plane of its weights through the event.

    The s=0 network is trained to the event of `config.run`. The neuron's weights w become
    w + u d1 + v d2, with u and v on an even grid of [-radius, radius] and d1, d2 uniform on
    [-1, 1], drawn in fp64. Its pre-activation at the event's sample is evaluated in the run's
    precision and arithmetic, and in fp64. The grid is laid into weight matrices of the layer's own
    shape and multiplied with the whole mini-batch, so the run's precision sums in its own order.

    Returns event (layer, neuron, sample, step, kink; None if the run has none, and then nothing
    else), coordinates (R floats), and plane and plane_fp64 (R lists of R floats, |z - kink|,
    u down, v across, 4 significant digits). Source: B21 Fig. 1 and 7, right.
    """
    device = best_device() if device is None else device
    with numerics(config.run.precision, device) as dtype:
        found = _train_to_event(config.run, batches_of(config.run, dtype, device))
        if found is None:
            return {"event": None}
        event, layer, inputs = found
        return {"event": event} | _plane(config, event, layer, inputs)


def _train_to_event(
    run: PairedRunConfig, batches: list[Batch]
) -> tuple[dict, nn.Linear, Tensor] | None:
    """-> (event, the layer that was hit, its input for the mini-batch), or None."""
    network = build(run, Variant(s=0.0, gradient_rule="chain"), batches)
    step_of = stepper(run, network)
    with preactivations(network) as seen:
        for step in range(run.epochs * len(batches)):
            x, y = batches[step % len(batches)]
            found = gradients(network, x, y)
            if hit := first_hit(network, seen):
                layer = hit["layer"].replace("activation", "linear")
                depth = [name for name, _ in network.named_children()].index(layer)
                with torch.no_grad():
                    inputs = network[:depth](x)
                sample = step % len(batches) * run.batch_size + hit["row"]
                return {"step": step, "sample": sample} | hit, network[depth], inputs
            step_of(found)
    return None


@torch.no_grad()
def _plane(config: WeightPlaneConfig, event: dict, layer: nn.Linear, inputs: Tensor) -> dict:
    random = np.random.RandomState(config.seed)
    d1, d2 = (
        torch.from_numpy(random.uniform(-1, 1, layer.in_features)).to(inputs.device)
        for _ in range(2)
    )
    axis = torch.linspace(-1, 1, config.resolution, dtype=torch.float64, device=inputs.device)
    axis = axis * config.radius
    u, v = torch.meshgrid(axis, axis, indexing="ij")
    weight, bias = layer.weight[event["neuron"]], layer.bias[event["neuron"]]
    rows = weight.double() + u.reshape(-1, 1) * d1 + v.reshape(-1, 1) * d2  # (R * R, in)

    def evaluate(dtype: torch.dtype) -> list[list[float]]:
        # A whole bias, as the layer has it: a GPU adds an expanded one by another kernel.
        biases = bias.to(dtype).repeat(layer.out_features)
        x, blocks = inputs.to(dtype), _same_shape(rows.to(dtype), layer.out_features)
        outputs = [
            functional_call(layer, {"weight": block, "bias": biases}, x)[event["row"]]
            for block in blocks
        ]
        z = torch.cat(outputs)[: len(rows)].double() - event["kink"]
        return [[float(f"{x:.4g}") for x in line] for line in z.abs().view(u.shape).tolist()]

    return {
        "coordinates": axis.tolist(),
        "plane": evaluate(inputs.dtype),
        "plane_fp64": evaluate(torch.float64),
    }


def _same_shape(rows: Tensor, size: int) -> Iterator[Tensor]:
    """Blocks of exactly `size` rows; the last is filled up with repeats of the last row."""
    for block in rows.split(size):
        yield torch.cat([block, block[-1:].expand(size - len(block), -1)])
