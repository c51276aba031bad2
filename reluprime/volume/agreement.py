"""Whether the released shares are what an arithmetic predicts: a test a point, curve or panel."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy import stats

from reluprime.evidence.claim import Evidence
from reluprime.instruments.arithmetic import ARITHMETICS
from reluprime.volume.experiments import ALL_NETWORKS, published_points
from reluprime.volume.predictions import WORKS, curve_points, points
from reluprime.volume.shares import share_in_words

ALL_TESTS_RISK = 0.01  # of all tests of an arithmetic together
NEARLY_ALL = 0.99  # of networks
POINT = ["work", "panel", "size", "precision"]
MET = {True: "met", False: "missed", None: ""}  # None: 0 or all in both, or no test of its own
TESTS_AT_16_BITS = 60  # 30 released points of fully connected networks in each of two arithmetics


def all_tests(evidence: Evidence, gradient_rule: str, arithmetic: str) -> pd.DataFrame:
    """One row a test: work, panel, size ("all" for one test of many), precision, p, met.

    A point: Fisher's exact test. A panel of batch sizes of which each has its networks: one
    chi-squared test for the sum of its points' statistics. A curve: the largest distance, less
    what reading may be off (Kolmogorov and Smirnov, two samples). p is NaN where both are 0 or
    all. met: whether p is above ALL_TESTS_RISK divided by the number of tests (Bonferroni); None
    where p is NaN.
    """
    table = points(evidence, gradient_rule, arithmetic)
    rows = [*_point_tests(table), *_panel_tests(_whole_panels(table))]
    rows += _curve_tests(curve_points(evidence, gradient_rule, arithmetic))
    found = pd.DataFrame(rows, columns=["work", "panel", "size", "precision", "p"])
    least = ALL_TESTS_RISK / max(1, found["p"].notna().sum())
    met = [None if np.isnan(p) else bool(p >= least) for p in found["p"]]
    return found.assign(met=pd.Series(met, dtype=object))


def _point_tests(table: pd.DataFrame) -> Iterator[dict]:
    for row in table[table["panel"] != "batch_size"].to_dict("records"):
        yield {name: row[name] for name in POINT} | {"p": fisher(row)}


def fisher(row: dict) -> float:
    k, n, k2, n2 = (row[name] for name in ("k", "n", "published_k", "published_n"))
    if k + k2 in (0, n + n2):
        return float("nan")
    return float(stats.fisher_exact([[k, n - k], [k2, n2 - k2]]).pvalue)


def _whole_panels(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of those panels of batch sizes of which each released size has its networks."""
    sizes = table[table["panel"] == "batch_size"]
    whole = [
        own
        for (work, precision), own in sizes.groupby(["work", "precision"], sort=False)
        if len(own) == len(_released_batch_sizes(work, precision))
    ]
    return pd.concat([sizes[:0], *whole])


def _panel_tests(table: pd.DataFrame) -> Iterator[dict]:
    for (work, precision), panel in table.groupby(["work", "precision"], sort=False):
        found = [_chi_squared(row) for row in panel.to_dict("records")]
        found = [value for value in found if not np.isnan(value)]
        p = float(stats.chi2.sf(sum(found), len(found))) if found else float("nan")
        names = {"work": work, "panel": "batch_size", "size": "all", "precision": precision}
        yield names | {"p": p}


def _released_batch_sizes(work: str, precision: str) -> pd.DataFrame:
    """Rows of `published_points`."""
    table = published_points(WORKS[work][1], int(precision[2:]))
    return table[table["by"] == "batch_size"]


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


def met_by_none(evidence: Evidence, gradient_rule: str) -> list[str]:
    """The tests that each arithmetic misses whose networks all have records."""
    met: dict[str, bool] = {}
    for arithmetic in ARITHMETICS:
        for row in all_tests(evidence, gradient_rule, arithmetic).to_dict("records"):
            name = test_name(row)
            met[name] = met.get(name, False) or row["met"] is not False
    return [name for name, any_does in met.items() if not any_does]


