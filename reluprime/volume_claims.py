"""The claims of the Monte Carlo: B21 3.2 and 4.4 (P5 to P8, P16), and M23's R3.

The unit is the network. Networks of one size are never those of another: each has seeds of its
own.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pandas as pd

from reluprime import volume
from reluprime.config import cells as split
from reluprime.evidence.claim import Cell, Claim, Evidence, Example
from reluprime.evidence.finding import FAILS, HOLDS, NO_OCCASION, Finding, all_of, decided
from reluprime.evidence.tests import RISK
from reluprime.records import published
from reluprime.statistics import (
    by_network,
    clopper_pearson,
    differ,
    hoeffding_margin,
    is_larger,
    pair_share,
    quartiles,
)
from reluprime.volume import VolumeConfig

PER_CELL = 50  # networks of a cell
OWN_SEEDS = 10_000  # between the first networks of two sizes

# ---- sizes and networks ----


def _cells(config: VolumeConfig) -> list[Cell]:
    return [Cell(volume.estimate, cell) for cell in split(config, PER_CELL)]


def _networks(evidence: Evidence, config: VolumeConfig, gradient_rule: str) -> pd.DataFrame:
    configs = split(config, PER_CELL)
    return by_network(evidence.table(volume.estimate, configs), gradient_rule)


def _in_zone(evidence: Evidence, config: VolumeConfig, gradient_rule: str) -> tuple[int, int]:
    """-> networks in the zone, networks."""
    networks = _networks(evidence, config, gradient_rule)
    return int((networks["affected"] > 0).sum()), len(networks)


# ---- examples: what a network meets ----


def networks(
    affected: Callable[[VolumeConfig, int, str], int],
    relative: Callable[[VolumeConfig, str], float] = lambda *_: 25.0,
    n_batches: int = 235,
) -> Example:
    """Monte Carlo cells.

    affected(config, network, gradient_rule): its affected mini-batches; relative(config,
    gradient_rule): their median relative gradient difference, quartiles at 0.76 and 1.88 times it.
    """

    def result(cell: Cell) -> dict:
        config, found = cell.config, {"n_batches": n_batches}
        seeds = range(config.seed, config.seed + config.n_networks)
        for rule in ("chain", "injected"):
            counts = [min(affected(config, seed, rule), n_batches) for seed in seeds]
            spread = [relative(config, rule) * (0.76, 1.0, 1.88)[k % 3] for k in range(sum(counts))]
            found |= {
                f"affected_{rule}": counts,
                f"first_affected_{rule}": [0 if count else None for count in counts],
                f"relative_difference_{rule}": spread,
                f"relative_difference_first_layer_{rule}": spread,
                f"nonfinite_{rule}": 0,
            }
        return found

    return result


def _share(share: float) -> Callable[[int], bool]:
    """Whether a network is among a share of them, evenly spread over seeds."""
    return lambda seed: int((seed + 1) * share) > int(seed * share)


def _no_records(_) -> None:
    return None


# ---- Table 1: P5 to P7 ----

PAPER = {"relu_after_first": True}  # the network that B21 describes: three ReLUs
RELEASE = {"relu_after_first": False}  # the one that its notebook builds: two
MARGIN = 0.05  # of the published shares (Hoeffding, M=1000)
FACTOR = 1.5  # P6: shares of pairs are compared up to it
QUARTILE = 0.1  # P7: relative distance up to which quartiles agree
ABOVE = 20.0  # P7: "above 20"


def _released_share() -> float:
    """Share of the paper's network in the zone at fp32, from the three points of Fig. 2 at it."""
    table = published("paper_volume_mlp.csv")
    at = {"nb_layers": 3, "nb_neurons": 256, "batch_size": 256}
    own = table[(table["precision"] == 32) & (table["value"] == table["factor"].map(at))]
    return own["in_zone"].sum() / own["networks"].sum()


def _table_1_networks(arithmetic: str) -> dict[tuple[str, str], VolumeConfig]:
    """By network and precision. Of native arithmetic, those that the first edition computed."""
    counts = {
        ("paper", "fp16"): 100,
        ("paper", "fp32"): 1000,
        ("paper", "fp64"): 1000,
        ("release", "fp32"): 1000,
    }
    built = {"paper": PAPER, "release": RELEASE}
    return {
        (name, precision): VolumeConfig(precision=precision, n_networks=n, **built[name])
        for (name, precision), n in counts.items()
    }


