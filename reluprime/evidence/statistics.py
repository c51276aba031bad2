"""Intervals and tests, and the tables that turn Monte Carlo cells into proportions."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from reluprime.evidence.finding import matches
from reluprime.evidence.tests import RISK
from reluprime.instruments.activations import GRADIENT_RULES

MIN_ZEROS = 10  # of a network whose zeros a call are compared with another's

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


def hoeffding_margin(n: int, risk: float = RISK) -> float:
    """Half width of a proportion's interval from n independent draws (B21, Appendix C)."""
    return math.sqrt(math.log(2 / risk) / (2 * n))


def mcdiarmid_margin(n_networks: int, n_batches: int, risk: float = RISK) -> float:
    """Half width for the share of (network, mini-batch) pairs (B21, Appendix C)."""
    return math.sqrt((1 / n_networks + 1 / n_batches) * math.log(2 / risk) / 2)


def clopper_pearson(k: int, n: int, risk: float = RISK) -> tuple[float, float]:
    """Exact interval of a proportion from k successes in n independent draws."""
    interval = stats.binomtest(k, n).proportion_ci(1 - risk, method="exact")
    return float(interval.low), float(interval.high)


def bootstrap_mean(values: Sequence[float], risk: float = RISK) -> tuple[float, float]:
    """Percentile interval of the mean (10,000 resamples, fixed seed); a point if all are equal."""
    values = np.asarray(values, dtype=float)
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    random = np.random.RandomState(0)
    means = random.choice(values, (10_000, len(values))).mean(1)
    low, high = np.quantile(means, [risk / 2, 1 - risk / 2])
    return float(low), float(high)


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


def zero_rates(cells: pd.DataFrame) -> pd.DataFrame:
    """Exact zeros per ReLU call while training, a row a network shape (B21 Fig. 6).

    cells: rows of `zeros.count` at one s. Columns: precision, gradient_rule, depth, width, zeros,
    calls (sums over networks), rate, low and high (exact Poisson interval, 95 %).
    """
    names = ["precision", "gradient_rule", "depth", "width", "zeros", "calls"]
    rows = [
        {
            "precision": cell["precision"],
            "gradient_rule": cell["gradient_rule"],
            "depth": len(cell["hidden_sizes"]),
            "width": min(cell["hidden_sizes"]),
            "zeros": sum(n[-1] for n in cell["cumulative_zeros"]),
            "calls": sum(n[-1] for n in cell["cumulative_calls"]),
        }
        for cell in cells.to_dict("records")
    ]
    table = pd.DataFrame(rows, columns=names).groupby(names[:4], as_index=False, sort=False).sum()
    low, high = poisson_interval(table["zeros"].to_numpy(dtype=float))
    calls = table["calls"].astype(float)
    return table.assign(rate=table["zeros"] / calls, low=low / calls, high=high / calls)


