"""The zone around an event, in a plane of weights: P4 (B21 Fig. 1 and 7)."""

from collections.abc import Callable

from reluprime.bifurcation.claims.events import RELU_RUN, THREE
from reluprime.bifurcation.claims.runs import no_records, run_configs
from reluprime.bifurcation.plane import WeightPlaneConfig, weight_plane
from reluprime.evidence.claim import Cell, Claim, Evidence, Example
from reluprime.evidence.finding import FAILS, HOLDS, NO_OCCASION, Finding

SAME_SHARE = 0.75  # an area keeps its share of the plane on a finer grid, a line halves it
RESOLUTION = 81  # points a side of the finer grid; the coarser has every second


def _p4_grid(*_: str) -> list[Cell]:
    return [
        Cell(
            weight_plane,
            WeightPlaneConfig(run=run, seed=direction, resolution=resolution),
        )
        for run in run_configs(RELU_RUN, THREE)
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
        "no records": no_records,
    },
)