def _table_1_grid(_: str, arithmetic: str) -> list[Cell]:
    return [c for config in _table_1_networks(arithmetic).values() for c in _cells(config)]


PUBLISHED_SHARES = {"fp16": 1.0, "fp32": 0.4, "fp64": 0.0}


def _p5(evidence: Evidence, gradient_rule: str, arithmetic: str) -> Finding:
    own = {"paper": PUBLISHED_SHARES | {"fp32": _released_share()}, "release": PUBLISHED_SHARES}
    parts, values = [], []
    for (name, precision), config in _table_1_networks(arithmetic).items():
        k, n = _in_zone(evidence, config, gradient_rule)
        apart = abs(k / n - own[name][precision])
        parts.append(HOLDS if apart <= MARGIN + hoeffding_margin(n) else FAILS)
        values.append(f"{name}'s network at {precision} {k / n:.1%} of {n}")
    return Finding(all_of(parts), "; ".join(values))


def _as_published(config: VolumeConfig, seed: int, _: str) -> int:
    share = PUBLISHED_SHARES[config.precision]
    if config.precision == "fp32" and config.relu_after_first:
        share = 0.47
    return int(_share(share)(seed))


P5 = Claim(
    id="P5",
    statement="Share of random networks in the bifurcation zone, at 16 / 32 / 64 bits.",
    published="100 / 40 / 0 % (±5 %)",
    source="B21 Table 1, row 1",
    figure="02_relative_volume#table-1",
    rule=(
        "Each network against its own number: the one that the notebook builds (two ReLUs) "
        "against Table 1, the one that the paper describes (three) against the released data of "
        "Fig. 2 at its size. Hoeffding intervals (95 %) around ours and the published meet."
    ),
    thresholds={"margin": MARGIN},
    grid=_table_1_grid,
    judge=_p5,
    scale="1000 networks as published, 100 at fp16",
    counts_zeros=True,
    examples={
        "as published": networks(_as_published),
        "half as many at fp32": networks(
            lambda c, seed, r: _as_published(c, seed, r) * (c.precision != "fp32" or seed % 2)
        ),
        "some at fp64": networks(lambda c, seed, r: 1),
        "no records": _no_records,
    },
)


def _p6_flaw() -> str | None:
    """Row 1 bounds row 2: a network in the zone has at least one of its mini-batches affected."""
    share_of_networks, share_of_pairs, n_batches = 0.40, 2e-6, 235
    too_few = share_of_pairs < share_of_networks / n_batches
    return "impossible as published" if too_few else None


def _p6(evidence: Evidence, gradient_rule: str, arithmetic: str) -> Finding:
    networks = _table_1_networks(arithmetic)
    times_1000 = {"fp16": 0.5, "fp32": 2e-3}
    parts, values = [], []
    for (name, precision), config in networks.items():
        if name != "release" or precision not in times_1000:
            continue
        share = pair_share(_networks(evidence, config, gradient_rule))["share"]
        close = times_1000[precision] / FACTOR <= share <= times_1000[precision] * FACTOR
        parts.append(HOLDS if close else FAILS)
        values.append(f"{precision} {share:.2%}")
    return Finding(all_of(parts), "release's network: " + ", ".join(values))


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
        "published share (0.2 % at fp32, 50 % at fp16), on the network that the notebook builds."
    ),
    thresholds={"factor": FACTOR},
    grid=_table_1_grid,
    judge=_p6,
    scale="1000 networks as published",
    counts_zeros=True,
    flaw=_p6_flaw,
    examples={
        "1000 times as many": networks(
            lambda c, seed, r: 117 if c.precision == "fp16" else int(_share(0.47)(seed))
        ),
        "as published": networks(lambda c, seed, r: int(seed % 1000 == 0)),
        "no records": _no_records,
    },
)

PUBLISHED_QUARTILES = {"fp16": (98, 117, 137), "fp32": (19, 25, 47)}


