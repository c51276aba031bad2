"""Exact zeros of the same random networks on two machines, and against the published ones."""

import numpy as np
import pandas as pd

from reluprime.evidence.claim import Evidence
from reluprime.volume.agreement import ALL_TESTS_RISK, all_tests, fisher, met_by_none, test_name
from reluprime.volume.experiments import cells_of, in_zone, share_networks
from reluprime.volume.predictions import points, prediction_grid


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


def ratio_table(evidence: Evidence) -> pd.DataFrame:
    """:func:`zeros_ratio` of each work at fp32, by the machine of ours, for the page.

    Over all points that a machine has, and over those that each machine has.
    """
    by_machine = _points_by_machine(evidence)
    columns = ["ours on", "work", "points", _PUBLISHED, "points on each", f"{_PUBLISHED}, there"]
    if not by_machine:
        return pd.DataFrame(columns=columns)
    table = pd.concat([own.assign(machine=machine) for machine, own in by_machine.items()])
    table = table[table["precision"] == "fp32"].reset_index(drop=True)
    shared = table.groupby(_POINT)["machine"].transform("size") == len(by_machine)
    rows = []
    for (machine, work), own in table.groupby(["machine", "work"], sort=False):
        there = own[shared[own.index]]
        rows.append((machine, work, len(own), _ratio(own), len(there), _ratio(there)))
    return pd.DataFrame(rows, columns=columns)


_POINT = ["work", "panel", "size", "precision"]
_PUBLISHED = "zeros at fp32, published / ours"


def machine_table(evidence: Evidence) -> pd.DataFrame:
    """Zeros of the same networks on two machines, by precision and width, for the page.

    The two that have most records, and the points that both have. The networks are the same, which
    the interval does not use: it is too wide rather than too narrow.
    """
    none = ("", pd.DataFrame())
    (first, a), (second, b) = [*_points_by_machine(evidence).items(), none, none][:2]
    columns = ["precision", "layers of", "points", "zeros, on", "over, on", "ratio"]
    if b.empty:
        return pd.DataFrame(columns=columns)
    both = b.merge(a[[*_POINT, "ours", "n"]], on=_POINT, suffixes=("_of_second", ""))
    both = both.assign(published=both["ours_of_second"], published_n=both["n_of_second"])
    width = both["size"].where(both["panel"] == "width", both["work"].map({"B21": 256, "M23": 32}))
    layers = np.where(width == 256, "256", "other widths")
    rows = []
    for (precision, of), own in both.groupby(["precision", layers], sort=False):
        rows.append((precision, of, len(own), second, first, _ratio(own)))
    return pd.DataFrame(rows, columns=columns)


def met_elsewhere(evidence: Evidence) -> list[str]:
    """The points that no arithmetic meets on the machine that has most of them, and `epilogue`
    does on another, by the same test at the same risk."""
    missed = met_by_none(evidence, "injected")
    n_tests = all_tests(evidence, "injected", "epilogue")["p"].notna().sum()
    (_, *others) = _points_by_machine(evidence).values() or [None]
    found = [
        test_name(row)
        for table in others
        for row in table[table["panel"] != "batch_size"].to_dict("records")
        if not fisher(row) < ALL_TESTS_RISK / max(1, n_tests)  # NaN, 0 or all in both, is met
    ]
    return [name for name in missed if name in found]


def in_prose(evidence: Evidence) -> dict[str, int | str]:
    """Of the page, under the constant: n_met_elsewhere and met_elsewhere; and the share in the zone
    of the networks that B21's notebook builds, at fp32, release_on_cpu and release_on_gpu ("none
    computed" without records)."""
    elsewhere = met_elsewhere(evidence)
    words = {"n_met_elsewhere": len(elsewhere), "met_elsewhere": ", ".join(elsewhere) or "none"}
    config = share_networks("epilogue")["release", "fp32"]
    cells = cells_of(config)
    found = words | dict.fromkeys(("release_on_cpu", "release_on_gpu"), "none computed")
    for own in evidence.complete(cells).values():
        (record, *_) = own.of(cells[0].study, cells[0].config)
        where = "gpu" if record["provenance"]["device"] == "cuda" else "cpu"
        k, n = in_zone(own, config, "injected")
        found[f"release_on_{where}"] = f"{k / n:.1%}"
    return found


def _points_by_machine(evidence: Evidence) -> dict[str, pd.DataFrame]:
    grid = prediction_grid("injected", "epilogue")
    return {
        machine: points(own, "injected", "epilogue")
        for machine, own in evidence.by_machine(grid).items()
    }


def _ratio(points: pd.DataFrame) -> str:
    if points.empty:
        return ""
    ratio, low, high = zeros_ratio(points)
    return f"{ratio:.2f} [{low:.2f}, {high:.2f}]"
