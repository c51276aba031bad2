"""Tables of paired runs: their events, and how far the variants move from s=0."""

import math
from statistics import median

import numpy as np
import pandas as pd

from reluprime.evidence.intervals import quartiles


def run_table(runs: pd.DataFrame) -> pd.DataFrame:
    """One row a paired run: its event, and each variant's distance there and at the end.

    runs: rows of `bifurcation.paired_run`. Columns: run, step (from 1) and where ("–" without an
    event), control (largest distance), and for each variant LABEL: "LABEL gradient" (relative
    difference at the event), "LABEL jump", "LABEL end" (L1 distances).
    """
    rows = []
    for run in _with_arithmetic(runs).to_dict("records"):
        event = run["event"]
        row = {
            "run": f"{run['activation']} {run['precision']} {run['arithmetic']} seed {run['seed']}",
            "step": event["step"] + 1 if event else "–",
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


def events(runs: pd.DataFrame) -> pd.DataFrame:
    """A row a paired run that met an exact zero and gradient rule: run, gradient_rule, gradient
    (relative change in that step), jump (L1 distance of the weights after it).

    runs: rows of `bifurcation.paired_run` at s=1.
    """
    rows = [
        {
            "run": f"{run['activation']} {run['precision']}, seed {run['seed']}",
            "gradient_rule": label.split()[0],
            "gradient": run["event"]["relative_gradient_difference"][label],
            "jump": distance[run["event"]["step"]],
        }
        for run in runs.to_dict("records")
        if run["event"]
        for label, distance in run["distance"].items()
        if label != "control"
    ]
    return pd.DataFrame(rows, columns=["run", "gradient_rule", "gradient", "jump"])


def by_arithmetic(runs: pd.DataFrame) -> pd.DataFrame:
    """A row an arithmetic and precision: how soon its runs meet a zero, and what that does.

    runs: rows of `bifurcation.paired_run` at s=1. Columns: precision, arithmetic, runs, with a
    zero (runs), first step (median, counted from 1), zeros a step (mean over all steps of the
    s=0 networks), and for each rule "RULE gradient" (median relative change in that step) and
    "RULE end" (median L1 distance after the last step).
    """
    rows = []
    conditions = _with_arithmetic(runs).groupby(["precision", "arithmetic"], sort=False)
    for (precision, arithmetic), own in conditions:
        met = [event for event in own["event"] if event]
        zeros = [np.sum(list(found.values()), axis=0).mean() for found in own["exact_zeros"]]
        row = {
            "precision": precision,
            "arithmetic": arithmetic,
            "runs": len(own),
            "with a zero": len(met),
            "first step": median([event["step"] + 1 for event in met]) if met else "–",
            "zeros a step": f"{np.mean(zeros):.2g}",
        }
        for label in [label for label in own["distance"].iloc[0] if label != "control"]:
            rule, ends = label.split()[0], [distance[label][-1] for distance in own["distance"]]
            changes = [event["relative_gradient_difference"][label] for event in met]
            row[f"{rule} gradient"] = f"{median(changes):.2g}" if met else "–"
            finite = all(map(math.isfinite, ends))
            row[f"{rule} end"] = f"{median(ends):.2g}" if finite else "not finite"
        rows.append(row)
    return pd.DataFrame(rows)


def _with_arithmetic(runs: pd.DataFrame) -> pd.DataFrame:
    """Records of native arithmetic do not name it."""
    named = runs["arithmetic"] if "arithmetic" in runs else pd.Series(None, index=runs.index)
    return runs.assign(arithmetic=named.astype(object).fillna("native"))


def distances(cells: pd.DataFrame) -> pd.DataFrame:
    """Distances to s=0 by step from rows of `bifurcation.paired_run` cells with Adam.

    Columns: precision, seed, gradient_rule, step (from 1), quantity ("L1 distance", or "sums":
    what M23 plotted), value.
    """
    names = {"distance": "L1 distance", "sum_difference": "sums"}
    rows = [
        {
            "precision": cell["precision"],
            "seed": cell["seed"],
            "gradient_rule": label.split()[0],
            "quantity": quantity,
            "step": step,
            "value": value,
        }
        for cell in cells.to_dict("records")
        for key, quantity in names.items()
        for label, values in cell[key].items()
        if label != "control"
        for step, value in enumerate(values, start=1)
    ]
    return pd.DataFrame(rows)


def last_distances(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of :func:`distances` after each run's last step, NaN where it was not finite."""
    run = ["precision", "seed", "gradient_rule", "quantity"]
    return table.sort_values("step", kind="stable").drop_duplicates(run, keep="last")


def distance_table(table: pd.DataFrame) -> pd.DataFrame:
    """Median over seeds of the last distances, and how many runs parted, for the page."""
    last = last_distances(table)
    wide = last.pivot_table(
        index=["precision", "gradient_rule"], columns="quantity", values="value", aggfunc="median",
        sort=False, dropna=False,
    )  # fmt: skip
    true = last[last["quantity"] == "L1 distance"].groupby(["precision", "gradient_rule"])
    wide["runs"] = true.size()
    wide["not finite"] = true["value"].apply(lambda v: int((~v.map(math.isfinite)).sum()))
    wide["apart"] = true["value"].apply(lambda v: int((v > 0).sum()))
    for quantity in ("L1 distance", "sums"):
        wide[quantity] = wide[quantity].map("{:.3g}".format)
    return wide.reset_index().rename_axis(columns=None)


def in_prose(runs: pd.DataFrame) -> dict[str, float]:
    """The numbers in the prose of the page on paired runs, by name.

    runs: rows of `bifurcation.paired_run` at s=1. Medians are over the fp32 runs with ReLU that
    met an event.
    """
    own = runs[(runs["activation"] == "relu") & (runs["precision"] == "fp32")].to_dict("records")
    met = [run for run in own if run["event"]]
    found = {
        "runs": len(own),
        "runs_with_event": len(met),
        "largest_control_distance": max(max(distance["control"]) for distance in runs["distance"]),
    }
    for rule in ("chain", "injected"):
        label = f"{rule} s=1"
        jumps = [run["distance"][label][run["event"]["step"]] for run in met]
        changes = [run["event"]["relative_gradient_difference"][label] for run in met]
        found |= {f"jump_{rule}": quartiles(jumps)[1], f"gradient_{rule}": quartiles(changes)[1]}
    return found


def one_seed(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs, at every precision, of the first seed that met an event at fp32, or of seed 0."""
    met = runs[(runs["precision"] == "fp32") & runs["event"].map(bool)]["seed"]
    return runs[runs["seed"] == (met.iloc[0] if len(met) else 0)]
