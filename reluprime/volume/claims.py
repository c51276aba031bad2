"""The claims of the Monte Carlo: B21 3.2 and 4.4 (P5 to P8, P16), and M23's R3.

The unit is the network. Networks of one size are never those of another: each has seeds of its
own.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pandas as pd

from reluprime.config import cells as split
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
from reluprime.evidence.intervals import clopper_pearson, quartiles
from reluprime.evidence.tests import RISK, differ, is_larger
from reluprime.instruments.arithmetic import available
from reluprime.records import published
from reluprime.volume import zone
from reluprime.volume.convolutional import conv_shares
from reluprime.volume.networks import VolumeConfig
from reluprime.volume.shares import by_network
from reluprime.volume.study import estimate
from reluprime.volume.zone import ZoneConfig

PER_CELL = 50  # networks of a cell
OWN_SEEDS = 10_000  # between the first networks of two sizes

# ---- sizes and networks ----


def _study(config: VolumeConfig) -> Callable:
    """A ZoneConfig is of the study that keeps the first affected mini-batch alone."""
    return zone.first_affected if isinstance(config, ZoneConfig) else estimate


def _cells(config: VolumeConfig, per_cell: int = PER_CELL) -> list[Cell]:
    return [Cell(_study(config), cell) for cell in split(config, per_cell)]


def _networks(
    evidence: Evidence, config: VolumeConfig, gradient_rule: str, per_cell: int = PER_CELL
) -> pd.DataFrame:
    configs = split(config, per_cell)
    return by_network(evidence.table(_study(config), configs), gradient_rule)


def _at(precision: str, arithmetic: str) -> dict[str, str]:
    """Precision and arithmetic of a network; "separate" at 32 and 64 bits is "epilogue"."""
    return {"precision": precision, "arithmetic": available(arithmetic, precision)}


def _in_zone(evidence: Evidence, config: VolumeConfig, gradient_rule: str) -> tuple[int, int]:
    """-> networks in the zone, networks."""
    networks = _networks(evidence, config, gradient_rule)
    return int((networks["affected"] > 0).sum()), len(networks)


# ---- examples: what a network meets ----


def networks(
    affected: Callable[[VolumeConfig, int, str], int],
    relative: Callable[[VolumeConfig], Sequence[float]] = lambda _: (19.0, 25.0, 47.0),
    n_batches: int = 235,
) -> Example:
    """Monte Carlo cells.

    affected(config, network, gradient_rule): its affected mini-batches; relative(config): three
    relative gradient differences that they have in turn.
    """

    def result(cell: Cell) -> dict:
        config, found = cell.config, {"n_batches": n_batches}
        seeds = range(config.seed, config.seed + config.n_networks)
        for rule in ("chain", "injected"):
            counts = [min(affected(config, seed, rule), n_batches) for seed in seeds]
            spread = [relative(config)[k % 3] for k in range(sum(counts))]
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

MANY = 300  # networks of a condition, where 1000 would take too long
BUILT = {
    "paper": {"relu_after_first": True},  # the network that B21 describes: three ReLUs
    "release": {"relu_after_first": False},  # the one that its notebook builds: two
}
MARGIN = 0.05  # of the published shares (Hoeffding, M=1000)
RELEASED_PAIRS = 0.038  # P6: at fp16, in the figure of the notebook that builds the network
FACTOR = 1.5  # P6: shares of pairs are compared up to it
LEAST_AFFECTED = 30  # P7: networks with an affected mini-batch, for intervals of quartiles
QUARTILE = 0.1  # P7: relative distance up to which quartiles agree
ABOVE = 20.0  # P7: "above 20"


def released_share() -> float:
    """Share of the paper's network in the zone at fp32, from the three points of Fig. 2 at it."""
    table = published("paper_volume_mlp.csv")
    at = {"nb_layers": 3, "nb_neurons": 256, "batch_size": 256}
    own = table[(table["precision"] == 32) & (table["value"] == table["factor"].map(at))]
    return own["in_zone"].sum() / own["networks"].sum()


