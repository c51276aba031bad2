"""The released numbers against predicted ones: A1 and A2, registered before ours were computed."""

from functools import cache

import numpy as np

from reluprime.evidence.claim import Cell, Claim, Evidence, Example
from reluprime.evidence.finding import FAILS, HOLDS, Finding
from reluprime.volume.agreement import (
    ALL_TESTS_RISK,
    TESTS_AT_16_BITS,
    all_tests,
    met_at_16_bits,
    test_name,
)
from reluprime.volume.claims.examples import among, conv_networks, made_up_networks
from reluprime.volume.experiments import ALL_NETWORKS, published_points
from reluprime.volume.predictions import READING, WORKS, curves, prediction_grid
from reluprime.volume.zone import ZoneConfig


def _is_16_bit_linear(row: dict) -> bool:
    of_mlp = row["panel"] in ("depth", "width", "batch_size", "sample size")
    return of_mlp and row["precision"] == "fp16"


def _a1(evidence: Evidence, gradient_rule: str, arithmetic: str) -> Finding:
    found = all_tests(evidence, gradient_rule, arithmetic)
    missed = found[found["met"].map(lambda met: met is False)].to_dict("records")
    own = [row for row in missed if row["work"] == "B21"]
    own = [r for r in own if not (r["panel"] == "batch_size" and r["precision"] == "fp32")]
    others = [row for row in own if not _is_16_bit_linear(row)]
    value = f"{len(found)} tests, {found['p'].isna().sum()} of them 0 or all in both"
    value += "; missed: " + (", ".join(map(test_name, missed)) or "none")
    return Finding(FAILS if others else HOLDS, value)


def _of_share(share: float) -> Example:
    """Networks of which a share is in the zone."""
    is_in = among(share)
    return made_up_networks(lambda _, seed, __: int(is_in(seed)))


@cache
def _published_by_seed(arithmetic: str, precision: str) -> dict[int, float]:
    """The released share of each point, by the seed of its first network."""
    return {
        sweep.config(row["by"], row["size"], precision, arithmetic).seed: (
            row["in_zone"] / row["networks"]
        )
        for sweep, file, _ in WORKS.values()
        for row in published_points(file, int(precision[2:])).to_dict("records")
    }


def _published_share(config: ZoneConfig) -> float:
    """The released share at a config's size."""
    shares = _published_by_seed(config.arithmetic, config.precision)
    return shares[max(seed for seed in shares if seed <= config.seed)]


@cache
def _curve_example(arithmetic: str, panel_of: str, norm: bool, precision: str) -> Example:
    """Networks that meet the zone when the published ones do; panel_of: their architecture."""
    (curve,) = (
        c
        for c in curves(arithmetic)
        if (c.config.architecture, c.config.batch_norm, c.precision) == (panel_of, norm, precision)
    )
    ranks = (np.arange(ALL_NETWORKS) + 0.5) / ALL_NETWORKS
    ends = np.array([*curve.batches, 10**6])  # never within the published curve: never
    firsts = ends[np.searchsorted(curve.published, ranks)] - 1
    return conv_networks(lambda _, seed: int(firsts[617 * seed % ALL_NETWORKS]), curve.batches[-1])


def _is_curve(config: ZoneConfig) -> bool:
    return config.architecture != "mlp" or not config.relu_after_first


def _as_released(cell: Cell) -> dict:
    config = cell.config
    if _is_curve(config):
        at = (config.arithmetic, config.architecture, config.batch_norm, config.precision)
        return _curve_example(*at)(cell)
    return _of_share(_published_share(config))(cell)


def _all_at_fp16(cell: Cell) -> dict:
    """As published, but each 16-bit linear network is in the zone at its first mini-batch."""
    if cell.config.precision == "fp16" and cell.config.architecture == "mlp":
        return conv_networks(lambda *_: 0, 235)(cell)
    return _as_released(cell)


def _half_at_fp32(cell: Cell) -> dict:
    if cell.config.precision == "fp32" and not _is_curve(cell.config):
        return _of_share(_published_share(cell.config) / 2)(cell)
    return _as_released(cell)


A1 = Claim(
    id="A1",
    statement="But for the panel of batch sizes at fp32, each number of B21 that `epilogue` misses "
    "is one of a 16-bit linear layer.",
    published="shares of random networks in the zone, by size and along curves",
    source="B21 Fig. 2, 5, 16; M23 Fig. 4",
    figure="20_published_zeros#published-against-predicted",
    rule=(
        "Ours, from pilots. Every released share of networks in the zone at 16 and 32 bits "
        "against the prediction: Fisher's exact test a point, one test a curve and one a panel of "
        "batch sizes, at 1 % divided by the number of tests; points that are 0 or all in both are "
        "counted apart. Of the tests that miss, those of B21, but for its panel of batch sizes at "
        "fp32, are all of fully connected networks at fp16; fails where another one misses."
    ),
    thresholds={"risk": ALL_TESTS_RISK, "reading": READING},
    grid=prediction_grid,
    judge=_a1,
    scale="1000 networks a point (300 ResNet-18)",
    arithmetics=("epilogue",),
    examples={
        "as published": _as_released,
        "16-bit linear layers otherwise": _all_at_fp16,
        "half of the zeros at fp32": _half_at_fp32,
        "no records": lambda _: None,
    },
)


def _half_grid(gradient_rule: str, _: str) -> list[Cell]:
    cells = prediction_grid(gradient_rule, "epilogue") + prediction_grid(gradient_rule, "separate")
    return [c for c in cells if c.config.architecture == "mlp" and c.config.precision == "fp16"]


def _a2(evidence: Evidence, gradient_rule: str, _: str) -> Finding:
    met = met_at_16_bits(evidence, gradient_rule)
    missed = [f"{work} {panel} {size}" for (work, panel, size), ok in met.items() if not ok]
    value = f"{len(met) - len(missed)} of {len(met)} points are met by one of the two at least; "
    value += "missed by both: "
    return Finding(FAILS if missed else HOLDS, value + (", ".join(missed) or "none"))


A2 = Claim(
    id="A2",
    statement="Each released share of fully connected networks at 16 bits is met by `epilogue` or "
    "by `separate`.",
    published="30 shares of B21 and M23",
    source="B21 Fig. 2; M23 Fig. 4",
    figure="20_published_zeros#published-against-predicted",
    rule=(
        "Ours, from pilots. Point by point, batch sizes too, since a library may choose its "
        "kernel by the shape of a product: Fisher's exact test at 1 % divided by 60 finds no "
        "difference in one of the two arithmetics at least, or both shares are 0 or all."
    ),
    thresholds={"risk": ALL_TESTS_RISK, "tests": TESTS_AT_16_BITS},
    grid=_half_grid,
    judge=_a2,
    scale="1000 networks a point in `epilogue`, 300 in `separate`",
    arithmetics=("separate",),
    examples={
        "as published": _as_released,
        "all at 16 bits": _all_at_fp16,
        "no records": lambda _: None,
    },
)
