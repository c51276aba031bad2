"""The doses that the papers' own trainings would meet, at the rates that we counted."""

import math

import numpy as np
import pandas as pd
import torch

from reluprime.dose.experiments import NETWORKS
from reluprime.dose.thresholds import loss_at
from reluprime.evidence.finding import matches
from reluprime.evidence.intervals import clopper_pearson, poisson_interval
from reluprime.instruments import models
from reluprime.instruments.activations import GRADIENT_RULES, ReLU
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

    A row a network and optimizer: zeros, calls, runs, rate, low, high (Poisson, 95 %). Widths and
    numbers of epochs differ from the papers'.
    """
    runs = training_tables.runs(table(fit, store))
    plain = {"precision": "fp32", "arithmetic": "native", "s": 0, "batch_norm": False}
    runs = runs[matches(runs, plain | {"dropout": 0, "kink_width": 0})]
    rows = []
    for (network, optimizer), own in runs.groupby(["architecture", "optimizer"]):
        zeros, calls = int(own["exact_zeros"].sum()), float(own["relu_calls"].sum())
        low, high = (float(bound) / calls for bound in poisson_interval(np.array(zeros)))
        rows.append(
            {"architecture": network, "optimizer": optimizer, "runs": len(own), "zeros": zeros}
            | {"calls": calls, "rate": zeros / calls, "low": low, "high": high}
        )
    columns = ["architecture", "optimizer", "runs", "zeros", "calls", "rate", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


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


def paper_table(doses: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """The papers' doses in words; found: rows of :func:`rates`."""
    rows = []
    for row in doses.to_dict("records"):
        at = matches(found, {n: row[n] for n in ("architecture", "optimizer")})
        rate = found[at].iloc[0]
        rows.append(
            {"training": row["training"], "zeros counted": f"{rate['zeros']:,.0f}"}
            | {"runs": rate["runs"], "inputs of ReLUs": f"{rate['calls']:.1e}"}
            | {"dose": f"{row['dose']:,.0f} [{row['low']:,.0f}, {row['high']:,.0f}]"}
            | {"a step": f"{row['a_step']:.2g}", "a unit": f"{row['a_unit']:.2g}"}
        )
    return pd.DataFrame(rows)


# The values of s at which a network of ours has curves; with Adam it has none.
COMPARED = {
    "MLP 3x2048, MNIST, SGD": (1.0, 10.0, 50.0),
    "VGG11, CIFAR-10, SGD": (0.1, 1.0),
    "ResNet-18, CIFAR-10, SGD": (1.0,),
}


def drop_table(doses: pd.DataFrame, pairs: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The published drops, and what our smaller network loses at as many kinks a unit.

    pairs: by network. A row a training and s; nothing is extrapolated.
    """
    rows = []
    for row in doses[doses["training"].isin(COMPARED)].to_dict("records"):
        base, _ = NETWORKS[row["architecture"]]
        dose = row["a_unit"] * size(base)[1]
        for s in COMPARED[row["training"]]:
            own = pairs[row["architecture"]]
            own = own[own["s"] == s]
            rows.append(
                {"training": row["training"], "s": f"{s:g}", "dose of ours": f"{dose:,.0f}"}
                | {"published": _released(published_drop(row["architecture"], row["optimizer"], s))}
                | {f"ours, {rule}": _at_dose(own, rule, dose) for rule in GRADIENT_RULES}
            )
    return pd.DataFrame(rows)


def _released(drop: float) -> str:
    return "not released" if math.isnan(drop) else training_tables.signed(100 * drop)


def _at_dose(pairs: pd.DataFrame, gradient_rule: str, dose: float) -> str:
    """What s costs at a dose, in points: means over seeds, interpolated between two bands.

    Outside the doses that were tried it is what the nearest costs.
    """
    own = pairs[pairs["gradient_rule"] == gradient_rule]
    if own.empty:
        return "not tried"
    means = own.groupby("kink_width")[["dose", "difference"]].mean().sort_values("dose")
    lost = loss_at(means["dose"], -means["difference"], dose)
    if not math.isnan(lost):
        return training_tables.signed(-100 * lost)
    nearest = means.iloc[0 if means["dose"].iloc[0] > dose else -1]
    return f"{training_tables.signed(100 * nearest['difference'])} at {nearest['dose']:,.0f}"


def published_drop(architecture: str, optimizer: str, s: float) -> float:
    """B21's mean at s less its mean at s=0; NaN where there is none."""
    dataset = "mnist" if architecture == "mlp" else "cifar10"
    released = training_tables.published_accuracy(
        network=architecture, optimizer=optimizer, dataset=dataset, batch_norm=False
    )
    at = released.loc[released["s"] == s, "difference"]
    return float(at.iloc[0]) if len(at) else math.nan


def precision_table(store: Store) -> pd.DataFrame:
    """How many times the zeros of fp32 a lower precision meets: B21's Fig. 6, and our trainings.

    Ours: runs at s=0 that differ in precision and arithmetic alone, with SGD on MNIST.
    """
    ratio, high = half_precision_factor()
    rows = [
        {"precision": "fp16", "networks": "B21's Fig. 6, published", "arithmetic": "a GPU's"}
        | {"zeros, × those of fp32": f"{ratio:,.1f} [{ratio**2 / high:,.1f}, {high:,.1f}]"}
    ]
    runs = training_tables.runs(table(fit, store))
    plain = {"s": 0, "architecture": "mlp", "optimizer": "sgd", "batch_norm": False, "dropout": 0}
    runs = runs[matches(runs, plain | {"kink_width": 0, "dataset": "mnist", "lr": 0.01})]
    runs = runs[matches(runs, {"batch_size": 128, "clip_norm": None, "weight_decay": 5e-4})]
    for (sizes, epochs), own in runs.groupby([runs["hidden_sizes"].map(tuple), "epochs"]):
        means = own.groupby(["precision", "arithmetic"])["exact_zeros"].mean()
        single = means.get(("fp32", "native"), 0.0)
        rows += [
            {"precision": precision, "networks": f"{'-'.join(map(str, sizes))}, {epochs} epochs"}
            | {"arithmetic": arithmetic, "zeros, × those of fp32": f"{mean / single:,.1f}"}
            for (precision, arithmetic), mean in means.items()
            if single and precision in ("fp16", "bf16")
        ]
    return pd.DataFrame(rows)


def in_prose(found: pd.DataFrame) -> dict[str, str]:
    """The rates in the prose, zeros an input at fp32: published_rate of Fig. 6, our_rate (MLP).

    found: rows of :func:`rates`.
    """
    counts = published("paper_zero_calls.csv")
    last = counts[(counts["epochs"] == counts["epochs"].max()) & (counts["precision"] == 32)]
    words = {"published_rate": f"{last['cum_zeros'].sum() / last['cum_relu'].sum():.1e}"}
    ours = found[matches(found, {"architecture": "mlp", "optimizer": "sgd"})]
    return words | ({"our_rate": f"{ours['rate'].iloc[0]:.1e}"} if len(ours) else {})