def _first_edition(*networks: tuple[str, str]) -> dict[tuple[str, str], VolumeConfig]:
    """By name and precision: networks of native arithmetic, which had records before any rule."""
    return {
        (name, precision): VolumeConfig(
            precision=precision, n_networks=100 if precision == "fp16" else 1000, **BUILT[name]
        )
        for name, precision in networks
    }


def _share_networks(arithmetic: str) -> dict[tuple[str, str], VolumeConfig]:
    """P5: those whose share in the zone is compared."""
    if arithmetic == "native":
        at = [("paper", p) for p in ("fp16", "fp32", "fp64")]
        return _first_edition(*at, ("release", "fp32"))
    numbers = {"fp16": 300 if arithmetic == "separate" else 1000, "fp32": 1000, "fp64": 100}
    return {
        (name, precision): ZoneConfig(
            **_at(precision, arithmetic), n_networks=n, seed=seed, **BUILT[name]
        )
        for name, seed in (("paper", 3_000_000), ("release", 3_100_000))
        for precision, n in numbers.items()
    }


def _pair_networks(arithmetic: str) -> dict[tuple[str, str], VolumeConfig]:
    """P6 and P7: those of which every mini-batch with a zero is compared."""
    if arithmetic == "native":
        return _first_edition(("paper", "fp16"), ("paper", "fp32"), ("release", "fp32"))
    # Every mini-batch of "separate" is affected: a few of each network show what all would.
    few = {"max_batches": 20} if arithmetic == "separate" else {}
    return {
        (name, precision): VolumeConfig(
            **_at(precision, arithmetic),
            **(few if precision == "fp16" else {}),
            n_networks=MANY,
            seed=seed,
            **BUILT[name],
        )
        for name, seed in (("paper", 3_200_000), ("release", 3_300_000))
        for precision in ("fp16", "fp32")
    }


def _grid(networks: Callable[[str], dict], _: str, arithmetic: str) -> list[Cell]:
    return [cell for config in networks(arithmetic).values() for cell in _cells(config)]


PUBLISHED_SHARES = {"fp16": 1.0, "fp32": 0.4, "fp64": 0.0}


def _p5(evidence: Evidence, gradient_rule: str, arithmetic: str) -> Finding:
    own = {"paper": PUBLISHED_SHARES | {"fp32": released_share()}, "release": PUBLISHED_SHARES}
    parts, values = [], []
    for (name, precision), config in _share_networks(arithmetic).items():
        k, n = _in_zone(evidence, config, gradient_rule)
        parts.append(_near(k, n, own[name][precision]))
        bound = f", at most {clopper_pearson(0, n)[1]:.2%} (95 %)" if k == 0 else ""
        values.append(f"{name}'s network at {precision} {k / n:.1%} of {n}{bound}")
    return Finding(all_must_hold(parts), "; ".join(values))


def _near(k: int, n: int, published: float) -> str:
    """Whether a share is the published one, with its margin.

    Holds within MARGIN, and where none is published with none; fails where the exact interval
    (95 %) lies beyond the margin, and where none is published with one.
    """
    if published == 0:
        return FAILS if k else HOLDS
    low, high = clopper_pearson(k, n)
    beyond = high < published - MARGIN or low > published + MARGIN
    return decided(abs(k / n - published) <= MARGIN, beyond)


def _as_published(config: VolumeConfig, seed: int, _: str) -> int:
    share = PUBLISHED_SHARES[config.precision]
    if config.precision == "fp32" and config.relu_after_first:
        share = 0.47
    return int(_share(share)(seed))


def _six_points_fewer(config: VolumeConfig, seed: int, rule: str) -> int:
    if config.precision != "fp32":
        return _as_published(config, seed, rule)
    share = released_share() if config.relu_after_first else PUBLISHED_SHARES["fp32"]
    return int(_share(share - 0.06)(seed))


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
    grid=partial(_grid, _share_networks),
    judge=_p5,
    scale="1000 networks as published; fewer where none (100) or all (100 to 300) are in the zone",
    arithmetics=ARITHMETICS,
    examples={
        "as published": networks(_as_published),
        "half as many at fp32": networks(
            lambda c, seed, r: _as_published(c, seed, r) * (c.precision != "fp32" or seed % 2)
        ),
        "some at fp64": networks(lambda c, seed, r: 1),
        "six points fewer at fp32": networks(_six_points_fewer),
        "no records": _no_records,
    },
)


