"""Figures of M23's experiments."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from reluprime.evidence.style import PUBLISHED, RULE_COLOURS, closed, legend_below
from reluprime.instruments.activations import GRADIENT_RULES
from reluprime.training import published as replication
from reluprime.training.figures import s_colours

ARM_COLOURS = {
    replication.FIXED: "#555555",
    replication.SEARCHED["chain"]: RULE_COLOURS["chain"],
    replication.SEARCHED["injected"]: RULE_COLOURS["injected"],
    replication.IGNORED: "#b0a060",
}


def distance_figure(table: pd.DataFrame) -> Figure:
    """Distance to the s=0 network by step, a panel for each precision (M23 Fig. 1).

    table: rows of `replication.distances`. Solid: L1 distance; dashed: what M23 plotted. A line
    starts where the networks part and ends where a weight is no longer finite.
    """
    precisions = list(dict.fromkeys(table["precision"]))
    figure, axes = plt.subplots(1, len(precisions), figsize=(9, 3.8), sharey=True, squeeze=False)
    styles = {"L1 distance": "-", "sums": "--"}
    for panel, precision in zip(axes[0], precisions, strict=True):
        own = table[table["precision"] == precision]
        for (rule, quantity, _), run in own.groupby(["gradient_rule", "quantity", "seed"]):
            panel.plot(
                run["step"],
                run["value"].where(run["value"] > 0),
                styles[quantity],
                color=RULE_COLOURS[rule],
                linewidth=1.0,
                label=f"{rule}, {quantity}",
            )
        if not (own["value"] > 0).any():
            what = "not finite" if own["value"].isna().any() else "never apart"
            panel.text(0.5, 0.5, what, ha="center", transform=panel.transAxes)
        panel.set(title=precision, xlabel="step", yscale="log", xlim=(0, own["step"].max()))
    axes[0, 0].set_ylabel("distance to s=0")
    legend_below(figure, axes[0], ncols=4)
    return closed(figure)


def zeros_figure(zeros: pd.DataFrame) -> Figure:
    """Exact zeros so far, by epoch, means over the seeds, a panel for each gradient rule.

    zeros: rows of `replication.zeros_by_epoch` of one precision, s=0 under both rules. A straight
    line is a constant rate.
    """
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True)
    colours = s_colours(zeros["s"])
    for rule, panel in zip(GRADIENT_RULES, axes, strict=True):
        own = zeros[zeros["gradient_rule"] == rule]
        means = own.groupby(["s", "epoch"])["zeros"].mean()
        for s in sorted(set(own["s"])):
            panel.plot(means[s].index, means[s].cumsum(), color=colours[s], label=f"s={s:g}")
        panel.set(title=rule, xlabel="epoch")
        panel.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes[0].set_ylabel("exact zeros so far, mean of a run")
    legend_below(figure, axes, ncols=6)
    return closed(figure)


def gain_figure(found: pd.DataFrame, published: float) -> Figure:
    """Best accuracy of every search, and what searching s gains, paired by seed.

    found: rows of `replication.searches` of one experiment; published: M23's difference.
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
    comparisons = {arm: replication.gains(found, arm) for arm in arms if arm != replication.FIXED}
    comparisons["fixed at 0, another seed"] = replication.luck(found)
    for place, (name, values) in enumerate(comparisons.items()):
        colour = ARM_COLOURS.get(name, ARM_COLOURS[replication.FIXED])
        right.plot(100 * values, np.full(len(values), place), "o", color=colour, alpha=0.5)
        gain = replication.gain(values)
        right.plot([100 * gain["low"], 100 * gain["high"]], [place] * 2, color=colour, linewidth=5)
    right.axvline(100 * published, color=PUBLISHED, linestyle="--", label="published, two searches")
    right.axvline(0, color=PUBLISHED, linewidth=0.8, linestyle=":")
    right.set_yticks(range(len(comparisons)), list(comparisons))
    right.invert_yaxis()
    right.set_xlabel("points against a search fixed at 0")
    legend_below(figure, [right], ncols=1)
    return closed(figure)


def trials_figure(trials: pd.DataFrame) -> Figure:
    """Validation accuracy of every trial by learning rate, ours and the published ones.

    trials: rows of `replication.trials`. Arms that agree are rings around each other.
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
    return closed(figure)
