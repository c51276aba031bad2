"""Whether the released shares are what an arithmetic predicts: a test a point, curve or panel."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy import stats

from reluprime.evidence.claim import ARITHMETICS, Evidence
from reluprime.volume.experiments import ALL_NETWORKS
from reluprime.volume.predictions import curve_points, points, prediction_grid

ALL_TESTS_RISK = 0.01  # of all tests of an arithmetic together
TESTS_AT_16_BITS = 60  # 30 released points of fully connected networks in each of two arithmetics


def all_tests(evidence: Evidence, gradient_rule: str, arithmetic: str) -> pd.DataFrame:
    """One row a test: work, panel, size ("all" for one test of many), precision, p, met.

    A point: Fisher's exact test. A panel of batch sizes: one chi-squared test for the sum of its
    points' statistics. A curve: the largest distance, less what reading may be off
    (Kolmogorov and Smirnov, two samples). p is NaN where both are 0 or all. met: whether p is
    above ALL_TESTS_RISK divided by the number of tests (Bonferroni); None where p is NaN.
    """
    table = points(evidence, gradient_rule, arithmetic)
    rows = [*_point_tests(table), *_panel_tests(table)]
    rows += _curve_tests(curve_points(evidence, gradient_rule, arithmetic))
    found = pd.DataFrame(rows, columns=["work", "panel", "size", "precision", "p"])
    least = ALL_TESTS_RISK / max(1, found["p"].notna().sum())
    met = [None if np.isnan(p) else bool(p >= least) for p in found["p"]]
    return found.assign(met=pd.Series(met, dtype=object))


def _point_tests(table: pd.DataFrame) -> Iterator[dict]:
    for row in table[table["panel"] != "batch_size"].to_dict("records"):
        names = ("work", "panel", "size", "precision")
        yield {name: row[name] for name in names} | {"p": fisher(row)}


def fisher(row: dict) -> float:
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


def met_at_16_bits(evidence: Evidence, gradient_rule: str) -> dict[tuple, bool]:
    """Released 16-bit points of fully connected networks, (work, panel, size), and whether
    "epilogue" or "separate" meets each: Fisher's test finds no difference, or both are 0 or all."""
    met: dict[tuple, bool] = {}
    for arithmetic in ("epilogue", "separate"):
        table = points(evidence, gradient_rule, arithmetic)
        for row in table[table["precision"] == "fp16"].to_dict("records"):
            name, p = (row["work"], row["panel"], row["size"]), fisher(row)
            ok = np.isnan(p) or p >= ALL_TESTS_RISK / TESTS_AT_16_BITS
            met[name] = met.get(name, False) or bool(ok)
    return met


def in_prose(evidence: Evidence) -> dict[str, int]:
    """For the page: fp16_points, and fp16_met of them, under the constant."""
    met = met_at_16_bits(evidence, "injected")
    return {"fp16_points": len(met), "fp16_met": sum(met.values())}


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


def test_table(evidence: Evidence) -> pd.DataFrame:
    """How many tests each arithmetic meets under the constant, of those whose networks all have
    records, for the page."""
    rows = []
    for arithmetic in ARITHMETICS:
        found = all_tests(evidence, "injected", arithmetic)
        if len(found):
            met, missed = (int((found["met"] == word).sum()) for word in (True, False))
            of = {"tests": len(found), "0 or all in both": int(found["p"].isna().sum())}
            rows.append({"arithmetic": arithmetic} | of | {"met": met, "missed": missed})
    columns = ["arithmetic", "tests", "0 or all in both", "met", "missed"]
    return pd.DataFrame(rows, columns=columns)


def missed_table(evidence: Evidence) -> pd.DataFrame:
    """The tests that an arithmetic misses under the constant, and their p, for the page."""
    rows = []
    for arithmetic in ARITHMETICS:
        found = all_tests(evidence, "injected", arithmetic)
        for row in found[found["met"] == False].to_dict("records"):  # noqa: E712 None is a third
            of = {"arithmetic": arithmetic, "missed": test_name(row)}
            rows.append(of | {"p": f"{row['p']:.2g}"})
    return pd.DataFrame(rows, columns=["arithmetic", "missed", "p"])


def ratio_table(evidence: Evidence) -> pd.DataFrame:
    """:func:`zeros_ratio` of each work at fp32, by the machine of ours, for the page."""
    rows = []
    for machine, found in _points_by_machine(evidence).items():
        for work, own in found[found["precision"] == "fp32"].groupby("work", sort=False):
            of = {"ours on": machine, "work": work, "points": len(own)}
            rows.append(of | {_PUBLISHED: _ratio(own)})
    return pd.DataFrame(rows, columns=["ours on", "work", "points", _PUBLISHED])


_PUBLISHED = "zeros at fp32, published / ours"


def machine_table(evidence: Evidence) -> pd.DataFrame:
    """Zeros of the same networks on two machines, by precision, for the page.

    The two that have most records, and the points that both have. The networks are the same, which
    the interval does not use: it is too wide rather than too narrow.
    """
    none = ("", pd.DataFrame())
    (first, a), (second, b) = [*_points_by_machine(evidence).items(), none, none][:2]
    rows, at = [], ["work", "panel", "size", "precision"]
    if not b.empty:
        both = b.merge(a[[*at, "ours", "n"]], on=at, suffixes=("_of_second", ""))
        both = both.assign(published=both["ours_of_second"], published_n=both["n_of_second"])
        for precision, own in both.groupby("precision", sort=False):
            of = {"precision": precision, "points": len(own)}
            rows.append(of | {"zeros, on": second, "over, on": first, "ratio": _ratio(own)})
    return pd.DataFrame(rows, columns=["precision", "points", "zeros, on", "over, on", "ratio"])


def _points_by_machine(evidence: Evidence) -> dict[str, pd.DataFrame]:
    grid = prediction_grid("injected", "epilogue")
    return {
        machine: points(own, "injected", "epilogue")
        for machine, own in evidence.by_machine(grid).items()
    }


def _ratio(points: pd.DataFrame) -> str:
    ratio, low, high = zeros_ratio(points)
    return f"{ratio:.2f} [{low:.2f}, {high:.2f}]"


def test_name(row: dict) -> str:
    size = "" if row["size"] == "all" else f" {row['size']}"
    return f"{row['work']} {row['panel'].replace('_', ' ')}{size} at {row['precision']}"
