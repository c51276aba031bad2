"""When runs part, and how far: P1 to P3 (B21 Fig. 1, 7 and 8)."""

from statistics import median

import numpy as np

from reluprime.bifurcation.claims.runs import (
    MIN_EVENTS,
    longest_runs,
    never,
    no_records,
    paired,
    run_configs,
    until_event,
)
from reluprime.bifurcation.networks import PairedRunConfig
from reluprime.bifurcation.study import paired_run
from reluprime.evidence.claim import Cell, Claim, Evidence
from reluprime.evidence.finding import (
    FAILS,
    HOLDS,
    NO_OCCASION,
    OPEN,
    Finding,
    all_must_hold,
    decided,
)
from reluprime.evidence.intervals import poisson_interval
from reluprime.evidence.tests import RISK, sign_flip

HEIGHT = 1.0  # L1 distance right after the event: "above one"
RELU_RUN = PairedRunConfig(dataset="mnist")
RELU6_RUN = PairedRunConfig(dataset="mnist", activation="relu6", hidden_sizes=(4000, 256))


def _parting(run: dict, gradient_rule: str) -> int | None:
    """The step in which a run's weights first differ from those at s=0."""
    distance = run["distance"][f"{gradient_rule} s=1"]
    return next((step for step, d in enumerate(distance) if d != 0), None)


def _has_zero(run: dict, step: int) -> bool:
    return any(counts[step] for counts in run["exact_zeros"].values())


def _jumps(runs: list[dict], gradient_rule: str) -> Finding:
    """P1: when runs part, and how far."""
    steps = [(run, _parting(run, gradient_rule)) for run in runs]
    parted = [(run, step) for run, step in steps if step is not None]
    heights = [run["distance"][f"{gradient_rule} s=1"][step] for run, step in parted]
    at_zeros = all(_has_zero(run, step) for run, step in parted)
    controls = not any(any(run["distance"]["control"]) for run in runs)
    if at_zeros and controls and len(parted) < MIN_EVENTS:
        outcome = OPEN if parted else NO_OCCASION
        return Finding(outcome, f"{len(parted)} of {len(runs)} runs part")
    above = [height - HEIGHT for height in heights]
    parts = [
        HOLDS if at_zeros and controls else FAILS,
        decided(sign_flip(above) < RISK, sign_flip([-a for a in above]) < RISK),
    ]
    height = f", median height {median(heights):.3g}" if heights else ""
    value = f"{len(parted)} of {len(runs)} runs part{height}"
    return Finding(all_must_hold(parts), value)


def _stay(runs: list[dict], gradient_rule: str) -> Finding:
    """P2: whether no run parts; with the calls among which no zero was."""
    parted = sum(_parting(run, gradient_rule) is not None for run in runs)
    controls = not any(any(run["distance"]["control"]) for run in runs)
    zeros = sum(sum(counts) for run in runs for counts in run["exact_zeros"].values())
    calls = sum(
        len(run["distance"]["control"]) * run["batch_size"] * sum(run["hidden_sizes"])
        for run in runs
    )
    _, high = poisson_interval(np.array(float(zeros)))
    value = (
        f"{parted} of {len(runs)} runs part at fp64; {zeros} exact zeros in {calls:.2g} calls, at "
        f"most one in {calls / high:.2g} (95 %)"
    )
    return Finding(HOLDS if parted == 0 and controls else FAILS, value)


def _at_fp32(config: PairedRunConfig) -> int | None:
    return 6 if config.precision == "fp32" else None


def _parts_without_zero(cell: Cell) -> dict:
    result = paired(_at_fp32, 2.0)(cell)
    return result | {"exact_zeros": {"activation1": [0] * 10}}


EIGHT, SIX, THREE = range(100, 108), range(100, 106), range(100, 103)


def _p1_grid(*_: str) -> list[Cell]:
    return until_event(RELU_RUN, EIGHT)