def _p6_flaw() -> str | None:
    """Row 1 bounds row 2: a network in the zone has at least one of its mini-batches affected."""
    share_of_networks, share_of_pairs, n_batches = 0.40, 2e-6, 235
    too_few = share_of_pairs < share_of_networks / n_batches
    return "impossible as published" if too_few else None


def _p6(evidence: Evidence, gradient_rule: str, arithmetic: str) -> Finding:
    at = _pair_networks(arithmetic)
    parts, values = [], []
    for precision, wanted in {"fp32": 2e-3, "fp16": 0.5}.items():  # 1000 times the published
        if ("release", precision) not in at:
            parts.append(OPEN)
            continue
        networks = _networks(evidence, at["release", precision], gradient_rule)
        share = networks["affected"].sum() / networks["n_batches"].sum()
        parts.append(HOLDS if _within_factor(share, wanted) else FAILS)
        values.append(f"{precision} {share:.2%}")
        if precision == "fp16":
            met = "met" if _within_factor(share, RELEASED_PAIRS) else "not met"
            values[-1] += f" ({RELEASED_PAIRS:.1%}, the release's own figure: {met})"
    return Finding(all_must_hold(parts), "release's network: " + ", ".join(values))


def _within_factor(a: float, b: float) -> bool:
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
    grid=partial(_grid, _pair_networks),
    judge=_p6,
    scale="300 networks (B21: 1000), of native arithmetic 1000",
    arithmetics=ARITHMETICS,
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
        for at, config in _pair_networks(arithmetic).items()
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
    if ("release", "fp16") not in found:
        parts.append(OPEN)
    medians = {p: _medians(found["paper", p]) for p in PUBLISHED_QUARTILES}
    low, high = _interval(lambda sample: np.median(sample), medians["fp32"])
    parts.append(decided(low > ABOVE, high < ABOVE))
    more, fewer = medians["fp16"], medians["fp32"]
    parts.append(decided(is_larger(more, fewer), is_larger(fewer, more)))
    values.append(
        "over all parameters, median of networks "
        + ", ".join(f"{p} {np.median(m):.3g}" for p, m in medians.items())
    )
    return Finding(all_must_hold(parts), "; ".join(values))


def _medians(networks: pd.DataFrame) -> np.ndarray:
    """The median relative difference of each network that has one."""
    lists = networks["relative_difference"]
    return np.array([np.median(values) for values in lists if len(values)])


def _agree(ours: Sequence[float], theirs: Sequence[float], networks: pd.DataFrame) -> str:
    """Whether each published quartile is in ours' interval (networks drawn anew) or near it."""
    lists = [np.asarray(v) for v in networks["relative_difference_first_layer"] if len(v)]
    if len(lists) < LEAST_AFFECTED:
        return OPEN
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


def _relative_as_published(config: VolumeConfig) -> Sequence[float]:
    return PUBLISHED_QUARTILES[config.precision]


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
        "test over networks, failing where it says the opposite). Of native arithmetic the "
        "release's network was computed at fp32 alone, so it cannot hold."
    ),
    thresholds={
        "risk": RISK,
        "distance": QUARTILE,
        "above": ABOVE,
        "least networks": LEAST_AFFECTED,
    },
    grid=partial(_grid, _pair_networks),
    judge=_p7,
    scale="300 networks (B21: 1000), of native arithmetic 1000, and 100 at fp16",
    arithmetics=ARITHMETICS,
    examples={
        "as published": networks(_as_published, _relative_as_published),
        "a thousandth": networks(_as_published, lambda _: (0.02, 0.025, 0.05)),
        "no zeros": networks(lambda *_: 0),
        "no records": _no_records,
    },
)

# ---- Fig. 2 of B21 and Fig. 4 of M23: P8 and R3 ----

