"""Cells of the Monte Carlo as shares of networks in the zone, ours and the published ones."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from reluprime.evidence.intervals import (
    bootstrap_mean,
    clopper_pearson,
    hoeffding_margin,
    mcdiarmid_margin,
)
from reluprime.instruments.activations import GRADIENT_RULES

# What makes two Monte Carlo cells the same experiment; they differ in their networks alone.
CONDITION = [
    "dataset",
    "architecture",
    "hidden_sizes",
    "width",
    "batch_norm",
    "precision",
    "batch_size",
    "initialisation",
    "relu_after_first",
    "stop_at_first",
    "max_batches",
    "arithmetic",
    "inputs",
]


# What the fields that came later are in rows that lack them, where pandas has NaN.
_LATER = {"arithmetic": "native", "inputs": "raw"}


def by_network(cells: pd.DataFrame, gradient_rule: str) -> pd.DataFrame:
    """One row a random network from rows of `volume.estimate` or `zone.first_affected` cells.

    Columns: CONDITION, network (its seed), n_batches, affected and first_affected (mini-batches),
    relative_difference and relative_difference_first_layer (lists, one value an affected
    mini-batch). A network that several cells hold counts once.
    """
    rows = []
    for cell in cells.to_dict("records"):
        condition = {name: _condition(cell, name) for name in CONDITION}
        affected = cell[f"affected_{gradient_rule}"]
        ends = np.cumsum(affected)
        for index, (count, end) in enumerate(zip(affected, ends, strict=True)):
            own = slice(end - count, end)
            rows.append(
                condition
                | {
                    "network": cell["seed"] + index,
                    "n_batches": cell["n_batches"],
                    "affected": count,
                    "first_affected": cell[f"first_affected_{gradient_rule}"][index],
                    **{
                        name: cell[f"{name}_{gradient_rule}"][own]
                        for name in ("relative_difference", "relative_difference_first_layer")
                    },
                }
            )
    columns = [
        *CONDITION,
        "network",
        "n_batches",
        "affected",
        "first_affected",
        "relative_difference",
        "relative_difference_first_layer",
    ]
    return pd.DataFrame(rows, columns=columns).drop_duplicates([*CONDITION, "network"])


def _condition(cell: dict, name: str):
    value = cell.get(name)
    return _LATER.get(name, value) if value is None or value != value else value


def zone_shares(networks: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Share of networks in the zone (B21 Table 1, row 1), a row for each value of `by`.

    Columns: `by`, networks (M), in_zone (k), share, low and high (Clopper-Pearson), margin
    (Hoeffding). `networks` comes from :func:`by_network`.
    """
    rows = []
    for values, group in networks.groupby(list(by), sort=False):
        n, k = len(group), int((group["affected"] > 0).sum())
        low, high = clopper_pearson(k, n)
        rows.append(
            dict(zip(by, values, strict=True))
            | {"networks": n, "in_zone": k, "share": k / n}
            | {"low": low, "high": high, "margin": hoeffding_margin(n)}
        )
    columns = [*by, "networks", "in_zone", "share", "low", "high", "margin"]
    return pd.DataFrame(rows, columns=columns)


def share_in_words(k: int, n: int) -> str:
    """k of n in percent with its exact interval (95 %)."""
    low, high = clopper_pearson(k, n)
    return f"{k / n:.1%} [{100 * low:.1f}, {100 * high:.1f}]"


def pair_share(networks: pd.DataFrame) -> dict[str, float]:
    """Share of affected (network, mini-batch) pairs (B21 Table 1, row 2) of one condition.

    Keys: pairs, affected, share, low and high (bootstrap over networks, since the mini-batches
    of one network are not independent; where none is affected, high is the exact bound for the
    share of networks, which bounds that of pairs), margin (McDiarmid).
    """
    n_batches = int(networks["n_batches"].iloc[0])
    low, high = bootstrap_mean(networks["affected"] / n_batches)
    if not networks["affected"].any():
        high = clopper_pearson(0, len(networks))[1]
    pairs, affected = n_batches * len(networks), int(networks["affected"].sum())
    return {
        "pairs": pairs,
        "affected": affected,
        "share": affected / pairs,
        "low": low,
        "high": high,
        "margin": mcdiarmid_margin(len(networks), n_batches),
    }


def sample_size_shares(networks: pd.DataFrame, sizes: Sequence[int]) -> pd.DataFrame:
    """Share of networks in the zone if only the first images had been seen (B21 Fig. 2, left).

    `networks`: one condition, from :func:`by_network`. Columns: sample_size (images, counted in
    whole mini-batches; the set's last, shorter one counts when the size reaches into it),
    networks, in_zone, share, low, high, margin.
    """
    batch_size, n_batches = (int(networks[n].iloc[0]) for n in ("batch_size", "n_batches"))
    rows = []
    for size in sizes:
        batches = n_batches if size > (n_batches - 1) * batch_size else size // batch_size
        seen = networks["first_affected"] < batches  # None compares as False
        reached = networks.assign(affected=seen.astype(int), sample_size=size)
        rows.append(zone_shares(reached, ["sample_size"]))
    return pd.concat(rows, ignore_index=True)


def with_sizes(networks: pd.DataFrame) -> pd.DataFrame:
    """Adds depth and width to rows of :func:`by_network`, of which it keeps those of one width."""
    even = networks["hidden_sizes"].map(lambda sizes: len(set(sizes)) == 1).astype(bool)
    networks = networks[even]
    sizes = networks["hidden_sizes"]
    return networks.assign(depth=sizes.map(len), width=sizes.map(min))


def shares_by_rule(cells: pd.DataFrame, by: str) -> pd.DataFrame:
    """Shares in the zone over one size, for each precision and gradient rule.

    cells: rows of `volume.estimate`; by: depth, width or batch_size. Columns as in
    :func:`zone_shares`, with precision and gradient_rule.
    """
    shares = [
        zone_shares(with_sizes(by_network(cells, rule)), ["precision", by]).assign(
            gradient_rule=rule
        )
        for rule in GRADIENT_RULES
    ]
    return pd.concat(shares, ignore_index=True).sort_values(by, kind="stable")


def sample_shares_by_rule(cells: pd.DataFrame, sizes: Sequence[int]) -> pd.DataFrame:
    """As :func:`shares_by_rule`, over the number of images seen."""
    shares = [
        sample_size_shares(group, sizes).assign(precision=precision, gradient_rule=rule)
        for rule in GRADIENT_RULES
        for precision, group in by_network(cells, rule).groupby("precision", sort=False)
    ]
    return pd.concat(shares, ignore_index=True)


_FACTORS = {"depth": "nb_layers", "width": "nb_neurons"}


def published_shares(table: pd.DataFrame, by: str) -> pd.DataFrame:
    """Published shares over one size: columns `by`, precision ("fp16" ...), share.

    table: `records.published` of B21 Fig. 2 or M23 Fig. 4. B21 did not compute its 64-bit rows
    by depth (the released loop leaves before the first mini-batch), so they are left out.
    """
    rows = table[table["factor"] == _FACTORS.get(by, by)]
    return pd.DataFrame(
        {
            by: rows["value"],
            "precision": "fp" + rows["precision"].astype(str),
            "share": rows["in_zone"] / rows["networks"],
        }
    )
