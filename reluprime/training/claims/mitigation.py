"""The claims about what mitigates the effect of s: B21 Section 4 (P12 to P15)."""

import numpy as np

from reluprime.evidence import made_up
from reluprime.evidence.claim import Cell, Claim, Evidence
from reluprime.evidence.finding import (
    NO_OCCASION,
    OPEN,
    Finding,
    all_must_hold,
    decided,
    of_parts,
)
from reluprime.evidence.paired import CIFAR_MARGIN, MLP_MARGIN
from reluprime.evidence.tests import RISK
from reluprime.evidence.words import signed
from reluprime.training import arms
from reluprime.training.arms import Arm
from reluprime.training.claims.examples import COMMON, a_loss, by_chance, half_stuck, no_loss
from reluprime.training.config import TrainingConfig
from reluprime.training.experiments import (
    DROPOUT_S,
    LARGE_S,
    MLP,
    MLP_DROPOUT,
    NEAR_CHANCE,
    SEEDS,
    VGG_ADAM,
    VGG_AT,
    VGG_SGD,
)


def _p13_grid(gradient_rule: str, _: str) -> list[Cell]:
    return VGG_SGD.cells(gradient_rule, LARGE_S) + VGG_ADAM.cells(gradient_rule, LARGE_S)


def _p13(evidence: Evidence, gradient_rule: str, _: str) -> Finding:
    parts, values = {}, [_at_zero(evidence)]
    for s in LARGE_S:
        sgd, sgd_large = VGG_SGD.arms(evidence, s, gradient_rule)
        adam, adam_large = VGG_ADAM.arms(evidence, s, gradient_rule)
        pairs = list(zip(adam_large, sgd_large, strict=True))
        values.append(
            f"s={s:g}: SGD {arms.in_turn(sgd, sgd_large)}, Adam {arms.in_turn(adam, adam_large)}"
        )
        if any(arms.both_near_chance(*pair, NEAR_CHANCE) for pair in ((adam, sgd), *pairs)):
            values[-1] += " (passed over: a seed ends near chance with both)"
            continue
        parts[f"a drop with SGD at s={s:g}"] = arms.drop(sgd, sgd_large, CIFAR_MARGIN)
        smaller = arms.smaller_loss(adam, sgd, pairs, CIFAR_MARGIN)
        parts[f"a smaller one with Adam at s={s:g}"] = smaller
    if not parts:
        return Finding(OPEN, "; ".join(values))
    outcomes = arms.in_sequence(parts.values())
    return of_parts(dict(zip(parts, outcomes, strict=False)), "; ".join(values))


def _at_zero(evidence: Evidence) -> str:
    found = {"SGD": VGG_SGD, "Adam": VGG_ADAM}
    zero = {name: own.arms(evidence, 0.0, "chain")[0] for name, own in found.items()}
    words = (
        f"{name} {100 * arm.counted.mean():.1f} % and {arm.zeros:.1f} exact zeros a run"
        for name, arm in zero.items()
    )
    return f"s=0: {', '.join(words)}"