def _p7(evidence: Evidence, gradient_rule: str, arithmetic: str) -> Finding:
    found = {
        at: _networks(evidence, config, gradient_rule)
        for at, config in _table_1_networks(arithmetic).items()
        if at[1] in PUBLISHED_QUARTILES
    }
    if any(not networks["affected"].any() for networks in found.values()):
        return Finding(NO_OCCASION, "no affected mini-batch")
    parts, values = [], []
    for (name, precision), networks in found.items():
        if name == "release":
            ours = quartiles(networks["relative_difference_first_layer"].sum())
            parts.append(_agree(ours, PUBLISHED_QUARTILES[precision], networks))
            values.append("{} ({:.3g}, {:.3g}, {:.3g})".format(precision, *ours))
    medians = {p: _medians(found["paper", p]) for p in PUBLISHED_QUARTILES}
    low, high = _interval(lambda sample: np.median(sample), medians["fp32"])
    parts.append(decided(low > ABOVE, high < ABOVE))
    parts.append(HOLDS if is_larger(medians["fp16"], medians["fp32"]) else FAILS)
    values.append(
        "over all parameters, median of networks "
        + ", ".join(f"{p} {np.median(m):.3g}" for p, m in medians.items())
    )
    return Finding(all_of(parts), "; ".join(values))


def _medians(networks: pd.DataFrame) -> np.ndarray:
    """The median relative difference of each network that has one."""
    lists = networks["relative_difference"]
    return np.array([np.median(values) for values in lists if len(values)])


def _agree(ours: Sequence[float], theirs: Sequence[float], networks: pd.DataFrame) -> str:
    """Whether each published quartile is in ours' interval (networks drawn anew) or near it."""
    lists = [np.asarray(v) for v in networks["relative_difference_first_layer"] if len(v)]
    for index, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        low, high = _interval(partial(_pooled_quartile, index), lists)
        if not (low <= b <= high or abs(a - b) <= QUARTILE * b):
            return FAILS
    return HOLDS


def _pooled_quartile(index: int, lists: Sequence[np.ndarray]) -> float:
    return float(np.quantile(np.concatenate(lists), (0.25, 0.5, 0.75)[index]))


def _interval(statistic: Callable, values: Sequence, resamples: int = 500) -> tuple[float, float]:
    """Percentile interval (95 %) of a statistic over networks, with a fixed seed."""
    random = np.random.RandomState(0)
    drawn = (random.randint(len(values), size=len(values)) for _ in range(resamples))
    found = [statistic([values[i] for i in indices]) for indices in drawn]
    low, high = np.quantile(found, [RISK / 2, 1 - RISK / 2])
    return float(low), float(high)


def _relative_as_published(config: VolumeConfig, _: str) -> float:
    return 117.0 if config.precision == "fp16" else 25.0


P7 = Claim(
    id="P7",
    statement="On affected mini-batches the gradient changes by more than 20 times its norm, and "
    "more at 16 bits.",
    published="quartiles (98, 117, 137) / (19, 25, 47) / 0",
    source="B21 Table 1, row 3",
    figure="02_relative_volume#table-1",
    rule=(
        "On the network that the notebook builds, with the first layer's norm as it has it: each "
        "published quartile is within 10 % of ours or in its interval (networks drawn anew, "
        "95 %). Over all parameters of the network that the paper describes: the median of the "
        "networks' medians is above 20 at fp32 (interval), and higher at fp16 (one-sided rank "
        "test over networks)."
    ),
    thresholds={"risk": RISK, "distance": QUARTILE, "above": ABOVE},
    grid=_table_1_grid,
    judge=_p7,
    scale="1000 networks as published, 100 at fp16",
    examples={
        "as published": networks(_as_published, _relative_as_published),
        "a thousandth": networks(_as_published, lambda c, _: 0.025),
        "no zeros": networks(lambda *_: 0),
        "no records": _no_records,
    },
)

# ---- Fig. 2 of B21 and Fig. 4 of M23: P8 and R3 ----

MANY = 300  # networks of a size; 1000 and 100 are published
FEW = 50  # at fp64, where the claim is that there are none


