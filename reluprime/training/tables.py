"""Tables of training runs: one row a run, and what s does to the test accuracy (B21 Section 4)."""

import math
from collections.abc import Sequence

import pandas as pd

from reluprime import records
from reluprime.evidence.finding import NO_OCCASION, matches
from reluprime.evidence.intervals import clopper_pearson
from reluprime.evidence.paired import CIFAR_MARGIN, MLP_MARGIN, Paired, paired
from reluprime.instruments.activations import GRADIENT_RULES
from reluprime.training.config import TrainingConfig

# What makes two runs arms of one experiment: every parameter but these.
ARM = ("s", "gradient_rule", "seed", "n_networks")
CONDITION = [name for name in TrainingConfig.model_fields if name not in (*ARM, "image_folder")]


def runs(cells: pd.DataFrame) -> pd.DataFrame:
    """One row a network from rows of `training.fit` cells.

    Columns: CONDITION, s, gradient_rule, seed (the network's own), test_accuracy and train_loss
    after the last epoch done, losses and accuracies (tuples by epoch), diverged_epoch (None: it
    did not), epochs_done, exact_zeros and affected_steps (sums over epochs and layers),
    zeros_by_epoch (tuple, sums over layers), relu_calls (of all epochs done), n_batches (of an
    epoch), machine (see `records.machine`).
    """
    columns = [*CONDITION, "s", "gradient_rule", "seed", *_RESULTS]
    rows = [_row(cell, member) for cell in cells.to_dict("records") for member in _members(cell)]
    return pd.DataFrame(rows, columns=columns)


_RESULTS = (
    "test_accuracy",
    "train_loss",
    "losses",
    "accuracies",
    "diverged_epoch",
    "epochs_done",
    "exact_zeros",
    "zeros_by_epoch",
    "affected_steps",
    "relu_calls",
    "n_batches",
    "machine",
)


def _members(cell: dict) -> range:
    return range(cell["n_networks"] if cell["evaluate_on"] == "test" else 0)


def _row(cell: dict, member: int) -> dict:
    losses, accuracies = cell["train_loss"][member], cell["test_accuracy"][member]
    layers = [by_network[member] for by_network in cell["exact_zeros"].values()]
    zeros = tuple(sum(by_layer) for by_layer in zip(*layers, strict=True))
    return {
        **{name: _value(cell, name) for name in CONDITION},
        "s": cell["s"],
        "gradient_rule": cell["gradient_rule"],
        "seed": cell["seed"] + member,
        "test_accuracy": accuracies[-1],
        "train_loss": losses[-1],
        "losses": tuple(losses),
        "accuracies": tuple(accuracies),
        "diverged_epoch": cell["diverged_epoch"][member],
        "epochs_done": len(losses),
        "exact_zeros": sum(zeros),
        "zeros_by_epoch": zeros,
        "affected_steps": sum(cell["affected_steps"][member]),
        "relu_calls": len(losses) * sum(cell["relu_calls"].values()),
        "n_batches": cell["n_batches"],
        "machine": records.machine(cell["provenance"]),
    }


def _value(cell: dict, name: str):
    """A parameter of a cell; older records lack those that came later, so pandas has NaN there."""
    value = cell.get(name)
    return TrainingConfig.model_fields[name].default if value is None or value != value else value


def under(table: pd.DataFrame, gradient_rule: str) -> pd.DataFrame:
    """The rows of one gradient rule; those at s=0 belong to both, as the rules agree there."""
    own = (table["gradient_rule"] == gradient_rule) | (table["s"] == 0)
    return table[own].assign(gradient_rule=gradient_rule)


