"""Tables of the page about the papers' doses: the doses, the published drops, and 16 bits."""

import math

import pandas as pd

from reluprime.dose import papers
from reluprime.dose.claims import BY_DOSE
from reluprime.dose.claims.paper_dose import few
from reluprime.dose.experiments import NETWORKS
from reluprime.dose.tables import mean_points
from reluprime.dose.thresholds import loss_at
from reluprime.evidence.claim import Evidence
from reluprime.evidence.finding import OPEN, matches
from reluprime.evidence.intervals import ratio_of_counts
from reluprime.evidence.words import signed
from reluprime.instruments.activations import GRADIENT_RULES
from reluprime.records import Store, published, table
from reluprime.training import tables as training_tables
from reluprime.training.study import fit
from reluprime.training.zeros import count as count_zeros


def paper_table(found: pd.DataFrame) -> pd.DataFrame:
    """The papers' doses in words, at the rate of each width; found: rows of `papers.rates`."""
    rows = []
    for index, rate in enumerate(found.to_dict("records")):
        (row,) = papers.paper_doses(found.iloc[[index]]).to_dict("records")
        rows.append(
            {"training": rate["training"], "zeros counted": f"{rate['zeros']:,.0f}"}
            | {"width, of the paper's": f"{rate['width']:g}", "runs": rate["runs"]}
            | {"on": rate["machines"], "inputs of ReLUs": f"{rate['calls']:.1e}"}
            | {"dose": _in_words(row["dose"], row["low"], row["high"])}
            | {"a step": f"{row['a_step']:.2g}", "a unit": f"{row['a_unit']:.2g}"}
        )
    return pd.DataFrame(rows)


# The values of s at which a network of ours has curves; with Adam it has none.
COMPARED = {
    "MLP 3x2048, MNIST, SGD": (1.0, 10.0, 50.0),
    "VGG11, CIFAR-10, SGD": (0.1, 1.0),
    "ResNet-18, CIFAR-10, SGD": (1.0,),
}
NOT_TRIED = "not tried"
A_UNIT, A_STEP = "dose of ours, as many a unit", "as many a unit and step"