class Sweep:
    """One paper's sizes: its base network, and what it varies."""

    def __init__(self, width: int, depth: int, depths, widths, batch_sizes, first_seed: int):
        base = (width,) * depth
        shapes = {
            "depth": {d: {"hidden_sizes": (width,) * d} for d in depths},
            "width": {w: {"hidden_sizes": (w,) * depth} for w in widths},
            "batch_size": {b: {"hidden_sizes": base, "batch_size": b} for b in batch_sizes},
        }
        points = [(by, size) for by, sizes in shapes.items() for size in sizes]
        self._seeds = {p: first_seed + OWN_SEEDS * i for i, p in enumerate(points)}
        self.shapes = shapes

    def config(self, by: str, size: int, precision: str) -> VolumeConfig:
        """The networks of one point, with seeds of its own."""
        return VolumeConfig(
            precision=precision,
            n_networks=FEW if precision == "fp64" else MANY,
            seed=self._seeds[by, size],
            stop_at_first=True,
            **self.shapes[by][size],
        )

    def grid(self, _: str, arithmetic: str) -> list[Cell]:
        return [
            cell
            for precision in ("fp32", "fp16", "fp64")
            for by, sizes in self.shapes.items()
            for size in sizes
            for cell in _cells(self.config(by, size, precision))
        ]

    def shares(self, evidence: Evidence, gradient_rule: str, precision: str) -> pd.DataFrame:
        """A row a point: by, size, in_zone, networks, low and high (exact, 95 %)."""
        rows = []
        for by, sizes in self.shapes.items():
            for size in sizes:
                config = self.config(by, size, precision)
                k, n = _in_zone(evidence, config, gradient_rule)
                low, high = clopper_pearson(k, n)
                rows.append({"by": by, "size": size, "in_zone": k, "networks": n})
                rows[-1] |= {"low": low, "high": high}
        return pd.DataFrame(rows)


B21 = Sweep(256, 3, (1, 2, 3, 5, 6), (16, 64, 256, 512, 1024), (16, 64, 256, 512, 1024), 1_000_000)
M23 = Sweep(32, 4, (1, 2, 3, 5, 6), (4, 8, 16, 32, 64), (16, 32, 64, 128, 256), 2_000_000)


def _published_points(file: str, precision: int) -> pd.DataFrame:
    """Released counts in the columns of `Sweep.shares`."""
    table = published(file)
    names = {"nb_layers": "depth", "nb_neurons": "width", "batch_size": "batch_size"}
    own = table[(table["precision"] == precision) & table["factor"].isin(names)]
    ends = [clopper_pearson(k, n) for k, n in zip(own["in_zone"], own["networks"], strict=True)]
    found = own.assign(by=own["factor"].map(names), size=own["value"])
    return found.assign(low=[e[0] for e in ends], high=[e[1] for e in ends])


def _of(shares: pd.DataFrame, by: str) -> pd.DataFrame:
    return shares[shares["by"] == by].sort_values("size")


def _grows(shares: pd.DataFrame, by: str) -> str:
    """Holds where the largest size's interval lies above the smallest's; fails where networks of
    the smallest are in the zone and the largest has no more."""
    ends = _of(shares, by).iloc[[0, -1]]
    first, last = ends.to_dict("records")
    return decided(last["low"] > first["high"], 0 < last["in_zone"] <= first["in_zone"])


def _same_over_batch_sizes(shares: pd.DataFrame) -> str:
    """Fails where a chi-squared test at 1 % finds that the shares differ."""
    own = _of(shares, "batch_size")
    return FAILS if differ(own["in_zone"], own["networks"], 0.01) else HOLDS


def _none(shares: pd.DataFrame) -> str:
    return FAILS if shares["in_zone"].any() else HOLDS


def _ends(shares: pd.DataFrame, by: str) -> str:
    own = _of(shares, by)
    share = own["in_zone"] / own["networks"]
    return f"{share.iloc[0]:.0%} to {share.iloc[-1]:.0%} with {by.replace('_', ' ')}"


def _trends(shares: dict[str, pd.DataFrame]) -> Finding:
    """P8, of ours or of the published counts."""
    fp32 = shares["fp32"]
    parts = [
        _grows(fp32, "depth"),
        _grows(fp32, "width"),
        _same_over_batch_sizes(fp32),
        _none(shares["fp64"]),
    ]
    value = "fp32: " + ", ".join(_ends(fp32, by) for by in ("depth", "width", "batch_size"))
    return Finding(all_of(parts), value)


def _p8(evidence: Evidence, gradient_rule: str, _: str) -> Finding:
    precisions = ("fp32", "fp64")
    return _trends({p: B21.shares(evidence, gradient_rule, p) for p in precisions})


def _p8_published() -> Finding:
    file = "paper_volume_mlp.csv"
    return _trends({f"fp{bits}": _published_points(file, bits) for bits in (32, 64)})


