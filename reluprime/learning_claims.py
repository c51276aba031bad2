"""The rules of the claims about training (B21 Section 4): P9 to P15.

A rule looks at one experiment: runs that differ in s, gradient rule and seed alone, with s=0
among them. If several experiments fit, the largest counts. Below the least scale (the paper's
width, MIN_EPOCHS, MIN_SEEDS) a rule says what was seen, and gives no verdict. A *drop* is the mean
loss of test accuracy against s=0, paired by seed, in points. It *is there* if a paired t-test says
so (5 %), and s is *equal* to 0 if an equivalence test at half a point does (5 %). Where neither
test says anything, that part of a claim is open. Values carry a 95 % bootstrap interval, which a
few runs make too narrow, so no rule looks at it.
"""

import pandas as pd

from reluprime import learning
from reluprime.findings import NOTHING, Finding, Frames, all_of, matches
from reluprime.statistics import RISK

MIN_EPOCHS = 20  # a tenth of the paper's 200
MIN_SEEDS = 3
CHANCE = 0.2  # twice the accuracy of guessing: below it a network counts as not trained
IMAGENET = 1_000_000  # training images

VGG11 = {"architecture": "vgg11", "dataset": "cifar10", "activation": "relu", "dropout": 0.0}
RESNET18 = VGG11 | {"architecture": "resnet18"}
MLP = {"architecture": "mlp", "dataset": "mnist", "activation": "relu"}
SGD = {"optimizer": "sgd", "batch_norm": False, "precision": "fp32", "momentum": 0.9}
PAPER_MLP = (2048, 2048, 2048)

Runs = pd.DataFrame


def experiment(frames: Frames, gradient_rule: str, s: float | None = None, **wanted) -> Runs:
    """The runs of the largest experiment with the wanted values, with some at `s` if it is given.

    Those at s=0 are among them, under either rule."""
    table = learning.runs(frames["training.fit"])
    table = table[matches(table, wanted)]
    candidates = [
        learning.under(group, gradient_rule)
        for _, group in table.groupby(learning.CONDITION, sort=False, dropna=False)
    ]
    fitting = [c for c in candidates if (c["s"] == 0).any() and (s is None or (c["s"] == s).any())]
    return max(fitting, key=_size, default=table.iloc[:0])


def _size(runs: Runs) -> tuple:
    first = runs.iloc[0]
    return first["width"], sum(first["hidden_sizes"]), first["epochs"], len(runs)


def _is_full(runs: Runs) -> bool:
    """Whether an experiment has the least scale of a verdict."""
    if runs.empty:
        return False
    first = runs.iloc[0]
    wide = (
        first["hidden_sizes"] == PAPER_MLP
        if first["architecture"] == "mlp"
        else first["width"] == 1
    )
    seeds = runs.groupby("s")["seed"].nunique()
    return bool(wide and first["epochs"] >= MIN_EPOCHS and (seeds >= MIN_SEEDS).all())


def _finding(value: str, parts: list[bool | None], *experiments: Runs) -> Finding:
    if any(runs.empty for runs in experiments):
        return NOTHING
    if not all(_is_full(runs) for runs in experiments):
        return Finding(f"{value} (small scale)", None)
    return Finding(value, all_of(parts))


def drop(runs: Runs, s: float) -> float:
    """Mean loss of test accuracy at s against s=0, in points."""
    return -100 * learning.effect(runs, s)["difference"]


def above(values: pd.Series) -> bool | None:
    """Whether the mean of paired differences is above 0, by a t-test; not, if it is shown to be
    below or within half a point of 0; open if neither."""
    if learning.difference_test(values) < RISK:
        return bool(values.mean() > 0)
    return False if learning.equivalence(values) < RISK else None


def same(values: pd.Series) -> bool | None:
    """Whether the mean of paired differences is within half a point of 0; open if it is neither
    shown to be that nor shown to differ from 0."""
    if learning.equivalence(values) < RISK:
        return True
    return False if learning.difference_test(values) < RISK else None


def drops(runs: Runs, s: float) -> bool | None:
    """Whether s=0 does better."""
    return above(-learning.differences(runs, s))


def _gains(runs: Runs, s: float) -> bool:
    return drop(runs, s) < 0 and learning.effect(runs, s)["p_difference"] < RISK


def points(runs: Runs, s: float) -> str:
    """The drop with its interval."""
    effect = learning.effect(runs, s)
    return learning.with_interval(*(-100 * effect[n] for n in ("difference", "high", "low")))


def equal(runs: Runs, s: float) -> bool | None:
    """Whether s is equal to 0 within half a point."""
    return same(learning.differences(runs, s))


def others(runs: Runs) -> list[float]:
    """The tested s but 0."""
    return sorted(s for s in runs["s"].unique() if s != 0)


def _accuracy(runs: Runs, s: float) -> float:
    return float(runs.loc[runs["s"] == s, "test_accuracy"].mean())


def vgg11_prefers_zero(frames: Frames, gradient_rule: str) -> Finding:
    """P9: there is a drop at every tested |s| above 0.1 (at least one), and no tested s does
    better than s=0 (t-test)."""
    runs = experiment(frames, gradient_rule, **VGG11, **SGD)
    beyond = [drops(runs, s) for s in others(runs) if abs(s) > 0.1]
    better = [_gains(runs, s) for s in others(runs)]
    value = "drop in points " + ", ".join(f"s={s:g}: {points(runs, s)}" for s in others(runs))
    return _finding(value, [all_of(beyond) if beyond else None, not any(better)], runs)


