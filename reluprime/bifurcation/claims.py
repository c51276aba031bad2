"""The claims about paired runs: B21 Section 3.1 (P1 to P4), and M23's R1."""

import math
from collections.abc import Callable, Iterable
from statistics import median

import numpy as np
import pandas as pd

from reluprime.bifurcation.networks import PairedRunConfig
from reluprime.bifurcation.plane import WeightPlaneConfig, weight_plane
from reluprime.bifurcation.study import paired_run
from reluprime.evidence.claim import ARITHMETICS, Cell, Claim, Evidence, Example
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
from reluprime.evidence.made_up import wobble
from reluprime.evidence.tests import RISK, sign_flip, signed_rank
from reluprime.instruments.arithmetic import available

MIN_EVENTS = 5  # runs that parted, or seeds with an event, for a test
HEIGHT = 1.0  # L1 distance right after the event: "above one"
SAME_SHARE = 0.75  # an area keeps its share of the plane on a finer grid, a line halves it

RELU_RUN = PairedRunConfig(dataset="mnist")
RELU6_RUN = PairedRunConfig(dataset="mnist", activation="relu6", hidden_sizes=(4000, 256))
LONGEST = 5  # epochs of a run that has no event in the first


def _runs(base: PairedRunConfig, seeds: Iterable[int], **changes) -> list[PairedRunConfig]:
    return [base.replace(seed=seed, **changes) for seed in seeds]


def _until_event(base: PairedRunConfig, seeds: Iterable[int]) -> list[Cell]:
    """One epoch of each run, and LONGEST for those that have no event in it."""
    cells = []
    for run in _runs(base, seeds):
        longer = run.replace(epochs=LONGEST)
        cells += [
            Cell(paired_run, run),
            Cell(paired_run, longer, after=run),
        ]
    return cells


def _found(evidence: Evidence, cells: Iterable[Cell]) -> list[dict]:
    """The runs of cells, and of each seed the longest."""
    configs = [cell.config for cell in evidence.due(cells)]
    table = evidence.table(paired_run, configs).sort_values("epochs", kind="stable")
    return table.drop_duplicates(["seed", "precision"], keep="last").to_dict("records")


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


# ---- examples: what a run does, by its precision ----


def _paired(event: Callable[[PairedRunConfig], int | None], height: float) -> Example:
    """Runs of 10 steps that part at a step by a height under both rules; None: they do not."""

    def result(cell: Cell) -> dict:
        step = event(cell.config)
        away = height * (1 + wobble(cell.config.seed, 0.3))
        distance = [0.0 if step is None or k < step else away for k in range(10)]
        where = None if step is None else {"step": step}
        return {
            "event": where,
            "distance": {"control": [0.0] * 10, "chain s=1": distance, "injected s=1": distance},
            "exact_zeros": {"activation1": [int(k == step) for k in range(10)]},
        }

    return result


def _at_fp32(config: PairedRunConfig) -> int | None:
    return 6 if config.precision == "fp32" else None


def _never(_) -> None:
    return None


def _parts_without_zero(cell: Cell) -> dict:
    result = _paired(_at_fp32, 2.0)(cell)
    return result | {"exact_zeros": {"activation1": [0] * 10}}


def _no_records(_) -> None:
    return None


# ---- P1 to P3 ----

EIGHT, SIX, THREE = range(100, 108), range(100, 106), range(100, 103)


def _p1_grid(*_: str) -> list[Cell]:
    return _until_event(RELU_RUN, EIGHT)


P1 = Claim(
    id="P1",
    statement="At fp32, training with s=1 equals training with s=0 until a pre-activation is "
    "exactly 0; then the weights jump apart. A second s=0 run stays identical.",
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
    judge=lambda evidence, rule, _: _jumps(_found(evidence, _p1_grid()), rule),
    scale="1 epoch, or 5 without an event; 8 runs (B21: 1)",
    examples={
        "a jump above 1": _paired(_at_fp32, 2.0),
        "a jump far below 1": _paired(_at_fp32, 1e-4),
        "a jump of about 1": _paired(_at_fp32, 1.0),
        "parts without a zero": _parts_without_zero,
        "three runs part": _paired(lambda c: _at_fp32(c) if c.seed < 103 else None, 2.0),
        "no event": _paired(_never, 0.0),
        "no records": _no_records,
    },
)


def _p2_grid(*_: str) -> list[Cell]:
    runs = _runs(RELU_RUN, THREE, precision="fp64", epochs=20)
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
    judge=lambda evidence, rule, _: _stay(_found(evidence, _p2_grid()), rule),
    scale="20 epochs, 3 runs (B21: 1)",
    examples={
        "never": _paired(_never, 0.0),
        "a small jump": _paired(lambda _: 6, 1e-6),
        "no records": _no_records,
    },
)


def _p3_grid(*_: str) -> list[Cell]:
    at_fp64 = _runs(RELU6_RUN, THREE, precision="fp64")
    return _until_event(RELU6_RUN, SIX) + [Cell(paired_run, r) for r in at_fp64]


