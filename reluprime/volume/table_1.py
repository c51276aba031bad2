"""B21's Table 1 from cells of the Monte Carlo, under both gradient rules."""

from collections.abc import Sequence

import pandas as pd

from reluprime.evidence.intervals import quartiles
from reluprime.instruments.activations import GRADIENT_RULES
from reluprime.volume.experiments import PUBLISHED_PAIRS, PUBLISHED_SHARES
from reluprime.volume.shares import by_network, pair_share, zone_shares


def _percent(share: dict, digits: int) -> str:
    low, high, margin = (100 * share[name] for name in ("low", "high", "margin"))
    return f"{share['share']:.{digits}%} [{low:.{digits}f}, {high:.{digits}f}] ±{margin:.1f}"


def _three(values: Sequence[float]) -> str:
    return "–" if len(values) == 0 else "({:.3g}, {:.3g}, {:.3g})".format(*quartiles(values))


PUBLISHED_TABLE_1 = {  # B21 Table 1; 1000 networks
    "fp16": ("100% ±5", "0.05% ±13", "(98, 117, 137)"),
    "fp32": ("40% ±5", "0.0002% ±13", "(19, 25, 47)"),
    "fp64": ("0% ±5", "0% ±13", "(0, 0, 0)"),
}


PUBLISHED_QUARTILES = {"fp16": (98, 117, 137), "fp32": (19, 25, 47)}
ROWS = ("networks in the zone", "affected pairs", "relative difference")  # B21's three


def marks(cells: pd.DataFrame) -> pd.DataFrame:
    """B21's Table 1 as marks: precision, rule (of ROWS a row each), value, low and high.

    cells: as of :func:`table_1`; rule is chain, injected or published. Of the relative difference
    of the first layer's gradient value, low and high are the median and the quartiles.
    """
    found = []
    for precision, group in cells.groupby("precision", sort=False):
        for rule in GRADIENT_RULES:
            networks = by_network(group, rule)
            zone = zone_shares(networks, ["precision"]).iloc[0]
            pairs = pair_share(networks)
            changes = networks["relative_difference_first_layer"].sum()
            own = [(row["share"], row["low"], row["high"]) for row in (zone, pairs)]
            found += _marks(precision, rule, own, quartiles(changes) if len(changes) else None)
        if precision in PUBLISHED_SHARES:
            both = PUBLISHED_SHARES[precision], PUBLISHED_PAIRS[precision]
            own = [(share, share, share) for share in both]
            found += _marks(precision, "published", own, PUBLISHED_QUARTILES.get(precision))
    return pd.DataFrame(found, columns=["row", "precision", "rule", "value", "low", "high"])


def _marks(precision: str, rule: str, shares: list, three: Sequence[float] | None) -> list[dict]:
    values = shares + ([(three[1], three[0], three[2])] if three is not None else [])
    return [
        {"row": row, "precision": precision, "rule": rule}
        | dict(zip(("value", "low", "high"), own, strict=True))
        for row, own in zip(ROWS, values, strict=False)
    ]


def table_1(cells: pd.DataFrame) -> pd.DataFrame:
    """B21's Table 1 under both rules, a row for each precision and gradient rule.

    cells: rows of `volume.estimate` that differ in precision and networks alone. Proportions
    come with 95 % intervals, relative differences as quartiles over affected mini-batches.
    """
    rows = []
    for precision, group in cells.groupby("precision", sort=False):
        for rule in GRADIENT_RULES:
            networks = by_network(group, rule)
            zone = zone_shares(networks, ["precision"]).iloc[0].to_dict()
            rows.append(
                {
                    "precision": precision,
                    "rule": rule,
                    "networks": zone["networks"],
                    "in the zone": _percent(zone, 1),
                    "affected pairs": _percent(pair_share(networks), 3),
                    "relative difference": _three(networks["relative_difference"].sum()),
                    "first layer only": _three(networks["relative_difference_first_layer"].sum()),
                    "not finite": int(group[f"nonfinite_{rule}"].sum()),
                }
            )
    return pd.DataFrame(rows)


def with_published(table: pd.DataFrame) -> pd.DataFrame:
    """:func:`table_1` with B21's row above ours at each precision."""
    names = ("in the zone", "affected pairs", "first layer only")
    rows = []
    for precision, ours in table.groupby("precision", sort=False):
        if precision in PUBLISHED_TABLE_1:
            values = dict(zip(names, PUBLISHED_TABLE_1[precision], strict=True))
            blank = dict.fromkeys(table.columns, "–")
            head = {"precision": precision, "rule": "published", "networks": 1000}
            rows.append(blank | head | values)
        rows += ours.to_dict("records")
    return pd.DataFrame(rows, columns=table.columns)


def relative_differences(cells: pd.DataFrame) -> pd.DataFrame:
    """Columns precision, gradient_rule, relative_difference; one row an affected mini-batch."""
    parts = [
        by_network(cells, rule)[["precision", "relative_difference"]]
        .explode("relative_difference")
        .dropna()
        .assign(gradient_rule=rule)
        for rule in GRADIENT_RULES
    ]
    return pd.concat(parts, ignore_index=True).astype({"relative_difference": float})


def in_prose(cells: dict[str, pd.DataFrame]) -> dict[str, float]:
    """The numbers in the prose of the page on random networks, by name.

    cells: rows of `volume.estimate`: "table" (of Table 1), and of its variants "no_first_relu" and
    "wide_start" at fp32.
    """
    table = cells["table"]
    n_batches = int(table["n_batches"].iloc[0])
    found = {"n_batches": n_batches, "least_pair_share": 0.4 / n_batches}
    for rule in GRADIENT_RULES:
        for row in zone_shares(by_network(table, rule), ["precision"]).to_dict("records"):
            found[f"share_{rule}_{row['precision']}"] = row["share"]
            found[f"networks_{row['precision']}"] = row["networks"]
        for precision in table["precision"].unique():
            found[f"median_{rule}_{precision}"] = _median(table, rule, precision)
    first = table[table["precision"] == "fp32"]["relative_difference_first_layer_injected"]
    values = first.explode().dropna().astype(float)
    found["median_first_layer_injected_fp32"] = float(values.median())
    for name in ("no_first_relu", "wide_start"):
        (shares,) = zone_shares(by_network(cells[name], "injected"), ["precision"])["share"]
        found |= {
            f"share_{name}": shares,
            f"median_{name}": _median(cells[name], "injected", "fp32"),
        }
    return found


def _median(cells: pd.DataFrame, gradient_rule: str, precision: str) -> float:
    """Of the relative differences of the gradient on affected mini-batches."""
    all_ = relative_differences(cells)
    own = all_[(all_["gradient_rule"] == gradient_rule) & (all_["precision"] == precision)]
    return quartiles(own["relative_difference"])[1]
