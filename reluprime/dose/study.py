"""How many kinks a training meets, and what they do: tables of runs with a widened kink.

The dose of a run is the number of kinks that the run at s=0 with the same band and seed meets. It
is set by the width of the band; how many kinks the run itself meets is an outcome, since a ruined
network meets none or millions. A widened kink is an intervention of ours, not an experiment of
the papers.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from reluprime.evidence.claim import Cell, Evidence
from reluprime.training import arms
from reluprime.training import study as training
from reluprime.training import tables as learning

SHARED = [*learning.CONDITION, "seed", "machine"]  # by a run and its reference at s=0


def runs(cells: pd.DataFrame) -> pd.DataFrame:
    """The table of `learning.runs` of single networks, with what a band adds.

    Further columns: kinks (inputs in the band, or exact zeros where there is none, over all
    epochs and layers), kinks_by_epoch, dead_units and always_on_units (after the last epoch, over
    all layers; NaN where they were not counted), dead_by_layer (a tuple), stuck (it diverged or
    ended at chance), counts_as (the accuracy that enters a test: chance for a stuck run).
    """
    table = learning.runs(cells)
    rows = [row for row in cells.to_dict("records") if row["evaluate_on"] == "test"]
    own = pd.DataFrame([_own(row) for row in rows], columns=_OWN, index=table.index)
    table = pd.concat([table, own], axis=1)
    stuck = arms.is_stuck(table)
    return table.assign(counts_as=table["test_accuracy"].where(~stuck, arms.CHANCE), stuck=stuck)


_OWN = ["kinks", "kinks_by_epoch", "dead_units", "always_on_units", "dead_by_layer"]


def _own(row: dict) -> dict:
    met = row["kinks"] if isinstance(row.get("kinks"), dict) else row["exact_zeros"]
    by_epoch = tuple(sum(layer) for layer in zip(*(n[0] for n in met.values()), strict=True))
    dead, on = (_after_last_epoch(row.get(name)) for name in ("dead_units", "always_on_units"))
    return {
        "kinks": sum(by_epoch),
        "kinks_by_epoch": by_epoch,
        "dead_units": sum(dead) if dead else math.nan,
        "always_on_units": sum(on) if on else math.nan,
        "dead_by_layer": dead,
    }


def _after_last_epoch(counts) -> tuple[int, ...]:
    return tuple(n[0][-1] for n in counts.values()) if isinstance(counts, dict) else ()


def pairs(table: pd.DataFrame) -> pd.DataFrame:
    """Each run at another s than 0 beside its reference, the run at s=0 with the same band.

    Columns of :func:`runs`, and: dose (kinks of the reference), dose_a_step, dose_share (of the
    inputs of all ReLUs), difference (of counts_as to the reference), reference (its counts_as),
    dead_at_0 (its dead units).
    """
    names = {"kinks": "dose", "counts_as": "reference", "dead_units": "dead_at_0"}
    zero = table[table["s"] == 0].rename(columns=names)
    calls = zero["relu_calls"], zero["epochs_done"] * zero["n_batches"]
    zero = zero.assign(dose_share=zero["dose"] / calls[0], dose_a_step=zero["dose"] / calls[1])
    kept = zero[[*SHARED, *names.values(), "dose_share", "dose_a_step"]]
    found = table[table["s"] != 0].merge(kept, on=SHARED)
    return found.assign(difference=found["counts_as"] - found["reference"])


def measured(evidence: Evidence, cells: Iterable[Cell]) -> pd.DataFrame:
    """:func:`pairs` of a grid's records."""
    return pairs(all_runs(evidence, cells))


def all_runs(evidence: Evidence, cells: Iterable[Cell]) -> pd.DataFrame:
    """:func:`runs` of a grid's records."""
    return runs(evidence.table(training.fit, dict.fromkeys(c.config for c in cells)))


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
