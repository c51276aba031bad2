"""The doses that the papers' own trainings would meet, at the rates that we counted."""

import math

import pandas as pd
import torch

from reluprime.evidence.finding import matches
from reluprime.evidence.intervals import rate_interval, ratio_of_counts
from reluprime.instruments import models
from reluprime.instruments.activations import ReLU
from reluprime.instruments.watch import UnitRanges, relu_calls
from reluprime.records import Store, published, table
from reluprime.training import experiments
from reluprime.training import tables as training_tables
from reluprime.training.config import TrainingConfig
from reluprime.training.study import fit

# B21's trainings without batch norm at fp32 (P9, P10, P12, P13, P15), as we train them, and their
# images an epoch. Mini-batches of 128.
PAPERS: dict[str, tuple[TrainingConfig, int]] = {
    "MLP 3x2048, MNIST, SGD": (experiments.BASE_MLP, 60_000),
    "VGG11, CIFAR-10, SGD": (experiments.BASE_VGG, 50_000),
    "VGG11, CIFAR-10, Adam": (experiments.VGG_ADAM.small.config, 50_000),
    "ResNet-18, CIFAR-10, SGD": (experiments.BASE_RESNET, 50_000),
}
PAPER_EPOCHS, PAPER_BATCH = 200, 128
_FREE = ("hidden_sizes", "width", "epochs", "n_train", "count_units")  # runs may differ by these


def rates(store: Store) -> pd.DataFrame:
    """Exact zeros an input of a ReLU in our runs of PAPERS at s=0: a row a training and width, the
    widest first.

    Over all numbers of epochs and machines. Columns: training, machines, width (of the paper's),
    runs, zeros, calls, rate, low, high (a :func:`~reluprime.evidence.intervals.rate_interval` over
    seeds). A run that two configurations ask for is counted once.
    """
    everything, rows = training_tables.runs(table(fit, store)), []
    for training, (config, images) in PAPERS.items():
        fixed = {n: getattr(config, n) for n in training_tables.CONDITION if n not in _FREE}
        own = everything[matches(everything, fixed | {"s": 0})]
        own = own[own["n_train"].isna() | (own["n_train"] == images)]
        # The same bits of a machine: two runs of a width that differ have other losses.
        inputs = own["relu_calls"] / own["epochs_done"]
        own = own.assign(inputs=inputs).drop_duplicates(["inputs", "seed", "machine", "losses"])
        for _, alike in sorted(own.groupby("inputs"), reverse=True):
            rows.append({"training": training} | _rate(alike))
    columns = ["training", "width", "runs", "zeros", "calls", "rate", "low", "high", "machines"]
    return pd.DataFrame(rows, columns=columns)


def _rate(runs: pd.DataFrame) -> dict:
    """A row of :func:`rates` without its training, of runs of one network."""
    by_seed = runs.groupby("seed")[["exact_zeros", "relu_calls"]].sum().astype(float)
    low, high = rate_interval(by_seed["exact_zeros"].array, by_seed["relu_calls"].array)
    zeros, calls = by_seed.sum()
    first = runs.iloc[0]
    sizes = at_full_width(first["architecture"]).hidden_sizes
    width = first["hidden_sizes"][0] / sizes[0] if sizes else first["width"]
    return (
        {"width": width, "runs": len(runs), "zeros": int(zeros), "calls": calls}
        | {"rate": zeros / calls, "low": low, "high": high}
        | {"machines": " and ".join(sorted({m.partition(",")[0] for m in runs["machine"]}))}
    )


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
    """What the papers' trainings would meet at the rates of the widest networks: a row a training.

    Columns: training, architecture, optimizer, dose, low, high, a_step, a_unit, units, published
    (the drop of accuracy at s=1; NaN where no file was released).
    """
    rows = []
    for rate in found.drop_duplicates("training").to_dict("records"):
        config, images = PAPERS[rate["training"]]
        network = {"architecture": config.architecture, "optimizer": config.optimizer}
        calls, units = size(at_full_width(config.architecture))
        steps = math.ceil(images / PAPER_BATCH) * PAPER_EPOCHS
        doses = {at: rate[of] * calls * images * PAPER_EPOCHS for at, of in _BOUNDS.items()}
        rows.append(
            {"training": rate["training"], **network, **doses}
            | {"a_step": doses["dose"] / steps, "a_unit": doses["dose"] / units, "units": units}
            | {"published": published_drop(**network, s=1.0)}
        )
    columns = ["training", "architecture", "optimizer", *_BOUNDS, "a_step", "a_unit", "units"]
    return pd.DataFrame(rows, columns=[*columns, "published"])


_BOUNDS = {"dose": "rate", "low": "low", "high": "high"}


def half_precision_factor() -> tuple[float, float]:
    """How many times the zeros of fp32 those of fp16 are in B21's Fig. 6, and at most (95 %)."""
    counts = published("paper_zero_calls.csv")
    last = counts[counts["epochs"] == counts["epochs"].max()]
    half, single = (int(last.loc[last["precision"] == n, "cum_zeros"].sum()) for n in (16, 32))
    factor, _, high = ratio_of_counts(half, single)
    return factor, high


def published_drop(architecture: str, optimizer: str, s: float) -> float:
    """B21's mean at s less its mean at s=0; NaN where there is none."""
    dataset = "mnist" if architecture == "mlp" else "cifar10"
    released = training_tables.published_accuracy(
        network=architecture, optimizer=optimizer, dataset=dataset, batch_norm=False
    )
    at = released.loc[released["s"] == s, "difference"]
    return float(at.iloc[0]) if len(at) else math.nan
