"""Paired arms of an experiment: runs that differ in s, gradient rule and seed alone.

A run at s=0 that met no exact zero equals every other s bit for bit: its arms are not computed,
and their differences to it are 0.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from reluprime.evidence.claim import Cell, Evidence
from reluprime.evidence.finding import FAILS, HOLDS, NO_OCCASION, decided
from reluprime.evidence.tests import RISK, equivalence, sign_flip
from reluprime.evidence.words import signed
from reluprime.training import tables
from reluprime.training.config import TrainingConfig
from reluprime.training.study import fit

MIN_SEEDS = 5  # whose run at s=0 met an exact zero, for a predicate at the smaller scale
CHANCE = 0.1  # test accuracy of guessing: every data set here has ten classes
AT_CHANCE = 0.02  # a last test accuracy that is as close to it counts as chance


class Scale(NamedTuple):
    """One size of an experiment."""

    config: TrainingConfig  # s, gradient_rule and seed are the arms'
    seeds: Sequence[int]

    def arm(self, s: float, gradient_rule: str, seed: int) -> TrainingConfig:
        """The run of an arm; at s=0 the rules agree, and it is that of "chain"."""
        rule = gradient_rule if s else "chain"
        return self.config.replace(s=float(s), gradient_rule=rule, seed=seed)

    def cells(self, gradient_rule: str, s_values: Iterable[float]) -> list[Cell]:
        """For each seed its run at s=0, and the arms, which are due if that met a zero."""
        found = []
        for seed in self.seeds:
            zero = self.arm(0, gradient_rule, seed)
            found.append(Cell(fit, zero))
            found += [Cell(fit, self.arm(s, gradient_rule, seed), after=zero) for s in s_values]
        return found


@dataclass(frozen=True)
class Arm:
    """What one s did under one gradient rule at one scale, paired with s=0 by seed."""

    differences: Mapping[int, float]  # of test accuracy, by seed; chance counts as 1 / classes
    accuracies: Mapping[int, float]  # of the runs at s, as measured; NaN: it diverged
    at_chance: Mapping[int, bool]
    met: int  # seeds whose run at s=0 met an exact zero
    zeros_by_seed: Mapping[int, float]  # exact zeros that the runs at s=0 met

    @property
    def zeros(self) -> float:
        """The exact zeros of a run at s=0: their mean."""
        return float(pd.Series(self.zeros_by_seed, dtype=float).mean())

    @property
    def values(self) -> np.ndarray:
        """The differences, in the order of the seeds."""
        return np.array([self.differences[seed] for seed in sorted(self.differences)])

    @property
    def counted(self) -> np.ndarray:
        """The accuracies that enter a test, in the order of the seeds; chance where stuck."""
        seeds = sorted(self.accuracies)
        return np.array([CHANCE if self.at_chance[n] else self.accuracies[n] for n in seeds])

    @property
    def median(self) -> float:
        """The median of the differences."""
        return float(np.median(self.values))


def arm(evidence: Evidence, scale: Scale, s: float, gradient_rule: str) -> Arm:
    """The arm of complete evidence (every cell of `Scale.cells` that is due has a record)."""
    zero, changed = (_runs(evidence, scale, at, gradient_rule) for at in (0, s))
    pairs = zero.join(changed.add_suffix("_s"))  # by seed and machine
    alone = pairs["exact_zeros"] == 0
    for name in ("test_accuracy", "counts_as", "at_chance"):
        pairs.loc[alone, f"{name}_s"] = pairs.loc[alone, name]
    pairs = pairs[pairs["counts_as_s"].notna()].groupby("seed").head(1).droplevel("machine")
    return Arm(
        differences=(pairs["counts_as_s"] - pairs["counts_as"]).astype(float).to_dict(),
        accuracies=pairs["test_accuracy_s"].astype(float).to_dict(),
        at_chance=pairs["at_chance_s"].astype(bool).to_dict(),
        met=int((pairs["exact_zeros"] > 0).sum()),
        zeros_by_seed=pairs["exact_zeros"].astype(float).to_dict(),
    )


def _runs(evidence: Evidence, scale: Scale, s: float, gradient_rule: str) -> pd.DataFrame:
    """Indexed by seed and machine: exact_zeros, test_accuracy (as measured, NaN where the run
    diverged), at_chance, counts_as (the accuracy that enters a test)."""
    configs = [scale.arm(s, gradient_rule, seed) for seed in scale.seeds]
    runs = tables.runs(evidence.table(fit, configs))
    runs["at_chance"] = is_stuck(runs)
    runs["counts_as"] = runs["test_accuracy"].where(~runs["at_chance"], CHANCE)
    runs["test_accuracy"] = runs["test_accuracy"].where(runs["diverged_epoch"].isna())
    names = ["exact_zeros", "test_accuracy", "at_chance", "counts_as"]
    return runs.set_index(["seed", "machine"])[names]


def is_stuck(runs: pd.DataFrame) -> pd.Series:
    """Which rows of `tables.runs` diverged or ended at chance."""
    at_chance = (runs["test_accuracy"] - CHANCE).abs() <= AT_CHANCE
    return runs["diverged_epoch"].notna() | at_chance


def is_loss(small: np.ndarray, medians: Sequence[float], margin: float) -> bool:
    """Whether paired differences are losses at every scale.

    small: those at the smaller scale, by seed, for the exact sign-flip test (one-sided, 5 %).
    medians: one for each larger scale, where the median loss is at least the margin.
    """
    return sign_flip(-small) < RISK and all(-median >= margin for median in medians)


def is_equal(small: np.ndarray, medians: Sequence[float], margin: float) -> bool:
    """Whether paired differences are within the margin at every scale.

    small: for two one-sided t-tests (5 %); medians: as in :func:`is_loss`, within the margin.
    """
    return equivalence(small, margin) < RISK and all(abs(median) < margin for median in medians)


def equal_or_lost(small: np.ndarray, medians: Sequence[float], margin: float) -> str:
    """Holds where differences are equal to 0, fails where they are losses; see the two above."""
    holds, fails = (test(small, medians, margin) for test in (is_equal, is_loss))
    return decided(holds, fails and not holds)


def drop(small: Arm, large: Sequence[Arm], margin: float) -> str:
    """Whether s does worse than 0: holds by :func:`is_loss`, fails by :func:`is_equal`."""
    if small.met < MIN_SEEDS:
        return NO_OCCASION
    medians = [arm.median for arm in large]
    holds, fails = (test(small.values, medians, margin) for test in (is_loss, is_equal))
    return decided(holds, fails and not holds)


def same(small: Arm, large: Sequence[Arm], margin: float) -> str:
    """Whether s does as well as 0: holds by :func:`is_equal`, fails by :func:`is_loss`."""
    if small.met < MIN_SEEDS:
        return NO_OCCASION
    return equal_or_lost(small.values, [arm.median for arm in large], margin)


def untrainable(small: Arm, large: Sequence[Arm], within: float) -> str:
    """Whether every run ends within `within` of chance, at each scale; fails if none does."""
    if small.met < MIN_SEEDS:
        return NO_OCCASION
    near = [near_chance(arm, within) for arm in (small, *large)]
    everywhere = [n for own in near for n in own]
    return decided(all(near) and all(everywhere), not any(everywhere))


def near_chance(arm: Arm, within: float) -> list[bool]:
    """For each seed whether the run diverged or ended within `within` of chance."""
    return [not abs(accuracy - CHANCE) > within for accuracy in arm.accuracies.values()]


def in_sequence(outcomes: Iterable[str]) -> list[str]:
    """Tests in a fixed order, up to the first that does not hold: no correction is needed."""
    found = []
    for outcome in outcomes:
        found.append(outcome)
        if outcome != HOLDS:
            break
    return found


def no_better(arm: Arm) -> str:
    """Fails where the sign-flip test at 5 % says that s does better than 0."""
    return FAILS if sign_flip(arm.values) < RISK else HOLDS


def smaller_loss(a: Arm, b: Arm, large: Sequence[tuple[Arm, Arm]], margin: float) -> str:
    """Whether `a` loses less than `b`, by seeds that both have.

    Holds: by the sign-flip test at the smaller scale, and by at least the margin in the median at
    each larger one. Fails: where it loses more by the same standard, or the two are equivalent at
    the smaller scale with medians within the margin at larger ones.
    """
    if min(a.met, b.met) < MIN_SEEDS:
        return NO_OCCASION
    apart, medians = joint(a, b), joint_medians(large)
    holds = is_loss(-apart, -medians, margin)
    fails = is_loss(apart, medians, margin) or is_equal(apart, medians, margin)
    return decided(holds, fails and not holds)


def joint(a: Arm, b: Arm) -> np.ndarray:
    """Differences of `a` less those of `b`, for each seed that both have."""
    seeds = sorted(a.differences.keys() & b.differences.keys())
    return np.array([a.differences[seed] - b.differences[seed] for seed in seeds])


def joint_medians(pairs: Sequence[tuple[Arm, Arm]]) -> np.ndarray:
    """The median of :func:`joint` at each larger scale."""
    return np.array([np.median(joint(*pair)) for pair in pairs])


def both_near_chance(a: Arm, b: Arm, within: float) -> bool:
    """Whether the runs of some seed diverged or ended within `within` of chance in both."""
    near = [
        {seed for seed, accuracy in arm.accuracies.items() if not abs(accuracy - CHANCE) > within}
        for arm in (a, b)
    ]
    return bool(near[0] & near[1])


def words(arm: Arm) -> str:
    """The mean difference in points, of how many runs, and without those at chance."""
    if not len(arm.values):
        return "no runs"
    n = len(arm.values)
    text = f"{signed(100 * arm.values.mean())} points, {n} run{'s' * (n != 1)}"
    stuck = [seed for seed, at in arm.at_chance.items() if at]
    if not stuck:
        return text
    rest = [d for seed, d in arm.differences.items() if seed not in stuck]
    without = f"; {signed(100 * np.mean(rest))} without them" if rest else ""
    return f"{text}, {len(stuck)} at chance{without}"


def each(arm: Arm) -> str:
    """The test accuracy of each run in percent, in the order of the seeds."""
    found = (arm.accuracies[seed] for seed in sorted(arm.accuracies))
    return ", ".join("diverged" if value != value else f"{100 * value:.1f}" for value in found)


def in_turn(small: Arm, large: list[Arm]) -> str:
    """:func:`words` at the smaller scale and then at larger ones."""
    return ", then ".join(words(arm) for arm in (small, *large))


def listed(found: dict[float, tuple[Arm, list[Arm]]]) -> str:
    """Each s with its difference to s=0, at the smaller scale and then at larger ones."""
    return "; ".join(f"s={s:g}: {in_turn(*own)}" for s, own in found.items())