def resnet18_fails_mlp_resists(frames: Frames, gradient_rule: str) -> Finding:
    """P10: ResNet-18 without batch norm stays below 20 % at every tested s above 0.2 (at least
    one), and at s=1 it drops more than twice as much as the MLP, which learns (above 20 %)."""
    resnet = experiment(frames, gradient_rule, 1.0, **RESNET18, **SGD)
    mlp = experiment(frames, gradient_rule, 1.0, **MLP, **SGD, dropout=0.0)
    failing = [_accuracy(resnet, s) < CHANCE for s in others(resnet) if s > 0.2]
    less = drop(resnet, 1.0) > 2 * max(0.0, drop(mlp, 1.0))
    learns = _accuracy(mlp, 1.0) > CHANCE
    value = f"drop at s=1: ResNet-18 {points(resnet, 1.0)}, MLP {points(mlp, 1.0)}"
    parts = [all(failing) if failing else None, less and learns]
    return _finding(value, parts, resnet, mlp)


def imagenet_drops(frames: Frames, gradient_rule: str) -> Finding:
    """P11: ResNet-50 on at least a million images loses at least 10 points of top-1 accuracy at
    s=1 (published: 12 and 20); one run each, as published, of at least 20 epochs."""
    runs = experiment(frames, gradient_rule, 1.0, architecture="resnet50", dataset="image-folder")
    if runs.empty or runs.iloc[0]["n_batches"] * runs.iloc[0]["batch_size"] < IMAGENET:
        return NOTHING
    points_lost = drop(runs, 1.0)
    full = runs.iloc[0]["epochs"] >= MIN_EPOCHS and runs.iloc[0]["width"] == 1
    return Finding(f"drop of {points_lost:.1f} points", bool(points_lost >= 10) if full else None)


def batch_norm_removes_effect(frames: Frames, gradient_rule: str) -> Finding:
    """P12, at s=1: VGG11 and MLP drop without batch norm and are equal to s=0 with it; ResNet-18
    with batch norm drops, by less than 5 points."""
    norm = SGD | {"batch_norm": True}
    networks = (VGG11, MLP | {"dropout": 0.0})
    before = [experiment(frames, gradient_rule, 1.0, **n, **SGD) for n in networks]
    after = [experiment(frames, gradient_rule, 1.0, **n, **norm) for n in networks]
    resnet = experiment(frames, gradient_rule, 1.0, **RESNET18, **norm)
    parts = [drops(runs, 1.0) for runs in before]
    parts += [equal(runs, 1.0) for runs in after]
    parts.append(drops(resnet, 1.0) and drop(resnet, 1.0) < 5)
    value = "drop at s=1 without, with: " + "; ".join(
        f"{name} {points(a, 1.0)}, {points(b, 1.0)}"
        for name, a, b in zip(("VGG11", "MLP"), before, after, strict=True)
    )
    value += f"; ResNet-18 with {points(resnet, 1.0)}"
    return _finding(value, parts, *before, *after, resnet)


def adam_reduces_effect(frames: Frames, gradient_rule: str) -> Finding:
    """P13, VGG11 on CIFAR-10 at s=1: there is a drop with SGD, and it is larger than Adam's
    (paired t-test over seeds, 5 %)."""
    sgd = experiment(frames, gradient_rule, 1.0, **VGG11, **SGD)
    adam = experiment(
        frames,
        gradient_rule,
        1.0,
        **VGG11,
        **SGD | {"optimizer": "adam", "momentum": 0.0},
    )
    apart = (learning.differences(adam, 1.0) - learning.differences(sgd, 1.0)).dropna()
    value = f"drop at s=1: SGD {points(sgd, 1.0)}, Adam {points(adam, 1.0)}"
    return _finding(value, [drops(sgd, 1.0), above(apart)], sgd, adam)


def precision_decides(frames: Frames, gradient_rule: str) -> Finding:
    """P14, VGG11: s=1 at fp64 is equal to s=0 at fp32 (same seeds); at fp16 s=1 stays below
    20 %, while s=0 does not."""
    at = {
        p: experiment(frames, gradient_rule, 1.0, **VGG11, **SGD | {"precision": p})
        for p in ("fp64", "fp32", "fp16")
    }
    mixed = pd.concat([at["fp64"].query("s == 1"), at["fp32"].query("s == 0")])
    half = {s: _accuracy(at["fp16"], s) for s in (0.0, 1.0)}
    parts = [equal(mixed, 1.0), half[1.0] < CHANCE < half[0.0]]
    value = (
        f"fp64 s=1 less fp32 s=0: drop {points(mixed, 1.0)}; "
        f"fp16 s=0 {half[0.0]:.1%}, s=1 {half[1.0]:.1%}"
    )
    return _finding(value, parts, *at.values())


def dropout_has_no_joint_effect(frames: Frames, gradient_rule: str) -> Finding:
    """P15, MLP at s=1: for every tested dropout rate the drop with dropout less the drop without
    is equal to 0 within half a point (paired by seed, equivalence test)."""
    plain = experiment(frames, gradient_rule, 1.0, **MLP, **SGD, dropout=0.0)
    table = learning.runs(frames["training.fit"])
    rates = sorted(rate for rate in table["dropout"].unique() if rate)
    dropped = {
        rate: experiment(frames, gradient_rule, 1.0, **MLP, **SGD, dropout=rate) for rate in rates
    }
    if not dropped:
        return NOTHING
    joint = {
        rate: (learning.differences(runs, 1.0) - learning.differences(plain, 1.0)).dropna()
        for rate, runs in dropped.items()
    }
    value = "joint drop at s=1: " + ", ".join(
        f"rate {rate:g}: {-100 * values.mean():.2f}" for rate, values in joint.items()
    )
    parts = [same(values) for values in joint.values()]
    return _finding(value, parts, plain, *dropped.values())