ALL_NETWORKS = 1000  # of a size, in the arithmetic that is to predict the published shares
FEW = 50  # at fp64, where the claim is that there are none


class Sweep:
    """One paper's sizes: its base network, and what it varies."""

    def __init__(
        self,
        base: tuple[int, int],
        depths: Sequence[int],
        widths: Sequence[int],
        batch_sizes: Sequence[int],
        precisions: Sequence[str],
        first_seed: int,
        batch_depth: int,
    ):
        width, depth = base
        shapes = {
            "depth": {d: {"hidden_sizes": (width,) * d} for d in depths},
            "width": {w: {"hidden_sizes": (w,) * depth} for w in widths},
            "batch_size": {
                b: {"hidden_sizes": (width,) * batch_depth, "batch_size": b} for b in batch_sizes
            },
        }
        points = [(by, size) for by, sizes in shapes.items() for size in sizes]
        self._seeds = {p: first_seed + OWN_SEEDS * i for i, p in enumerate(points)}
        self.shapes, self.precisions = shapes, precisions

    def config(self, by: str, size: int, precision: str, arithmetic: str) -> ZoneConfig:
        """The networks of one point, with seeds of its own."""
        at = _at(precision, arithmetic)
        n = ALL_NETWORKS if at["arithmetic"] == "epilogue" else MANY
        return ZoneConfig(
            **at,
            n_networks=FEW if precision == "fp64" else n,
            seed=self._seeds[by, size],
            **self.shapes[by][size],
        )

    def grid(self, _: str, arithmetic: str) -> list[Cell]:
        return [
            cell
            for precision in self.precisions
            for by, sizes in self.shapes.items()
            for size in sizes
            for cell in _cells(self.config(by, size, precision, arithmetic))
        ]

    def shares(
        self, evidence: Evidence, gradient_rule: str, precision: str, arithmetic: str
    ) -> pd.DataFrame:
        """A row a point that has all its networks: by, size, in_zone, networks, low and high
        (exact interval, 95 %)."""
        rows = []
        for by, sizes in self.shapes.items():
            for size in sizes:
                config = self.config(by, size, precision, arithmetic)
                if evidence.missing(_cells(config)):
                    continue
                k, n = _in_zone(evidence, config, gradient_rule)
                low, high = clopper_pearson(k, n)
                rows.append({"by": by, "size": size, "in_zone": k, "networks": n})
                rows[-1] |= {"low": low, "high": high}
        return pd.DataFrame(rows, columns=["by", "size", "in_zone", "networks", "low", "high"])


B21 = Sweep(
    (256, 3),
    depths=(1, 2, 3, 5, 6),
    widths=(16, 64, 256, 512, 1024),
    batch_sizes=(16, 64, 256, 512, 1024),
    precisions=("fp32", "fp64"),
    first_seed=1_000_000,
    batch_depth=3,
)
M23 = Sweep(
    (32, 4),
    depths=(1, 2, 3, 5, 6),
    widths=(4, 8, 16, 32, 64),
    batch_sizes=(16, 32, 64, 128, 256),
    precisions=("fp16", "fp32", "fp64"),
    first_seed=2_000_000,
    batch_depth=3,  # in its code; its caption says 4
)


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
    return Finding(all_must_hold(parts), value)


def _p8(evidence: Evidence, gradient_rule: str, arithmetic: str) -> Finding:
    at = B21.precisions
    return _trends({p: B21.shares(evidence, gradient_rule, p, arithmetic) for p in at})


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


