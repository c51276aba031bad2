"""The zeros that both works released, number by number, against what an arithmetic predicts.

A point is a share of random networks at one size; a curve is the share over the mini-batches seen.
Nothing is fitted: the networks are drawn as the papers draw them, and an arithmetic says how their
layers round. Each point has a test, and each curve and each panel of batch sizes one for all.
"""

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from reluprime.evidence.claim import ARITHMETICS, Cell, Claim, Evidence, Example
from reluprime.evidence.finding import FAILS, HOLDS, Finding
from reluprime.evidence.intervals import clopper_pearson
from reluprime.records import Store, published
from reluprime.volume import claims as volume_claims
from reluprime.volume import zone
from reluprime.volume.claims import ALL_NETWORKS, B21, M23, Sweep
from reluprime.volume.zone import ZoneConfig

RISK = 0.01  # of all tests of an arithmetic together
READING = 0.004  # by which the curve over sample sizes, read from a picture, may be off
WORKS: dict[str, tuple[Sweep, str, tuple[str, ...]]] = {
    "B21": (B21, "paper_volume_mlp.csv", ("fp16", "fp32")),
    "M23": (M23, "replication_volume_mlp.csv", ("fp16", "fp32")),
}


class Curve(NamedTuple):
    """Shares of networks in the zone after a number of mini-batches."""

    panel: str
    precision: str
    config: ZoneConfig
    per_cell: int
    batches: tuple[int, ...]  # increasing
    published: tuple[float, ...]
    reading: float  # error of the published shares


def _precisions(arithmetic: str) -> tuple[str, ...]:
    """At 32 bits "separate" is "epilogue", and not counted twice."""
    return ("fp16",) if arithmetic == "separate" else ("fp16", "fp32")


@cache
def curves(arithmetic: str) -> list[Curve]:
    """Those of B21: over sample sizes, for the network of Table 1, and of Fig. 5 and 16."""
    precisions = _precisions(arithmetic)
    found = [_sample_curve(p, arithmetic) for p in precisions if arithmetic != "native"]
    if arithmetic == "separate":  # of convolutional networks it differs in the output layer alone
        return found
    at = ("fp32",) if arithmetic == "native" else precisions
    return found + [
        _conv_curve(network, norm, p, arithmetic)
        for network in volume_claims.NETWORKS
        for norm in (False, True)
        for p in at
    ]


def _sample_curve(precision: str, arithmetic: str) -> Curve:
    table = published("paper_volume_sample.csv")
    own = table[table["precision"] == int(precision[2:])]
    config = volume_claims._share_networks(arithmetic)["release", precision]
    shares = tuple(own["batches_seen"]), tuple(own["share"])
    return Curve("sample size", precision, config, volume_claims.PER_CELL, *shares, READING)


def _conv_curve(network: str, norm: bool, precision: str, arithmetic: str) -> Curve:
    table = published("paper_volume_conv.csv")
    config = volume_claims._conv(network, norm, precision, arithmetic)
    own = table[(table["network"] == network) & (table["batch_norm"] == norm)]
    own = own[(own["precision"] == int(precision[2:]))]
    own = own[own["batches_seen"] <= config.max_batches]
    name = f"{network}, batch norm" if norm else network
    shares = tuple(own["batches_seen"]), tuple(own["in_zone"] / own["networks"])
    return Curve(name, precision, config, volume_claims.PER_CONV_CELL, *shares, 0.0)


def grid(_: str, arithmetic: str) -> list[Cell]:
    """The cells of all points and curves."""
    cells = []
    for sweep, _file, precisions in WORKS.values():
        for precision in set(precisions) & set(_precisions(arithmetic)):
            for by, sizes in sweep.shapes.items():
                for size in sizes:
                    config = sweep.config(by, size, precision, arithmetic)
                    cells += volume_claims._cells(config)
    for curve in curves(arithmetic):
        cells += volume_claims._cells(curve.config, curve.per_cell)
    return sorted(cells, key=lambda cell: cell.config.model_dump_json())