def drop_table(doses: pd.DataFrame, pairs: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The published drops, and what our smaller network loses at the paper's dose of kinks.

    pairs: by network. A row a training and s. The dose is matched in kinks a unit, and for the
    constant also in kinks a unit and step. Nothing is extrapolated.
    """
    rows = []
    for row in doses[doses["training"].isin(COMPARED)].to_dict("records"):
        base, _ = NETWORKS[row["architecture"]]
        dose = row["a_unit"] * papers.size(base)[1]
        a_step = dose * base.epochs / papers.PAPER_EPOCHS
        for s in COMPARED[row["training"]]:
            drop = papers.published_drop(row["architecture"], row["optimizer"], s)
            own = pairs[row["architecture"]]
            own = own[own["s"] == s]
            rows.append(
                {"training": row["training"], "s": f"{s:g}", "published": _released(drop)}
                | {A_UNIT: few(dose)}
                | {f"ours, {rule}": _at_dose(own, rule, dose) for rule in GRADIENT_RULES}
                | {A_STEP: few(a_step), "ours there, injected": _at_dose(own, "injected", a_step)}
            )
    return pd.DataFrame(rows)


def _released(drop: float) -> str:
    return "not released" if math.isnan(drop) else signed(100 * drop)


def _at_dose(pairs: pd.DataFrame, gradient_rule: str, dose: float) -> str:
    """What s costs at a dose, in points: means over seeds, interpolated between two bands.

    Outside the doses that were tried it is what the nearest costs, with its interval.
    """
    own = pairs[pairs["gradient_rule"] == gradient_rule]
    if own.empty:
        return NOT_TRIED
    means = own.groupby("kink_width")[["dose", "difference"]].mean().sort_values("dose")
    means = means[means["dose"] > 0]
    lost = loss_at(means["dose"], -means["difference"], dose)
    if not math.isnan(lost):
        return signed(-100 * lost)
    nearest = means.iloc[0 if means["dose"].iloc[0] > dose else -1]
    there = own.loc[own["kink_width"] == nearest.name, "difference"]
    return f"{mean_points(there)} at {few(nearest['dose'])}"


def precision_table(store: Store) -> pd.DataFrame:
    """How many times the zeros of fp32 a lower precision meets: B21's Fig. 6, and our trainings.

    Ours: runs at s=0 that differ in precision and arithmetic alone, with SGD on MNIST, and the
    trainings of Fig. 6 under the derivative. Intervals are of two Poisson counts (95 %).
    """
    factor, high = papers.half_precision_factor()
    rows = [
        {"precision": "fp16", "networks": "B21's Fig. 6, published", "arithmetic": "a GPU's"}
        | {"that of fp32": "a GPU's", TIMES: _in_words(factor, factor**2 / high, high)}
    ]
    runs = training_tables.runs(table(fit, store))
    plain = {"s": 0, "architecture": "mlp", "optimizer": "sgd", "batch_norm": False, "dropout": 0}
    plain |= {"activation": "relu"}
    runs = runs[matches(runs, plain | {"kink_width": 0, "dataset": "mnist", "lr": 0.01})]
    runs = runs[matches(runs, {"batch_size": 128, "clip_norm": None, "weight_decay": 5e-4})]
    for (sizes, epochs), own in runs.groupby([runs["hidden_sizes"].map(tuple), "epochs"]):
        sums = own.groupby(["precision", "arithmetic"])[["exact_zeros", "relu_calls"]].sum()
        counts = {at: (int(row.iloc[0]), float(row.iloc[1])) for at, row in sums.iterrows()}
        rows += _against_single(counts, f"{'-'.join(map(str, sizes))}, {epochs} epochs")
    return pd.DataFrame(rows + _fig_6(table(count_zeros, store)))


TIMES = "zeros, × those of fp32"


def _fig_6(cells: pd.DataFrame) -> list[dict]:
    """Rows of the networks of Fig. 6 that were trained at fp16 and fp32 in one arithmetic."""
    rows = []
    if cells.empty:
        return rows
    for arithmetic, own in cells[cells["gradient_rule"] == "chain"].groupby("arithmetic"):
        shapes = own.groupby("precision")["hidden_sizes"].agg(lambda sizes: set(map(tuple, sizes)))
        both = shapes.get("fp16", set()) & shapes.get("fp32", set())
        own = own[own["hidden_sizes"].map(tuple).isin(both)]
        epochs = own["epochs"].min()
        counts = {(p, arithmetic): _of_first(at, epochs) for p, at in own.groupby("precision")}
        rows += _against_single(counts, f"{len(both)} of Fig. 6, {epochs} epochs")
    return rows


def _of_first(cells: pd.DataFrame, epochs: int) -> tuple[int, float]:
    """Zeros and inputs of ReLUs in the first epochs of rows of `zeros.count`.

    Of a network that diverged before, in the epochs that it had.
    """
    found = (
        sum(by_epoch[:epochs][-1] for of_cell in cells[name] for by_epoch in of_cell)
        for name in ("cumulative_zeros", "cumulative_calls")
    )
    return tuple(found)


def _against_single(counts: dict[tuple[str, str], tuple[int, float]], networks: str) -> list[dict]:
    """A row a count at 16 bits, against that of fp32 in its arithmetic, or else in `native`.

    counts: zeros and inputs of ReLUs, by precision and arithmetic.
    """
    rows = []
    for (precision, arithmetic), (count, calls) in counts.items():
        own = arithmetic if ("fp32", arithmetic) in counts else "native"
        single, inputs = counts.get(("fp32", own), (0, 1.0))
        if single and precision in ("fp16", "bf16"):
            times = (inputs / calls * end for end in ratio_of_counts(count, single))
            rows.append(
                {"precision": precision, "networks": networks, "arithmetic": arithmetic}
                | {"that of fp32": own, TIMES: _in_words(*times)}
            )
    return rows


def _points(change: str) -> str:
    """What :func:`_at_dose` says, for prose: "-2.63 ± 3.67 points (at 1.6 kinks)"."""
    if change == NOT_TRIED:
        return change
    points, at, kinks = change.partition(" at ")
    return f"{points} points" + (f" (at {kinks} kinks)" if at else "")


def _in_words(*ends: float) -> str:
    """A number and its interval, with two digits that count."""
    middle, low, high = (f"{float(f'{end:.2g}'):,.15g}" for end in ends)
    return f"{middle} [{low}, {high}]"


def in_prose(found: pd.DataFrame) -> dict[str, str]:
    """The rates in the prose, zeros an input at fp32: published_rate of Fig. 6, our_rate (MLP).

    vgg11_sgd, vgg11_adam: exact zeros that the paper's trainings would meet, "–" where there are no
    runs. found: rows of `papers.rates`.
    """
    doses = papers.paper_doses(found).set_index("training")["dose"]
    counts = published("paper_zero_calls.csv")
    last = counts[(counts["epochs"] == counts["epochs"].max()) & (counts["precision"] == 32)]
    words = {"published_rate": f"{last['cum_zeros'].sum() / last['cum_relu'].sum():.1e}"}
    for optimizer in ("SGD", "Adam"):
        dose = doses.get(f"VGG11, CIFAR-10, {optimizer}")
        words[f"vgg11_{optimizer.lower()}"] = (
            "–" if dose is None else f"{float(f'{dose:.2g}'):,.0f}"
        )
    ours = found[found["training"].str.startswith("MLP")]
    return words | ({"our_rate": f"{ours['rate'].iloc[0]:.1e}"} if len(ours) else {})


def drops_in_prose(drops: pd.DataFrame, resnet: pd.DataFrame, evidence: Evidence) -> dict[str, str]:
    """The numbers in the prose about the published drops, by name.

    drops: :func:`drop_table`. unit_ and step_ with mlp, vgg11 or resnet18 and s: what ours loses
    under the constant. resnet: its rows of `runs.pairs`; resnet_from and published_from, the
    accuracies at s=0 from which ours and B21's fall, in percent. open: of the sentences about
    B21's claims those that are open under the constant, "6 of 6".
    """
    words = {}
    for row in drops.to_dict("records"):
        name = f"{row['training'].split()[0].strip(',').replace('-', '').lower()}_{row['s']}"
        words |= {
            f"unit_{name}": _points(row["ours, injected"]),
            f"step_{name}": _points(row["ours there, injected"]),
        }
    released = training_tables.published_accuracy(network="resnet18", batch_norm=False)
    ours = resnet.loc[resnet["gradient_rule"] == "injected", "reference"].mean()
    words |= {"published_from": f"{100 * released.loc[released['s'] == 0, 'mean'].iloc[0]:.0f}"}
    outcomes = [
        claim.finding(evidence, ("injected", "native")).outcome for claim in BY_DOSE.values()
    ]
    words |= {"open": f"{sum(o == OPEN for o in outcomes)} of {len(outcomes)}"}
    return words | {"resnet_from": f"{100 * ours:.0f}"}
