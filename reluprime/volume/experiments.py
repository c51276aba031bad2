"""The random networks that the registered rules read, and their cells.

The unit is the network. Networks of one size are never those of another: each has seeds of its
own.
"""

from collections.abc import Callable, Sequence

import pandas as pd

from reluprime.config import cells as split
from reluprime.evidence.claim import Cell, Evidence
from reluprime.evidence.intervals import clopper_pearson
from reluprime.instruments.arithmetic import available
from reluprime.records import published
from reluprime.volume import zone
from reluprime.volume.networks import VolumeConfig
from reluprime.volume.shares import by_network
from reluprime.volume.study import estimate
from reluprime.volume.zone import ZoneConfig

PER_CELL = 50  # networks of a cell
OWN_SEEDS = 10_000  # between the first networks of two sizes
MANY = 300  # networks of a condition, where 1000 would take too long
ALL_NETWORKS = 1000  # of a size, in the arithmetic that is to predict the published shares
FEW = 50  # at fp64, where the claim is that there are none
CONV_NETWORKS = {"vgg11": ALL_NETWORKS, "resnet18": MANY}
LARGE = 100  # mini-batches of 100 images: a large sample
PER_CONV_CELL = 10

BUILT = {
    "paper": {"relu_after_first": True},  # the network that B21 describes: three ReLUs
    "release": {"relu_after_first": False},  # the one that its notebook builds: two
}


def study_of(config: VolumeConfig) -> Callable:
    """A ZoneConfig is of the study that keeps the first affected mini-batch alone."""
    return zone.first_affected if isinstance(config, ZoneConfig) else estimate


def cells_of(config: VolumeConfig, per_cell: int = PER_CELL) -> list[Cell]:
    return [Cell(study_of(config), cell) for cell in split(config, per_cell)]


def networks_of(
    evidence: Evidence, config: VolumeConfig, gradient_rule: str, per_cell: int = PER_CELL
) -> pd.DataFrame:
    configs = split(config, per_cell)
    return by_network(evidence.table(study_of(config), configs), gradient_rule)


def arithmetic_at(precision: str, arithmetic: str) -> dict[str, str]:
    """Precision and arithmetic of a network; "separate" at 32 and 64 bits is "epilogue"."""
    return {"precision": precision, "arithmetic": available(arithmetic, precision)}


def in_zone(evidence: Evidence, config: VolumeConfig, gradient_rule: str) -> tuple[int, int]:
    """-> networks in the zone, networks."""
    networks = networks_of(evidence, config, gradient_rule)
    return int((networks["affected"] > 0).sum()), len(networks)


# B21 Table 1: row 1, of networks in the zone, and row 2, of affected (network, mini-batch) pairs.
PUBLISHED_SHARES = {"fp16": 1.0, "fp32": 0.4, "fp64": 0.0}
PUBLISHED_PAIRS = {"fp16": 5e-4, "fp32": 2e-6, "fp64": 0.0}


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


def share_networks(arithmetic: str) -> dict[tuple[str, str], VolumeConfig]:
    """P5: those whose share in the zone is compared."""
    if arithmetic == "native":
        at = [("paper", p) for p in ("fp16", "fp32", "fp64")]
        return _first_edition(*at, ("release", "fp32"))
    numbers = {"fp16": 300 if arithmetic == "separate" else 1000, "fp32": 1000, "fp64": 100}
    return {
        (name, precision): ZoneConfig(
            **arithmetic_at(precision, arithmetic), n_networks=n, seed=seed, **BUILT[name]
        )
        for name, seed in (("paper", 3_000_000), ("release", 3_100_000))
        for precision, n in numbers.items()
    }


def pair_networks(arithmetic: str) -> dict[tuple[str, str], VolumeConfig]:
    """P6 and P7: those of which every mini-batch with a zero is compared."""
    if arithmetic == "native":
        return _first_edition(("paper", "fp16"), ("paper", "fp32"), ("release", "fp32"))
    # Every mini-batch of "separate" is affected: a few of each network show what all would.
    few = {"max_batches": 20} if arithmetic == "separate" else {}
    return {
        (name, precision): VolumeConfig(
            **arithmetic_at(precision, arithmetic),
            **(few if precision == "fp16" else {}),
            n_networks=MANY,
            seed=seed,
            **BUILT[name],
        )
        for name, seed in (("paper", 3_200_000), ("release", 3_300_000))
        for precision in ("fp16", "fp32")
    }


def grid_of(networks: Callable[[str], dict], _: str, arithmetic: str) -> list[Cell]:
    return [cell for config in networks(arithmetic).values() for cell in cells_of(config)]


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
        at = arithmetic_at(precision, arithmetic)
        n = ALL_NETWORKS if at["arithmetic"] == "epilogue" else MANY
        return ZoneConfig(
            **at,
            n_networks=FEW if precision == "fp64" else n,
            seed=self._seeds[by, size],
            **self.shapes[by][size],
        )

    def panel(self, cells: pd.DataFrame, by: str, size: int | None = None) -> pd.DataFrame:
        """Of rows of :func:`zone.first_affected`, those of the points over one size, or of one."""
        points = [point for point in self._seeds if point[0] == by and size in (None, point[1])]
        own = {self._seeds[point] // OWN_SEEDS for point in points}
        return cells[(cells["seed"] // OWN_SEEDS).isin(own)]

    def grid(self, _: str, arithmetic: str) -> list[Cell]:
        return [
            cell
            for precision in self.precisions
            for by, sizes in self.shapes.items()
            for size in sizes
            for cell in cells_of(self.config(by, size, precision, arithmetic))
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
                if evidence.missing(cells_of(config)):
                    continue
                k, n = in_zone(evidence, config, gradient_rule)
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


def published_points(file: str, precision: int) -> pd.DataFrame:
    """Released counts in the columns of `Sweep.shares`."""
    table = published(file)
    names = {"nb_layers": "depth", "nb_neurons": "width", "batch_size": "batch_size"}
    own = table[(table["precision"] == precision) & table["factor"].isin(names)]
    ends = [clopper_pearson(k, n) for k, n in zip(own["in_zone"], own["networks"], strict=True)]
    found = own.assign(by=own["factor"].map(names), size=own["value"])
    return found.assign(low=[e[0] for e in ends], high=[e[1] for e in ends])


def conv_config(architecture: str, norm: bool, precision: str, arithmetic: str) -> ZoneConfig:
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
        n_networks=100 if native else CONV_NETWORKS[architecture],
        seed=4_000_000,
    )
