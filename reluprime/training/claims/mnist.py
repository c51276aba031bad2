"""The claims about M23's networks on MNIST (R2, R4, R5 and R7)."""

from collections.abc import Sequence

import numpy as np

from reluprime.evidence import made_up
from reluprime.evidence.claim import Cell, Claim, Evidence
from reluprime.evidence.finding import NO_OCCASION, OPEN, Finding, all_must_hold, decided
from reluprime.evidence.paired import MLP_MARGIN
from reluprime.evidence.tests import RISK, more_spread, sign_flip
from reluprime.instruments.arithmetic import ARITHMETICS
from reluprime.training import arms, tables, zero_tables
from reluprime.training.arms import Arm, Scale, listed
from reluprime.training.claims.examples import COMMON, a_loss, by_chance, no_loss
from reluprime.training.config import TrainingConfig
from reluprime.training.experiments import ADAM, FIVE, LONGER, SEEDS, Experiment
from reluprime.training.study import fit

M23_S = (-0.5, 0.5, 0.8, 1.0)


# Seeds that no record had when the rules were written.
TEN = range(100, 110)
BASE_M23 = TrainingConfig(
    dataset="mnist",
    hidden_sizes=(200, 200, 200),
    epochs=50,
    lr=1e-3,
    schedule="constant",
    **ADAM,
)


def fully_connected(precision: str, arithmetic: str = "native") -> Scale:
    """M23's three layers of 200 in one precision and arithmetic, ten seeds."""
    changes = {"precision": precision, "arithmetic": arithmetic}
    return Scale(BASE_M23.replace(**changes), TEN)


def _r2_grid(gradient_rule: str, arithmetic: str) -> list[Cell]:
    scales = (fully_connected("fp32"), fully_connected("bf16", arithmetic))  # 32 bits stand apart
    return [cell for scale in scales for cell in scale.cells(gradient_rule, M23_S)]


def _m23_arms(evidence: Evidence, scale: Scale, gradient_rule: str) -> dict[float, Arm]:
    return {s: arms.arm(evidence, scale, s, gradient_rule) for s in (0.0, *M23_S)}


def _r2(evidence: Evidence, gradient_rule: str, arithmetic: str) -> Finding:
    scales = (fully_connected("fp32"), fully_connected("bf16", arithmetic))
    full, half = (_m23_arms(evidence, scale, gradient_rule) for scale in scales)
    spread = {s: 100 * float(np.std(half[s].counted, ddof=1)) for s in (0.0, 1.0)}
    parts = [
        *(arms.same(full[s], [], MLP_MARGIN) for s in M23_S),
        arms.drop(half[1.0], [], MLP_MARGIN),
        _more_spread(half[1.0], half[0.0]),
    ]
    value = (
        f"fp32 s=1: {arms.words(full[1.0])}; bf16 s=1: {arms.words(half[1.0])}, "
        f"spread {spread[1.0]:.2f} against {spread[0.0]:.2f} points at s=0"
    )
    return Finding(all_must_hold(parts), value)


def _more_spread(a: Arm, b: Arm) -> str:
    if a.met < arms.MIN_SEEDS:
        return NO_OCCASION
    x, y = a.counted, b.counted
    return decided(more_spread(x, y) < RISK, more_spread(y, x) < RISK)


def _m23_words(config: TrainingConfig) -> float:
    return 0.0 if config.precision == "fp32" else 0.02 + made_up.wobble(config.seed + 2, 0.03)


