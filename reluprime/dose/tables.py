"""Tables of the page "How many kinks does it take?", from the records of the registered grid."""

import math
from collections.abc import Iterable

import numpy as np
import pandas as pd

from reluprime.dose.claims.derivative import same_or_not
from reluprime.dose.claims.shared import SHARE
from reluprime.dose.experiments import (
    GRIDS,
    MITIGATIONS,
    MLP,
    NETWORKS,
    SEEDS,
    mitigation_grid,
    variant_grid,
)
from reluprime.dose.runs import band_alone, measured, rows_of
from reluprime.dose.thresholds import POINT, TEN_POINTS, thresholds
from reluprime.evidence.claim import Cell, Evidence
from reluprime.evidence.finding import FAILS, HOLDS, matches
from reluprime.evidence.intervals import poisson_interval, t_margin
from reluprime.evidence.words import signed
from reluprime.records import Store, study_name
from reluprime.training import tables as training_tables
from reluprime.training.study import fit

RELEASED = "as released"  # SGD with momentum 0.9 and weight decay, no batch norm


def evidence_of(store: Store) -> Evidence:
    """The records that this page reads."""
    return Evidence.of_store(store, [study_name(fit)])


def grids(network: str) -> list[Cell]:
    """All cells of a network's bands, under both rules."""
    own = GRIDS[network]
    return own("injected") + own("chain")


def of_network(evidence: Evidence, network: str) -> pd.DataFrame:
    """`runs.pairs` of a network as released; mlp, vgg11 or resnet18."""
    return measured(evidence, grids(network))


def one_change(evidence: Evidence, changes: dict[str, dict]) -> pd.DataFrame:
    """`runs.pairs` of the fully connected network with one change at a time, and as released.

    The column `condition` names the change.
    """
    conditions = {RELEASED: {}} | changes
    cells = [*grids("mlp"), *variant_grid("injected")]
    table = measured(evidence, [*cells, *mitigation_grid("injected")])
    parts = []
    for name, own in conditions.items():
        network, band = _split(own)
        rows = rows_of(table, network, **band)
        parts.append(rows.assign(condition=name))
    return pd.concat(parts, ignore_index=True)


def mitigated(evidence: Evidence) -> pd.DataFrame:
    """:func:`one_change` of each way to train that may mitigate, at s=1 under the constant."""
    found = one_change(evidence, MITIGATIONS)
    return found[(found["gradient_rule"] == "injected") & (found["s"] == 1)]


def _split(changes: dict):
    """-> the network, and what differs only where there is a band."""
    band = {name: value for name, value in changes.items() if name == "kink_layer"}
    rest = {name: value for name, value in changes.items() if name not in band}
    return MLP.replace(**rest), band


def cells_of(store: Store, cells: Iterable[Cell]) -> pd.DataFrame:
    """The records of a grid, for their source."""
    found = evidence_of(store)
    return found.table(fit, dict.fromkeys(cell.config for cell in cells))


def band_table(evidence: Evidence) -> pd.DataFrame:
    """What each band costs at s=0, beside the plain run at s=0: points, mean over seeds."""
    rows = []
    for network, (base, _) in NETWORKS.items():
        alone = band_alone(evidence, GRIDS[network]("chain"), base)
        rows += [
            {"network": network, "width of the band": f"{width:g}"}
            | {"points against plain s=0": signed(100 * cost)}
            for width, cost in alone.dropna().items()
        ]
    return pd.DataFrame(rows, columns=["network", "width of the band", "points against plain s=0"])


def by_width(pairs: pd.DataFrame) -> pd.DataFrame:
    """A row a rule, s and width of the band.

    Columns: dose (mean), kinks (met, median), runs, difference (mean), half (of its 95 %
    t-interval; NaN for one run), is_0 (whether s does as s=0, by the tests of the registered
    sentences; none for fewer than five runs), least, most (of the runs), dead_units (mean, less
    those at s=0), stuck (runs at chance or diverged).
    """
    rows = []
    for (rule, s, width), own in pairs.groupby(["gradient_rule", "s", "kink_width"]):
        rows.append(
            {"gradient_rule": rule, "s": s, "kink_width": width, "runs": len(own)}
            | {"dose": own["dose"].mean(), "kinks": own["kinks"].median()}
            | {"dose_share": own["dose_share"].mean()}
            | {"difference": own["difference"].mean(), "stuck": int(own["stuck"].sum())}
            | {"half": t_margin(own["difference"].to_numpy()) if len(own) > 1 else math.nan}
            | {"is_0": _is_0(own)}
            | {"least": own["difference"].min(), "most": own["difference"].max()}
            | {"dead_units": (own["dead_units"] - own["dead_at_0"]).mean()}
        )
    return pd.DataFrame(rows, columns=_CURVE)


