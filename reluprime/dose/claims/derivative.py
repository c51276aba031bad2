"""D1 to D3: the derivative at any dose."""

import numpy as np

from reluprime.dose.claims.shared import IN_WORDS, SHARE, Sentence, learnt, scale_in_words
from reluprime.dose.experiments import GRIDS, NETWORKS
from reluprime.dose.runs import measured, rows_of
from reluprime.evidence.claim import Claim, Evidence
from reluprime.evidence.finding import HOLDS, OPEN, Finding, decided, hold_where_there_is_occasion
from reluprime.evidence.tests import RISK, equivalence, sign_flip
from reluprime.evidence.words import signed
from reluprime.training import arms

LEAST_S = 0.5  # of the sentences about s up to 1
ENOUGH = 0.002  # of them: without a dose as large, "however many" was not tried
TRIED_S = {"mlp": "s=0.5 and s=1", "vgg11": "s=1", "resnet18": "s=1"}


def _unchanged(network: str) -> Claim:
    """The sentence that s changes nothing in the accuracy of a network."""
    base, margin = NETWORKS[network]
    grid = GRIDS[network]

    def judge(evidence: Evidence, gradient_rule: str, _: str) -> Finding:
        table = rows_of(measured(evidence, grid(gradient_rule)), base)
        table = table[table["s"].between(LEAST_S, 1)]
        outcomes, values, largest = [], [], dict.fromkeys(table["s"], 0.0)
        for (s, _width), own in table.groupby(["s", "kink_width"]):
            met, share = own["dose"].mean(), own["dose_share"].mean()
            if share > SHARE or (own["dose"] > 0).sum() < arms.MIN_SEEDS:
                why = "beyond 1 %" if share > SHARE else "too few kinks"
                values.append(f"s={s:g}, {met:,.0f} kinks: not judged, {why}")
                continue
            apart = own.sort_values("seed")["difference"].to_numpy()
            outcomes.append(same_or_not(apart, margin) if learnt(own, margin) else OPEN)
            values.append(f"s={s:g}, {met:,.0f} kinks: {signed(100 * apart.mean())} points")
            largest[s] = max(largest[s], share)
        outcome = hold_where_there_is_occasion(outcomes)
        if outcome == HOLDS and min(largest.values()) < ENOUGH:
            outcome = OPEN
        return Finding(outcome, "; ".join(values))

    return Sentence(
        id=f"D{1 + list(NETWORKS).index(network)}",
        statement=f"At {TRIED_S[network]} the accuracy of {IN_WORDS[network]} is what it is at "
        "s=0, however many kinks it meets, up to 1 % of all inputs of its ReLUs.",
        figure="14_how_many_kinks#the-derivative-at-any-dose",
        rule=(
            "Ours, from pilots. At each width of the band whose dose is at most 1 % of all inputs "
            "of a ReLU, and in which five seeds met a kink, at s=0.5 and s=1 as far as they are in "
            "the grid: equivalent to s=0 with the same band within the margin, paired over five "
            "seeds. Open where at one s no dose is 0.2 % of the inputs, or a run at s=0 is too "
            "near chance. Fails where one such dose loses or gains the margin by a sign-flip test "
            "(5 % either way)."
        ),
        thresholds={"margin": margin, "risk": RISK, "largest share": SHARE}
        | {"enough of a share": ENOUGH, "least seeds that met a kink": arms.MIN_SEEDS}
        | {"least s": LEAST_S},
        grid=lambda gradient_rule, _: grid(gradient_rule),
        judge=judge,
        scale=scale_in_words(network),
    )


def same_or_not(apart: np.ndarray, margin: float) -> str:
    """Whether paired differences are equivalent to 0 within the margin, or at least as large."""
    either = min(sign_flip(apart), sign_flip(-apart)) < RISK
    return decided(equivalence(apart, margin) < RISK, bool(either and abs(apart.mean()) >= margin))


D1, D2, D3 = (_unchanged(network) for network in NETWORKS)