def _by_calls(rate: float) -> Callable[[VolumeConfig, int, str], int]:
    """Each ReLU call is a zero with the same small probability, whatever the network."""

    def affected(config: VolumeConfig, seed: int, _: str) -> int:
        if config.precision == "fp64":
            return 0
        calls = 60_000 * sum(config.hidden_sizes) * (200 if config.precision == "fp16" else 1)
        return int(_share(1 - np.exp(-rate * calls))(seed))

    return affected


def _with_batch_size(config: VolumeConfig, seed: int, rule: str) -> int:
    least = 0 if config.batch_size == 256 else 1
    return max(_by_calls(1e-8)(config, seed, rule), least)


P8 = Claim(
    id="P8",
    statement="The share grows with sample size, width and depth, not with batch size, and is 0 at "
    "64 bits.",
    published="five sizes of each, M=1000",
    source="B21 Fig. 2",
    figure="02_relative_volume#sample-size-width-depth-and-batch-size",
    rule=(
        "At fp32, networks of their own at each size: the exact interval (95 %) at the largest "
        "depth and width lies above that at the smallest, failing where the share is no larger; a "
        "chi-squared test at 1 % finds no difference between batch sizes; no network is in the "
        "zone at fp64. Over sample size the share cannot fall, as a network stays in the zone."
    ),
    thresholds={"risk": RISK, "risk, batch sizes": 0.01},
    grid=B21.grid,
    judge=_p8,
    scale="300 networks at each size (B21: 1000), 50 at fp64",
    counts_zeros=True,
    on_published=_p8_published,
    examples={
        "by calls": networks(_by_calls(1e-8)),
        "the same everywhere": networks(lambda c, seed, r: int(_share(0.3)(seed))),
        "with batch size": networks(_with_batch_size),
        "too few to tell": networks(_by_calls(1e-11)),
        "no records": _no_records,
    },
)

ALL = 0.95  # R3: of 16-bit networks, at each depth ("100 %")
HEAVY = 0.2  # R3: share of networks by which depth may raise it at 32 bits (M23: 0.15)


def _small_trends(shares: dict[str, pd.DataFrame]) -> Finding:
    """R3, of ours or of the published counts."""
    depth16, depth32 = (_of(shares[p], "depth") for p in ("fp16", "fp32"))
    share32 = depth32["in_zone"] / depth32["networks"]
    least = (depth16["in_zone"] / depth16["networks"]).min()
    rise = float(share32.iloc[-1] - share32.iloc[0])
    parts = [
        decided(least >= ALL, least < ALL),
        decided(rise <= HEAVY, rise > HEAVY),
        _grows(shares["fp32"], "width"),
        _same_over_batch_sizes(shares["fp32"]),
        _same_over_batch_sizes(shares["fp16"]),
        _none(shares["fp64"]),
    ]
    value = f"fp16: at least {least:.0%} at each depth; fp32: " + ", ".join(
        _ends(shares["fp32"], by) for by in ("depth", "width")
    )
    return Finding(all_of(parts), value)


def _r3(evidence: Evidence, gradient_rule: str, _: str) -> Finding:
    precisions = ("fp16", "fp32", "fp64")
    return _small_trends({p: M23.shares(evidence, gradient_rule, p) for p in precisions})


def _r3_published() -> Finding:
    file = "replication_volume_mlp.csv"
    return _small_trends({f"fp{bits}": _published_points(file, bits) for bits in (16, 32, 64)})


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
        "(exact intervals, as in P8); batch sizes do not differ (chi-squared test, 1 %) at either; "
        "none is in the zone at fp64."
    ),
    thresholds={"risk": RISK, "all": ALL, "heavy": HEAVY, "risk, batch sizes": 0.01},
    grid=M23.grid,
    judge=_r3,
    scale="300 networks at each size (M23: 100), 50 at fp64",
    counts_zeros=True,
    on_published=_r3_published,
    examples={
        "all at 16 bits": networks(_all_at_16_bits),
        "few at 16 bits": networks(_by_calls(1e-10)),
        "some at fp64": networks(lambda *_: 1),
        "too few to tell": networks(
            lambda c, seed, r: 1 if c.precision == "fp16" else _by_calls(1e-11)(c, seed, r)
        ),
        "no records": _no_records,
    },
)

CLAIMS = (P5, P6, P7, P8, R3)
