"""The doses that the papers' own trainings would meet, at the rates that we counted."""

import math

import pandas as pd
import torch

from reluprime.evidence.finding import matches
from reluprime.evidence.intervals import clopper_pearson, rate_interval
from reluprime.instruments import models
from reluprime.instruments.activations import ReLU
from reluprime.instruments.watch import UnitRanges, relu_calls
from reluprime.records import Store, published, table
from reluprime.training import tables as training_tables
from reluprime.training.config import TrainingConfig
from reluprime.training.study import fit

# B21's trainings without batch norm at fp32: epochs, images and the published values of s (P9,
# P10, P12, P13, P15). Mini-batches of 128.
PAPERS: dict[str, dict] = {
    "MLP 3x2048, MNIST, SGD": {"architecture": "mlp", "images": 60_000, "optimizer": "sgd"},
    "VGG11, CIFAR-10, SGD": {"architecture": "vgg11", "images": 50_000, "optimizer": "sgd"},
    "VGG11, CIFAR-10, Adam": {"architecture": "vgg11", "images": 50_000, "optimizer": "adam"},
    "ResNet-18, CIFAR-10, SGD": {"architecture": "resnet18", "images": 50_000, "optimizer": "sgd"},
}


PAPER_EPOCHS, PAPER_BATCH = 200, 128


def rates(store: Store) -> pd.DataFrame:
    """Exact zeros an input of a ReLU, in our trainings at s=0 and fp32 without batch norm.

    A row a network and optimizer: machines, zeros, calls, runs, rate, low, high (of a
    :func:`~reluprime.evidence.intervals.rate_interval`). Widths and numbers of epochs differ from
    the papers'; runs of several machines are pooled. A run that two configurations ask for (all
    images, named or left out) is counted once.
    """
    runs = training_tables.runs(table(fit, store))
    plain = {"precision": "fp32", "arithmetic": "native", "s": 0, "batch_norm": False}
    runs = runs[matches(runs, plain | {"dropout": 0, "kink_width": 0})]
    # The same bits of a machine: two runs that differ have other losses.
    runs = runs.drop_duplicates(["architecture", "optimizer", "seed", "machine", "losses"])
    rows = []
    for (network, optimizer), own in runs.groupby(["architecture", "optimizer"]):
        zeros, calls = int(own["exact_zeros"].sum()), float(own["relu_calls"].sum())
        low, high = rate_interval(own["exact_zeros"].to_numpy(float), own["relu_calls"].to_numpy())
        rows.append(
            {"architecture": network, "optimizer": optimizer, "runs": len(own), "zeros": zeros}
            | {"calls": calls, "rate": zeros / calls, "low": low, "high": high}
            | {"machines": " and ".join(sorted({m.partition(",")[0] for m in own["machine"]}))}
        )
    columns = ["architecture", "optimizer", "runs", "zeros", "calls", "rate", "low", "high"]
    return pd.DataFrame(rows, columns=[*columns, "machines"])


def at_full_width(architecture: str) -> TrainingConfig:
    """The paper's network, which our trainings have at a smaller width."""
    sizes = {"hidden_sizes": (2048, 2048, 2048)} if architecture == "mlp" else {}
    return TrainingConfig(architecture=architecture, **sizes)


def size(config: TrainingConfig) -> tuple[int, int]:
    """-> inputs of ReLUs an image, and units (neurons or channels), of a network."""
    shape = (1, 28, 28) if config.architecture == "mlp" else (3, 32, 32)
    network = models.build(config, shape, 10, ReLU, seed=0).eval()
    x, ranges = torch.zeros(1, *shape), UnitRanges(network)
    with torch.no_grad(), ranges.one_pass():
        network(x)
    return sum(relu_calls(network, x).values()), sum(ranges.sizes().values())


def paper_doses(found: pd.DataFrame) -> pd.DataFrame:
    """What the papers' trainings would meet at the rates found: a row a training.

    Columns: training, architecture, optimizer, dose, low, high, a_step, a_unit, units, published
    (the drop of accuracy at s=1; NaN where no file was released).
    """
    rows = []
    for name, paper in PAPERS.items():
        own = found[matches(found, {n: paper[n] for n in ("architecture", "optimizer")})]
        if own.empty:
            continue
        rate = own.iloc[0]
        calls, units = size(at_full_width(paper["architecture"]))
        all_calls = calls * paper["images"] * PAPER_EPOCHS
        steps = math.ceil(paper["images"] / PAPER_BATCH) * PAPER_EPOCHS
        doses = {at: rate[column] * all_calls for at, column in _BOUNDS.items()}
        rows.append(
            {"training": name, **{n: paper[n] for n in ("architecture", "optimizer")}, **doses}
            | {"a_step": doses["dose"] / steps, "a_unit": doses["dose"] / units, "units": units}
            | {"published": published_drop(paper["architecture"], paper["optimizer"], 1.0)}
        )
    return pd.DataFrame(rows)


_BOUNDS = {"dose": "rate", "low": "low", "high": "high"}


def half_precision_factor() -> tuple[float, float]:
    """How many times the zeros of fp32 those of fp16 are in B21's Fig. 6, and at most (95 %)."""
    counts = published("paper_zero_calls.csv")
    last = counts[counts["epochs"] == counts["epochs"].max()]
    half, single = (int(last.loc[last["precision"] == n, "cum_zeros"].sum()) for n in (16, 32))
    _, high = clopper_pearson(half, half + single)  # two Poisson counts, given their sum
    return half / single, high / (1 - high)


def published_drop(architecture: str, optimizer: str, s: float) -> float:
    """B21's mean at s less its mean at s=0; NaN where there is none."""
    dataset = "mnist" if architecture == "mlp" else "cifar10"
    released = training_tables.published_accuracy(
        network=architecture, optimizer=optimizer, dataset=dataset, batch_norm=False
    )
    at = released.loc[released["s"] == s, "difference"]
    return float(at.iloc[0]) if len(at) else math.nan
