"""D7: a widened kink against real zeros."""

import math

import pandas as pd

from reluprime.dose.claims.shared import Sentence, learnt
from reluprime.dose.experiments import MLP, REAL, mlp_grid, real_grid
from reluprime.dose.runs import measured, rows_of
from reluprime.dose.thresholds import POINT, TEN_POINTS, loss_at
from reluprime.evidence.claim import Cell, Evidence
from reluprime.evidence.finding import (
    NO_OCCASION,
    OPEN,
    Finding,
    decided,
    hold_where_there_is_occasion,
)


def stand_in_grid(gradient_rule: str, _: str) -> list[Cell]:
    """Runs with real zeros, and runs with a band beside which they stand."""
    return real_grid(gradient_rule) + mlp_grid(gradient_rule)


def beside_the_band(evidence: Evidence, gradient_rule: str) -> pd.DataFrame:
    """Runs with real zeros beside the two bands of their seed and s whose doses are nearest.

    Columns of `pairs`, and: real_precision, least and most (losses of the bands below and
    above their dose; NaN where there is none), band_reference (the lower of their references),
    at_equal_dose (interpolated between the two), both_stuck (the run and the band above are at
    chance).
    """
    table = measured(evidence, stand_in_grid(gradient_rule, ""))
    banded, rows = rows_of(table, MLP), []
    for precision, base in REAL.items():
        for row in rows_of(table, base, kink_width=0.0).to_dict("records"):
            own = banded[(banded["s"] == row["s"]) & (banded["seed"] == row["seed"])]
            rows.append(row | {"real_precision": precision} | _neighbours(own, row))
    return pd.DataFrame(rows)


def _neighbours(own: pd.DataFrame, row: dict) -> dict:
    own = own[own["dose"] > 0].sort_values("dose")
    below, above = own[own["dose"] <= row["dose"]], own[own["dose"] >= row["dose"]]
    if below.empty or above.empty or not row["dose"]:
        return dict.fromkeys(("least", "most", "at_equal_dose", "band_reference"), math.nan) | {
            "both_stuck": False
        }
    two = -below.iloc[-1]["difference"], -above.iloc[0]["difference"]
    return {
        "band_reference": min(below.iloc[-1]["reference"], above.iloc[0]["reference"]),
        "least": min(two),
        "most": max(two),
        "at_equal_dose": loss_at(own["dose"], -own["difference"], row["dose"]),
        "both_stuck": bool(row["stuck"] and above.iloc[0]["stuck"]),
    }


def _d7(evidence: Evidence, gradient_rule: str, _: str) -> Finding:
    table = beside_the_band(evidence, gradient_rule)
    outcomes, values = [], []
    for (precision, s), own in table.groupby(["real_precision", "s"]):
        outcomes.append(_stands_in(own))
        text = f"{precision}, s={s:g}, {own['dose'].mean():,.0f} zeros: "
        lost, least, most = (-100 * own[n].mean() for n in ("difference", "least", "most"))
        band = "no band with that dose" if own["least"].isna().any() else ""
        band = band or f"bands beside it {least:+.1f} and {most:+.1f}"
        values.append(f"{text}{-lost:+.1f} points, {band}: {outcomes[-1]}")
    return Finding(hold_where_there_is_occasion(outcomes), "; ".join(values))


def _stands_in(own: pd.DataFrame) -> str:
    """Whether the losses of a precision and s lie between those of the bands, seed by seed."""
    references = own.assign(reference=own[["reference", "band_reference"]].min(axis=1))
    if own["least"].isna().any() or not learnt(references, TEN_POINTS):
        return OPEN
    lost = -own["difference"]
    if abs(lost.mean()) < POINT and own["most"].mean() < POINT:
        return NO_OCCASION
    if ((own["most"] - own["least"] > TEN_POINTS) & ~own["both_stuck"]).any():
        return OPEN  # between such bands nearly every loss would do
    above = (lost > own["most"] + POINT) & ~own["both_stuck"]
    below = (lost < own["least"] - POINT) & ~own["both_stuck"]
    return decided(not (above | below).any(), bool(above.all() or below.all()))


D7 = Sentence(
    id="D7",
    statement="At equal dose a widened kink costs what real zeros cost.",
    figure="19_published_doses#is-a-widened-kink-a-fair-stand-in",
    rule=(
        "Ours, from pilots. The MLP at fp16 and bf16 in `separate`, whose zeros are real, beside "
        "the same network at fp32 with a band: at each precision and s the loss of each of five "
        "seeds lies between the losses of its two bands whose doses are nearest, or within a "
        "point of them, or both are at chance. Fails where all five seeds lose more than that, or "
        "all less. Where neither loses a point there is no occasion; where the two bands are more "
        "than ten points apart, or a run at s=0 is near chance, it is open."
    ),
    thresholds={"margin": POINT, "widest gap": TEN_POINTS},
    grid=stand_in_grid,
    judge=_d7,
    scale="MLP 3x256, 5 epochs, 5 seeds",
)