def points(evidence: Evidence, gradient_rule: str, arithmetic: str) -> pd.DataFrame:
    """One row a published point whose networks all have records.

    Columns: work, panel (depth, width, batch_size), size, precision, published and ours (shares),
    k, n, published_k, published_n (networks in the zone and all), low and high (exact interval of
    ours, 95 %).
    """
    rows = []
    for work, (sweep, file, _) in WORKS.items():
        for precision in _precisions(arithmetic):
            theirs = volume_claims._published_points(file, int(precision[2:]))
            ours = sweep.shares(evidence, gradient_rule, precision, arithmetic)
            both = theirs.merge(ours, on=["by", "size"], suffixes=("_published", ""))
            rows += [_point(work, precision, row) for row in both.to_dict("records")]
    return pd.DataFrame(rows, columns=_POINT)


_POINT = [
    *("work", "panel", "size", "precision", "published", "ours", "k", "n"),
    *("published_k", "published_n", "low", "high"),
]


def _point(work: str, precision: str, row: dict) -> dict:
    return {
        "work": work,
        "panel": row["by"],
        "size": row["size"],
        "precision": precision,
        "published": row["in_zone_published"] / row["networks_published"],
        "ours": row["in_zone"] / row["networks"],
        "k": row["in_zone"],
        "n": row["networks"],
        "published_k": row["in_zone_published"],
        "published_n": row["networks_published"],
        "low": row["low"],
        "high": row["high"],
    }


def curve_points(evidence: Evidence, gradient_rule: str, arithmetic: str) -> pd.DataFrame:
    """One row a point of a curve whose networks all have records: work, panel, precision, batches,
    published, ours, n, reading, low and high (exact interval of ours, 95 %)."""
    rows = []
    for curve in curves(arithmetic):
        if evidence.missing(volume_claims._cells(curve.config, curve.per_cell)):
            continue
        networks = volume_claims._networks(evidence, curve.config, gradient_rule, curve.per_cell)
        for batches, share in zip(curve.batches, curve.published, strict=True):
            k, n = int((networks["first_affected"] < batches).sum()), len(networks)
            low, high = clopper_pearson(k, n)
            rows.append(
                {
                    "work": "B21",
                    "panel": curve.panel,
                    "precision": curve.precision,
                    "batches": batches,
                    "published": share,
                    "ours": k / n,
                    "n": n,
                    "reading": curve.reading,
                    "low": low,
                    "high": high,
                }
            )
    columns = ["work", "panel", "precision", "batches", "published", "ours", "n", "reading"]
    return pd.DataFrame(rows, columns=[*columns, "low", "high"])


def tests(evidence: Evidence, gradient_rule: str, arithmetic: str) -> pd.DataFrame:
    """One row a test: work, panel, size ("all" for one test of many), precision, p, met.

    A point: Fisher's exact test. A panel of batch sizes: one chi-squared test for the sum of its
    points' statistics. A curve: the largest distance, less what reading may be off
    (Kolmogorov and Smirnov, two samples). p is NaN where both are 0 or all. met: whether p is
    above RISK divided by the number of tests (Bonferroni); None where p is NaN.
    """
    table = points(evidence, gradient_rule, arithmetic)
    rows = [*_point_tests(table), *_panel_tests(table)]
    rows += _curve_tests(curve_points(evidence, gradient_rule, arithmetic))
    found = pd.DataFrame(rows, columns=["work", "panel", "size", "precision", "p"])
    least = RISK / max(1, found["p"].notna().sum())
    met = [None if np.isnan(p) else bool(p >= least) for p in found["p"]]
    return found.assign(met=pd.Series(met, dtype=object))


def _point_tests(table: pd.DataFrame) -> Iterator[dict]:
    for row in table[table["panel"] != "batch_size"].to_dict("records"):
        names = ("work", "panel", "size", "precision")
        yield {name: row[name] for name in names} | {"p": _fisher(row)}


