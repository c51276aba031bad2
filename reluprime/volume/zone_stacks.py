"""Who is in the zone, on a GPU: all networks of a cell as one stack until each is left.

Only for arithmetics that are written out. In native arithmetic a GPU chooses its kernel by the
shape of a product, so there each network gets the papers' own mini-batches, one by one.
"""

from collections import Counter
from collections.abc import Iterator

import torch
from torch import Tensor

from reluprime.instruments.activations import GRADIENT_RULES
from reluprime.volume import stacks
from reluprime.volume.networks import Batch, VolumeConfig
from reluprime.volume.stacked import (
    Chosen,
    Group,
    Pair,
    Progress,
    compared,
    drawn,
    groups,
    images,
    in_parts,
    parts,
    screened_pairs,
)

ZONE_BYTES = 2**30  # of a GPU's memory for a group: most networks are left within a few of them


def first_affected_in_stacks(config: VolumeConfig, batches: list[Batch], n_classes: int) -> dict:
    """`zone.first_affected` with all networks at once, or as many as there is memory for.

    config: a ZoneConfig of an mlp without batch norm, not in native arithmetic.
    """
    return in_parts(_stack, config, batches, n_classes)


def _stack(config: VolumeConfig, batches: list[Batch], n_classes: int) -> dict:
    networks = drawn(config, batches[0][0], n_classes)
    whole, progress = stacks.layers(networks), Progress(config)
    structural, rounded = Counter(), [0] * config.n_networks
    for group in groups(config, batches, ZONE_BYTES):
        left = [n for n, last in enumerate(progress.last) if last is None]
        if not left:
            break
        stack = [layer.of(left) for layer in whole]
        for pairs, chosen in _pairs(config, group, stack, left, progress):
            for pair, found in zip(pairs, compared(*chosen), strict=True):
                progress.add(pair, found)
            for (n, _), counts in zip(pairs, _zeros(*chosen), strict=True):
                for name, (met, shared) in counts.items():
                    structural[name] += shared
                    rounded[n] += met - shared
    _keep_first(progress)
    own = {"seen": progress.seen(len(batches)), "structural_zeros": dict(structural)}
    return progress.result(batches, networks[0]) | own | {"rounded": rounded}


def _pairs(
    config: VolumeConfig,
    group: Group,
    stack: list[stacks.Layer],
    left: list[int],
    progress: Progress,
) -> Iterator[tuple[list[Pair], Chosen]]:
    """Screen a group; the pairs with a zero, part by part, until `progress` needs no more.

    stack: of the networks that are left, whose indices `left` are.
    """
    outputs = stacks.outputs(stack, images(group))
    met = stacks.zeros(stack, outputs, config.batch_size)
    counts = met.new_zeros(*met.shape[:2], config.n_networks)
    counts[:, :, left] = met
    progress.screened(min(group), counts.tolist())
    place = {n: index for index, n in enumerate(left)}
    while pairs := progress.next_pairs():
        for part in parts(pairs, group, stack):
            placed = [(place[n], q) for n, q in part]
            yield part, screened_pairs(placed, group, stack, outputs, config.batch_size)


def _zeros(
    own: list[stacks.Layer], x: Tensor, _: Tensor, screened: list[Tensor]
) -> list[dict[str, tuple[int, int]]]:
    """By pair and activation, exact zeros and those of them that fp64 has too."""
    exact = stacks.outputs([layer.double() for layer in own], x.flatten(2).double())
    columns = []
    for layer, z, z64 in zip(own, screened, exact, strict=True):
        if layer.activation:
            met = z == 0
            each = (met.sum((1, 2)), (met & (z64 == 0)).sum((1, 2)))
            columns.append((layer.activation, torch.stack(each, 1)))
    names = [name for name, _ in columns]
    counts = torch.stack([numbers for _, numbers in columns], 1).tolist()  # (pairs, names, 2)
    return [dict(zip(names, map(tuple, of_pair), strict=True)) for of_pair in counts]


def _keep_first(progress: Progress) -> None:
    """Forget what a rule's gradients were after its first affected mini-batch."""
    for rule in GRADIENT_RULES:
        for comparisons in progress.compared[rule]:
            affected = [q for q, comparison in comparisons.items() if comparison.affects]
            for q in [q for q in comparisons if affected and q > min(affected)]:
                del comparisons[q]