P1 = Claim(
    id="P1",
    statement="At fp32, training with s=1 equals training with s=0 until a pre-activation is "
    "exactly 0; then the weights jump apart, by more "
    "than 1. A second s=0 run stays identical.",
    published="L1 distance from 0 to above 1 at iteration 65",
    source="B21 Fig. 1",
    figure="01_bifurcation_event#one-run-step-by-step",
    rule=(
        "Two parts, both required. The weights at s=1 equal those at s=0 up to a step whose "
        "mini-batch holds an exact zero, and differ right after it, while the control never "
        "differs. The L1 distance right after is above 1: one-sided sign-flip test over runs, "
        "failing where it is below. Runs without an event in one epoch go on for up to five."
    ),
    thresholds={"risk": RISK, "height": HEIGHT, "least runs that part": MIN_EVENTS},
    grid=_p1_grid,
    judge=lambda evidence, rule, _: _jumps(longest_runs(evidence, _p1_grid()), rule),
    scale="1 epoch, or 5 without an event; 8 runs (B21: 1)",
    examples={
        "a jump above 1": paired(_at_fp32, 2.0),
        "a jump far below 1": paired(_at_fp32, 1e-4),
        "a jump of about 1": paired(_at_fp32, 1.0),
        "parts without a zero": _parts_without_zero,
        "three runs part": paired(lambda c: _at_fp32(c) if c.seed < 103 else None, 2.0),
        "no event": paired(never, 0.0),
        "no records": no_records,
    },
)


def _p2_grid(*_: str) -> list[Cell]:
    runs = run_configs(RELU_RUN, THREE, precision="fp64", epochs=20)
    return [Cell(paired_run, run) for run in runs]


P2 = Claim(
    id="P2",
    statement="At fp64 the runs never part.",
    published="no divergence over many epochs",
    source="B21 Fig. 7",
    figure="01_bifurcation_event#one-run-step-by-step",
    rule="In 20 epochs at fp64 no run at s=1 differs from s=0 in any weight; fails if one does.",
    thresholds={},
    grid=_p2_grid,
    judge=lambda evidence, rule, _: _stay(longest_runs(evidence, _p2_grid()), rule),
    scale="20 epochs, 3 runs (B21: 1)",
    examples={
        "never": paired(never, 0.0),
        "a small jump": paired(lambda _: 6, 1e-6),
        "no records": no_records,
    },
)


def _p3_grid(*_: str) -> list[Cell]:
    at_fp64 = run_configs(RELU6_RUN, THREE, precision="fp64")
    return until_event(RELU6_RUN, SIX) + [Cell(paired_run, r) for r in at_fp64]


def _p3(evidence: Evidence, gradient_rule: str, _: str) -> Finding:
    runs = longest_runs(evidence, _p3_grid())
    by = {p: [run for run in runs if run["precision"] == p] for p in ("fp32", "fp64")}
    parts = _jumps(by["fp32"], gradient_rule), _stay(by["fp64"], gradient_rule)
    return Finding(all_must_hold(p.outcome for p in parts), "; ".join(p.value for p in parts))


P3 = Claim(
    id="P3",
    statement="The same with ReLU6 on a wider network.",
    published="jump at fp32, none at fp64",
    source="B21 Fig. 8",
    figure="01_bifurcation_event#the-same-with-relu6",
    rule="The rule of P1 at fp32, for exact hits of 0 or 6, and that of P2 in one epoch at fp64.",
    thresholds={"risk": RISK, "height": HEIGHT, "least runs that part": MIN_EVENTS},
    grid=_p3_grid,
    judge=_p3,
    scale="1 epoch, or 5 without an event; 6 runs at fp32 and 3 at fp64 (B21: 1); B21 gives no "
    "height for ReLU6, so that above 1 is ours",
    examples={
        "a jump above 1": paired(_at_fp32, 2.0),
        "a jump far below 1": paired(_at_fp32, 1e-4),
        "a jump of about 1": paired(_at_fp32, 1.0),
        "also at fp64": paired(lambda _: 6, 2.0),
        "no event": paired(never, 0.0),
        "no records": no_records,
    },
)
