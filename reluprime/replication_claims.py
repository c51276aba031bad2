"""The rules of M23's claims: R1, R2 and R4 to R7 (R3 stands with the Monte Carlo).

As in :mod:`reluprime.learning_claims`: below the least scale that a rule names it says what was
seen, and gives no verdict.
"""

import pandas as pd

from reluprime import learning, replication
from reluprime.findings import NOTHING, Finding, Frames, all_of
from reluprime.learning_claims import MIN_SEEDS, drop, drops, equal, experiment, others, points
from reluprime.statistics import RISK

MNIST_IMAGES = 60_000
MIN_SEARCHES = 10  # repetitions
NARROW = 0.0044  # M23's difference between its two searches; an interval must be narrower

ADAM = {"optimizer": "adam", "momentum": 0.0, "dataset": "mnist"}
FULLY_CONNECTED = ADAM | {
    "architecture": "mlp",
    "hidden_sizes": (200, 200, 200),
    "batch_norm": False,
    "dropout": 0.0,
}
MOBILENET = {"architecture": "mobilenet_v3_small", "activation_sites": "all"}


def _scaled(value: str, parts: list[bool | None], full: bool) -> Finding:
    return Finding(value, all_of(parts)) if full else Finding(f"{value} (small scale)", None)


def _all_images(n_train: float | None) -> bool:
    return bool(pd.isna(n_train) or n_train >= MNIST_IMAGES)


def _is_full(runs: pd.DataFrame, epochs: int) -> bool:
    """Full width, all of MNIST, at least `epochs` planned and MIN_SEEDS seeds at every s."""
    if runs.empty:
        return False
    first, seeds = runs.iloc[0], runs.groupby("s")["seed"].nunique()
    return bool(
        first["width"] == 1
        and _all_images(first["n_train"])
        and first["epochs"] >= epochs
        and (seeds >= MIN_SEEDS).all()
    )


def weights_part_faster(frames: Frames, gradient_rule: str) -> Finding:
    """R1: with Adam, 784-2000-10 on MNIST, the L1 distance between s=0 and s=1 after the run is
    larger at bf16 (M23's 16 bits) than at fp32 for every seed; at least 3."""
    cells = frames["bifurcation.paired_run"]
    if cells.empty or "optimizer" not in cells:
        return NOTHING
    cells = cells[(cells["optimizer"] == "adam") & cells["hidden_sizes"].isin([(2000,)])]
    if cells.empty:
        return NOTHING
    table = replication.distances(cells[cells["dataset"] == "mnist"])
    table = table[(table["gradient_rule"] == gradient_rule) & (table["quantity"] == "L1 distance")]
    last = replication.last_distances(table).pivot(
        index="seed", columns="precision", values="value"
    )
    if not {"fp32", "bf16"} <= set(last):
        return NOTHING
    last = last[["fp32", "bf16"]].dropna()
    value = ", ".join(f"{p} {last[p].median():.2g}" for p in last)
    holds = bool((last["bf16"] > last["fp32"]).all())
    return _scaled(f"median L1 distance {value}", [holds], len(last) >= MIN_SEEDS)


def small_precision_suffers(frames: Frames, gradient_rule: str) -> Finding:
    """R2, 784-200x3-10, Adam, 50 epochs: at fp32 every tested s is equal to s=0 within half a
    point; at bf16 (M23's 16 bits) there is a drop at s=1, and the final accuracies of its seeds
    spread more than at s=0 (standard deviation)."""
    full, half = (
        experiment(frames, gradient_rule, 1.0, **FULLY_CONNECTED, precision=p)
        for p in ("fp32", "bf16")
    )
    if full.empty or half.empty:
        return NOTHING
    alike = [equal(full, s) for s in others(full)]
    spread = {s: half.loc[half["s"] == s, "test_accuracy"].std() for s in (0.0, 1.0)}
    value = f"drop at s=1: fp32 {points(full, 1.0)}, bf16 {points(half, 1.0)}; bf16 spread at "
    value += ", ".join(f"s={s:g} {100 * spread[s]:.2f}" for s in spread)
    parts = [all_of(alike), drops(half, 1.0), bool(spread[1.0] > spread[0.0])]
    return _scaled(value, parts, _is_full(full, 50) and _is_full(half, 50))