def _p3(evidence: Evidence, gradient_rule: str, _: str) -> Finding:
    runs = _found(evidence, _p3_grid())
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
    scale="1 epoch, or 5 without an event; 6 runs at fp32 and 3 at fp64 (B21: 1)",
    examples={
        "a jump above 1": _paired(_at_fp32, 2.0),
        "a jump far below 1": _paired(_at_fp32, 1e-4),
        "a jump of about 1": _paired(_at_fp32, 1.0),
        "also at fp64": _paired(lambda _: 6, 2.0),
        "no event": _paired(_never, 0.0),
        "no records": _no_records,
    },
)

# ---- P4 ----

RESOLUTION = 81  # points a side of the finer grid; the coarser has every second


def _p4_grid(*_: str) -> list[Cell]:
    return [
        Cell(
            weight_plane,
            WeightPlaneConfig(run=run, seed=direction, resolution=resolution),
        )
        for run in _runs(RELU_RUN, THREE)
        for direction in (1, 2)
        for resolution in ((RESOLUTION + 1) // 2, RESOLUTION)
    ]


def _zeros(plane: list[list[float]]) -> int:
    return sum(z == 0 for row in plane for z in row)


def _p4(evidence: Evidence, *_: str) -> Finding:
    planes = evidence.table(weight_plane, [c.config for c in _p4_grid()])
    planes = planes[planes["event"].notna()]
    if planes.empty:
        return Finding(NO_OCCASION, "no run had an event")
    share = planes["plane"].map(_zeros) / planes["resolution"] ** 2
    coarse, fine = (share[planes["resolution"].map(f)].mean() for f in (_is_coarse, _is_fine))
    at_most = 2 * planes["resolution"] - 1  # what a line through the grid can meet
    vanishes = bool((planes["plane_fp64"].map(_zeros) <= at_most).all())
    shares = f"{fine:.2%} exactly 0 at fp32 ({coarse:.2%} on half the grid)"
    holds = 0 < fine >= SAME_SHARE * coarse and vanishes
    return Finding(HOLDS if holds else FAILS, f"{shares}, {len(planes) // 2} planes")


def _is_fine(resolution: int) -> bool:
    return resolution == RESOLUTION


def _is_coarse(resolution: int) -> bool:
    return resolution != RESOLUTION


def _plane(fp32: Callable[[int, int], bool], fp64: Callable[[int, int], bool]) -> Example:
    """Planes that are 0 where a function of u and v (in steps of the fine grid) says so."""

    def result(cell: Cell) -> dict:
        step = (RESOLUTION - 1) // (cell.config.resolution - 1)
        axis = range(-(RESOLUTION // 2), RESOLUTION // 2 + 1, step)
        planes = [
            [[0.0 if is_zero(u, v) else 1e-8 for v in axis] for u in axis]
            for is_zero in (fp32, fp64)
        ]
        return {"event": {"step": 3}, "plane": planes[0], "plane_fp64": planes[1]}

    return result


def _in_square(u: int, v: int) -> bool:
    return max(abs(u), abs(v)) <= 10


def _on_line(u: int, v: int) -> bool:
    return u == v


P4 = Claim(
    id="P4",
    statement="In a random plane of weights through the event the neuron is exactly 0 on an area "
    "at fp32, and not at fp64.",
    published="picture",
    source="B21 Fig. 1, 7",
    figure="01_bifurcation_event#the-zone-around-the-event",
    rule=(
        "Twice as many points a side see a line's share of exact zeros halved and an area's "
        "unchanged. At fp32 the mean share on the finer grid is above 0 and at least three "
        "quarters of that on the coarser; at fp64 no plane has more zeros than a line through the "
        "grid. The square's half side, 2e-8, is ours; the paper's is not known."
    ),
    thresholds={"share kept": SAME_SHARE},
    grid=_p4_grid,
    judge=_p4,
    scale="3 runs, 2 planes each (B21: 1)",
    counts_zeros=True,
    examples={
        "an area, and a line at fp64": _plane(_in_square, _on_line),
        "a line": _plane(_on_line, _on_line),
        "an area at fp64 too": _plane(_in_square, _in_square),
        "no event": lambda _: {"event": None, "plane": None, "plane_fp64": None},
        "no records": _no_records,
    },
)

# ---- R1 ----

TWENTY = range(100, 120)
ADAM_RUN = PairedRunConfig(dataset="mnist", hidden_sizes=(2000,), optimizer="adam", lr=1e-3)
PRECISIONS = ("fp32", "bf16")  # M23's 16 bits are bf16


def _r1_grid(_: str, arithmetic: str) -> list[Cell]:
    return [
        Cell(paired_run, run)
        for p in PRECISIONS
        for run in _runs(ADAM_RUN, TWENTY, precision=p, arithmetic=available(arithmetic, p))
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
        for run in _found(evidence, _r1_grid(gradient_rule, arithmetic))
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
        "16 bits part first": _paired(_early_at("bf16"), 2.0),
        "32 bits part first": _paired(_early_at("fp32"), 2.0),
        "in turn": _paired(_in_turn, 2.0),
        "no event": _paired(_never, 0.0),
        "no records": _no_records,
    },
)

CLAIMS = (P1, P2, P3, P4, R1)
