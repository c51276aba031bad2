"""The dose at which a loss of test accuracy is reached, tried or interpolated."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import optimize

from reluprime.evidence.finding import decided


def bracket(doses: Sequence[float], losses: Sequence[float], loss: float) -> tuple[float, float]:
    """The two doses tried between which `loss` of test accuracy is lost for the first time.

    -> the largest dose below the first that loses as much (0 where there is none), and that first
    one (infinite where none does). Doses of 0 are left out.
    """
    below = 0.0
    for dose, lost in sorted((d, lost) for d, lost in zip(doses, losses, strict=True) if d > 0):
        if lost >= loss:
            return below, float(dose)
        below = float(dose)
    return below, math.inf


def threshold(doses: Sequence[float], losses: Sequence[float], loss: float) -> float:
    """The dose at which `loss` of test accuracy is lost.

    Interpolated over the logarithm of the dose, between the first dose that loses as much and
    the one below it. Infinite where none does; the smallest dose, a bound from above, where the
    first one does already. Doses of 0 are left out.
    """
    at = sorted((d, lost) for d, lost in zip(doses, losses, strict=True) if d > 0)
    for index, (dose, lost) in enumerate(at):
        if lost >= loss:
            if index == 0:
                return float(dose)
            below, less = at[index - 1]
            share = (loss - less) / (lost - less)
            return float(math.exp(math.log(below) + share * math.log(dose / below)))
    return math.inf


def thresholds(table: pd.DataFrame, loss: float) -> pd.Series:
    """:func:`threshold` of each seed, of :func:`pairs` that differ in the band and seed alone."""
    found = {
        seed: threshold(own["dose"], -own["difference"], loss)
        for seed, own in table.groupby("seed")
    }
    return pd.Series(found, dtype=float)


def loss_at(doses: Sequence[float], losses: Sequence[float], dose: float) -> float:
    """The loss of test accuracy at a dose, interpolated over its logarithm.

    NaN outside the doses given: nothing is extrapolated.
    """
    at = sorted((d, lost) for d, lost in zip(doses, losses, strict=True) if d > 0)
    known = [d for d, _ in at]
    if not at or not known[0] <= dose <= known[-1]:
        return math.nan
    return float(np.interp(math.log(dose), np.log(known), [lost for _, lost in at]))


POINT, TEN_POINTS = 0.01, 0.1  # of test accuracy
STEEPEST = 10.0  # slope that is looked at


def brackets(table: pd.DataFrame, loss: float) -> pd.DataFrame:
    """`bracket` of each seed, of `pairs` that differ in band and seed alone.

    Indexed by seed; columns below and at.
    """
    found = {
        seed: bracket(own["dose"], -own["difference"], loss) for seed, own in table.groupby("seed")
    }
    return pd.DataFrame.from_dict(found, orient="index", columns=["below", "at"], dtype=float)


def bracket_in_words(below: float, at: float) -> str:
    """A bracket, as "at 100 (not at 10)"."""
    if math.isinf(at):
        return f"not at {below:,.0f}"
    return f"at {at:,.0f} (not at {below:,.0f})" if below else f"at {at:,.0f}, the least tried"


def bears_more(a: pd.DataFrame, b: pd.DataFrame) -> str:
    """Whether `a` loses as much only at larger doses than `b`, by the brackets of each seed.

    Holds where for every seed a dose at which `b` has lost it costs `a` less; fails where for
    every seed it is the other way round. Nothing is interpolated.
    """
    more, less = a["below"] >= b["at"], b["below"] >= a["at"]
    return decided(bool(more.all()), bool(less.all()))


def brackets_in_words(found: pd.DataFrame) -> str:
    """The widest bracket over the seeds."""
    return bracket_in_words(found["below"].min(), found["at"].max())


def slopes(brackets_at: dict[float, tuple[float, float]]) -> tuple[float, float]:
    """The least and largest slope of log dose on log strength that the brackets leave room for.

    brackets_at: below and at, by strength. NaN where no straight line goes through all of them.
    """
    rows, bounds = [], []
    for strength, (below, at) in brackets_at.items():
        x = math.log(strength)
        if below > 0:
            rows.append([-1.0, -x])
            bounds.append(-math.log(below))
        if math.isfinite(at):
            rows.append([1.0, x])
            bounds.append(math.log(at))
    ends = []
    for sign in (1, -1):
        free = [(None, None), (-STEEPEST, STEEPEST)]
        found = optimize.linprog([0.0, sign], rows or None, bounds or None, bounds=free)
        ends.append(float(found.x[1]) if found.success else math.nan)
    return ends[0], ends[1]
