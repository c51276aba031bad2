"""Tables of speeds, beside the goals that were set before they were measured."""

import math
import statistics
from collections.abc import Iterator

import pandas as pd

from reluprime.speed.config import BF16, EXACT, FP32, IN_MEMORY, PRODUCTS, RELEASED, STEP, TORCH

# Least speed relative to a contender, and share of the rate of matrix products, on each device.
GOALS = {
    ("monte-carlo", RELEASED): {"cpu": 15.0, "cuda": 500.0},
    ("monte-carlo", IN_MEMORY): {"cuda": 50.0},
    ("activation-images", TORCH): {"cpu": 1 / 1.2, "cuda": 1 / 1.1},
    ("activation-features", TORCH): {"cpu": 1 / 1.2, "cuda": 1 / 1.1},
    ("mlp-256", RELEASED): {"cpu": 5.0},
    ("mlp-2048", RELEASED): {"cpu": 1.15, "cuda": 8.0},
    ("vgg11", RELEASED): {"cuda": 3.0},
    ("resnet18", RELEASED): {"cuda": 3.0},
    ("monte-carlo", PRODUCTS): {"cpu": 0.85, "cuda": 0.5},
    ("monte-carlo-fp16", FP32): {"cpu": 1 / 1.5},
    ("vgg11-bf16", BF16): {"cpu": 1 / 1.3},
    ("mlp-256-band", EXACT): {"cpu": 1 / 1.3},
    # Three steps for each of two values of s.
    ("check-fp32", STEP): {"cpu": 1 / 6},
    ("check-bf16", STEP): {"cpu": 1 / 6},
}


KINDS = {"cpu": "CPU", "cuda": "GPU"}


def devices(frame: pd.DataFrame) -> pd.DataFrame:
    """A line for each device that rows of :func:`measure` are from."""
    lines = [
        {
            "device": how["device_name"],
            "kind": KINDS[how["device"]],
            "date": how["utc"][:10],
            "threads": how["threads"],
            "torch": how["torch"],
        }
        for how in frame.get("provenance", ())
    ]
    columns = ["device", "kind", "date", "threads", "torch"]
    return pd.DataFrame(lines, columns=columns).drop_duplicates()


def table(frame: pd.DataFrame) -> pd.DataFrame:
    """A line for each task and what ours is measured against, from rows of :func:`measure`.

    `ours`, `theirs`: median seconds of one unit. `times ours`: theirs divided by ours, pair by
    pair: the median, and the least and the most; of "matrix products" the share of their rate
    that ours reaches. `goal`: the least of it that was set for this kind of device beforehand.
    """
    lines = [line for _, row in frame.iterrows() for line in _lines(row)]
    columns = ["device", "task", "ours", "against", "theirs", "times ours", "range", "goal"]
    return pd.DataFrame(lines, columns=columns)


def ratios(frame: pd.DataFrame) -> dict[str, tuple[list[float], float | None]]:
    """The ratios and the goal, if any, of each task and contender of :func:`table`, by their names.

    The share of the rate of matrix products, which is no speed of a contender, is left out.
    """
    found = {}
    for _, row in frame.iterrows():
        goals = {name: GOALS.get((row["task"], name), {}) for name in row["seconds"]}
        for name, values in row["seconds"].items():
            if name != "ours":
                own = [v / ours for v, ours in zip(values, row["seconds"]["ours"], strict=True)]
                goal = goals[name].get(row["provenance"]["device"])
                found[f"{row['task']} / {name}"] = own, goal
    return found


def in_prose(frame: pd.DataFrame) -> dict[str, float | int]:
    """The numbers in the prose about rows of :func:`measure` on a CPU, by name."""
    frame = frame[[how["device"] == "cpu" for how in frame.get("provenance", ())]]
    goals = [goal for goal in table(frame)["goal"] if goal]
    found = {name: values for name, (values, _) in ratios(frame).items()}

    def times(task: str) -> float:
        return statistics.median(found.get(f"{task} / {RELEASED}", [math.nan]))

    return {
        "monte_carlo_times": times("monte-carlo"),
        "epoch_times": times("mlp-256"),
        "goals": len(goals),
        "goals_reached": sum("not" not in goal for goal in goals),
    }


def _lines(row: pd.Series) -> Iterator[dict]:
    ours = row["seconds"]["ours"]
    common = {
        "device": row["provenance"]["device_name"],
        "task": row["task"],
        "ours": f"{statistics.median(ours):.3g}",
    }
    for name, values in row["seconds"].items():
        if name == "ours":
            continue
        ratios = [value / own for value, own in zip(values, ours, strict=True)]
        yield common | {
            "against": name,
            "theirs": f"{statistics.median(values):.3g}",
            "times ours": f"{statistics.median(ratios):.3g}",
            "range": f"{min(ratios):.3g} to {max(ratios):.3g}",
            "goal": _goal(row, name, statistics.median(ratios)),
        }
    if pd.notna(row["operations"]):
        products = row["operations"] / row["matrix_product_rate"]
        share = products / statistics.median(ours)
        yield common | {
            "against": PRODUCTS,
            "theirs": f"{products:.3g}",
            "times ours": f"{share:.2f}",
            "range": "",
            "goal": _goal(row, PRODUCTS, share),
        }


def _goal(row: pd.Series, against: str, value: float) -> str:
    goal = GOALS.get((row["task"], against), {}).get(row["provenance"]["device"])
    if goal is None:
        return ""
    return f"{goal:.3g}, {'reached' if value >= goal else 'not reached'}"


def unmeasured_goals(frame: pd.DataFrame) -> pd.DataFrame:
    """The goals for a GPU that no row has measured."""
    measured = {row["task"] for _, row in frame.iterrows() if row["provenance"]["device"] == "cuda"}
    lines = [
        {"task": task, "against": against, "goal": f"{goal['cuda']:.3g}"}
        for (task, against), goal in GOALS.items()
        if "cuda" in goal and task not in measured
    ]
    return pd.DataFrame(lines, columns=["task", "against", "goal"])