P13 = Claim(
    id="P13",
    statement="Adam reduces the effect.",
    published="flatter curves",
    source="B21 Fig. 4, 13",
    figure="04_mitigation#sgd-and-adam-at-large-s",
    rule=(
        "VGG11 on CIFAR-10, first at s=50 and then at s=10 (Adam's released grid lacks 1): there "
        "is a drop with SGD, and Adam's loss is smaller, paired by seed: sign-flip test at the "
        "smaller scale, two points in the median at the larger. Fails where the losses are "
        "equivalent or Adam's is larger. An s at which the runs of a seed end within 5 points of "
        "chance, or diverge, with both, at either scale, is passed over, since such losses differ "
        "by the accuracies at s=0 alone; open where both s are."
    ),
    thresholds=SEEDS | {"risk": RISK, "margin": CIFAR_MARGIN, "near chance": NEAR_CHANCE},
    grid=_p13_grid,
    judge=_p13,
    scale="5 of 200 epochs at a quarter of the width, 5 of 10 seeds; 10 epochs, 3 seeds; rates of "
    "0.02 with SGD and 0.0003 with Adam for every s, where B21 tunes them for each; B21 releases "
    "no run with SGD at these s; SVHN, which B21 has too, is not run",
    reduced=True,
    examples={
        "Adam loses less": made_up.trainings(lambda c: 0.03 if c.optimizer == "adam" else 0.3),
        "both lose alike": made_up.trainings(a_loss),
        "no loss": made_up.trainings(no_loss),
        "loss or gain by chance": made_up.trainings(by_chance),
        "both end at chance": made_up.trainings(
            lambda c: 0.79 if c.optimizer == "adam" else 0.8 + made_up.wobble(c.seed, 0.002)
        ),
        "SGD ends at chance, Adam loses 30 points": made_up.trainings(
            lambda c: 0.3 if c.optimizer == "adam" else 0.8
        ),
        "one seed ends at chance with both": made_up.trainings(
            lambda c: 0.8 if c.seed == 1 else 0.03 if c.optimizer == "adam" else 0.3
        ),
        "both end at chance at s=50 alone": made_up.trainings(
            lambda c: 0.8 if c.s == 50 else 0.03 if c.optimizer == "adam" else 0.3
        ),
    }
    | COMMON,
)


def _p14_grid(gradient_rule: str, _: str) -> list[Cell]:
    s_values = (1.0,) if gradient_rule == "chain" else (1.0, 0.1)
    return [
        *VGG_AT["fp64"].cells(gradient_rule, (1.0,)),
        *VGG_AT["fp32"].cells(gradient_rule, ()),
        *VGG_AT["fp16"].cells(gradient_rule, s_values),
        *VGG_AT["bf16"].cells(gradient_rule, s_values),
    ]


def _p14(evidence: Evidence, gradient_rule: str, _: str) -> Finding:
    fp64, _none_larger = VGG_AT["fp64"].arms(evidence, 1.0, gradient_rule)
    reference, reference_large = VGG_AT["fp32"].arms(evidence, 0.0, gradient_rule)
    half, half_large = VGG_AT["fp16"].arms(evidence, 0.0, gradient_rule)
    changed = {p: VGG_AT[p].arms(evidence, 1.0, gradient_rule) for p in ("fp16", "bf16")}
    pairs = list(zip(half_large, reference_large, strict=True))
    parts = {
        "s=1 at fp64 as s=0 at fp32": _level(fp64, reference, []),
        "s=0 at fp16 as at fp32": _level(half, reference, pairs),
        "untrainable at fp16": arms.untrainable(*changed["fp16"], NEAR_CHANCE),
    }
    at_zero = "; ".join(
        f"{name} {100 * np.mean(arm.counted):.1f} %"
        for name, arm in (("fp64 s=1", fp64), ("fp32 s=0", reference), ("fp16 s=0", half))
    )
    at_one = "; ".join(f"{p} s=1: {arms.words(arm)}" for p, (arm, _) in changed.items())
    return of_parts(parts, f"{at_zero}; {at_one}")


def _level(a: Arm, b: Arm, large: list[tuple[Arm, Arm]]) -> str:
    """Whether the runs of two conditions end alike, paired by seed, whatever zeros they met.

    Holds: equivalence within two points at the smaller scale, and a median within them at larger
    ones. Fails: a sign-flip test finds a loss, with a median of two points or more.
    """
    medians = [float(np.median(x.counted - y.counted)) for x, y in large]
    return arms.equal_or_lost(a.counted - b.counted, medians, CIFAR_MARGIN)


def _stuck_at_16(config: TrainingConfig) -> float:
    return 0.8 if config.precision in ("fp16", "bf16") else 0.0


