"""The recorded runs as the book's explorer shows them: a curve each, and where it met a kink.

Trainings with their test accuracy by epoch, with the true kink and with a widened one, and the
paired runs of the first experiment with their distance to the s=0 network by step.
"""

import numpy as np
import pandas as pd

from reluprime import records
from reluprime.bifurcation import study as bifurcation
from reluprime.dose.runs import runs
from reluprime.training import study as training

POINTS = 120  # of a curve at most
NAMES = {"mlp": "fully connected", "vgg11": "VGG11", "mobilenet_v3_small": "MobileNetV3-small"}
NAMES |= {"resnet18": "ResNet-18", "resnet20": "ResNet-20"}
DATASETS = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST", "cifar10": "CIFAR-10"}
DATASETS |= {"svhn": "SVHN"}
SITES = {"first": "s in the first activation alone", "none": "s in no activation"}
ACCURACY, DISTANCE = "test accuracy", "distance to s=0"
EXACT = "exact"  # the kink of an activation as it is; else the width of a band around it
DIGITS = 4  # significant, of a number on a curve


def data(store: records.Store) -> list[dict]:
    """All curves, sorted, with what a reader chooses them by.

    Each has network, precision, arithmetic, kink (EXACT, or "widened to" a width), s, rule (chain,
    injected or, at s=0, none), seed, measure (ACCURACY by epoch, or DISTANCE by step), x, y (None
    where a network is no longer finite), kinks (those that it met; None where they were not
    counted by run) and event (the x of the first; None where there is none).
    """
    found = [*_trainings(store), *_pairs(store)]
    names = ("network", "precision", "arithmetic", "kink", "s", "rule", "seed")
    return sorted(found, key=lambda curve: [curve[name] for name in names])


def _trainings(store: records.Store) -> list[dict]:
    table = runs(records.table(training.fit, store))
    names = [(_network(run), _kink(run)) for run in table.to_dict("records")]
    table[["network", "kink"]] = pd.DataFrame(names, columns=["network", "kink"], index=table.index)
    compared = {*zip(*table.loc[table["s"] != 0, ["network", "kink"]].to_numpy().T, strict=True)}
    curves = []
    for run in table.to_dict("records"):
        if (run["network"], run["kink"]) not in compared:
            continue  # there is nothing to see
        met = [epoch for epoch, kinks in enumerate(run["kinks_by_epoch"], 1) if kinks]
        curves.append(
            {
                "network": run["network"],
                "precision": run["precision"],
                "arithmetic": run["arithmetic"],
                "kink": run["kink"],
                "s": run["s"],
                "rule": run["gradient_rule"] if run["s"] else "none",
                "seed": run["seed"],
                "measure": ACCURACY,
                "x": list(range(1, len(run["accuracies"]) + 1)),
                "y": [_short(value) for value in run["accuracies"]],
                "kinks": sum(run["kinks_by_epoch"]),
                "event": met[0] if met else None,
            }
        )
    return curves


def _kink(run: dict) -> str:
    if not run["kink_width"]:
        return EXACT
    where = f" in layer {run['kink_layer']:.0f} alone" if run["kink_layer"] > 0 else ""
    return f"widened to {run['kink_width']:g}{where}"


def _network(run: dict) -> str:
    """The network and how it was trained, in words: one line of the reader's list."""
    sizes = " ".join(map(str, run["hidden_sizes"])) if run["architecture"] == "mlp" else ""
    width = f"at {run['width']:g} of its width" if run["width"] != 1 else ""
    name = NAMES.get(run["architecture"], run["architecture"])
    optimizer = {"sgd": "SGD", "adam": "Adam"}[run["optimizer"]]
    sites = run["activation_sites"]
    parts = {
        " ".join(filter(None, (name, sizes, width))): True,
        DATASETS.get(run["dataset"], run["dataset"]): True,
        f"{run['n_train']:,.0f} images": run["n_train"] > 0,
        f"{optimizer} at {run['lr']:.3g}": True,
        "no momentum": run["optimizer"] == "sgd" and not run["momentum"],
        "no weight decay": not run["weight_decay"],
        "batch norm": run["batch_norm"],
        f"dropout {run['dropout']:g}": run["dropout"],
        f"gradients clipped to norm {run['clip_norm']}": run["clip_norm"] > 0,
        f"mini-batches of {run['batch_size']}": run["batch_size"] != 128,
        SITES.get(sites): sites in SITES,
        f"{run['epochs']} epoch{'s' * (run['epochs'] > 1)}": True,
    }
    return ", ".join(part for part, said in parts.items() if said)


def _pairs(store: records.Store) -> list[dict]:
    curves = []
    for pair in records.table(bifurcation.paired_run, store).to_dict("records"):
        event = pair["event"]["step"] if isinstance(pair["event"], dict) else None
        for variant in pair["variants"]:
            name = f"{variant['gradient_rule']} s={variant['s']:g}"
            distance = pair["distance"][name]
            steps = _chosen(len(distance), event)
            curves.append(
                {
                    "network": _pair_network(pair),
                    "precision": pair["precision"],
                    "arithmetic": "native",
                    "kink": EXACT,
                    "s": variant["s"],
                    "rule": variant["gradient_rule"],
                    "seed": pair["seed"],
                    "measure": DISTANCE,
                    "x": steps,
                    "y": [_short(distance[step]) for step in steps],
                    "kinks": None,
                    "event": event,
                }
            )
    return curves


def _pair_network(pair: dict) -> str:
    sizes = " ".join(map(str, pair["hidden_sizes"]))
    activation = {"relu": "", "relu6": ", ReLU6"}[pair["activation"]]
    optimizer = "Adam" if pair.get("optimizer") == "adam" else "SGD"
    return f"paired runs step by step, {sizes}{activation}, MNIST, {optimizer}"


def _chosen(steps: int, event: int | None) -> list[int]:
    """At most POINTS of the steps, the first and last among them, and those around the event."""
    found = set(np.linspace(0, steps - 1, min(steps, POINTS)).astype(int).tolist())
    if event is not None:
        found |= {step for step in (event - 1, event, event + 1) if 0 <= step < steps}
    return sorted(found)


def _short(value: float | None) -> float | None:
    if value is None or not np.isfinite(value):
        return None
    return float(f"{value:.{DIGITS}g}")
