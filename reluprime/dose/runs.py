"""How many kinks a training meets, and what they do: tables of runs with a widened kink.

The dose of a run is the number of kinks that the run at s=0 with the same band and seed meets. It
is set by the width of the band; how many kinks the run itself meets is an outcome, since a ruined
network meets none or millions. A widened kink is an intervention of ours, not an experiment of
the papers.
"""

import math
from collections.abc import Iterable

import pandas as pd

from reluprime.evidence.claim import Cell, Evidence
from reluprime.evidence.finding import matches
from reluprime.training import arms
from reluprime.training import tables as training_tables
from reluprime.training.config import TrainingConfig
from reluprime.training.study import fit

SHARED = [*training_tables.CONDITION, "seed", "machine"]  # by a run and its reference at s=0


def runs(cells: pd.DataFrame) -> pd.DataFrame:
    """The table of `training_tables.runs` of single networks, with what a band adds.

    Further columns: kinks (inputs in the band, or exact zeros where there is none, over all
    epochs and layers), kinks_by_epoch, dead_units and always_on_units (after the last epoch, over
    all layers; NaN where they were not counted), dead_by_layer (a tuple), stuck (it diverged or
    ended at chance), counts_as (the accuracy that enters a test: chance for a stuck run).
    """
    table = training_tables.runs(cells)
    rows = [row for row in cells.to_dict("records") if row["evaluate_on"] == "test"]
    own = pd.DataFrame([_own(row) for row in rows], columns=_OWN, index=table.index)
    table = pd.concat([table, own], axis=1)
    stuck = arms.is_stuck(table)
    return table.assign(counts_as=table["test_accuracy"].where(~stuck, arms.CHANCE), stuck=stuck)


_OWN = ["kinks", "kinks_by_epoch", "dead_units", "always_on_units", "dead_by_layer"]


def kinks_of(row: dict) -> dict[str, list[list[int]]]:
    """The kinks of a record's row, by layer, network and epoch; exact zeros without a band."""
    return row["kinks"] if isinstance(row.get("kinks"), dict) else row["exact_zeros"]


def _own(row: dict) -> dict:
    met = kinks_of(row).values()
    by_epoch = tuple(sum(layer) for layer in zip(*(n[0] for n in met), strict=True))
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
    dead_at_0 (its dead units), real_dose (its exact zeros, which a band holds too).
    """
    names = {"kinks": "dose", "counts_as": "reference", "dead_units": "dead_at_0"}
    names |= {"exact_zeros": "real_dose"}
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
    return runs(evidence.table(fit, dict.fromkeys(c.config for c in cells)))


FREE = ("seed", "kink_width", "s", "gradient_rule", "image_folder", "n_networks")


def rows_of(table: pd.DataFrame, config: TrainingConfig, **arm) -> pd.DataFrame:
    """The rows of `pairs` of one network, whatever their band, s, rule and seed."""
    wanted = {n: getattr(config, n) for n in TrainingConfig.model_fields if n not in FREE} | arm
    return table[matches(table, wanted)]


def band_alone(evidence: Evidence, cells: Iterable[Cell], config: TrainingConfig) -> pd.Series:
    """What a band costs at s=0: accuracy less that without one, mean over seeds, by width."""
    runs = rows_of(all_runs(evidence, cells), config, s=0.0)
    means = runs.groupby("kink_width")["counts_as"].mean()
    return (means - means.get(0.0, math.nan)).drop(0.0, errors="ignore")
