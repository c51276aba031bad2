"""D8: what mitigates, at equal dose."""

import numpy as np

from reluprime.dose.claims.shared import NOT_LEARNT, Sentence, learnt
from reluprime.dose.experiments import MITIGATIONS, MLP, mitigation_grid, mlp_grid
from reluprime.dose.runs import measured, rows_of
from reluprime.dose.thresholds import TEN_POINTS, bears_more, brackets, brackets_in_words
from reluprime.evidence.claim import Cell, Evidence
from reluprime.evidence.finding import NO_OCCASION, OPEN, Finding, hold_where_there_is_occasion


def mitigated_grid(gradient_rule: str, _: str) -> list[Cell]:
    """Ways to train under the constant, beside training as released."""
    if gradient_rule == "chain":  # under which no dose of D1 costs anything that could be mitigated
        return mlp_grid("chain")
    return mlp_grid("injected") + mitigation_grid("injected")


def _d8(evidence: Evidence, gradient_rule: str, _: str) -> Finding:
    table = measured(evidence, mitigated_grid(gradient_rule, ""))
    ways = {"as released": MLP} | {n: MLP.replace(**MITIGATIONS[n]) for n in ("Adam", "batch norm")}
    own = {name: rows_of(table, config, s=1.0) for name, config in ways.items()}
    released = own.pop("as released")
    if not learnt(released, TEN_POINTS):
        return NOT_LEARNT
    base = brackets(released, TEN_POINTS)
    if np.isinf(base["at"]).all():
        return Finding(NO_OCCASION, "no dose costs ten points")
    outcomes, values = [], [f"as released {brackets_in_words(base)}"]
    for name, rows in own.items():
        if rows.empty or not learnt(rows, TEN_POINTS):
            outcomes.append(OPEN)
            values.append(f"{name}: no run, or one at s=0 near chance")
            continue
        found = brackets(rows, TEN_POINTS)
        outcomes.append(bears_more(found, base))
        values.append(f"{name} {brackets_in_words(found)}")
    return Finding(hold_where_there_is_occasion(outcomes), "ten points: " + "; ".join(values))


D8 = Sentence(
    id="D8",
    statement="Adam and batch norm each bear more kinks than SGD with momentum.",
    figure="14_how_many_kinks#what-mitigates",
    rule=(
        "Ours, from pilots. At s=1, Adam (rate 0.001, no weight decay) and batch norm, one rate "
        "each: for each of five seeds a dose was tried that costs SGD as released ten points, and "
        "a dose at least as large that costs the other less, with none below that costs it as "
        "much. Fails where for one of them it is the other way round for each seed. Nothing is "
        "interpolated."
    ),
    thresholds={"loss": TEN_POINTS},
    grid=mitigated_grid,
    judge=_d8,
    scale="MLP 3x256, 5 epochs, 5 seeds",
)
