"""Rows 1 and 2 of B21's Table 1: P5 and P6."""

from functools import partial

from reluprime.evidence.claim import Claim, Evidence
from reluprime.evidence.finding import FAILS, HOLDS, OPEN, Finding, all_must_hold, decided
from reluprime.evidence.intervals import clopper_pearson
from reluprime.evidence.tests import RISK
from reluprime.instruments.arithmetic import ARITHMETICS
from reluprime.volume.claims.examples import (
    among,
    as_published,
    made_up_networks,
    no_records,
)
from reluprime.volume.experiments import (
    PUBLISHED_SHARES,
    grid_of,
    in_zone,
    networks_of,
    pair_networks,
    released_share,
    share_networks,
)
from reluprime.volume.networks import VolumeConfig

MARGIN = 0.05  # of the published shares (Hoeffding, M=1000)
RELEASED_PAIRS = 0.038  # P6: at fp16, in the figure of the notebook that builds the network
MEANT_PAIRS = {"fp32": 2e-3, "fp16": 0.5}  # P6: 1000 times the published
FACTOR = 1.5  # P6: shares of pairs are compared up to it


def _p5(evidence: Evidence, gradient_rule: str, arithmetic: str) -> Finding:
    own, parts, values = own_shares(), [], []
    for (name, precision), config in share_networks(arithmetic).items():
        k, n = in_zone(evidence, config, gradient_rule)
        parts.append(near(k, n, own[name][precision]))
        bound = f", at most {clopper_pearson(0, n)[1]:.2%} (95 %)" if k == 0 else ""
        values.append(f"{name}'s network at {precision} {k / n:.1%} of {n}{bound}")
    return Finding(all_must_hold(parts), "; ".join(values))


def own_shares() -> dict[str, dict[str, float]]:
    """The published share of networks in the zone that P5 holds a network against, by precision.

    The paper's has at fp32 that of the released data of Fig. 2.
    """
    return {"paper": PUBLISHED_SHARES | {"fp32": released_share()}, "release": PUBLISHED_SHARES}


def near(k: int, n: int, published: float) -> str:
    """Whether a share is the published one, with its margin.

    Holds within MARGIN, and where none is published with none; fails where the exact interval
    (95 %) lies beyond the margin, and where none is published with one.
    """
    if published == 0:
        return FAILS if k else HOLDS
    low, high = clopper_pearson(k, n)
    beyond = high < published - MARGIN or low > published + MARGIN
    return decided(abs(k / n - published) <= MARGIN, beyond)


def _six_points_fewer(config: VolumeConfig, seed: int, rule: str) -> int:
    if config.precision != "fp32":
        return as_published(config, seed, rule)
    share = released_share() if config.relu_after_first else PUBLISHED_SHARES["fp32"]
    return int(among(share - 0.06)(seed))


P5 = Claim(
    id="P5",
    statement="Share of random networks in the bifurcation zone, at 16 / 32 / 64 bits.",
    published="100 / 40 / 0 % (±5 %)",
    source="B21 Table 1, row 1",
    figure="02_relative_volume#table-1",
    rule=(
        "Each network against its own number: the one that the notebook builds (two ReLUs) "
        "against Table 1, the one that the paper describes (three) against the released data of "
        "Fig. 2 at its size. Holds within the published margin of 5 points, and at 64 bits with "
        "none; fails where the exact interval (95 %) lies beyond the margin, and with one at 64 "
        "bits."
    ),
    thresholds={"risk": RISK, "margin": MARGIN},
    grid=partial(grid_of, share_networks),
    judge=_p5,
    scale="1000 networks as published; fewer where none (100) or all (100 to 300) are in the zone; "
    "at fp32 the shares of another machine are others (Which arithmetic made the published zeros?)",
    arithmetics=ARITHMETICS,
    examples={
        "as published": made_up_networks(as_published),
        "half as many at fp32": made_up_networks(
            lambda c, seed, r: as_published(c, seed, r) * (c.precision != "fp32" or seed % 2)
        ),
        "some at fp64": made_up_networks(lambda c, seed, r: 1),
        "six points fewer at fp32": made_up_networks(_six_points_fewer),
        "no records": no_records,
    },
)


def _p6_flaw() -> str | None:
    """Row 1 bounds row 2: a network in the zone has at least one of its mini-batches affected."""
    share_of_networks, share_of_pairs, n_batches = 0.40, 2e-6, 235
    too_few = share_of_pairs < share_of_networks / n_batches
    return "impossible as published" if too_few else None


def _p6(evidence: Evidence, gradient_rule: str, arithmetic: str) -> Finding:
    at = pair_networks(arithmetic)
    parts, values = [], []
    for precision, wanted in MEANT_PAIRS.items():
        if ("release", precision) not in at:
            parts.append(OPEN)
            continue
        networks = networks_of(evidence, at["release", precision], gradient_rule)
        share = networks["affected"].sum() / networks["n_batches"].sum()
        parts.append(HOLDS if within_factor(share, wanted) else FAILS)
        values.append(f"{precision} {share:.2%}")
        if precision == "fp16":
            met = "met" if within_factor(share, RELEASED_PAIRS) else "not met"
            values[-1] += f" ({RELEASED_PAIRS:.1%}, the release's own figure: {met})"
    return Finding(all_must_hold(parts), "release's network: " + ", ".join(values))


def within_factor(a: float, b: float) -> bool:
    """Whether two shares of pairs are within FACTOR of each other."""
    return b / FACTOR <= a <= b * FACTOR


P6 = Claim(
    id="P6",
    statement="Share of (network, mini-batch) pairs whose gradient depends on s, at 16 / 32 / 64 "
    "bits.",
    published="0.05 / 0.0002 / 0 % (±13 %)",
    source="B21 Table 1, row 2",
    figure="02_relative_volume#table-1",
    rule=(
        "Row 1 at 40 % with 235 mini-batches a network needs at least 0.17 %: the published row "
        "is impossible. Beside it: whether ours is within a factor of 1.5 of 1000 times the "
        "published share (0.2 % at fp32, 50 % at fp16), on the network that the notebook builds; "
        "and, not judged, whether at fp16 it is the 3.8 % of the notebook's own figure. Of native "
        "arithmetic fp32 alone was computed, so it cannot hold."
    ),
    thresholds={"factor": FACTOR},
    grid=partial(grid_of, pair_networks),
    judge=_p6,
    scale="300 networks (B21: 1000), of native arithmetic 1000; in `separate` at fp16 the first 20 "
    "mini-batches of each, as all are affected",
    arithmetics=ARITHMETICS,
    flaw=_p6_flaw,
    examples={
        "1000 times as many": made_up_networks(
            lambda c, seed, r: 117 if c.precision == "fp16" else int(among(0.47)(seed))
        ),
        "as published": made_up_networks(lambda c, seed, r: int(seed % 1000 == 0)),
        "no records": no_records,
    },
)
