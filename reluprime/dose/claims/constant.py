"""D4 to D6: how few kinks under the constant cost something, and what one kink does."""

import pandas as pd

from reluprime.dose.claims.shared import (
    IN_WORDS,
    NOT_LEARNT,
    SHARE,
    Sentence,
    learnt,
    scale_in_words,
)
from reluprime.dose.experiments import GRIDS, MLP, NETWORKS, SEEDS, mlp_grid
from reluprime.dose.runs import measured, rows_of
from reluprime.dose.thresholds import POINT, TEN_POINTS, bracket_in_words, brackets
from reluprime.evidence.claim import Claim, Evidence
from reluprime.evidence.finding import NO_OCCASION, Finding, decided
from reluprime.evidence.intervals import t_margin

FEW = 1000  # kinks
UNITS_A_KINK = (0.5, 1.5)
COUNTED_DOSES = (10, 300)  # in which units are counted: more kinks than that kill whole layers


def _costs_at_few(claim_id: str, network: str, loss: float) -> Claim:
    """The sentence that fewer kinks than FEW cost a network `loss` of test accuracy."""
    base, grid = NETWORKS[network][0], GRIDS[network]

    def judge(evidence: Evidence, gradient_rule: str, _: str) -> Finding:
        table = rows_of(measured(evidence, grid(gradient_rule)), base, s=1.0)
        table = table[table["dose_share"] <= SHARE]
        if table.empty or not learnt(table, loss):
            return NOT_LEARNT
        found = brackets(table, loss)
        outcome = decided(bool((found["at"] < FEW).all()), bool((found["below"] >= FEW).all()))
        between = ", ".join(bracket_in_words(*row) for row in found.to_numpy())
        return Finding(outcome, f"{points} of accuracy, by seed: {between}")

    points = "one point" if loss == POINT else "ten points"
    return Sentence(
        id=claim_id,
        statement=f"Fewer than 1,000 kinks at s=1 cost {IN_WORDS[network]} {points}.",
        figure="14_how_many_kinks#the-constant",
        rule=(
            f"Ours, from pilots. For each of five seeds a dose below 1,000 was tried at which s=1 "
            f"costs {points} of test accuracy against s=0 with the same band. Fails where for "
            "each seed a dose of 1,000 or more, and at most 1 % of all inputs of a ReLU, was tried "
            "below which nothing costs as much. Nothing is interpolated."
        ),
        thresholds={"loss": loss, "few": FEW, "largest share": SHARE},
        grid=lambda gradient_rule, _: grid(gradient_rule),
        judge=judge,
        scale=scale_in_words(network),
    )


D4, D5 = _costs_at_few("D4", "mlp", POINT), _costs_at_few("D5", "vgg11", TEN_POINTS)


def units_a_kink(table: pd.DataFrame) -> pd.Series:
    """Units that died for each kink of the dose, a seed: the median over its runs.

    table: of `runs.pairs`. Runs are chosen by their dose, within COUNTED_DOSES, and by nothing
    that they did themselves.
    """
    own = table[table["dose"].between(*COUNTED_DOSES)]
    return ((own["dead_units"] - own["dead_at_0"]) / own["dose"]).groupby(own["seed"]).median()


def _d6(evidence: Evidence, gradient_rule: str, _: str) -> Finding:
    table = rows_of(measured(evidence, mlp_grid(gradient_rule)), MLP, s=1.0)
    by_seed = units_a_kink(table).to_numpy()
    if len(by_seed) < len(SEEDS):
        low, high = COUNTED_DOSES
        return Finding(NO_OCCASION, f"{len(by_seed)} seeds with a dose in {low} to {high}")
    mean, half = by_seed.mean(), t_margin(by_seed)
    least, most = UNITS_A_KINK
    inside = mean - half >= least and mean + half <= most
    outside = mean + half < least or mean - half > most
    value = f"{mean:.2g} ± {half:.2g} units die for each kink of the dose"
    return Finding(decided(bool(inside), bool(outside)), value)


D6 = Sentence(
    id="D6",
    statement="At s=1 a kink of the dose kills about one unit.",
    figure="14_how_many_kinks#what-one-kink-does",
    rule=(
        "Ours, from pilots. Dead units at the end, less those of the run at s=0 with the same "
        "band, for each kink of the dose: for each seed the median over its runs with a dose of "
        "10 to 300. The 95 % t-interval over five seeds lies within 0.5 and 1.5; fails where it "
        "lies outside."
    ),
    thresholds={"least": UNITS_A_KINK[0], "most": UNITS_A_KINK[1]}
    | {"least dose": COUNTED_DOSES[0], "largest dose": COUNTED_DOSES[1]},
    grid=lambda gradient_rule, _: mlp_grid(gradient_rule),
    judge=_d6,
    scale="MLP 3x256, 5 epochs, 5 seeds",
)
