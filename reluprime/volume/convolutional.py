"""Shares of convolutional networks in the zone by mini-batches seen (B21 Fig. 5, 16)."""

from collections.abc import Iterable, Sequence

import pandas as pd

from reluprime.evidence.style import RULE_NAMES
from reluprime.instruments.activations import GRADIENT_RULES
from reluprime.volume.shares import by_network, share_in_words, zone_shares


def conv_shares(cells: pd.DataFrame, gradient_rule: str, counts: Sequence[int]) -> pd.DataFrame:
    """Share of networks in the zone after the first mini-batches (B21 Fig. 5, 16).

    cells: rows of `volume.estimate` of one condition but for max_batches. Columns: batches,
    networks (those that were shown so many), in_zone, share, low, high, margin.
    """
    networks = by_network(cells, gradient_rule).sort_values("n_batches", kind="stable")
    networks = networks.drop_duplicates("network", keep="last")  # the one that was shown most
    rows = []
    for count in counts:
        shown = networks[networks["n_batches"] >= count]
        reached = (shown["first_affected"] < count).astype(int)
        rows.append(zone_shares(shown.assign(affected=reached, batches=count), ["batches"]))
    return pd.concat(rows, ignore_index=True)


def published_conv_shares(table: pd.DataFrame) -> pd.DataFrame:
    """B21 Fig. 5 and 16: columns architecture, batch_norm, precision, batches, share.

    table: `records.published` of `paper_volume_conv.csv`.
    """
    return pd.DataFrame(
        {
            "architecture": table["network"],
            "batch_norm": table["batch_norm"],
            "precision": "fp" + table["precision"].astype(str),
            "batches": table["batches_seen"],
            "share": table["in_zone"] / table["networks"],
        }
    )


CONV_CONDITION = ["architecture", "batch_norm", "precision"]


def conv_shares_by_rule(cells: pd.DataFrame, counts: Sequence[int]) -> pd.DataFrame:
    """:func:`conv_shares` of each network, batch norm, precision and gradient rule.

    cells: rows of `volume.estimate`. Adds the columns CONV_CONDITION and gradient_rule.
    """
    parts = [
        conv_shares(group, rule, [n for n in counts if n <= group["n_batches"].max()]).assign(
            **dict(zip(CONV_CONDITION, values, strict=True)), gradient_rule=rule
        )
        for rule in GRADIENT_RULES
        for values, group in cells.groupby(CONV_CONDITION, sort=False)
    ]
    return pd.concat(parts, ignore_index=True)


def conv_table(cells: pd.DataFrame, released: pd.DataFrame, counts: Sequence[int]) -> pd.DataFrame:
    """Shares with exact intervals after `counts` mini-batches beside the released, for the page.

    cells: rows of `volume.estimate`; released: rows of :func:`published_conv_shares`. A row a
    condition and count that any network of the condition was shown.
    """
    shares = conv_shares_by_rule(cells, counts)
    published = released.set_index([*CONV_CONDITION, "batches"])["share"]
    rows = []
    for name, group in shares.groupby([*CONV_CONDITION, "batches"], sort=False):
        ours = {
            RULE_NAMES[row["gradient_rule"]]: share_in_words(row["in_zone"], row["networks"])
            for row in group.to_dict("records")
        }
        theirs = {"published": f"{published[name]:.1%}" if name in published.index else "–"}
        rows.append(_condition(name[:3]) | {"mini-batches": name[3]} | ours | theirs)
    return pd.DataFrame(rows)


def zeros_table(cells: pd.DataFrame) -> pd.DataFrame:
    """Exact zeros of the affected mini-batches, a row a condition, for the page.

    cells: rows of `volume.estimate`.
    """
    rows = [
        _condition(name)
        | {
            "networks": int(group["n_networks"].sum()),
            "exact zeros": _sum(group["exact_zeros"]),
            "structural among them": _sum(group["structural_zeros"]),
        }
        for name, group in cells.groupby(CONV_CONDITION, sort=False)
    ]
    return pd.DataFrame(rows)


def _condition(name: tuple) -> dict[str, str]:
    architecture, batch_norm, precision = name
    norm = "yes" if batch_norm else "no"
    return {"network": architecture, "batch norm": norm, "precision": precision}


def _sum(by_activation: Iterable[dict[str, int]]) -> int:
    return sum(sum(zeros.values()) for zeros in by_activation)