R2 = Claim(
    id="R2",
    statement="A 3x200 network trains alike for every s at 32 bits; at 16 bits larger s is worse "
    "and more spread (judged at s=1).",
    published="curves, box plots",
    source="M23 Fig. 2, 3",
    figure="08_replication_fc#the-runs-behind-the-claims",
    rule=(
        "At fp32 every s is equivalent to s=0 within half a point, paired by seed. At bf16 (M23's "
        "16 bits) s=1 does worse than 0: sign-flip test, whatever the size, failing where they "
        "are equivalent; and its accuracies spread more: permutation of their distances to the "
        "median, failing where those of s=0 spread more. Ten seeds."
    ),
    thresholds=SEEDS | {"risk": RISK, "margin": MLP_MARGIN},
    grid=_r2_grid,
    judge=_r2,
    scale="50 epochs, full width, 10 seeds (M23: 1)",
    arithmetics=ARITHMETICS,
    examples={
        "16 bits suffer": made_up.trainings(_m23_words),
        "no loss": made_up.trainings(no_loss),
        "32 bits suffer too": made_up.trainings(a_loss),
        "worse, but no more spread": made_up.trainings(
            lambda c: 0.0 if c.precision == "fp32" else 0.02
        ),
    }
    | COMMON,
)


def _r7_grid(gradient_rule: str, arithmetic: str) -> list[Cell]:
    return fully_connected("bf16", arithmetic).cells(gradient_rule, M23_S)


def _r7(evidence: Evidence, gradient_rule: str, arithmetic: str) -> Finding:
    scale = fully_connected("bf16", arithmetic)
    changed = trend_by_seed(evidence, scale, gradient_rule, M23_S)
    zero = trend_by_seed(evidence, scale, gradient_rule, (0.0,))
    if len(zero) < arms.MIN_SEEDS:
        return Finding(NO_OCCASION, f"{len(zero)} seeds met a zero")
    if len(changed) < arms.MIN_SEEDS:
        return Finding(OPEN, f"{len(changed)} seeds have a run that did not diverge")
    outcome = decided(sign_flip(-changed) < RISK, sign_flip(changed) < RISK)
    value = (
        f"zeros of the last half of the epochs less the first, {len(changed)} seeds: s other than "
        f"0 {changed.mean():+.1f}, s=0 {zero.mean():+.1f}"
    )
    return Finding(outcome, value)


def trend_by_seed(
    evidence: Evidence, scale: Scale, gradient_rule: str, s_values: Sequence[float]
) -> np.ndarray:
    """For each seed that met a zero the mean of `zero_tables.trend` over its runs.

    A run that diverged stops, and counts no zero once its values are not numbers: it says nothing
    about a trend, and is left out.
    """
    configs = [scale.arm(s, gradient_rule, seed) for s in s_values for seed in scale.seeds]
    runs = tables.runs(evidence.table(fit, configs))
    runs = runs[(runs["exact_zeros"] > 0) & runs["diverged_epoch"].isna()]
    return zero_tables.trend(runs).groupby(runs["seed"]).mean().to_numpy()


def _rarer(config: TrainingConfig) -> tuple[int, ...]:
    return (9, 9, 5, 5) if config.s else (9, 9, 10, 10)


R7 = Claim(
    id="R7",
    statement="With s other than 0, zeros become rarer as training goes on (M23 adds: and with "
    "s=0 more frequent, which is not judged).",
    published="text",
    source="M23 4.5",
    figure="08_replication_fc#do-zeros-become-rarer",
    rule=(
        "Training 784-200x3-10 at bf16, the runs of R2: a seed's runs with s other than 0 meet "
        "fewer zeros in the last half of the epochs than in the first: sign-flip test of the "
        "means by seed, failing where they meet more. Runs that diverged are left out."
    ),
    thresholds=SEEDS | {"risk": RISK},
    grid=_r7_grid,
    judge=_r7,
    scale="50 epochs, full width, 10 seeds (M23: 1)",
    arithmetics=ARITHMETICS,
    examples={
        "rarer": made_up.trainings(no_loss, _rarer),
        "more often": made_up.trainings(no_loss, lambda _: (5, 5, 9, 9)),
        "now rarer, now not": made_up.trainings(
            no_loss, lambda c: (9, 9, 5, 5) if c.seed % 2 else (5, 5, 9, 9)
        ),
        # Of 40 runs that would be enough.
        "rarer in seven of ten seeds": made_up.trainings(
            no_loss, lambda c: (9, 9, 5, 5) if c.seed % 10 < 7 else (5, 5, 9, 9)
        ),
    }
    | COMMON,
)

