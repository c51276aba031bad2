"""The share in the zone by size of the network: P8 (B21 Fig. 2) and R3 (M23 Fig. 4)."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from reluprime.evidence.claim import Claim, Evidence
from reluprime.evidence.finding import FAILS, HOLDS, Finding, decided, of_parts
from reluprime.evidence.tests import RISK, differ
from reluprime.instruments.arithmetic import ARITHMETICS
from reluprime.volume.claims.examples import among, made_up_networks, no_records
from reluprime.volume.claims.table_1 import MARGIN
from reluprime.volume.experiments import B21, M23, published_points
from reluprime.volume.networks import VolumeConfig


def _of(shares: pd.DataFrame, by: str) -> pd.DataFrame:
    return shares[shares["by"] == by].sort_values("size")


def _grows(shares: pd.DataFrame, by: str) -> str:
    """Holds where the largest size's interval lies above the smallest's; fails where it lies below,
    or where the two leave room for a rise of less than MARGIN alone."""
    ends = _of(shares, by).iloc[[0, -1]]
    first, last = ends.to_dict("records")
    return decided(last["low"] > first["high"], last["high"] - first["low"] < MARGIN)


def _same_over_batch_sizes(shares: pd.DataFrame) -> str:
    """Fails where a chi-squared test at 1 % finds that the shares differ."""
    own = _of(shares, "batch_size")
    return FAILS if differ(own["in_zone"], own["networks"], 0.01) else HOLDS


def _none(shares: pd.DataFrame) -> str:
    return FAILS if shares["in_zone"].any() else HOLDS


_VARIED = ("depth", "width", "batch_size")


def _each(shares: pd.DataFrame, by: str) -> str:
    own = _of(shares, by)
    each = [f"{share:.0%}" for share in own["in_zone"] / own["networks"]]
    return f"{', '.join(each)} with {by.replace('_', ' ')}"


def _trends(shares: dict[str, pd.DataFrame]) -> Finding:
    """P8, of ours or of the published counts."""
    fp32 = shares["fp32"]
    parts = {
        "grows with depth": _grows(fp32, "depth"),
        "grows with width": _grows(fp32, "width"),
        "the same over batch sizes": _same_over_batch_sizes(fp32),
        "none at fp64": _none(shares["fp64"]),
    }
    return of_parts(parts, "fp32: " + "; ".join(_each(fp32, by) for by in _VARIED))


def _p8(evidence: Evidence, gradient_rule: str, arithmetic: str) -> Finding:
    at = B21.precisions
    return _trends({p: B21.shares(evidence, gradient_rule, p, arithmetic) for p in at})


def _p8_published() -> Finding:
    file = "paper_volume_mlp.csv"
    return _trends({f"fp{bits}": published_points(file, bits) for bits in (32, 64)})


def _by_calls(rate: float) -> Callable[[VolumeConfig, int, str], int]:
    """Each ReLU call is a zero with the same small probability, whatever the network."""

    def affected(config: VolumeConfig, seed: int, _: str) -> int:
        if config.precision == "fp64":
            return 0
        calls = 60_000 * sum(config.hidden_sizes) * (200 if config.precision == "fp16" else 1)
        return int(among(1 - np.exp(-rate * calls))(seed))

    return affected


def _with_batch_size(config: VolumeConfig, seed: int, rule: str) -> int:
    least = 0 if config.batch_size == 256 else 1
    return max(_by_calls(1e-8)(config, seed, rule), least)


def _small_rise(config: VolumeConfig, seed: int, _: str) -> int:
    large = len(config.hidden_sizes) == 6 or max(config.hidden_sizes) in (64, 1024)
    share = 0.0 if config.precision == "fp64" else 0.2 + 0.04 * large
    return int(among(share)(seed))


P8 = Claim(
    id="P8",
    statement="The share grows with sample size, width and depth, not with batch size, and is 0 at "
    "64 bits.",
    published="five sizes of each, M=1000",
    source="B21 Fig. 2",
    figure="02_relative_volume#sample-size-width-depth-and-batch-size",
    rule=(
        "At fp32, networks of their own at each size: the exact interval (95 %) at the largest "
        "depth and width lies above that at the smallest, failing where the two leave room for a "
        "rise of less than 5 points alone; a chi-squared test at 1 % finds no difference between "
        "batch sizes; no network is in the zone at fp64. Over sample size the share "
        "cannot fall, as a network stays in the zone."
    ),
    thresholds={"risk": RISK, "risk, batch sizes": 0.01, "rise": MARGIN},
    grid=B21.grid,
    judge=_p8,
    scale="1000 networks at each size as published, 300 of native arithmetic, 50 at fp64; how far "
    "from each published share, A1 says",
    arithmetics=("native", "epilogue"),  # at fp32, of which the claim is, "separate" is "epilogue"
    on_published=_p8_published,
    examples={
        "by calls": made_up_networks(_by_calls(1e-8)),
        "the same everywhere": made_up_networks(lambda c, seed, r: int(among(0.3)(seed))),
        "with batch size": made_up_networks(_with_batch_size),
        "too few zeros": made_up_networks(_by_calls(1e-11)),
        "a rise too small to tell": made_up_networks(_small_rise),
        "no records": no_records,
    },
)

ALL = 0.95  # R3: of 16-bit networks, at each depth ("100 %")
HEAVY = 0.2  # R3: share of networks by which depth may raise it at 32 bits (M23: 0.15)


def _small_trends(shares: dict[str, pd.DataFrame]) -> Finding:
    """R3, of ours or of the published counts."""
    depth16, depth32 = (_of(shares[p], "depth") for p in ("fp16", "fp32"))
    least = depth16.assign(share=depth16["in_zone"] / depth16["networks"]).nsmallest(1, "share")
    least, low, high = (float(least[name].iloc[0]) for name in ("share", "low", "high"))
    first, last = depth32.iloc[[0, -1]].to_dict("records")
    parts = {
        "all at fp16": decided(low >= ALL or least == 1, high < ALL),
        "little growth with depth at fp32": decided(
            last["high"] - first["low"] <= HEAVY, last["low"] - first["high"] > HEAVY
        ),
        "grows with width at fp32": _grows(shares["fp32"], "width"),
        "the same over batch sizes at fp32": _same_over_batch_sizes(shares["fp32"]),
        "the same over batch sizes at fp16": _same_over_batch_sizes(shares["fp16"]),
        "none at fp64": _none(shares["fp64"]),
    }
    value = f"fp16: at least {least:.0%} at each depth; {_each(shares['fp16'], 'batch_size')}; "
    value += "fp32: " + "; ".join(_each(shares["fp32"], by) for by in _VARIED)
    return of_parts(parts, value)


def _r3(evidence: Evidence, gradient_rule: str, arithmetic: str) -> Finding:
    at = M23.precisions
    return _small_trends({p: M23.shares(evidence, gradient_rule, p, arithmetic) for p in at})


def _r3_published() -> Finding:
    file = "replication_volume_mlp.csv"
    return _small_trends({f"fp{bits}": published_points(file, bits) for bits in (16, 32, 64)})


def _all_at_16_bits(config: VolumeConfig, seed: int, rule: str) -> int:
    return 1 if config.precision == "fp16" else _by_calls(1e-8)(config, seed, rule)


R3 = Claim(
    id="R3",
    statement="The trends of the zone's share hold at smaller sizes: 100 % at 16 bits at each "
    "depth; at 32 bits it is not heavily impacted by depth and grows with width.",
    published="shares of 100 networks",
    source="M23 Fig. 4",
    figure="02_relative_volume#the-smaller-networks-of-m23",
    rule=(
        "Networks of their own at each size. At fp16 at least 95 % of networks are in the zone at "
        "each depth; at fp32 depth raises the share by at most 20 points, and width raises it "
        "(exact intervals, 95 %, decide each, as in P8); batch sizes do not differ (chi-squared "
        "test, 1 %) at either; none is in the zone at fp64."
    ),
    thresholds={"risk": RISK, "all": ALL, "heavy": HEAVY, "risk, batch sizes": 0.01},
    grid=M23.grid,
    judge=_r3,
    scale="1000 networks at each size (M23: 100), 300 of native and separate arithmetic, 50 at "
    "fp64",
    arithmetics=ARITHMETICS,
    on_published=_r3_published,
    examples={
        "all at 16 bits": made_up_networks(_all_at_16_bits),
        "few at 16 bits": made_up_networks(_by_calls(1e-10)),
        "some at fp64": made_up_networks(lambda *_: 1),
        "a rise too small to tell": made_up_networks(
            lambda c, seed, r: 1 if c.precision == "fp16" else _small_rise(c, seed, r)
        ),
        "no records": no_records,
    },
)