def _small_rise(config: VolumeConfig, seed: int, _: str) -> int:
    large = len(config.hidden_sizes) == 6 or max(config.hidden_sizes) in (64, 1024)
    share = 0.0 if config.precision == "fp64" else 0.2 + 0.04 * large
    return int(_share(share)(seed))


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
    scale="1000 networks at each size as published, 300 of native arithmetic, 50 at fp64",
    arithmetics=("native", "epilogue"),  # at fp32, of which the claim is, "separate" is "epilogue"
    on_published=_p8_published,
    examples={
        "by calls": networks(_by_calls(1e-8)),
        "the same everywhere": networks(lambda c, seed, r: int(_share(0.3)(seed))),
        "with batch size": networks(_with_batch_size),
        "too few zeros": networks(_by_calls(1e-11)),
        "a rise too small to tell": networks(_small_rise),
        "no records": _no_records,
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
    parts = [
        decided(low >= ALL or least == 1, high < ALL),
        decided(last["high"] - first["low"] <= HEAVY, last["low"] - first["high"] > HEAVY),
        _grows(shares["fp32"], "width"),
        _same_over_batch_sizes(shares["fp32"]),
        _same_over_batch_sizes(shares["fp16"]),
        _none(shares["fp64"]),
    ]
    value = f"fp16: at least {least:.0%} at each depth; fp32: " + ", ".join(
        _ends(shares["fp32"], by) for by in ("depth", "width")
    )
    return Finding(all_must_hold(parts), value)


def _r3(evidence: Evidence, gradient_rule: str, arithmetic: str) -> Finding:
    at = M23.precisions
    return _small_trends({p: M23.shares(evidence, gradient_rule, p, arithmetic) for p in at})


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
        "all at 16 bits": networks(_all_at_16_bits),
        "few at 16 bits": networks(_by_calls(1e-10)),
        "some at fp64": networks(lambda *_: 1),
        "a rise too small to tell": networks(
            lambda c, seed, r: 1 if c.precision == "fp16" else _small_rise(c, seed, r)
        ),
        "no records": _no_records,
    },
)

# ---- convolutional networks: P16 ----

NETWORKS = {"vgg11": ALL_NETWORKS, "resnet18": MANY}
SURELY = 0.95  # P16: "almost surely"
LARGE = 100  # mini-batches of 100 images: a large sample
FEW_BATCHES = 6  # at fp32, where batch norm is compared
PER_CONV_CELL = 10


def _conv(architecture: str, norm: bool, precision: str, arithmetic: str) -> ZoneConfig:
    native = arithmetic == "native"
    return ZoneConfig(
        dataset="cifar10",
        architecture=architecture,
        batch_norm=norm,
        precision=precision,
        arithmetic=arithmetic,
        batch_size=100,
        inputs="release",
        max_batches=20 if native else LARGE,
        n_networks=100 if native else NETWORKS[architecture],
        seed=4_000_000,
    )


def _p16_grid(_: str, arithmetic: str) -> list[Cell]:
    return [
        cell
        for precision in (("fp32",) if arithmetic == "native" else ("fp32", "fp16"))
        for architecture in NETWORKS
        for norm in (False, True)
        for cell in _cells(_conv(architecture, norm, precision, arithmetic), PER_CONV_CELL)
    ]


def _p16(evidence: Evidence, gradient_rule: str, arithmetic: str) -> Finding:
    def share(architecture: str, norm: bool, precision: str, count: int) -> pd.Series:
        config = _conv(architecture, norm, precision, arithmetic)
        cells = [cell.config for cell in _cells(config, PER_CONV_CELL)]
        table = evidence.table(zone.first_affected, cells)
        return conv_shares(table, gradient_rule, [count]).iloc[0]

    parts, values = [], []
    for network in NETWORKS:
        few, few_norm = (share(network, norm, "fp32", FEW_BATCHES) for norm in (False, True))
        parts.append(_above(few_norm, few))
        values.append(
            f"{network} at fp32 after {FEW_BATCHES} mini-batches {few['share']:.0%}, with batch "
            f"norm {few_norm['share']:.0%}"
        )
    if arithmetic != "native":
        for network in NETWORKS:
            large = share(network, False, "fp32", LARGE)
            parts.append(decided(large["share"] >= SURELY, large["share"] < SURELY))
            parts.append(_above(*(share(network, False, p, 1) for p in ("fp16", "fp32"))))
        parts.append(_above(*(share("vgg11", norm, "fp16", 1) for norm in (False, True))))
    return Finding(all_must_hold(parts), "; ".join(values))


