"""D11 to D16: claims of B21 about training, judged at the papers' own dose of kinks.

Each is a claim of its own, so that the rules of P9 to P15, which were registered before, stay as
they are. It is about the part of the paper's claim whose network has a curve.
"""

from collections.abc import Mapping

from reluprime.dose.claims.examples import BY_DOSE_EXAMPLES
from reluprime.dose.claims.paper_dose import (
    Arm,
    arm,
    drop,
    less,
    no_joint_effect,
    same,
    untrainable,
)
from reluprime.dose.experiments import (
    ADAM,
    BATCH_NORM,
    DROPOUT,
    MLP,
    RESNET,
    VGG,
    at_one,
    both_sides,
)
from reluprime.dose.papers import PAPER_EPOCHS, half_precision_factor
from reluprime.evidence.claim import Cell, Claim, Evidence
from reluprime.evidence.finding import Finding, all_must_hold
from reluprime.evidence.paired import CIFAR_MARGIN, MLP_MARGIN
from reluprime.evidence.tests import RISK
from reluprime.training import arms
from reluprime.training.claims import P9, P10, P12, P13, P14, P15
from reluprime.training.config import TrainingConfig
from reluprime.training.experiments import DROPOUT_S, LARGE_S, NEAR_CHANCE

DOSE = (
    "The paper's dose: at the rate of zeros of our runs at s=0 without a band (upper end of the "
    "95 % interval, the wider of Poisson's and that over seeds), the kinks a unit of 200 epochs, "
    "and the kinks a unit and step. Within it: the widest band that exceeds neither in the mean. "
    "Beyond it: the narrowest that exceeds both. Paired with s=0 and the same band, five seeds. "
    "To lose: one-sided sign-flip test, 5 %, and the margin in the mean. "
)
CONVOLUTIONAL = "5 of 200 epochs at a quarter of the width, 5 of 10 seeds"
FULLY_CONNECTED = "MLP 3x256 (B21: 3x2048), 5 of 200 epochs, 5 of 10 seeds"


def _by_dose(claim: Claim, number: int, *, rule: str, margin: float, **own) -> Claim:
    """A sentence about `claim`, with its published numbers and source."""
    constants = {"risk": RISK, "epochs of the paper": PAPER_EPOCHS, "margin": margin}
    constants |= {"least seeds that met a kink": arms.MIN_SEEDS}
    return Claim(
        id=f"D{number}",
        published=claim.published,
        source=claim.source,
        figure="19_published_doses#the-papers-doses",
        reduced=True,
        examples=BY_DOSE_EXAMPLES,
        rule=DOSE + rule,
        thresholds=constants,
        **own,
    )


def _vgg_grid(gradient_rule: str, _: str) -> list[Cell]:
    return at_one(VGG, gradient_rule)


def _resnet_grid(gradient_rule: str, _: str) -> list[Cell]:
    return at_one(RESNET, gradient_rule)


def _d11(evidence: Evidence, gradient_rule: str, _: str) -> Finding:
    found = arm(evidence, at_one(VGG, gradient_rule), VGG, 1.0)
    return Finding(drop(found, CIFAR_MARGIN), found.words())


D11 = _by_dose(
    P9,
    11,
    statement="P9 by dose: VGG11 loses accuracy at s=1.",
    rule="It loses two points within it; fails where even beyond it s=1 is equivalent to s=0 "
    "within two points.",
    margin=CIFAR_MARGIN,
    grid=_vgg_grid,
    judge=_d11,
    scale=CONVOLUTIONAL,
)


def _d12(evidence: Evidence, gradient_rule: str, _: str) -> Finding:
    found = arm(evidence, at_one(RESNET, gradient_rule), RESNET, 1.0)
    return Finding(untrainable(found, NEAR_CHANCE), found.words())


D12 = _by_dose(
    P10,
    12,
    statement="P10 by dose: ResNet-18 without batch norm cannot be trained at s=1.",
    rule="Every run within it ends within 5 points of chance; fails where even beyond it none "
    "does.",
    margin=NEAR_CHANCE,
    grid=_resnet_grid,
    judge=_d12,
    scale=CONVOLUTIONAL,
)


def _beside(evidence: Evidence, cells: list[Cell], other: TrainingConfig, s: float):
    """-> the arms of the network as released, and of another way to train it."""
    return arm(evidence, cells, MLP, s), arm(evidence, cells, other, s)


def _listed(found: Mapping[float, tuple[Arm, Arm]], name: str) -> str:
    return ". ".join(
        f"s={s:g}, as released: {plain.words()}. With {name}: {other.words()}"
        for s, (plain, other) in found.items()
    )