def in_prose(evidence: Evidence) -> dict[str, int | str]:
    """For the page, under the constant: fp16_points; fp16_met of them; fp16_nearly_all, those of
    fp16_met of which NEARLY_ALL or more were published in the zone; met_by_none."""
    met = met_at_16_bits(evidence, "injected")
    table = points(evidence, "injected", "epilogue")
    nearly = table[(table["precision"] == "fp16") & (table["published"] >= NEARLY_ALL)]
    names = nearly[["work", "panel", "size"]].itertuples(index=False, name=None)
    missed = met_by_none(evidence, "injected")
    return {
        "fp16_points": len(met),
        "fp16_met": sum(met.values()),
        "fp16_nearly_all": sum(met[name] for name in names),
        "n_met_by_none": len(missed),
        "met_by_none": ", ".join(missed),
    }


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


def test_name(row: dict) -> str:
    size = "" if row["size"] == "all" else f" {row['size']}"
    return f"{row['work']} {row['panel'].replace('_', ' ')}{size} at {row['precision']}"


def points_table(evidence: Evidence) -> pd.DataFrame:
    """Each released share of networks and what each arithmetic gives under the constant.

    One row a point of which an arithmetic has all networks, for the page. Columns: work, panel,
    size, precision, published and the arithmetics: shares with exact intervals (95 %), and, but for
    batch sizes, which have one test a panel, whether the arithmetic meets the point.
    """
    rows: dict[tuple, dict] = {}
    for arithmetic in ARITHMETICS:
        tests = all_tests(evidence, "injected", arithmetic)
        met = dict(zip(tests[POINT].itertuples(index=False, name=None), tests["met"], strict=True))
        for row in points(evidence, "injected", arithmetic).to_dict("records"):
            name = tuple(row[column] for column in POINT)
            cells = dict(zip(POINT, name, strict=True)) | dict.fromkeys(ARITHMETICS, "")
            cells["panel"] = row["panel"].replace("_", " ")
            cells["published"] = share_in_words(row["published_k"], row["published_n"])
            words = f"{share_in_words(row['k'], row['n'])} {MET[met.get(name)]}".strip()
            rows.setdefault(name, cells)[arithmetic] = words
    table = pd.DataFrame(rows.values(), columns=[*POINT, "published", *ARITHMETICS])
    return table.sort_values(["work", "precision", "panel", "size"])


def batch_size_table(evidence: Evidence, work: str) -> pd.DataFrame:
    """The panel of batch sizes of a work under the constant, for the page.

    A row a precision for the published counts and for each arithmetic: the share at each size that
    has all its networks, with its exact interval (95 %), and p of a chi-squared test that these
    are one share (empty where all or no networks are in the zone).
    """
    ours = {a: points(evidence, "injected", a) for a in ARITHMETICS}
    rows = []
    for precision in WORKS[work][2]:
        theirs = _released_batch_sizes(work, precision)
        rows.append(_panel_row(precision, "published", theirs[["size", "in_zone", "networks"]]))
        for arithmetic, table in ours.items():
            at = (table["work"] == work) & (table["panel"] == "batch_size")
            own = table.loc[at & (table["precision"] == precision), ["size", "k", "n"]]
            rows += [_panel_row(precision, arithmetic, own)] if len(own) else []
    return pd.DataFrame(rows).fillna("")


def _panel_row(precision: str, networks: str, counts: pd.DataFrame) -> dict:
    """counts: columns of sizes, networks in the zone, and all networks."""
    sizes, k, n = (counts[name].to_numpy() for name in counts)
    table = np.array([k, n - k])
    p = f"{stats.chi2_contingency(table).pvalue:.2g}" if table.any(axis=1).all() else ""
    shares = {f"{size}": share_in_words(*counts) for size, *counts in zip(sizes, k, n, strict=True)}
    return {"precision": precision, "networks of": networks, "p, one share": p} | shares
