"""Figures of searches: the trials of each, and what searching s too gains."""

from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from reluprime.evidence.paired import MLP_MARGIN, paired
from reluprime.evidence.panels import legend_below
from reluprime.evidence.style import (
    PUBLISHED,
    QUIET,
    RULE_COLOURS,
    RULE_NAMES,
    WIDTH,
    taken_from_pyplot,
)
from reluprime.instruments.activations import GRADIENT_RULES
from reluprime.search import tables

ARM_COLOURS = {
    tables.FIXED: "#555555",
    tables.SEARCHED["chain"]: RULE_COLOURS["chain"],
    tables.SEARCHED["injected"]: RULE_COLOURS["injected"],
    tables.IGNORED: "#b0a060",
    "published, searched": PUBLISHED,
    "published, fixed": QUIET,
}


def _words(arm: str) -> str:
    """An arm as on the pages, on two lines."""
    for rule, name in RULE_NAMES.items():
        arm = arm.replace(rule, name)
    return arm.replace(", ", ",\n").replace(" fixed", "\nfixed") if len(arm) > 12 else arm


def gain_figure(found: pd.DataFrame, published: float) -> Figure:
    """Best accuracy of every search, and what searching s gains, paired by seed.

    found: rows of `tables.searches` of one experiment; published: M23's difference.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.0))
    arms = [arm for arm in ARM_COLOURS if (found["arm"] == arm).any()]
    wide = found.pivot(index="seed", columns="arm", values="best_accuracy")[arms]
    places = np.arange(len(arms))
    for _, row in wide.iterrows():
        left.plot(100 * row, places, color="#cccccc", linewidth=0.7, zorder=0)
    for place, arm in enumerate(arms):
        left.plot(100 * wide[arm], np.full(len(wide), place), "o", color=ARM_COLOURS[arm])
    left.set_yticks(places, map(_words, arms))
    left.invert_yaxis()
    left.set_xlabel("best validation accuracy, %")
    comparisons = {arm: tables.gains(found, arm) for arm in arms if arm != tables.FIXED}
    comparisons["fixed at 0, another seed"] = tables.luck(found)
    for place, (name, values) in enumerate(comparisons.items()):
        colour = ARM_COLOURS.get(name, ARM_COLOURS[tables.FIXED])
        right.plot(100 * values, np.full(len(values), place), "o", color=colour, alpha=0.5)
        gain = paired(values, MLP_MARGIN)
        ends = [100 * (gain.mean + sign * gain.half) for sign in (-1, 1)]
        right.plot(ends, [place] * 2, color=colour, linewidth=5)
    right.axvline(100 * published, color=PUBLISHED, linestyle="--", label="published, two searches")
    right.axvline(0, color=PUBLISHED, linewidth=0.8, linestyle=":")
    right.set_yticks(range(len(comparisons)), map(_words, comparisons))
    right.invert_yaxis()
    right.set_xlabel("points against a search fixed at 0")
    legend_below(figure, [right], ncols=1)
    return taken_from_pyplot(figure)


def trials_figure(trials: pd.DataFrame) -> Figure:
    """Validation accuracy of every trial by learning rate, ours and the published ones.

    trials: rows of `tables.trials`. Arms that agree are rings around each other.
    """
    figure, panels = plt.subplots(1, 2, figsize=(WIDTH, 3.6), sharex=True, sharey=True)
    is_published = trials["arm"].str.startswith("published")
    for panel, own, title in zip(
        panels, (trials[~is_published], trials[is_published]), ("ours", "published"), strict=True
    ):
        arms = own.groupby("arm", sort=False)
        for (arm, of_arm), size in zip(arms, (9, 7, 5, 2.5), strict=False):
            style = {"color": ARM_COLOURS[arm], "markersize": size, "mew": 0}
            words = _words(arm).replace("\n", " ")
            panel.plot(of_arm["lr"], of_arm["validation_accuracy"], "o", label=words, **style)
        if len(own):
            panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), frameon=False)
        panel.set(title=title, xscale="log", xlabel="learning rate", ylabel="validation accuracy")
    return taken_from_pyplot(figure)


def search_figure(searches: pd.DataFrame) -> Figure:
    """Validation accuracy of every trial by learning rate, a panel for each gradient rule.

    searches: rows with gradient_rule, s, lr and validation_accuracy, one a trial.
    """
    rules = [r for r in GRADIENT_RULES if (searches["gradient_rule"] == r).any()]
    size = {"figsize": (WIDTH, 3.2), "sharey": True, "squeeze": False}
    figure, axes = plt.subplots(1, max(1, len(rules)), **size)
    for rule, panel in zip(rules, axes[0], strict=False):
        own = searches[searches["gradient_rule"] == rule]
        for (s, trials), marker in zip(own.groupby("s"), cycle("osD^v")):
            style = {"color": RULE_COLOURS[rule], "fillstyle": "none", "label": f"s={s:g}"}
            panel.plot(trials["lr"], trials["validation_accuracy"], marker, **style)
        panel.set(xscale="log", xlabel="learning rate", title=RULE_NAMES[rule])
        panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.25), ncols=4, frameon=False)
    axes[0, 0].set_ylabel("validation accuracy")
    return taken_from_pyplot(figure)