def _d13_grid(gradient_rule: str, _: str) -> list[Cell]:
    return both_sides((MLP, BATCH_NORM), LARGE_S, gradient_rule)


def _d13(evidence: Evidence, gradient_rule: str, _: str) -> Finding:
    cells = _d13_grid(gradient_rule, "")
    found = {s: _beside(evidence, cells, BATCH_NORM, s) for s in LARGE_S}
    parts = arms.in_sequence(drop(plain, MLP_MARGIN) for plain, _ in found.values())
    parts += [same(norm, MLP_MARGIN) for _, norm in found.values()]
    return Finding(all_must_hold(parts), _listed(found, "batch norm"))


D13 = _by_dose(
    P12,
    13,
    statement="P12 by dose: batch norm removes the effect of s=50 and s=10 on the MLP.",
    rule="Without batch norm the MLP loses half a point within it at s=50, then at s=10, failing "
    "where even beyond it s is equivalent to 0 within half a point. With batch norm, at the dose "
    "that it leaves, both are equivalent to 0 even beyond it; fails where one loses within it.",
    margin=MLP_MARGIN,
    grid=_d13_grid,
    judge=_d13,
    scale=FULLY_CONNECTED,
)


def _d14_grid(gradient_rule: str, _: str) -> list[Cell]:
    return both_sides((MLP, ADAM), LARGE_S, gradient_rule)


def _d14(evidence: Evidence, gradient_rule: str, _: str) -> Finding:
    cells = _d14_grid(gradient_rule, "")
    found = {s: _beside(evidence, cells, ADAM, s) for s in LARGE_S}
    parts = []
    for sgd, adam in found.values():
        parts += [drop(sgd, MLP_MARGIN), less(adam, sgd, MLP_MARGIN)]
    return Finding(all_must_hold(arms.in_sequence(parts)), _listed(found, "Adam"))


D14 = _by_dose(
    P13,
    14,
    statement="P13 by dose: Adam reduces the effect of s=50 and s=10, on the MLP.",
    rule="First at s=50 and then at s=10 the MLP with SGD loses half a point within it, failing "
    "where even beyond it s is equivalent to 0 within half a point; and SGD within its dose loses "
    "half a point more than Adam beyond the dose that Adam leaves, paired by seed, failing where "
    "Adam within loses as much more than SGD beyond.",
    margin=MLP_MARGIN,
    grid=_d14_grid,
    judge=_d14,
    scale=f"in the place of VGG11 an {FULLY_CONNECTED}",
)


def _d15(evidence: Evidence, gradient_rule: str, _: str) -> Finding:
    _, high = half_precision_factor()
    found = arm(evidence, at_one(VGG, gradient_rule), VGG, 1.0, times=high)
    return Finding(untrainable(found, NEAR_CHANCE), found.words())


D15 = _by_dose(
    P14,
    15,
    statement="P14 by dose: at s=1 VGG11 cannot be trained with as many kinks as 16 bits have.",
    rule="The rate is that at fp32 times the ratio of fp16's zeros to fp32's in B21's Fig. 6 "
    "(upper end of its 95 % interval). Every run within it ends within 5 points of chance; fails "
    "where even beyond it none does. 64 bits, and s=0, have no dose to reach.",
    margin=NEAR_CHANCE,
    grid=_vgg_grid,
    judge=_d15,
    scale=f"{CONVOLUTIONAL}, fp32",
)


def _d16_grid(gradient_rule: str, _: str) -> list[Cell]:
    return both_sides((MLP, DROPOUT), DROPOUT_S, gradient_rule)


def _d16(evidence: Evidence, gradient_rule: str, _: str) -> Finding:
    cells = _d16_grid(gradient_rule, "")
    found = {s: _beside(evidence, cells, DROPOUT, s) for s in DROPOUT_S}
    parts = [no_joint_effect(drops, plain, MLP_MARGIN) for plain, drops in found.values()]
    return Finding(all_must_hold(parts), _listed(found, "dropout"))


D16 = _by_dose(
    P15,
    16,
    statement="P15 by dose: dropout has no joint effect with s=1 and s=50.",
    rule="What s does with a dropout of 0.5 is what it does without, even beyond the doses of "
    "both: equivalence within half a point, paired by seed. Fails where within their doses the "
    "two differ by half a point, by a sign-flip test either way.",
    margin=MLP_MARGIN,
    grid=_d16_grid,
    judge=_d16,
    scale=FULLY_CONNECTED,
)

BY_DOSE = {"P9": D11, "P10": D12, "P12": D13, "P13": D14, "P14": D15, "P15": D16}