BASE_RESNET20 = TrainingConfig(
    architecture="resnet20",
    dataset="mnist",
    width=0.25,
    epochs=5,
    lr=1e-3,
    schedule="constant",
    **ADAM,
)

RESNET20 = Experiment(BASE_RESNET20, LONGER)


def _r4_grid(gradient_rule: str, _: str) -> list[Cell]:
    return RESNET20.cells(gradient_rule, (1.0,))


def _r4(evidence: Evidence, gradient_rule: str, _: str) -> Finding:
    small, large = RESNET20.arms(evidence, 1.0, gradient_rule)
    value = f"{small.zeros:.1f} exact zeros a run; {listed({1.0: (small, large)})}"
    return Finding(arms.same(small, large, MLP_MARGIN), value)


R4 = Claim(
    id="R4",
    statement="M23's ResNet with batch norm is stable for every s (judged at s=1).",
    published="curves",
    source="M23 Fig. 5",
    figure="08_replication_fc#the-runs-behind-the-claims",
    rule=(
        "As meant, with s in every activation of M23's ResNet on MNIST: s=1 is equivalent to s=0 "
        "within half a point at the smaller scale, with a median within it at the larger; fails "
        "where there is a drop. As it was run, with s in the stem alone, is shown and not judged."
    ),
    thresholds=SEEDS | {"risk": RISK, "margin": MLP_MARGIN},
    grid=_r4_grid,
    judge=_r4,
    scale="5 of 20 epochs at a quarter of the width, 5 seeds (M23: 1); 10 epochs, 3 seeds",
    reduced=True,
    examples={
        "no loss": made_up.trainings(no_loss),
        "a loss": made_up.trainings(a_loss),
        "loss or gain by chance": made_up.trainings(by_chance),
    }
    | COMMON,
)

MOBILENET = Scale(
    TrainingConfig(
        architecture="mobilenet_v3_small",
        dataset="mnist",
        n_train=60_000,
        epochs=2,
        lr=1e-3,
        schedule="constant",
        **ADAM,
    ),
    FIVE,
)


LEAST_ZEROS = 2  # R5: of all runs


def _r5_grid(gradient_rule: str, _: str) -> list[Cell]:
    return MOBILENET.cells(gradient_rule, (1.0,))


def _r5(evidence: Evidence, gradient_rule: str, _: str) -> Finding:
    arm = arms.arm(evidence, MOBILENET, 1.0, gradient_rule)
    zeros = round(arm.zeros * len(arm.values))
    value = f"{zeros} exact zero{'' if zeros == 1 else 's'} met; s=1: {arms.words(arm)}"
    if zeros < LEAST_ZEROS:
        return Finding(NO_OCCASION, value)
    return Finding(arms.equal_or_lost(arm.values, [], MLP_MARGIN), value)


R5 = Claim(
    id="R5",
    statement="MobileNetV3-small shows no difference.",
    published="first 2 epochs",
    source="M23 4.5",
    figure="09_mobilenet_tuning#the-runs-behind-the-claims",
    rule=(
        "MobileNetV3-small with ReLU on MNIST, s=1 in every ReLU, 2 epochs: equivalent to s=0 "
        "within half a point over five seeds; fails where a sign-flip test finds a loss. With one "
        "exact zero in all, or none, there is no occasion."
    ),
    thresholds=SEEDS | {"risk": RISK, "margin": MLP_MARGIN, "least zeros in all": LEAST_ZEROS},
    grid=_r5_grid,
    judge=_r5,
    scale="2 epochs, full width, 5 seeds (M23: 1)",
    examples={
        "no loss": made_up.trainings(no_loss),
        "a loss": made_up.trainings(a_loss),
        "loss or gain by chance": made_up.trainings(by_chance),
    }
    | COMMON,
)
