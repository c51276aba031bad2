"""The claims about what s does to the test accuracy: B21 Section 4.1 to 4.3 (P9 to P11)."""

from reluprime.evidence import made_up
from reluprime.evidence.claim import Cell, Claim, Evidence
from reluprime.evidence.finding import NO_OCCASION, Finding, decided, of_parts
from reluprime.evidence.paired import CIFAR_MARGIN
from reluprime.evidence.tests import RISK, larger
from reluprime.training import arms, tables
from reluprime.training.arms import Arm, Scale, listed
from reluprime.training.claims.examples import (
    COMMON,
    a_loss,
    by_chance,
    half_stuck,
    no_loss,
    resnet_stuck,
)
from reluprime.training.config import TrainingConfig
from reluprime.training.experiments import BASE_RESNET, MLP, NEAR_CHANCE, RESNET, SEEDS, VGG


def _p9_s(gradient_rule: str) -> tuple[float, ...]:
    return (1.0, 0.5) if gradient_rule == "injected" else (1.0,)


def _p9_grid(gradient_rule: str, _: str) -> list[Cell]:
    return VGG.cells(gradient_rule, _p9_s(gradient_rule))


def _p9(evidence: Evidence, gradient_rule: str, _: str) -> Finding:
    found = {s: VGG.arms(evidence, s, gradient_rule) for s in _p9_s(gradient_rule)}
    drops = arms.in_sequence(arms.drop(*pair, CIFAR_MARGIN) for pair in found.values())
    parts = {f"a drop at s={s:g}": outcome for s, outcome in zip(found, drops, strict=False)}
    parts |= {f"s={s:g} no better": arms.no_better(small) for s, (small, _) in found.items()}
    return of_parts(parts, listed(found))


P9 = Claim(
    id="P9",
    statement="VGG11 on CIFAR-10 with SGD: test accuracy is concave in s with its maximum at 0 "
    "(judged at s=1, and under the constant at 0.5 too).",
    published="falls beyond |s| = 0.1",
    source="B21 Fig. 3",
    figure="03_training_curves#the-runs-behind-the-claims",
    rule=(
        "Test accuracy at s=1 is lower than at s=0, then at s=0.5 (under the chain rule s=1 "
        "alone): one-sided sign-flip test over five seeds at the smaller scale, a median loss of "
        "at least two points at each larger one. No s does better than 0. Fails where the two are "
        "equivalent."
    ),
    thresholds=SEEDS | {"risk": RISK, "margin": CIFAR_MARGIN},
    grid=_p9_grid,
    judge=_p9,
    scale="5 of 200 epochs at a quarter of the width, 5 of 10 seeds; 10 epochs, and half the "
    "width, 3 seeds; a rate of 0.02 for every s, where B21 tunes it for each",
    reduced=True,
    examples={
        "a loss": made_up.trainings(a_loss),
        "no loss": made_up.trainings(no_loss),
        "loss or gain by chance": made_up.trainings(by_chance),
        "a gain": made_up.trainings(lambda _: -0.08),
    }
    | COMMON,
)


RESNET_LONGER = Scale(BASE_RESNET.replace(epochs=20), range(1))  # shown, and not judged


def _p10_grid(gradient_rule: str, _: str) -> list[Cell]:
    if gradient_rule == "chain":
        return RESNET.cells("chain", (1.0,)) + MLP.cells("chain", (1.0,))
    large = [c for scale in RESNET.large for c in scale.cells("injected", (1.0, 0.5))]
    return [
        *RESNET.small.cells("injected", (1.0, 0.5, 0.3, 0.2, 0.1)),
        *large,
        *RESNET_LONGER.cells("injected", (0.5,)),
        *MLP.cells("injected", (1.0,)),
    ]


def _longer(evidence: Evidence) -> Arm:
    return arms.arm(evidence, RESNET_LONGER, 0.5, "injected")


def _p10(evidence: Evidence, gradient_rule: str, _: str) -> Finding:
    s_values = (1.0, 0.5) if gradient_rule == "injected" else (1.0,)
    found = {s: RESNET.arms(evidence, s, gradient_rule) for s in s_values}
    parts = {
        f"untrainable at s={s:g}": arms.untrainable(*pair, NEAR_CHANCE) for s, pair in found.items()
    }
    mlp, mlp_large = MLP.arms(evidence, 1.0, gradient_rule)
    parts["the MLP reacts less"] = _reacts_less(mlp, mlp_large, *found[1.0])
    value = f"ResNet-18 {listed(found)}; MLP s=1: {arms.words(mlp)}"
    if gradient_rule == "injected":
        value += f"; ResNet-18 after 20 epochs, {listed({0.5: (_longer(evidence), [])})}"
    return of_parts(parts, value)