def both_rules(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of :func:`runs` with the runs at s=0 under each rule that the table has."""
    found = [r for r in GRADIENT_RULES if ((table["gradient_rule"] == r) & (table["s"] != 0)).any()]
    return pd.concat([under(table, r) for r in found or GRADIENT_RULES[:1]], ignore_index=True)


def differences(table: pd.DataFrame, s: float) -> pd.Series:
    """Test accuracy at `s` less that at s=0, for each seed and machine that have both.

    table: rows of :func:`runs` of one condition and gradient rule.
    """
    of = [table[table["s"] == v].set_index(["seed", "machine"])["test_accuracy"] for v in (s, 0)]
    return (of[0] - of[1]).dropna()


def effect(table: pd.DataFrame, s: float) -> Paired:
    """What `s` does to the test accuracy, paired by seed, against s=0; table: of one condition.

    The margin is that of the registered rules: wider on images in colour.
    """
    in_colour = table["dataset"].isin(["cifar10", "svhn"]).any()
    return paired(differences(table, s), CIFAR_MARGIN if in_colour else MLP_MARGIN)


def effects(table: pd.DataFrame, by: Sequence[str] = ()) -> pd.DataFrame:
    """One row for each value of `by`, gradient rule and s, of :func:`runs` rows.

    Columns: by, gradient_rule, s, runs, test_accuracy (mean), effect (see :func:`effect`),
    difference (its mean), diverged, exact_zeros and affected_steps (means a run).
    """
    rows = []
    groups = table.groupby(list(by), sort=False, dropna=False) if by else [((), table)]
    for values, group in groups:
        arms = both_rules(group)
        for rule, own in arms.groupby("gradient_rule", sort=False):
            for s, arm in own.groupby("s"):
                found = effect(own, s)
                rows.append(
                    dict(zip(by, values, strict=True))
                    | {"gradient_rule": rule, "s": s, "test_accuracy": arm["test_accuracy"].mean()}
                    | {"effect": found, "difference": found.mean}
                    | {"runs": len(arm), "diverged": int(arm["diverged_epoch"].notna().sum())}
                    | {n: arm[n].mean() for n in ("exact_zeros", "affected_steps")}
                )
    names = ["gradient_rule", "s", "runs", "test_accuracy", "effect", "difference"]
    names += ["diverged", "exact_zeros", "affected_steps"]
    return pd.DataFrame(rows, columns=[*by, *names])


def effect_table(table: pd.DataFrame, by: Sequence[str] = ()) -> pd.DataFrame:
    """:func:`effects` for the page: percentages, points with intervals, what the tests say.

    The column of diverged runs is there if one did.
    """
    found, rows = effects(table, by), []
    diverged = found["diverged"].any()
    for row in found.to_dict("records"):
        low, high = clopper_pearson(row["diverged"], row["runs"])
        rows.append(
            {name: row[name] for name in by}
            | {
                "rule": row["gradient_rule"] if row["s"] else "both",
                "s": f"{row['s']:g}",
                "runs": row["runs"],
                "exact zeros a run": f"{row['exact_zeros']:.3g}",
                "test accuracy": f"{row['test_accuracy']:.2%}",
                "points against s=0": row["effect"].points() if row["s"] else "–",
                "outcome": outcome(row) if row["s"] else "–",
            }
            | ({"diverged": f"{row['diverged']} [{low:.0%}, {high:.0%}]"} if diverged else {})
        )
    return pd.DataFrame(rows).drop_duplicates(ignore_index=True)


def outcome(row: dict) -> str:
    """What the tests say of a row of :func:`effects`.

    Runs that met no exact zero are equal whatever s is, which says nothing: "no occasion". Runs
    that all diverged have no result.
    """
    if row["diverged"] == row["runs"]:
        return "no result"
    if row["exact_zeros"] == 0:
        return NO_OCCASION
    return row["effect"].says()


def curves(table: pd.DataFrame) -> pd.DataFrame:
    """A row a run and epoch: gradient_rule, s, seed, epoch (from 1), train_loss, test_accuracy."""
    rows = [
        {name: run[name] for name in ("gradient_rule", "s", "seed")}
        | {"epoch": epoch, "train_loss": loss, "test_accuracy": accuracy}
        for run in both_rules(table).to_dict("records")
        for epoch, (loss, accuracy) in enumerate(
            zip(run["losses"], run["accuracies"], strict=True), start=1
        )
    ]
    columns = ["gradient_rule", "s", "seed", "epoch", "train_loss", "test_accuracy"]
    return pd.DataFrame(rows, columns=columns)


def _published(file: str, **wanted) -> pd.DataFrame:
    table = records.published(file)
    return table[matches(table, wanted)]


def published_accuracy(**wanted) -> pd.DataFrame:
    """B21's final test accuracies: s, mean, std, runs and difference to its mean at s=0.

    wanted: network, dataset, optimizer and batch_norm, as `records/published` names them; no row
    where the release lacks the result file (VGG11 and the MLP with SGD).
    """
    table = _published("paper_test_accuracy.csv", **wanted)[["s", "mean", "std", "runs"]]
    at_zero = table.loc[table["s"] == 0, "mean"]
    return table.assign(difference=table["mean"] - (at_zero.iloc[0] if len(at_zero) else math.nan))


def published_loss(**wanted) -> pd.DataFrame:
    """B21's mean training losses: s, epoch and train_loss; wanted as above."""
    table = _published("paper_training_loss.csv", **wanted)
    table = table.assign(epoch=table["epoch"] + 1)  # ours count from 1
    return table.rename(columns={"train_loss_mean": "train_loss"})[["s", "epoch", "train_loss"]]


def by_condition(cells: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """:func:`runs` of several sweeps, with the sweep's name in the column `condition`."""
    parts = [runs(own).assign(condition=name) for name, own in cells.items()]
    return pd.concat(parts, ignore_index=True)


# Result files that B21 released for the conditions of the page on mitigation.
RELEASED = {
    "vgg11, Adam, cifar10": {"network": "vgg11", "optimizer": "adam", "dataset": "cifar10"},
    "vgg11, Adam, svhn": {"network": "vgg11", "optimizer": "adam", "dataset": "svhn"},
    "resnet18, SGD": {"network": "resnet18"},
    "resnet18, batch norm": {"network": "resnet18", "batch_norm": True},
}


def published_by_condition() -> pd.DataFrame:
    """:func:`published_accuracy` of RELEASED, with the column `condition`."""
    return pd.concat(
        published_accuracy(**{"batch_norm": False} | wanted).assign(condition=name)
        for name, wanted in RELEASED.items()
    )
