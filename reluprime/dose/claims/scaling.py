"""D9 and D10: how the dose that costs a point scales."""

import numpy as np
import pandas as pd

from reluprime.dose.claims.shared import NOT_LEARNT, SHARE, Sentence, learnt
from reluprime.dose.experiments import (
    MIDDLE,
    MLP,
    SEEDS,
    VARIANTS,
    bands,
    fashion_grid,
    mlp_grid,
    variant_grid,
)
from reluprime.dose.runs import measured, rows_of
from reluprime.dose.thresholds import POINT, bears_more, brackets, brackets_in_words, slopes
from reluprime.evidence.claim import Cell, Evidence
from reluprime.evidence.finding import (
    NO_OCCASION,
    OPEN,
    Finding,
    decided,
    hold_where_there_is_occasion,
)

SLOPE, SLOPE_MARGIN = -1.0, 0.5  # of log dose on log s, and on log learning rate
RATES = ("learning rate 0.003", "learning rate 0.03")
SCALED_S = (0.1, 0.3, 1.0, 10.0)


def slope_grid(gradient_rule: str, _: str) -> list[Cell]:
    """Values of s and learning rates."""
    if gradient_rule == "chain":
        return mlp_grid("chain")
    changes = (VARIANTS[name] for name in RATES)
    by_rate = [c for own in changes for c in bands(MLP, (3e-8, *MIDDLE), (1.0,), "injected", **own)]
    return mlp_grid("injected") + by_rate


def strengths(table: pd.DataFrame) -> dict[str, dict[float, pd.DataFrame]]:
    """Runs at s=1 and others by what is varied and its value: by s, and by learning rate."""
    rates = (MLP.replace(**VARIANTS[RATES[0]]), MLP, MLP.replace(**VARIANTS[RATES[1]]))
    return {
        "s": {s: rows_of(table, MLP, s=s) for s in SCALED_S},
        "learning rate": {c.lr: rows_of(table, c, s=1.0) for c in rates},
    }


def _d9(evidence: Evidence, gradient_rule: str, _: str) -> Finding:
    table = measured(evidence, slope_grid(gradient_rule, ""))
    if gradient_rule == "chain":
        return _without_those_runs(table)
    outcomes, values, lost, read = [], [], False, True
    for name, own in strengths(table).items():
        if any(rows.empty or not learnt(rows, POINT) for rows in own.values()):
            outcomes.append(OPEN)
            values.append(f"by {name}: a run at s=0 is near chance")
            read = False
            continue
        found = {at: brackets(rows, POINT) for at, rows in own.items()}
        lost = lost or any(np.isfinite(b["at"]).any() for b in found.values())
        by_seed = [slopes({at: tuple(b.loc[seed]) for at, b in found.items()}) for seed in SEEDS]
        low, high = (min(e[0] for e in by_seed), max(e[1] for e in by_seed))
        outcomes.append(_is_slope(by_seed))
        doses = ", ".join(f"{at:g}: {brackets_in_words(b)}" for at, b in found.items())
        values.append(f"by {name}: slope between {low:.2f} and {high:.2f} ({doses})")
    if read and not lost:
        return Finding(NO_OCCASION, "no dose costs a point")
    return Finding(hold_where_there_is_occasion(outcomes), "; ".join(values))


def _without_those_runs(table: pd.DataFrame) -> Finding:
    """Under the derivative, where variants are not computed: D1 asks whether it costs anything."""
    own = rows_of(table, MLP, s=1.0)
    if not learnt(own[own["dose_share"] <= SHARE], POINT):
        return NOT_LEARNT
    lost = np.isfinite(brackets(own, POINT)["at"]).any()
    return Finding(OPEN, "not computed") if lost else Finding(NO_OCCASION, "no dose costs a point")


def _is_slope(by_seed: list[tuple[float, float]]) -> str:
    least, most = SLOPE - SLOPE_MARGIN, SLOPE + SLOPE_MARGIN
    inside = all(least <= low and high <= most for low, high in by_seed)
    outside = all(not (low <= most and high >= least) for low, high in by_seed)
    return decided(inside, outside)


D9 = Sentence(
    id="D9",
    statement="The dose that costs a point is proportional to 1 / s and to 1 / learning rate.",
    figure="14_how_many_kinks#how-the-dose-scales",
    rule=(
        "Ours, from pilots. The two doses tried between which one point is lost, for each of five "
        "seeds, at s = 0.1, 0.3, 1 and 10 (learning rate 0.01), and at learning rates of 0.003, "
        "0.01 and 0.03 (s=1): every straight line of log dose on log s, and on log learning rate, "
        "that goes between them has a slope of -1.5 to -0.5; fails where for each seed none has, "
        "for one of the two. Nothing is interpolated."
    ),
    thresholds={"loss": POINT, "slope": SLOPE, "margin": SLOPE_MARGIN},
    grid=slope_grid,
    judge=_d9,
    scale="MLP 3x256, 5 epochs, 5 seeds",
)


def layer_grid(gradient_rule: str, _: str) -> list[Cell]:
    """With what the page shows beside: batch size, depth, another data set."""
    if gradient_rule == "chain":
        return mlp_grid("chain")
    return mlp_grid("injected") + variant_grid("injected") + fashion_grid()


def _d10(evidence: Evidence, gradient_rule: str, _: str) -> Finding:
    table = measured(evidence, layer_grid(gradient_rule, ""))
    if gradient_rule == "chain":
        return _without_those_runs(table)
    layers = [rows_of(table, MLP, s=1.0, kink_layer=layer) for layer in (1, 2, 3)]
    if not learnt(pd.concat(layers), POINT):
        return NOT_LEARNT
    found = [brackets(own, POINT) for own in layers]
    if all(np.isinf(own["at"]).all() for own in found):
        return Finding(NO_OCCASION, "no dose in one layer costs a point")
    words = "; ".join(f"layer {n}: {brackets_in_words(b)}" for n, b in enumerate(found, start=1))
    return Finding(bears_more(found[0], found[2]), f"one point, {words}")


D10 = Sentence(
    id="D10",
    statement="A kink in the last hidden layer costs more than one in the first.",
    figure="14_how_many_kinks#how-the-dose-scales",
    rule=(
        "Ours, from pilots. With the band in one layer alone, at s=1: for each of five seeds a "
        "dose was tried that costs one point in the last hidden layer, and one at least as large "
        "in the first that costs less, with none below that costs as much. Fails where it is the "
        "other way round for each seed. Nothing is interpolated."
    ),
    thresholds={"loss": POINT},
    grid=layer_grid,
    judge=_d10,
    scale="MLP 3x256, 5 epochs, 5 seeds",
)
