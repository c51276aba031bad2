"""The numbers in the prose of pages on trainings, by the names that it has for them."""

import pandas as pd

from reluprime.evidence.claim import Claim, Evidence
from reluprime.evidence.style import RULE_NAMES
from reluprime.evidence.words import rounded, signed
from reluprime.instruments.activations import GRADIENT_RULES
from reluprime.instruments.arithmetic import ARITHMETICS
from reluprime.training import arms
from reluprime.training.claims import P9, P10, P12, batch_norm
from reluprime.training.claims.mnist import fully_connected
from reluprime.training.experiments import RESNET, VGG, VGG_SGD, Experiment
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


def of_real_zeros(evidence: Evidence) -> dict[str, str]:
    """What s=1 changes by real zeros alone, without batch norm: vgg11_words, resnet18_words.

    From the runs of five epochs that P9 and P10 are judged on.
    """
    return {
        "vgg11_words": _real_zeros(evidence, P9, VGG, "VGG11"),
        "resnet18_words": _real_zeros(evidence, P10, RESNET, "ResNet-18"),
    }


def _real_zeros(evidence: Evidence, claim: Claim, experiment: Experiment, name: str) -> str:
    grid = [cell for rule in GRADIENT_RULES for cell in claim.grid(rule, "native")]
    own = next(iter(evidence.complete(grid).values()), None)
    if own is None:
        return f"{claim.id}'s runs are not complete yet."
    at_one = {rule: experiment.arms(own, 1.0, rule) for rule in GRADIENT_RULES}
    changes = " and ".join(
        f"by {_points(small)} under the {RULE_NAMES[rule]} ({_runs(small)}; at half of the width "
        f"{_points(large[-1])}, {_runs(large[-1])})"
        for rule, (small, large) in at_one.items()
    )
    zeros = rounded(at_one["chain"][0].zeros)
    return (
        f"{name} without batch norm, at a quarter of its width, meets {zeros} exact zeros a run at "
        f"s=0, and s=1 changes its accuracy {changes}."
    )


def _points(arm: arms.Arm) -> str:
    return f"{signed(100 * arm.values.mean())} points"


def _runs(arm: arms.Arm) -> str:
    stuck = sum(arm.at_chance.values())
    return f"{len(arm.values)} runs" + (f", {stuck} of them at chance" if stuck else "")


def of_norm(evidence: Evidence) -> dict[str, str]:
    """What P12's runs of five epochs say, those with batch norm in both arithmetics: norm_words."""
    grid = [cell for condition in P12.conditions() for cell in P12.grid(*condition)]
    own = next(iter(evidence.complete(grid).values()), None)
    if own is None:
        return {"norm_words": "P12's runs are not complete yet."}
    normed = [batch_norm.with_norm(arithmetic)[1:] for arithmetic in ("native", "epilogue")]
    networks = (VGG_SGD, *(vgg for vgg, _ in normed), *(resnet for _, resnet in normed))
    at_one = {rule: [n.arms(own, 1.0, rule)[0] for n in networks] for rule in GRADIENT_RULES}
    plain, vgg, vgg_too, resnet, resnet_too = (f"{arm.zeros:.0f}" for arm in at_one["chain"])
    words = (
        f"At s=0 VGG11 meets {plain} exact zeros a run without batch norm. With it VGG11 meets "
        f"{vgg} in native and {vgg_too} in epilogue arithmetic, and ResNet-18 {resnet} and "
        f"{resnet_too} (means of five seeds)."
    )
    for rule, found in at_one.items():
        points = (signed(100 * arm.values.mean()) for arm in found)
        plain, vgg, vgg_too, resnet, resnet_too = points
        words += (
            f" Under the {RULE_NAMES[rule]} s=1 changes the accuracy of VGG11 by {plain} points "
            f"without batch norm; with it that of VGG11 by {vgg} in native and {vgg_too} in "
            f"epilogue, and that of ResNet-18 by {resnet} and {resnet_too}."
        )
    return {"norm_words": words}


def of_bf16(runs: pd.DataFrame, epochs: int) -> dict[str, float]:
    """The numbers in the prose of the page on M23's trainings, by name.

    runs: rows of `tables.runs` at bf16, of so many epochs.
    """
    return {"bf16_zeros": float(runs["exact_zeros"].median()), "bf16_epochs": epochs}
