"""Whether what this device computes agrees, as statistics, with what a CPU computed.

Bits differ between devices, for kernels add up in another order. At 16 bits rounding to storage
decides what is an exact zero, and shares must agree; at fp32 the order of summation decides, so
the ratio of zeros is shown there, and is no error.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
from pydantic import BaseModel
from scipy import stats

from reluprime import records
from reluprime.config import cells
from reluprime.training.config import TrainingConfig
from reluprime.training.study import fit
from reluprime.volume.zone import ZoneConfig, first_affected

REFERENCE = "records/reference"  # what a CPU computed, made anew by `bench sweep --store` with it
RISK = 0.01  # of all tests together
PER_CELL = 50  # networks
LARGE = {"dataset": "mnist-5k", "hidden_sizes": (256, 256, 256)}
DEEP = {"dataset": "mnist-5k", "hidden_sizes": (512,) * 5}
SMALL = {"dataset": "mnist-5k", "hidden_sizes": (32, 32), "max_batches": 1}
RUN = TrainingConfig(**LARGE, epochs=5, lr=0.05)


class Statistic(NamedTuple):
    """A share of networks in the zone, or accuracies of seeds."""

    study: Callable
    configs: list[BaseModel]
    decides: bool = True  # whether another value is an error


def _zone(n_networks: int, decides: bool = True, **changes) -> Statistic:
    config = ZoneConfig(**changes, n_networks=n_networks)
    return Statistic(first_affected, cells(config, PER_CELL), decides)


def _accuracy(seeds: int, **changes) -> Statistic:
    return Statistic(fit, [RUN.replace(**changes, seed=seed) for seed in range(seeds)])


# Shares of which neither none nor all are in the zone, so that a difference shows.
STATISTICS = {
    "in the zone, fp32 epilogue": _zone(
        500, False, **DEEP, precision="fp32", arithmetic="epilogue"
    ),
    "in the zone, fp16 epilogue": _zone(300, **LARGE, precision="fp16", arithmetic="epilogue"),
    "in the zone, bf16 epilogue": _zone(500, **LARGE, precision="bf16", arithmetic="epilogue"),
    "in the zone, fp16 separate": _zone(500, **SMALL, precision="fp16", arithmetic="separate"),
    "in the zone, bf16 separate": _zone(
        500, **SMALL, precision="bf16", arithmetic="separate", batch_size=16
    ),
    "accuracy, fp32 epilogue": _accuracy(8, precision="fp32", arithmetic="epilogue"),
    "accuracy, bf16 separate": _accuracy(5, precision="bf16", arithmetic="separate"),
}


def compute(store: records.Store, device: str) -> None:
    """Compute all of STATISTICS anew."""
    for study in dict.fromkeys(one.study for one in STATISTICS.values()):
        grid = [c for one in STATISTICS.values() if one.study is study for c in one.configs]
        records.sweep(study, grid, store, compute="always", device=device)


def compare(store: records.Store, reference: records.Store) -> pd.DataFrame:
    """One row a statistic: here, on the CPU, what lies between them, p, and the verdict.

    p is NaN where both are the same. "differs": p is below RISK divided by the number of tests
    that decide (Bonferroni). Raises ValueError where a store lacks cells.
    """
    found = {name: _compared(name, one, store, reference) for name, one in STATISTICS.items()}
    least = RISK / sum(one.decides for one in STATISTICS.values())
    rows = []
    for name, row in found.items():
        word = "differs" if row["p"] < least else "agrees"
        word = word if STATISTICS[name].decides else "as the order of summation has it"
        rows.append({"statistic": name} | row | {"verdict": word})
    return pd.DataFrame(rows)


def _compared(name: str, one: Statistic, store: records.Store, reference: records.Store) -> dict:
    here, there = (_frame(name, one, which) for which in (store, reference))
    other = [how["device"] for how in there["provenance"] if how["device"] != "cpu"]
    if other:
        raise ValueError(f"{name}: the reference in {reference.path} is not of a CPU")
    return _accuracies(here, there) if one.study is fit else _shares(here, there)


def _frame(name: str, one: Statistic, store: records.Store) -> pd.DataFrame:
    found = records.sweep(one.study, one.configs, store, compute="never")
    if len(found) < len(one.configs):
        raise ValueError(f"{name}: {store.path} lacks cells; `reluprime bench sweep` makes them")
    return found


def _shares(here: pd.DataFrame, there: pd.DataFrame) -> dict:
    """Fisher's exact test, and the ratio of zeros a network with its interval (95 %)."""
    (k, n), (k2, n2) = (
        (sum(map(sum, frame["affected_injected"])), int(frame["n_networks"].sum()))
        for frame in (here, there)
    )
    shown = {"here": f"{k} of {n}", "CPU": f"{k2} of {n2}"}
    between = "" if k in (0, n) or k2 in (0, n2) else _ratio(k, n, k2, n2)
    p = stats.fisher_exact([[k, n - k], [k2, n2 - k2]]).pvalue if k * n2 != k2 * n else np.nan
    return shown | {"between": between, "p": float(p)}


def _ratio(k: int, n: int, k2: int, n2: int) -> str:
    """Zeros a network, here over there, as of rare and independent ones: a share p means
    -log(1 - p) of them. The interval is that of the ratio's logarithm, by the delta method."""
    p, n = np.array([k / n, k2 / n2]), np.array([n, n2])
    zeros = -np.log1p(-p)
    margin = stats.norm.ppf(0.975) * np.sqrt((p / (1 - p) / n / zeros**2).sum())
    ratio = zeros[0] / zeros[1]
    return f"{ratio:.2f} times [{ratio * np.exp(-margin):.2f}, {ratio * np.exp(margin):.2f}]"


def _accuracies(here: pd.DataFrame, there: pd.DataFrame) -> dict:
    """Welch's t-test: whether the means differ by more than the spread of the seeds explains."""
    own, cpu = (np.array([curve[0][-1] for curve in f["test_accuracy"]]) for f in (here, there))
    difference = own.mean() - cpu.mean()
    spread = np.ptp(own) + np.ptp(cpu) > 0
    p = stats.ttest_ind(own, cpu, equal_var=False).pvalue if spread else float(difference == 0)
    shown = {"here": f"{own.mean():.4f}", "CPU": f"{cpu.mean():.4f}"}
    return shown | {"between": f"{difference:+.4f}", "p": float(p)}
