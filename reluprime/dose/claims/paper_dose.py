"""The papers' own dose at reduced size: which bands stay within it, and which go beyond it.

At one rate of zeros an input, a training of ours without a band meets as many kinks a unit and
step as the paper's, whose units have as many inputs an image; and as many kinks a unit as the
paper's had met after as many epochs. So both of the paper's doses follow from the zeros of our
runs at s=0 without a band.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from reluprime.dose.claims.shared import learnt
from reluprime.dose.papers import PAPER_EPOCHS
from reluprime.dose.runs import all_runs, pairs, rows_of
from reluprime.evidence.claim import Cell, Evidence
from reluprime.evidence.finding import NO_OCCASION, OPEN, decided
from reluprime.evidence.intervals import poisson_interval, t_margin
from reluprime.evidence.tests import RISK, equivalence, sign_flip
from reluprime.evidence.words import signed
from reluprime.training import arms
from reluprime.training.config import TrainingConfig


def most_met(zeros: pd.Series) -> float:
    """The upper end of the 95 % interval of the zeros that a run meets; zeros: a value a seed.

    The larger of Poisson's, and that of the mean over seeds, which lie further apart than
    Poisson's on some networks.
    """
    _, high = poisson_interval(np.array(zeros.sum()))
    return max(float(high) / len(zeros), zeros.mean() + t_margin(zeros.to_numpy(float)))


# How a band of ours stands to the paper's dose by its two counts.
SIDES = {
    "within": "within it by both counts",
    "between": "beyond it by the first count alone",
    "beyond": "beyond it by both counts",
}


class Arm(NamedTuple):
    """The runs at one s on both sides of the paper's dose: rows of `runs.pairs`."""

    within: pd.DataFrame  # the widest band whose dose is at most the paper's; may be empty
    beyond: pd.DataFrame  # the narrowest whose dose is at least the paper's; may be empty
    between: pd.DataFrame  # bands with more kinks a step than the paper's, and fewer in all
    a_step: float  # the paper's dose by kinks a unit and step, as a dose of ours, at most
    in_all: float  # the same by kinks a unit

    def words(self) -> str:
        """What s costs on both sides, and where the paper stands."""
        found = [
            f"{SIDES[side]}: {points_at(own)}"
            for side in SIDES
            for _, own in getattr(self, side).groupby("kink_width")
        ]
        dose = (
            "at the rate of these runs the paper's dose is at most "
            f"{few(self.a_step)} kinks here by unit and step, {few(self.in_all)} by unit"
        )
        return "; ".join([dose, *found])


def points_at(own: pd.DataFrame) -> str:
    """The mean difference in points with its 95 % interval, at the mean dose, in words."""
    mean, half = 100 * own["difference"].mean(), 100 * t_margin(own["difference"].to_numpy())
    stuck = f", {own['stuck'].sum()} of {len(own)} at chance" if own["stuck"].any() else ""
    return f"{signed(mean)} ± {half:.2f} points at {few(own['dose'].mean())} kinks{stuck}"


def few(count: float) -> str:
    """A count or a mean count in words, with a decimal below ten."""
    return f"{count:,.1f}" if count < 10 else f"{count:,.0f}"


def arm(
    evidence: Evidence, cells: Iterable[Cell], config: TrainingConfig, s: float, times: float = 1.0
) -> Arm:
    """The arm of a network; times: how many times the zeros of our precision the paper's has."""
    runs = all_runs(evidence, cells)
    plain = rows_of(runs, config, s=0.0, kink_width=0.0)
    a_step = times * most_met(plain["kinks"])
    in_all = a_step * PAPER_EPOCHS / config.epochs
    own = rows_of(pairs(runs), config, s=s)
    dose = own.groupby("kink_width")["dose"].transform("mean")
    within, beyond = own[dose <= a_step], own[dose >= in_all]
    return Arm(
        within[within["kink_width"] == within["kink_width"].max()],
        beyond[beyond["kink_width"] == beyond["kink_width"].min()],
        own[(dose > a_step) & (dose < in_all)],
        a_step,
        in_all,
    )


def lost(own: pd.DataFrame, margin: float) -> bool:
    """Whether runs lose the margin in the mean, by a sign-flip test of paired differences."""
    return is_loss(own["difference"].to_numpy(), margin)


def is_loss(apart: np.ndarray, margin: float) -> bool:
    """The same of paired differences; False where there are none."""
    return bool(len(apart) and sign_flip(-apart) < RISK and -apart.mean() >= margin)


def unchanged(own: pd.DataFrame, margin: float) -> bool:
    """Whether runs are equivalent to s=0 within the margin; False where there are none."""
    return bool(len(own) and equivalence(own["difference"], margin) < RISK)


def apart(a: pd.DataFrame, b: pd.DataFrame) -> np.ndarray:
    """What `a` loses less than `b`, by seed; empty where one of them is."""
    a, b = (own.set_index("seed")["difference"] for own in (a, b))
    return (a - b).dropna().to_numpy(float)


def judged(found: Sequence[Arm], margin: float, holds: bool, fails: bool) -> str:
    """The outcome of a part of a rule that reads these arms, from its tests for and against it.

    No occasion where an arm has no side in which five seeds met a kink. Open where a run at s=0
    is too near chance to lose the margin, and where both tests succeed: then harm does not grow
    with the dose.
    """
    for own in found:
        met = [side for side in own[:2] if (side["dose"] > 0).sum() >= arms.MIN_SEEDS]
        if not met:
            return NO_OCCASION
        if not all(learnt(side, margin) for side in met):
            return OPEN
    return OPEN if holds and fails else decided(holds, fails)


def drop(found: Arm, margin: float) -> str:
    """Whether s loses: it does within the paper's dose; fails where it does not even beyond."""
    yes, no = lost(found.within, margin), unchanged(found.beyond, margin)
    return judged([found], margin, yes, no)


def same(found: Arm, margin: float) -> str:
    """Whether s changes nothing even beyond the paper's dose; fails where it loses within."""
    yes, no = unchanged(found.beyond, margin), lost(found.within, margin)
    return judged([found], margin, yes, no)


def untrainable(found: Arm, within: float) -> str:
    """Whether every run ends `within` of chance; fails where even beyond the dose none does."""
    near, far = ((own["counts_as"] - arms.CHANCE).abs() <= within for own in found[:2])
    return judged([found], within, bool(len(near) and near.all()), bool(len(far) and not far.any()))


def less(a: Arm, b: Arm, margin: float) -> str:
    """Whether `a` loses less than `b`, each at its own dose; fails where it loses more."""
    yes = is_loss(apart(b.within, a.beyond), margin)
    return judged([a, b], margin, yes, is_loss(apart(a.within, b.beyond), margin))


def no_joint_effect(a: Arm, b: Arm, margin: float) -> str:
    """Whether both lose alike even beyond the dose; fails where they do not within it."""
    beyond, within = apart(a.beyond, b.beyond), apart(a.within, b.within)
    yes = bool(len(beyond) and equivalence(beyond, margin) < RISK)
    return judged([a, b], margin, yes, any(is_loss(sign * within, margin) for sign in (1, -1)))