def _fisher(row: dict) -> float:
    k, n, k2, n2 = (row[name] for name in ("k", "n", "published_k", "published_n"))
    if k + k2 in (0, n + n2):
        return float("nan")
    return float(stats.fisher_exact([[k, n - k], [k2, n2 - k2]]).pvalue)


def _panel_tests(table: pd.DataFrame) -> Iterator[dict]:
    panels = table[table["panel"] == "batch_size"].groupby(["work", "precision"], sort=False)
    for (work, precision), panel in panels:
        found = [_chi_squared(row) for row in panel.to_dict("records")]
        found = [value for value in found if not np.isnan(value)]
        p = float(stats.chi2.sf(sum(found), len(found))) if found else float("nan")
        names = {"work": work, "panel": "batch_size", "size": "all", "precision": precision}
        yield names | {"p": p}


def _chi_squared(row: dict) -> float:
    k, n, k2, n2 = (row[name] for name in ("k", "n", "published_k", "published_n"))
    if k + k2 in (0, n + n2):
        return float("nan")
    return float(stats.chi2_contingency([[k, n - k], [k2, n2 - k2]]).statistic)


def _curve_tests(table: pd.DataFrame) -> Iterator[dict]:
    if table.empty:
        return
    for (panel, precision), curve in table.groupby(["panel", "precision"], sort=False):
        apart = ((curve["published"] - curve["ours"]).abs() - curve["reading"]).max()
        n, m = curve["n"].iloc[0], ALL_NETWORKS
        same = set(curve["published"]) == set(curve["ours"]) and set(curve["ours"]) <= {0.0, 1.0}
        distance = max(0.0, apart) * np.sqrt(n * m / (n + m))
        p = float("nan") if same else float(stats.kstwobign.sf(distance))
        yield {"work": "B21", "panel": panel, "size": "all", "precision": precision, "p": p}


def zeros_ratio(points: pd.DataFrame) -> tuple[float, float, float]:
    """Expected exact zeros a network, published over ours, and its interval (95 %).

    points: rows of :func:`points`. Zeros are rare and independent: a share p of networks in the
    zone means -log(1 - p) zeros a network. Sums over points; the interval from 1000 draws of both
    counts with a fixed seed.
    """
    own = points[(points["published"] < 1) & (points["ours"] < 1)]
    random = np.random.RandomState(0)
    theirs, ours = (
        -np.log1p(-np.minimum(random.binomial(n, p, (1000, len(own))) / n, 1 - 0.5 / n)).sum(1)
        for n, p in (
            (own["published_n"].to_numpy(), own["published"].to_numpy()),
            (own["n"].to_numpy(), own["ours"].to_numpy()),
        )
    )
    ratio = np.log1p(-own["published"]).sum() / np.log1p(-own["ours"]).sum()
    low, high = np.quantile(theirs / ours, [0.025, 0.975])
    return float(ratio), float(low), float(high)


def evidence_of(store: Store) -> Evidence:
    """What a store has of the points and curves."""
    return Evidence.of_store(store, ["zone.first_affected"])


def cells_of(store: Store, arithmetic: str) -> pd.DataFrame:
    """The records of an arithmetic's points, for a page's source line."""
    configs = [cell.config for cell in grid("injected", arithmetic)]
    return evidence_of(store).table(zone.first_affected, configs)


def progress(evidence: Evidence) -> pd.DataFrame:
    """How many of each arithmetic's cells have records, for the page."""
    rows = []
    for arithmetic in ARITHMETICS:
        cells = grid("injected", arithmetic)
        there = len(cells) - len(evidence.missing(cells))
        rows.append({"arithmetic": arithmetic, "cells": len(cells), "with records": there})
    return pd.DataFrame(rows)


