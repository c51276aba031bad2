"""The numbers in the prose of pages on trainings, by the names that it has for them."""

import pandas as pd

from reluprime.evidence.claim import ARITHMETICS, Evidence
from reluprime.evidence.words import signed
from reluprime.instruments.activations import GRADIENT_RULES
from reluprime.training import arms
from reluprime.training.claims import P12, batch_norm
from reluprime.training.claims.mnist import fully_connected
from reluprime.training.experiments import VGG_SGD
from reluprime.training.tables import differences, effects, under


def of_curves(runs: pd.DataFrame, seeds: int) -> dict[str, float | str]:
    """The numbers in the prose of the page on training curves, by name.

    runs: rows of `tables.runs` of the mlp, of `seeds` seeds an arm.
    """
    largest = runs["s"].max()
    found = {
        "mlp_injected_median": signed(100 * differences(under(runs, "injected"), largest).median()),
        "largest_s": f"{largest:g}",
        "mlp_zeros": float(runs["exact_zeros"].median()),
        "mlp_runs": seeds,
        "mlp_calls": float(runs["relu_calls"].max()),
    }
    for row in effects(runs).to_dict("records"):
        name = f"mlp_{row['gradient_rule']}_points"
        points = signed(100 * row["difference"])
        if row["s"] == largest:
            found |= {name: points, f"{name}_say": row["effect"].says()}
        found |= {f"{name}_at_1": points} if row["s"] == 1 else {}
    return found


def of_r2(evidence: Evidence) -> dict[str, str]:
    """What s=1 changes at bf16 in the network of R2, in points, by name: r2_RULE_ARITHMETIC.

    The mean over its seeds; "–" where there are no runs.
    """
    found = {}
    for rule in GRADIENT_RULES:
        for arithmetic in ARITHMETICS:
            values = arms.arm(evidence, fully_connected("bf16", arithmetic), 1.0, rule).values
            points = signed(100 * values.mean()) if len(values) else "–"
            found[f"r2_{rule}_{arithmetic}"] = points
    return found


def of_norm(evidence: Evidence) -> dict[str, str]:
    """What P12's runs of five epochs say at s=1, those with batch norm in `epilogue`, by name.

    norm_zeros_NETWORK: exact zeros of a run at s=0 (mean); norm_RULE_NETWORK: points at s=1 (mean
    of five seeds). NETWORK: vgg11, without batch norm; vgg11_norm and resnet18_norm. "–" until the
    claim's runs are complete.
    """
    _, vgg, resnet = batch_norm.with_norm("epilogue")
    networks = {"vgg11": VGG_SGD, "vgg11_norm": vgg, "resnet18_norm": resnet}
    found = dict.fromkeys((f"norm_zeros_{name}" for name in networks), "–")
    for rule in GRADIENT_RULES:
        there = not evidence.missing(P12.grid(rule, "epilogue"))
        for name, network in networks.items():
            small, _ = network.arms(evidence, 1.0, rule)
            found[f"norm_{rule}_{name}"] = signed(100 * small.values.mean()) if there else "–"
            found |= {f"norm_zeros_{name}": f"{small.zeros:.0f}"} if there else {}
    return found


def of_bf16(runs: pd.DataFrame, epochs: int) -> dict[str, float]:
    """The numbers in the prose of the page on M23's trainings, by name.

    runs: rows of `tables.runs` at bf16, of so many epochs.
    """
    return {"bf16_zeros": float(runs["exact_zeros"].median()), "bf16_epochs": epochs}