P14 = Claim(
    id="P14",
    statement="s=1 at 64 bits equals s=0 at 32 bits; at s=0 precision has barely any effect; s=1 "
    "at 16 bits cannot be trained.",
    published="box plots",
    source="B21 Fig. 14",
    figure="04_mitigation#vgg11-by-precision",
    rule=(
        "VGG11 on CIFAR-10 with SGD. s=1 at fp64 is equivalent to s=0 at fp32, and s=0 at fp16 "
        "to s=0 at fp32, within two points and paired by seed, failing where a sign-flip test "
        "finds a loss; at fp16 (B21's 16 bits) every run at s=1 ends within 5 points of chance, "
        "failing where none does. bf16 stands beside it."
    ),
    thresholds=SEEDS | {"risk": RISK, "margin": CIFAR_MARGIN, "near chance": NEAR_CHANCE},
    grid=_p14_grid,
    judge=_p14,
    scale="5 of 200 epochs at a quarter of the width, 5 of 10 seeds; 10 epochs, 3 seeds, but for "
    "fp64; a rate of 0.02 for every s; of VGG11 `separate` differs from `epilogue` in the output "
    "layer alone",
    reduced=True,
    arithmetics=("epilogue",),
    examples={
        "stuck at 16 bits": made_up.trainings(_stuck_at_16),
        "no loss": made_up.trainings(no_loss),
        "half of the runs stuck": made_up.trainings(
            lambda c: half_stuck(c) if c.precision == "fp16" else 0.0
        ),
    }
    | COMMON,
)


def _p15_grid(gradient_rule: str, _: str) -> list[Cell]:
    return MLP.cells(gradient_rule, DROPOUT_S) + MLP_DROPOUT.cells(gradient_rule, DROPOUT_S)


def _p15(evidence: Evidence, gradient_rule: str, _: str) -> Finding:
    parts, values = [], []
    for s in DROPOUT_S:
        plain, plain_large = MLP.arms(evidence, s, gradient_rule)
        dropped, dropped_large = MLP_DROPOUT.arms(evidence, s, gradient_rule)
        pairs = list(zip(dropped_large, plain_large, strict=True))
        parts.append(_no_joint_effect(dropped, plain, pairs))
        joint = 100 * arms.joint(dropped, plain).mean()
        values.append(
            f"s={s:g}: without dropout {arms.in_turn(plain, plain_large)}; with it "
            f"{arms.in_turn(dropped, dropped_large)} ({signed(joint)} apart, 5 runs)"
        )
    return Finding(all_must_hold(parts), "; ".join(values))


def _no_joint_effect(a: Arm, b: Arm, large: list[tuple[Arm, Arm]]) -> str:
    """Whether the differences of two arms are equivalent, by seed."""
    if min(a.met, b.met) < arms.MIN_SEEDS:
        return NO_OCCASION
    apart, medians = arms.joint(a, b), arms.joint_medians(large)
    holds = arms.is_equal(apart, medians, MLP_MARGIN)
    differs = any(arms.is_loss(sign * apart, sign * medians, MLP_MARGIN) for sign in (1, -1))
    return decided(holds, differs and not holds)


P15 = Claim(
    id="P15",
    statement="Dropout has no joint effect with s.",
    published="no joint effect",
    source="B21 Fig. 11",
    figure="04_mitigation#the-runs-behind-the-claims",
    rule=(
        "MLP at s=1 and at s=50: what s does with a dropout of 0.5 is what it does without, "
        "paired by seed: equivalence within half a point at the smaller scale, a median within it "
        "at the larger. Fails where the two differ: sign-flip test, half a point in the median."
    ),
    thresholds=SEEDS | {"risk": RISK, "margin": MLP_MARGIN},
    grid=_p15_grid,
    judge=_p15,
    scale="5 of 200 epochs: 3x1024, 5 of 10 seeds, and 3x2048, 3 seeds; a rate of 0.01 for every "
    "s, where B21 tunes it for each",
    reduced=True,
    examples={
        "no joint effect": made_up.trainings(lambda c: 0.001 * c.s),
        "worse with dropout": made_up.trainings(lambda c: 0.08 if c.dropout else 0.0),
        "loss or gain by chance": made_up.trainings(lambda c: by_chance(c) if c.dropout else 0.0),
    }
    | COMMON,
)
