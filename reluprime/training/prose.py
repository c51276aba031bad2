"""The numbers in the prose of pages on trainings, by the names that it has for them."""

import pandas as pd

from reluprime.evidence.claim import Claim, Evidence
from reluprime.evidence.style import RULE_NAMES
from reluprime.evidence.words import rounded, signed
from reluprime.instruments.activations import GRADIENT_RULES
from reluprime.instruments.arithmetic import ARITHMETICS
from reluprime.training import arms
from reluprime.training.arms import Arm
from reluprime.training.claims import P9, P10, P12, P13, R4, batch_norm
from reluprime.training.claims.mnist import RESNET20, fully_connected
from reluprime.training.experiments import LARGE_S, RESNET, VGG, VGG_ADAM, VGG_SGD, Experiment
from reluprime.training.tables import differences, effects, published_accuracy, under


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
    own = _complete(evidence, claim)
    if own is None:
        return _waiting(claim)
    chain, injected = (experiment.arms(own, 1.0, rule) for rule in GRADIENT_RULES)
    (narrow, *_, half), (narrow_injected, *_, half_injected) = (
        (small, *large) for small, large in (chain, injected)
    )
    return (
        f"At a quarter of its width {name} without batch norm meets {_span(narrow)} exact zeros a "
        f"run at s=0, and s=1 changes its accuracy by {_change(narrow)} under the derivative and "
        f"by {_change(narrow_injected)} under the constant. At half of its width it meets "
        f"{_span(half)}, and the changes are {_change(half)} and {_change(half_injected)}."
    )


def _complete(evidence: Evidence, claim: Claim) -> Evidence | None:
    """What one machine has of all that a claim asks for."""
    return next(iter(evidence.complete(claim.cells()).values()), None)


def _waiting(claim: Claim) -> str:
    return f"{claim.id}'s runs are not complete yet."


def _span(arm: Arm) -> str:
    zeros = sorted(arm.zeros_by_seed.values())
    return f"{zeros[0]:,.0f} to {zeros[-1]:,.0f}"


def _change(arm: Arm) -> str:
    points, _, runs = arms.words(arm).partition(", ")
    return f"{points} ({runs})"


def of_norm(evidence: Evidence) -> dict[str, str]:
    """What P12's runs of five epochs say, those with batch norm in both arithmetics: norm_words."""
    own = _complete(evidence, P12)
    if own is None:
        return {"norm_words": _waiting(P12)}
    (_, vgg, resnet), (_, vgg_too, resnet_too) = map(batch_norm.with_norm, ("native", "epilogue"))
    networks = (VGG_SGD, vgg, vgg_too, resnet, resnet_too)
    at_one = {rule: [n.arms(own, 1.0, rule)[0] for n in networks] for rule in GRADIENT_RULES}
    words = (
        "At s=0 VGG11 meets {} exact zeros a run without batch norm. With it VGG11 meets {} in "
        "native and {} in epilogue arithmetic, and ResNet-18 {} and {} (means of five seeds)."
    ).format(*(rounded(arm.zeros) for arm in at_one["chain"]))
    for rule, found in at_one.items():
        words += (
            " Under the {} s=1 changes the accuracy of VGG11 by {} points without batch norm; with "
            "it that of VGG11 by {} in native and {} in epilogue, and that of ResNet-18 by {} and "
            "{}."
        ).format(RULE_NAMES[rule], *(signed(100 * arm.values.mean()) for arm in found))
    return {"norm_words": words}


def of_adam(evidence: Evidence) -> dict[str, str]:
    """What P13's runs of VGG11 say, with SGD and with Adam, by name.

    adam_words: at s=0, and what s=50 changes. sgd_diverged, adam_diverged: of the runs at another s
    under the constant, as "2 of 16". adam_published: what B21's files lose with Adam at s=50.
    """
    s, optimizers = LARGE_S[0], {"sgd": VGG_SGD, "adam": VGG_ADAM}
    released = published_accuracy(
        network="vgg11", optimizer="adam", dataset="cifar10", batch_norm=False
    )
    lost = -100 * released.loc[released["s"] == s, "difference"].iloc[0]
    found = {"adam_published": f"{lost:.1f}"}
    own = _complete(evidence, P13)
    if own is None:
        diverged = {f"{name}_diverged": "–" for name in optimizers}
        return found | {"adam_words": _waiting(P13)} | diverged
    (sgd, _), (adam, _) = (o.arms(own, 0.0, "chain") for o in optimizers.values())
    words = (
        f"At s=0 and after five epochs VGG11 reaches {100 * sgd.counted.mean():.1f} % with SGD and "
        f"{100 * adam.counted.mean():.1f} % with Adam, and meets {rounded(sgd.zeros)} and "
        f"{rounded(adam.zeros)} exact zeros a run (means of five seeds)."
    )
    for rule in GRADIENT_RULES:
        changed = {name: o.arms(own, s, rule) for name, o in optimizers.items()}
        small = [_change(arm) for arm, _ in changed.values()]
        large = [_change(arm) for _, (arm,) in changed.values()]
        words += (
            f" Under the {RULE_NAMES[rule]} s={s:g} changes its accuracy by {small[0]} with SGD "
            f"and by {small[1]} with Adam, and after ten epochs by {large[0]} and {large[1]}."
        )
    diverged = {f"{name}_diverged": _diverged(own, o) for name, o in optimizers.items()}
    return found | {"adam_words": words} | diverged


def _diverged(evidence: Evidence, experiment: Experiment) -> str:
    scales = (experiment.arms(evidence, s, "injected") for s in LARGE_S)
    found = (arm for small, large in scales for arm in (small, *large))
    accuracies = pd.concat(pd.Series(arm.accuracies) for arm in found)
    return f"{accuracies.isna().sum()} of {len(accuracies)}"


def of_resnet20(evidence: Evidence) -> dict[str, str]:
    """What R4's runs of a ResNet-20 with batch norm say: r4_words."""
    own = _complete(evidence, R4)
    if own is None:
        return {"r4_words": _waiting(R4)}
    chain, (chain_longer,) = RESNET20.arms(own, 1.0, "chain")
    injected, (injected_longer,) = RESNET20.arms(own, 1.0, "injected")
    return {
        "r4_words": (
            f"At s=0 the network meets {_span(chain)} exact zeros a run. s=1 changes its accuracy "
            f"by {_change(chain)} under the derivative and by {_change(injected)} under the "
            f"constant, and after ten epochs by {_change(chain_longer)} and "
            f"{_change(injected_longer)}."
        )
    }


def of_bf16(runs: pd.DataFrame, epochs: int) -> dict[str, float]:
    """The numbers in the prose of the page on M23's trainings, by name.

    runs: rows of `tables.runs` at bf16, of so many epochs.
    """
    return {"bf16_zeros": float(runs["exact_zeros"].median()), "bf16_epochs": epochs}
