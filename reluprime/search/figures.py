"""Figures of searches: the trials of each, and what searching s too gains."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from reluprime.evidence.style import (
    PUBLISHED,
    RULE_COLOURS,
    legend_below,
    taken_from_pyplot,
)
from reluprime.instruments.activations import GRADIENT_RULES
from reluprime.search import tables

ARM_COLOURS = {
    tables.FIXED: "#555555",
    tables.SEARCHED["chain"]: RULE_COLOURS["chain"],
    tables.SEARCHED["injected"]: RULE_COLOURS["injected"],
    tables.IGNORED: "#b0a060",
}


def gain_figure(found: pd.DataFrame, published: float) -> Figure:
    """Best accuracy of every search, and what searching s gains, paired by seed.

    found: rows of `tables.searches` of one experiment; published: M23's difference.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8))
    arms = [arm for arm in ARM_COLOURS if (found["arm"] == arm).any()]
    wide = found.pivot(index="seed", columns="arm", values="best_accuracy")[arms]
    places = np.arange(len(arms))
    for _, row in wide.iterrows():
        left.plot(100 * row, places, color="#cccccc", linewidth=0.7, zorder=0)
    for place, arm in enumerate(arms):
        left.plot(100 * wide[arm], np.full(len(wide), place), "o", color=ARM_COLOURS[arm])
    left.set_yticks(places, arms)
    left.invert_yaxis()
    left.set_xlabel("best validation accuracy, %")
    comparisons = {arm: tables.gains(found, arm) for arm in arms if arm != tables.FIXED}
    comparisons["fixed at 0, another seed"] = tables.luck(found)
    for place, (name, values) in enumerate(comparisons.items()):
        colour = ARM_COLOURS.get(name, ARM_COLOURS[tables.FIXED])
        right.plot(100 * values, np.full(len(values), place), "o", color=colour, alpha=0.5)
        gain = tables.gain(values)
        right.plot([100 * gain["low"], 100 * gain["high"]], [place] * 2, color=colour, linewidth=5)
    right.axvline(100 * published, color=PUBLISHED, linestyle="--", label="published, two searches")
    right.axvline(0, color=PUBLISHED, linewidth=0.8, linestyle=":")
    right.set_yticks(range(len(comparisons)), list(comparisons))
    right.invert_yaxis()
    right.set_xlabel("points against a search fixed at 0")
    legend_below(figure, [right], ncols=1)
    return taken_from_pyplot(figure)


def trials_figure(trials: pd.DataFrame) -> Figure:
    """Validation accuracy of every trial by learning rate, ours and the published ones.

    trials: rows of `tables.trials`. Arms that agree are rings around each other.
    """
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.8), sharex=True, sharey=True)
    is_published = trials["arm"].str.startswith("published")
    for panel, own, title in zip(
        panels, (trials[~is_published], trials[is_published]), ("ours", "published"), strict=True
    ):
        own = own.assign(**{"": own["arm"]})
        arms = list(dict.fromkeys(own[""]))
        sizes = dict(zip(arms, (90, 55, 28, 8), strict=False))
        sns.scatterplot(
            own, x="lr", y="validation_accuracy", hue="", size="", sizes=sizes, ax=panel
        )
        panel.set(title=title, xscale="log", xlabel="learning rate", ylabel="validation accuracy")
    return taken_from_pyplot(figure)


def search_figure(searches: pd.DataFrame) -> Figure:
    """Validation accuracy of every trial by learning rate, a panel for each gradient rule.

    searches: rows with gradient_rule, s, lr and validation_accuracy, one a trial.
    """
    rules = [r for r in GRADIENT_RULES if (searches["gradient_rule"] == r).any()]
    figure, axes = plt.subplots(1, max(1, len(rules)), figsize=(9, 3.6), sharey=True, squeeze=False)
    for rule, panel in zip(rules, axes[0], strict=False):
        sns.scatterplot(
            searches[searches["gradient_rule"] == rule],
            x="lr",
            y="validation_accuracy",
            hue="s",
            palette="viridis",
            legend="full",
            ax=panel,
        )
        panel.set(xscale="log", xlabel="learning rate", ylabel="validation accuracy", title=rule)
    return taken_from_pyplot(figure)
