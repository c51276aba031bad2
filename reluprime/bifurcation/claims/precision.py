"""Which precision parts first: R1 (M23 Fig. 1)."""

import math
from collections.abc import Callable

import pandas as pd

from reluprime.bifurcation.claims.runs import (
    MIN_EVENTS,
    longest_runs,
    never,
    no_records,
    paired,
    run_configs,
)
from reluprime.bifurcation.networks import PairedRunConfig
from reluprime.bifurcation.study import paired_run
from reluprime.evidence.claim import Cell, Claim, Evidence
from reluprime.evidence.finding import NO_OCCASION, Finding, all_must_hold, decided
from reluprime.evidence.tests import RISK, signed_rank
from reluprime.instruments.arithmetic import ARITHMETICS, available

TWENTY = range(100, 120)
ADAM_RUN = PairedRunConfig(dataset="mnist", hidden_sizes=(2000,), optimizer="adam", lr=1e-3)
PRECISIONS = ("fp32", "bf16")  # M23's 16 bits are bf16


def _r1_grid(_: str, arithmetic: str) -> list[Cell]:
    return [
        Cell(paired_run, run)
        for p in PRECISIONS
        for run in run_configs(ADAM_RUN, TWENTY, precision=p, arithmetic=available(arithmetic, p))
    ]


def _r1(evidence: Evidence, gradient_rule: str, arithmetic: str) -> Finding:
    rows = [
        {
            "seed": run["seed"],
            "precision": run["precision"],
            "steps": run["event"]["step"] if run["event"] else len(run["distance"]["control"]),
            "event": run["event"] is not None,
            "distance": _last(run["distance"][f"{gradient_rule} s=1"]),
        }
        for run in longest_runs(evidence, _r1_grid(gradient_rule, arithmetic))
    ]
    table = pd.DataFrame(rows).pivot(index="seed", columns="precision")
    events, steps, distance = (table[name] for name in ("event", "steps", "distance"))
    value = "; ".join(
        f"{p}: an event in {events[p].sum()} of {len(events)} runs, median distance "
        f"{distance[p].median():.2g}"
        for p in PRECISIONS
    )
    if events.any(axis=1).sum() < MIN_EVENTS:
        return Finding(NO_OCCASION, value)
    earlier, farther = steps["fp32"] - steps["bf16"], distance["bf16"] - distance["fp32"]
    parts = [
        decided(signed_rank(apart) < RISK, signed_rank(-apart) < RISK)
        for apart in (earlier, farther)
    ]
    return Finding(all_must_hold(parts), value)


def _last(distance: list[float]) -> float:
    """The last distance; one that is not finite is farther than any other."""
    return distance[-1] if math.isfinite(distance[-1]) else 1e300


def _early_at(precision: str) -> Callable[[PairedRunConfig], int | None]:
    return lambda config: 2 + config.seed % 3 if config.precision == precision else None


def _in_turn(config: PairedRunConfig) -> int | None:
    """One seed has its event at one precision, the next at the other."""
    return 4 if config.seed % 2 == PRECISIONS.index(config.precision) else None


R1 = Claim(
    id="R1",
    statement="The weights of s=0 and s=1 part faster at 16 bits than at 32.",
    published="curves",
    source="M23 Fig. 1",
    figure="08_replication_fc#distance-between-the-weights",
    rule=(
        "784-2000-10 with Adam on MNIST, 20 seeds, bf16 (M23's 16 bits) against fp32, paired by "
        "seed: the first exact zero comes earlier, and the L1 distance to s=0 after the epoch is "
        "larger: one-sided signed-rank tests, failing where one says the opposite. Seeds where "
        "both are 0 or neither has an event are no evidence."
    ),
    thresholds={"risk": RISK, "least seeds with an event": MIN_EVENTS},
    grid=_r1_grid,
    judge=_r1,
    scale="1 epoch, full width, 20 seeds (M23: 1)",
    arithmetics=ARITHMETICS,
    examples={
        "16 bits part first": paired(_early_at("bf16"), 2.0),
        "32 bits part first": paired(_early_at("fp32"), 2.0),
        "in turn": paired(_in_turn, 2.0),
        "no event": paired(never, 0.0),
        "no records": no_records,
    },
)