def resnet_is_stable(frames: Frames, gradient_rule: str) -> Finding:
    """R4, ResNet-20 with batch norm on MNIST, Adam, 20 epochs, s in every activation: every
    tested s is equal to s=0 within half a point."""
    wanted = ADAM | {"architecture": "resnet20", "activation_sites": "all", "precision": "fp32"}
    runs = experiment(frames, gradient_rule, 1.0, **wanted)
    if runs.empty:
        return NOTHING
    worst = max(others(runs), key=lambda s: abs(drop(runs, s)))
    value = f"largest drop at s={worst:g}: {points(runs, worst)}"
    return _scaled(value, [equal(runs, s) for s in others(runs)], _is_full(runs, 20))


def mobilenet_shows_nothing(frames: Frames, gradient_rule: str) -> Finding:
    """R5, MobileNetV3-small with ReLU on MNIST, Adam, s in every ReLU: after 2 epochs every
    tested s is equal to s=0 within half a point."""
    wanted = ADAM | MOBILENET | {"activation": "relu", "precision": "fp32", "epochs": 2}
    runs = experiment(frames, gradient_rule, 1.0, **wanted)
    if runs.empty:
        return NOTHING
    value = f"drop at s=1: {points(runs, 1.0)}"
    return _scaled(value, [equal(runs, s) for s in others(runs)], _is_full(runs, 2))


def _largest_search(frames: Frames, architecture: str) -> pd.DataFrame:
    """The searches of the widest network on the most images."""
    cells = frames["tuning.search"]
    found = replication.searches(cells)
    found = found[(found["architecture"] == architecture) & (found["dataset"] == "mnist")]
    groups = [g for _, g in found.groupby(list(replication.SEARCH), sort=False, dropna=False)]
    return max(groups, key=_size, default=found)


def _size(found: pd.DataFrame) -> tuple:
    first = found.iloc[0]
    images = MNIST_IMAGES if pd.isna(first["n_train"]) else first["n_train"]
    return first["width"], images, sum(first["hidden_sizes"]), first["epochs"], len(found)


def _is_worse(gain: dict) -> bool | None:
    """Whether searching s does worse; open if the interval is too wide to say no."""
    if gain["gain"] < 0 and gain["p_difference"] < RISK:
        return True
    return False if gain["high"] - gain["low"] < NARROW else None


def _search_finding(found: pd.DataFrame, gradient_rule: str, epochs: int):
    """-> value, whether searching is worse, whether the scale is M23's; None without records."""
    gain = replication.gain(replication.gains(found, replication.SEARCHED[gradient_rule]))
    if gain["searches"] < 2:
        return None
    first = found.iloc[0]
    full = (
        first["width"] == 1
        and _all_images(first["n_train"])
        and first["epochs"] >= epochs
        and first["n_trials"] >= 10
        and gain["searches"] >= MIN_SEARCHES
    )
    value = learning.with_interval(*(100 * gain[n] for n in ("gain", "low", "high")))
    return f"gain in points {value}", _is_worse(gain), bool(full)


def searching_does_worse(frames: Frames, gradient_rule: str) -> Finding:
    """R6, MobileNetV3-small with ReLU6: the best validation accuracy of a search over s and
    s_upper too is lower than with both at 0 (paired t-test over repeated searches, 5 %); not, if
    the test finds nothing with an interval narrower than M23's difference of 0.44 points. Ten
    repetitions of 10 trials and 6 epochs."""
    found = _search_finding(_largest_search(frames, "mobilenet_v3_small"), gradient_rule, 6)
    if found is None:
        return NOTHING
    value, worse, full = found
    return _scaled(value, [worse], full)


def fully_connected_agrees(frames: Frames, gradient_rule: str) -> Finding:
    """R7: the rule of R6 for one hidden layer of 2000 (10 epochs); and in training 784-200x3-10
    at bf16 the zeros of the last half of the epochs are fewer than those of the first half with s
    other than 0, and more with s=0 (t-tests over runs, 5 %)."""
    found = _search_finding(_largest_search(frames, "mlp"), gradient_rule, 10)
    runs = experiment(frames, gradient_rule, 1.0, **FULLY_CONNECTED, precision="bf16")
    if found is None or runs.empty:
        return NOTHING
    value, worse, full = found
    changed, zero = (replication.trend(runs[at]) for at in (runs["s"] != 0, runs["s"] == 0))
    rarer = changed.mean() < 0 and learning.difference_test(changed) < RISK
    oftener = zero.mean() > 0 and learning.difference_test(zero) < RISK
    value += f"; zeros, last half less first: s other than 0 {changed.mean():+.2g}, "
    value += f"s=0 {zero.mean():+.2g}"
    return _scaled(value, [worse, bool(rarer), bool(oftener)], full and _is_full(runs, 50))