def test_table(evidence: Evidence) -> pd.DataFrame:
    """Tests that an arithmetic misses, for the page: what is compared, and p; and how many it
    meets, of those whose networks all have records."""
    rows = []
    for arithmetic in ARITHMETICS:
        found = tests(evidence, "injected", arithmetic)
        if found.empty:
            continue
        met, missed = ((found["met"] == word) for word in (True, False))
        names = ", ".join(_name(row) for row in found[missed].to_dict("records"))
        rows.append(
            {
                "arithmetic": arithmetic,
                "tests": len(found),
                "0 or all in both": int(found["p"].isna().sum()),
                "met": int(met.sum()),
                "missed": int(missed.sum()),
                "those missed": names or "none",
            }
        )
    columns = ["arithmetic", "tests", "0 or all in both", "met", "missed", "those missed"]
    return pd.DataFrame(rows, columns=columns)


def ratio_table(points: pd.DataFrame) -> pd.DataFrame:
    """:func:`zeros_ratio` of each work at fp32, for the page."""
    rows = []
    for work, own in points[points["precision"] == "fp32"].groupby("work", sort=False):
        ratio, low, high = zeros_ratio(own)
        text = f"{ratio:.2f} [{low:.2f}, {high:.2f}]"
        rows.append({"work": work, "points": len(own), "zeros at fp32, published / ours": text})
    return pd.DataFrame(rows, columns=["work", "points", "zeros at fp32, published / ours"])


# ---- the sentence, registered before the points were computed ----


def _is_16_bit_linear(row: dict) -> bool:
    of_mlp = row["panel"] in ("depth", "width", "batch_size", "sample size")
    return of_mlp and row["precision"] == "fp16"


def _judge(evidence: Evidence, gradient_rule: str, arithmetic: str) -> Finding:
    found = tests(evidence, gradient_rule, arithmetic)
    missed = found[found["met"].map(lambda met: met is False)].to_dict("records")
    own = [row for row in missed if row["work"] == "B21"]
    own = [r for r in own if not (r["panel"] == "batch_size" and r["precision"] == "fp32")]
    others = [row for row in own if not _is_16_bit_linear(row)]
    value = f"{len(found)} tests, {found['p'].isna().sum()} of them 0 or all in both"
    value += "; missed: " + (", ".join(map(_name, missed)) or "none")
    return Finding(FAILS if others else HOLDS, value)


def _name(row: dict) -> str:
    size = "" if row["size"] == "all" else f" {row['size']}"
    return f"{row['work']} {row['panel'].replace('_', ' ')}{size} at {row['precision']}"


def _evenly(share: float) -> Example:
    """Networks of which a share is in the zone."""
    is_in = volume_claims._share(share)
    return volume_claims.networks(lambda _, seed, __: int(is_in(seed)))


@cache
def _published_by_seed(arithmetic: str, precision: str) -> dict[int, float]:
    """The released share of each point, by the seed of its first network."""
    return {
        sweep.config(row["by"], row["size"], precision, arithmetic).seed: (
            row["in_zone"] / row["networks"]
        )
        for sweep, file, _ in WORKS.values()
        for row in volume_claims._published_points(file, int(precision[2:])).to_dict("records")
    }


def _published_share(config: ZoneConfig) -> float:
    """The released share at a config's size."""
    shares = _published_by_seed(config.arithmetic, config.precision)
    return shares[max(seed for seed in shares if seed <= config.seed)]


@cache
def _curve_example(arithmetic: str, panel_of: str, norm: bool, precision: str) -> Example:
    """Networks that meet the zone when the published ones do; panel_of: their architecture."""
    (curve,) = (
        c
        for c in curves(arithmetic)
        if (c.config.architecture, c.config.batch_norm, c.precision) == (panel_of, norm, precision)
    )
    ranks = (np.arange(ALL_NETWORKS) + 0.5) / ALL_NETWORKS
    ends = np.array([*curve.batches, 10**6])  # never within the published curve: never
    firsts = ends[np.searchsorted(curve.published, ranks)] - 1
    return volume_claims._conv_networks(
        lambda _, seed: int(firsts[617 * seed % ALL_NETWORKS]), curve.batches[-1]
    )


def _is_curve(config: ZoneConfig) -> bool:
    return config.architecture != "mlp" or not config.relu_after_first


def _as_published(cell: Cell) -> dict:
    config = cell.config
    if _is_curve(config):
        at = (config.arithmetic, config.architecture, config.batch_norm, config.precision)
        return _curve_example(*at)(cell)
    return _evenly(_published_share(config))(cell)