def _above(a: pd.Series, b: pd.Series) -> str:
    """Holds where a's exact interval lies above b's, fails where it lies below."""
    return decided(bool(a["low"] > b["high"]), bool(a["high"] < b["low"]))


def _p16_published() -> Finding:
    table = published("paper_volume_conv.csv")

    def share(network: str, norm: bool, bits: int, count: int) -> dict:
        own = table[(table["network"] == network) & (table["batch_norm"] == norm)]
        own = own[(own["precision"] == bits) & (own["batches_seen"] == count)].iloc[0]
        low, high = clopper_pearson(int(own["in_zone"]), int(own["networks"]))
        return {"share": own["in_zone"] / own["networks"], "low": low, "high": high}

    parts = [_above(share("vgg11", False, 16, 1), share("vgg11", True, 16, 1))]
    for network in NETWORKS:
        parts += [
            _above(*(share(network, norm, 32, FEW_BATCHES) for norm in (True, False))),
            _above(share(network, False, 16, 1), share(network, False, 32, 1)),
            HOLDS if share(network, False, 32, LARGE + 1)["share"] >= SURELY else FAILS,
        ]
    return Finding(all_must_hold(parts), "all parts")


def _conv_networks(
    first: Callable[[ZoneConfig, int], int | None], n_batches: int = LARGE
) -> Example:
    """Networks whose first affected mini-batch is a function of config and seed."""

    def result(cell: Cell) -> dict:
        config, end = cell.config, cell.config.max_batches or n_batches
        found = [first(config, config.seed + k) for k in range(config.n_networks)]
        shown = [None if f is None or f >= end else f for f in found]
        in_zone = [int(f is not None) for f in shown]
        lists = {"affected": in_zone, "first_affected": shown, "nonfinite": 0}
        relative = ("relative_difference", "relative_difference_first_layer")
        lists |= dict.fromkeys(relative, [1.0] * sum(in_zone))
        rules = ("chain", "injected")
        return {"n_batches": end} | {
            f"{name}_{rule}": value for name, value in lists.items() for rule in rules
        }

    return result


def _norm_as_published(config: ZoneConfig, seed: int) -> int:
    if config.precision == "fp16":
        return (2 * seed) % 13 if config.batch_norm and config.architecture == "vgg11" else 0
    return (7 * seed) % (9 if config.batch_norm else 30)


P16 = Claim(
    id="P16",
    statement="Convolutional networks meet the zone almost surely on large samples; batch norm "
    "enlarges it at 32 bits and shrinks it at 16.",
    published="shares after 1 to 600 mini-batches",
    source="B21 Fig. 5, 9, 16",
    figure="06_conv_volume#shares-of-networks",
    rule=(
        "VGG11 and ResNet-18 at full width on the release's inputs (normalised, cropped, "
        "flipped). Without batch norm at fp32 at least 95 % are in the zone within 100 "
        "mini-batches; after the first, more at fp16 than at fp32. Batch norm enlarges the share "
        "at fp32 after 6 mini-batches, for both networks, and shrinks it at fp16 after the first, "
        "for VGG11. More and fewer: exact intervals (95 %) do not meet; fails where they lie the "
        "other way. Of native arithmetic the part on batch norm at fp32 alone."
    ),
    thresholds={"risk": RISK, "surely": SURELY, "large": LARGE, "few": FEW_BATCHES},
    grid=_p16_grid,
    judge=_p16,
    scale="full width; 1000 VGG11 as published and 300 ResNet-18, 100 of native arithmetic",
    arithmetics=("native", "epilogue"),  # "separate" differs in the output layer alone
    on_published=_p16_published,
    examples={
        "as published": _conv_networks(_norm_as_published),
        "batch norm leaves none": _conv_networks(
            lambda c, seed: None if c.batch_norm else (7 * seed) % 30
        ),
        "the same with batch norm": _conv_networks(lambda c, seed: (7 * seed) % 30),
        "no zeros": _conv_networks(lambda c, seed: None),
        "no records": _no_records,
    },
)

CLAIMS = (P5, P6, P7, P8, P16, R3)