def _reacts_less(a: Arm, a_large: list[Arm], b: Arm, b_large: list[Arm]) -> str:
    """Whether one network's arm loses less than that of another, by a permutation of seeds."""
    if min(a.met, b.met) < arms.MIN_SEEDS:
        return NO_OCCASION
    apart = [x.median - y.median for x, y in zip(a_large, b_large, strict=True)]
    holds = larger(a.values, b.values) < RISK and all(d >= CIFAR_MARGIN for d in apart)
    more = larger(b.values, a.values) < RISK and all(d <= -CIFAR_MARGIN for d in apart)
    return decided(holds, more)


def _p10_published() -> Finding:
    table = tables.published_accuracy(network="resnet18", optimizer="sgd", batch_norm=False)
    means = table[table["s"] >= 0.5]["mean"]
    near = (means - arms.CHANCE).abs() <= NEAR_CHANCE
    value = f"ResNet-18: {near.sum()} of {len(near)} means at s of at least 0.5 are at chance"
    return Finding(decided(bool(near.all()), not near.any()), value)


P10 = Claim(
    id="P10",
    statement="An MLP on MNIST reacts less; ResNet-18 without batch norm cannot be trained for "
    "large s.",
    published="ResNet-18 fails above about 0.2",
    source="B21 Fig. 9, 10, 15",
    figure="03_training_curves#the-runs-behind-the-claims",
    rule=(
        "Every run of ResNet-18 without batch norm ends within 5 points of chance at s=0.5 and "
        "s=1 (under the chain rule s=1 alone), at both scales; fails where none does. At s=1 it "
        "loses more than the MLP: permutation test over seeds at the smaller scale, two points in "
        "the median at the larger."
    ),
    thresholds=SEEDS | {"risk": RISK, "near chance": NEAR_CHANCE, "margin": CIFAR_MARGIN},
    grid=_p10_grid,
    judge=_p10,
    scale="5 of 200 epochs; ResNet-18 at a quarter of the width, 5 of 10 seeds, and half the "
    "width, 3 seeds; MLP 3x1024, 5 seeds, and 3x2048, 3 seeds; a rate of 0.01 for every s, where "
    "B21 tunes it for each",
    reduced=True,
    on_published=_p10_published,
    examples={
        "stuck at chance": made_up.trainings(resnet_stuck),
        "no loss": made_up.trainings(no_loss),
        "half of the runs stuck": made_up.trainings(half_stuck),
    }
    | COMMON,
)


# The fingerprint of a copy of ImageNet belongs here once somebody has one: no record has this.
NO_COPY = "that of ImageNet"
_imagenet = TrainingConfig(
    architecture="resnet50",
    dataset="image-folder",
    fingerprint=NO_COPY,
    batch_norm=True,
    batch_size=256,
    epochs=90,
    lr=0.1,
    weight_decay=1e-4,
    schedule="constant",  # "a fixed learning rate"
)

IMAGENET = Scale(_imagenet, range(2))
IMAGENET_LOSS = 0.1  # published: 12 and 20 points


def _p11_grid(gradient_rule: str, _: str) -> list[Cell]:
    return IMAGENET.cells(gradient_rule, (1.0,))


def _p11(evidence: Evidence, gradient_rule: str, _: str) -> Finding:
    arm = arms.arm(evidence, IMAGENET, 1.0, gradient_rule)
    if arm.met == 0:
        return Finding(NO_OCCASION, "no zero met")
    outcome = decided(max(arm.values) <= -IMAGENET_LOSS, min(arm.values) > -IMAGENET_LOSS)
    return Finding(outcome, arms.words(arm))


P11 = Claim(
    id="P11",
    statement="ResNet-50 on ImageNet loses accuracy at s=1.",
    published="75 % to 63 % and 55 %",
    source="B21 Fig. 17",
    figure="07_imagenet#ours",
    rule=(
        "Both of two runs of ResNet-50 on ImageNet lose at least 10 points at s=1; fails where "
        "neither does. Two runs, as published; no test."
    ),
    thresholds={"loss": IMAGENET_LOSS},
    grid=_p11_grid,
    judge=_p11,
    scale="90 epochs, 2 runs, full width",
    examples={
        "a loss": made_up.trainings(lambda _: 0.15),
        "no loss": made_up.trainings(no_loss),
        "one of the two": made_up.trainings(lambda config: 0.15 * config.seed),
    }
    | COMMON,
)