def forward_rates(cells: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Exact zeros a pre-activation, measured and predicted, a row a condition and activation.

    cells: rows of `mechanism.forward_zeros`. Columns: `by`, activation, calls, zeros, structural,
    rate, low and high (of zeros that are not structural; exact Poisson interval, 95 %), predicted
    (rate; None without a model).
    """
    names = ("calls", "zeros", "structural", "predicted")
    rows = [
        {n: cell[n] for n in by} | {"activation": a} | {n: cell[n][a] for n in names}
        for cell in cells.to_dict("records")
        for a in cell["calls"]
    ]
    return _with_rates(pd.DataFrame(rows, columns=[*by, "activation", *names]), by)


def _with_rates(counts: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    sums = {name: "sum" for name in ("calls", "zeros", "structural")}
    groups = counts.groupby([*by, "activation"], as_index=False, sort=False)
    table = groups.agg(sums | {"predicted": lambda p: p.astype(float).sum(min_count=1)})
    calls, rounding = table["calls"].astype(float), table["zeros"] - table["structural"]
    low, high = poisson_interval(rounding.to_numpy(dtype=float))
    rates = {"rate": rounding / calls, "low": low / calls, "high": high / calls}
    return table.assign(**rates, predicted=table["predicted"].astype(float) / calls)


def all_layers(rates: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Rows of :func:`forward_rates`, their activations added up."""
    weighted = rates.assign(predicted=rates["predicted"] * rates["calls"], activation="all")
    names = ["calls", "zeros", "structural", "predicted"]
    return _with_rates(weighted[[*by, "activation", *names]], by)


def poisson_interval(counts: np.ndarray, risk: float = RISK) -> tuple[np.ndarray, np.ndarray]:
    """Exact interval of a Poisson mean for each observed count."""
    low = np.where(counts > 0, stats.chi2.ppf(risk / 2, 2 * np.maximum(counts, 0.5)) / 2, 0.0)
    return low, stats.chi2.ppf(1 - risk / 2, 2 * (counts + 1)) / 2


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """First quartile, median and third quartile; NaN where there are no values."""
    if len(values) == 0:
        return (math.nan, math.nan, math.nan)
    return tuple(float(q) for q in np.quantile(values, [0.25, 0.5, 0.75]))


def is_larger(a: Sequence[float], b: Sequence[float], risk: float = RISK) -> bool:
    """Whether values of a tend to exceed those of b (one-sided Mann-Whitney test)."""
    if len(a) == 0 or len(b) == 0:
        return False
    return bool(stats.mannwhitneyu(a, b, alternative="greater").pvalue < risk)


def differ(successes: Sequence[int], trials: Sequence[int], risk: float) -> bool:
    """Whether proportions differ between groups (chi-squared test of homogeneity)."""
    k, n = np.asarray(successes), np.asarray(trials)
    if k.sum() in (0, n.sum()):
        return False
    return bool(stats.chi2_contingency([k, n - k]).pvalue < risk)


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


def size_panels(
    cells: pd.DataFrame,
    base: tuple[int, ...],
    deep: tuple[int, ...],
    samples: Sequence[int],
    table: pd.DataFrame,
) -> dict[str, tuple[pd.DataFrame, pd.DataFrame]]:
    """Ours and the published shares over each size, for `figures.volume_figure`.

    cells: rows of `volume.estimate`; base: the hidden sizes that width, depth and batch size
    vary; deep: those of the curve over `samples`; table: see :func:`published_shares`.
    Mini-batches have 256 images except in the sweep over their size.
    """
    at_256 = cells[cells["batch_size"] == 256]
    shapes = at_256["hidden_sizes"]
    ours = {
        "sample_size": sample_shares_by_rule(at_256[shapes == deep], samples),
        "width": shares_by_rule(at_256[shapes.map(len) == len(base)], "width"),
        "depth": shares_by_rule(at_256[shapes.map(min) == base[0]], "depth"),
        "batch_size": shares_by_rule(cells[cells["hidden_sizes"] == base], "batch_size"),
    }
    return {by: (shares, published_shares(table, by)) for by, shares in ours.items()}


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


def run_table(runs: pd.DataFrame) -> pd.DataFrame:
    """One row a paired run: its event, and each variant's distance there and at the end.

    runs: rows of `bifurcation.paired_run`. Columns: run, step and where ("–" without an event),
    control (largest distance), and for each variant LABEL: "LABEL gradient" (relative difference
    at the event), "LABEL jump", "LABEL end" (L1 distances).
    """
    rows = []
    for run in runs.to_dict("records"):
        event = run["event"]
        row = {
            "run": f"{run['activation']} {run['precision']} seed {run['seed']}",
            "step": event["step"] if event else "–",
            "where": f"{event['layer']}, neuron {event['neuron']}" if event else "–",
            "control": f"{max(run['distance']['control']):g}",
        }
        for label in [label for label in run["distance"] if label != "control"]:
            distance = run["distance"][label]
            gradient = event["relative_gradient_difference"][label] if event else 0.0
            row[f"{label} gradient"] = f"{gradient:.2g}"
            row[f"{label} jump"] = f"{distance[event['step']] if event else 0.0:.2g}"
            row[f"{label} end"] = f"{distance[-1]:.2g}"
        rows.append(row)
    return pd.DataFrame(rows)


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


def zeros_by_layer(cells: pd.DataFrame) -> pd.DataFrame:
    """Exact zeros of training by layer, a row for each precision and depth, over widths and rules.

    cells: rows of `zeros.count`.
    """
    rows = []
    depths = cells["hidden_sizes"].map(len)
    for (precision, depth), group in cells.groupby(["precision", depths], sort=False):
        layers = pd.DataFrame(group["zeros_by_layer"].tolist()).map(sum).sum()
        named = {name.replace("activation", "layer "): int(n) for name, n in layers.items()}
        rows.append({"precision": precision, "depth": depth} | named)
    return pd.DataFrame(rows).astype(object).fillna("–")


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


def conv_table(cells: pd.DataFrame, counts: Sequence[int]) -> pd.DataFrame:
    """Shares with exact intervals after `counts` mini-batches, a row a condition, for the page."""
    shares, rows = conv_shares_by_rule(cells, counts), []
    for values, group in cells.groupby(CONV_CONDITION, sort=False):
        condition = dict(zip(CONV_CONDITION, values, strict=True))
        own = shares[matches(shares, condition)]
        rows.append(
            {
                "network": condition["architecture"],
                "batch norm": "yes" if condition["batch_norm"] else "no",
                "precision": condition["precision"],
                "networks": int(group["n_networks"].sum()),
                "exact zeros": sum(sum(zeros.values()) for zeros in group["exact_zeros"]),
            }
            | {
                f"{share['gradient_rule']}, after {share['batches']}": (
                    f"{share['share']:.0%} [{share['low']:.0%}, {share['high']:.0%}]"
                )
                for share in own.to_dict("records")
            }
        )
    return pd.DataFrame(rows).astype(object).fillna("–")


def forward_rate_table(rates: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """:func:`forward_rates` for the page."""
    with_model = rates["predicted"].notna().any()
    rows = [
        {n: row[n] for n in [*by, "activation"]}
        | {
            "pre-activations": f"{row['calls']:.1e}",
            "exact zeros": row["zeros"],
            "structural": row["structural"],
            "by rounding, a call": f"{row['rate']:.1e} [{row['low']:.1e}, {row['high']:.1e}]",
        }
        | ({"predicted": f"{row['predicted']:.1e}"} if with_model else {})
        for row in rates.to_dict("records")
    ]
    return pd.DataFrame(rows)


def zero_rate_table(rates: pd.DataFrame) -> pd.DataFrame:
    """Zeros a call over all networks, a row a precision and gradient rule, for the page.

    rates: rows of :func:`zero_rates`.
    """
    rows = []
    for (precision, rule), group in rates.groupby(["precision", "gradient_rule"], sort=False):
        zeros, calls = int(group["zeros"].sum()), int(group["calls"].sum())
        low, high = (float(end) / calls for end in poisson_interval(np.array(float(zeros))))
        often = group[group["zeros"] >= MIN_ZEROS]["rate"]
        span = f"{often.min():.1e} to {often.max():.1e} ({len(often)})" if len(often) else "–"
        rows.append(
            {
                "precision": precision,
                "rule": rule,
                "networks": len(group),
                "ReLU calls": f"{calls:.2e}",
                "exact zeros": zeros,
                "zeros a call": f"{zeros / calls:.2e} [{low:.2e}, {high:.2e}]",
                f"networks with at least {MIN_ZEROS}": span,
            }
        )
    return pd.DataFrame(rows)