def _all_at_fp16(cell: Cell) -> dict:
    """As published, but each 16-bit linear network is in the zone at its first mini-batch."""
    if cell.config.precision == "fp16" and cell.config.architecture == "mlp":
        return volume_claims._conv_networks(lambda *_: 0, 235)(cell)
    return _as_published(cell)


def _half_at_fp32(cell: Cell) -> dict:
    if cell.config.precision == "fp32" and not _is_curve(cell.config):
        return _evenly(_published_share(cell.config) / 2)(cell)
    return _as_published(cell)


CLAIM = Claim(
    id="A1",
    statement="But for the panel of batch sizes at fp32, each number of B21 that `epilogue` misses "
    "is one of a 16-bit linear layer.",
    published="shares of random networks in the zone, by size and along curves",
    source="B21 Fig. 2, 5, 16; M23 Fig. 4",
    figure="10_where_zeros_come_from#published-against-predicted",
    rule=(
        "Ours, from pilots. Every released share of networks in the zone at 16 and 32 bits "
        "against the prediction: Fisher's exact test a point, one test a curve and one a panel of "
        "batch sizes, at 1 % divided by the number of tests; points that are 0 or all in both are "
        "counted apart. Of the tests that miss, those of B21, but for its panel of batch sizes at "
        "fp32, are all of fully connected networks at fp16; fails where another one misses."
    ),
    thresholds={"risk": RISK, "reading": READING},
    grid=grid,
    judge=_judge,
    scale="1000 networks a point (300 ResNet-18)",
    arithmetics=("epilogue",),
    examples={
        "as published": _as_published,
        "16-bit linear layers otherwise": _all_at_fp16,
        "half of the zeros at fp32": _half_at_fp32,
        "no records": lambda _: None,
    },
)

# ---- a second sentence: the numbers that are left ----


def _half_grid(gradient_rule: str, _: str) -> list[Cell]:
    cells = grid(gradient_rule, "epilogue") + grid(gradient_rule, "separate")
    return [c for c in cells if c.config.architecture == "mlp" and c.config.precision == "fp16"]


def _judge_half(evidence: Evidence, gradient_rule: str, _: str) -> Finding:
    met: dict[tuple, bool] = {}
    for arithmetic in ("epilogue", "separate"):
        table = points(evidence, gradient_rule, arithmetic)
        for row in table[table["precision"] == "fp16"].to_dict("records"):
            name, p = (row["work"], row["panel"], row["size"]), _fisher(row)
            met[name] = met.get(name, False) or np.isnan(p) or p >= RISK / HALF_POINTS
    missed = [f"{work} {panel} {size}" for (work, panel, size), ok in met.items() if not ok]
    value = f"{len(met) - len(missed)} of {len(met)} points are met; missed: "
    return Finding(FAILS if missed else HOLDS, value + (", ".join(missed) or "none"))


HALF_POINTS = 60  # tests: 30 released points at 16 bits in each of two arithmetics

HALF_CLAIM = Claim(
    id="A2",
    statement="Each released share of fully connected networks at 16 bits is met by `epilogue` or "
    "by `separate`.",
    published="30 shares of B21 and M23",
    source="B21 Fig. 2; M23 Fig. 4",
    figure="10_where_zeros_come_from#published-against-predicted",
    rule=(
        "Ours, from pilots. Point by point, batch sizes too, since a library may choose its "
        "kernel by the shape of a product: Fisher's exact test at 1 % divided by 60 finds no "
        "difference in one of the two arithmetics at least, or both shares are 0 or all."
    ),
    thresholds={"risk": RISK, "tests": HALF_POINTS},
    grid=_half_grid,
    judge=_judge_half,
    scale="1000 networks a point in `epilogue`, 300 in `separate`",
    arithmetics=("separate",),
    examples={
        "as published": _as_published,
        "all at 16 bits": _all_at_fp16,
        "no records": lambda _: None,
    },
)