_CURVE = ["gradient_rule", "s", "kink_width", "runs", "dose", "kinks", "dose_share"]
_CURVE += ["difference", "half", "is_0", "stuck", "least", "most", "dead_units"]


def _is_0(own: pd.DataFrame) -> str:
    """Of the runs of one s and band, by seed."""
    if len(own) < len(SEEDS):
        return ""
    _, margin = NETWORKS[own["architecture"].iloc[0]]
    outcome = same_or_not(own.sort_values("seed")["difference"].to_numpy(), margin)
    return {HOLDS: "yes", FAILS: "no"}.get(outcome, outcome)


def equal_table(pairs: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Up to which dose each s does as s=0 under the derivative; a row a network and s."""
    rows = []
    for network, own in pairs.items():
        curve = by_width(own[own["gradient_rule"] == "chain"]).sort_values("dose")
        for s, at in curve.groupby("s"):
            other = at[at["is_0"] != "yes"]
            first = other["dose"].min() if len(other) else math.inf
            equal = at.loc[at["dose"] < first, "dose"]
            rows.append(
                {"network": network, "s": f"{s:g}"}
                | {"as s=0 up to a dose of": in_words(equal.max()) if len(equal) else "none tried"}
                | {"not, or open, from": in_words(first) if len(other) else "none tried"}
                | {"there": _points_at(other.iloc[0]) if len(other) else ""}
            )
    return pd.DataFrame(rows)


def _points_at(row: pd.Series) -> str:
    return with_interval(row["difference"], row["half"])


def in_prose(pairs: dict[str, pd.DataFrame]) -> dict[str, str]:
    """The numbers in the prose about doses, by name; pairs: of each network, at its own bands.

    At s=1: NETWORK_most, the largest dose under the derivative up to 1 % of all inputs of ReLUs,
    as far as the registered sentences go, and NETWORK_most_points, what the accuracy does there,
    with half of its interval (NETWORK_most_points_50 its mean at s=50, where that was tried);
    NETWORK_least, the smallest dose under the constant that costs a point, and NETWORK_points, its
    cost with half of its interval;
    NETWORK_widest_share, of all inputs at the largest dose of all.
    """
    found = {}
    for network, own in pairs.items():
        at_1 = own[own["s"] == 1]
        curves = {rule: by_width(under) for rule, under in at_1.groupby("gradient_rule")}
        if {"chain", "injected"} - curves.keys():
            continue
        chain, injected = curves["chain"], curves["injected"].sort_values("dose")
        judged = chain[chain["dose_share"] <= SHARE]
        most = judged.loc[judged["dose"].idxmax()]
        costly = injected[injected["difference"] < -POINT].iloc[0]
        found |= {
            f"{network}_most": in_words(most["dose"]),
            f"{network}_most_points": with_interval(most["difference"], most["half"]),
            f"{network}_least": f"{costly['dose']:,.0f}",
            f"{network}_points": f"{-100 * costly['difference']:.1f} ± {100 * costly['half']:.1f}",
            f"{network}_widest_share": f"{chain['dose_share'].max():.0%}",
        }
        chain_50 = own[matches(own, {"s": 50, "gradient_rule": "chain"})]
        there = chain_50.loc[chain_50["kink_width"] == most["kink_width"], "difference"]
        found |= {f"{network}_most_points_50": signed(100 * there.mean())} if len(there) else {}
    return found


def in_words(count: float) -> str:
    """A count for prose: 1,234, 92 million or 1.1 billion."""
    if count >= 1e9:
        return f"{count / 1e9:.1f} billion"
    return f"{count / 1e6:.0f} million" if count >= 1e6 else f"{count:,.0f}"


def _whole(count: float) -> str:
    """A mean count without a minus sign before 0; empty where nothing was counted."""
    return "" if math.isnan(count) else f"{round(count):,}"


def curve_table(pairs: pd.DataFrame) -> pd.DataFrame:
    """:func:`by_width` in words, for the page."""
    return pd.DataFrame(
        {
            "rule": row["gradient_rule"],
            "s": f"{row['s']:g}",
            "width of the band": f"{row['kink_width']:g}",
            "runs": row["runs"],
            "dose": f"{row['dose']:,.0f}",
            "of all inputs": f"{row['dose_share']:.1%}" if row["dose_share"] > 0.0005 else "",
            "kinks met (median)": f"{row['kinks']:,.0f}",
            "points against s=0": with_interval(row["difference"], row["half"]),
            "as s=0": row["is_0"],
            "single runs": f"{100 * row['least']:+.1f} to {100 * row['most']:+.1f}",
            "at chance": row["stuck"],
            "units that died": _whole(row["dead_units"]),
        }
        for row in by_width(pairs).to_dict("records")
    )


def mean_points(differences: pd.Series) -> str:
    """The mean of differences of accuracies in points, with half of its 95 % t-interval over runs;
    without one for a single run."""
    values = differences.to_numpy(float)
    return with_interval(values.mean(), t_margin(values) if len(values) > 1 else math.nan)


def with_interval(difference: float, half: float) -> str:
    """A mean difference of accuracies in points, with half of its interval if there is one."""
    mean = signed(100 * difference)
    return mean if math.isnan(half) else f"{mean} ± {100 * half:.2f}"


def geometric(values: Iterable[float]) -> tuple[float, float, float]:
    """Geometric mean and its 95 % t-interval, on the logarithm; NaN with fewer than two values.

    Infinite where a value is: a threshold that was not reached has no mean.
    """
    values = np.asarray([*values], dtype=float)
    if not len(values) or np.isinf(values).any():
        return (math.inf if len(values) else math.nan,) * 3
    logs = np.log(values)
    half = t_margin(logs) if len(logs) > 1 else math.nan
    return tuple(float(np.exp(x)) for x in (logs.mean(), logs.mean() - half, logs.mean() + half))


def _dose_words(values: pd.Series, tried: pd.Series) -> str:
    """A threshold with its interval; how far was tried where a seed never reached it."""
    mean, low, high = geometric(values)
    if math.isnan(mean):
        return "no run"
    if math.isinf(mean):
        return f"more than {tried.min():,.0f} in {int(np.isinf(values).sum())} of {len(values)}"
    return f"{mean:,.0f} [{low:,.0f}, {high:,.0f}]"


def threshold_table(pairs: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """The dose that costs one point and ten, with intervals over seeds; a row for each of `by`.

    A unit is a neuron of the fully connected network.
    """
    rows = []
    for values, own in pairs.groupby(by, sort=False):
        tried = own.groupby("seed")["dose"].max()
        one, ten = (thresholds(own, loss) for loss in (POINT, TEN_POINTS))
        mean = geometric(one)[0]
        first = own.iloc[0]
        product = first["lr"] * abs(first["s"]) * mean
        steps, units = first["n_batches"] * first["epochs"], sum(first["hidden_sizes"])
        rows.append(
            dict(zip(by, values, strict=True))
            | {"runs": len(own), "dose that costs a point": _dose_words(one, tried)}
            | {"a step": f"{mean / steps:.2g}" if math.isfinite(mean) else ""}
            | {"a unit": f"{mean / units:.2g}" if math.isfinite(mean) else ""}
            | {"dose that costs ten points": _dose_words(ten, tried)}
            | {"lr × s × dose": f"{product:.2g}" if math.isfinite(product) else ""}
        )
    return pd.DataFrame(rows)


def zeros_left(evidence: Evidence) -> pd.DataFrame:
    """Exact zeros of a run at s=0 without a band: a row a mitigation, `native` and `epilogue`."""
    rows = []
    for name, changes in ({RELEASED: {}} | MITIGATIONS).items():
        row = {"condition": name}
        for arithmetic in ("native", "epilogue"):
            own = MLP.replace(**changes, arithmetic=arithmetic)
            configs = [own.replace(seed=seed) for seed in SEEDS]
            runs = training_tables.runs(evidence.table(fit, configs))
            zeros = runs["exact_zeros"].sum()
            low, high = (float(bound) for bound in poisson_interval(np.array(zeros)))
            n = len(runs)
            row[f"exact zeros a run, {arithmetic}"] = (
                f"{zeros / n:.1f} [{low / n:.1f}, {high / n:.1f}]" if n else "no run"
            )
        rows.append(row)
    return pd.DataFrame(rows)
