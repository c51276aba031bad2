"""Figures of the training studies: both gradient rules, and the published figure beside them."""

from collections.abc import Iterable

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from reluprime.evidence.panels import legend_below
from reluprime.evidence.style import (
    PRECISION_COLOURS,
    PUBLISHED,
    RULE_COLOURS,
    RULE_MARKERS,
    RULE_NAMES,
    WIDTH,
    layer_greys,
    taken_from_pyplot,
)
from reluprime.instruments.activations import GRADIENT_RULES
from reluprime.training import tables


def accuracy_panel(axes: Axes, runs: pd.DataFrame, published: pd.DataFrame) -> None:
    """Test accuracy of every run against its run at s=0, in points; published means, their spread.

    runs: rows of `tables.runs`; published: rows with s, mean, std and difference, or none.
    """
    table, released = tables.both_rules(runs), published[published["s"] != 0]
    values = sorted({*table["s"], *released["s"]} - {0})
    for side, rule in enumerate(GRADIENT_RULES):
        own = table[table["gradient_rule"] == rule]
        points = {place: 100 * tables.differences(own, s) for place, s in enumerate(values)}
        x = [place + 0.24 * side - 0.12 for place, found in points.items() for _ in found]
        style = {"color": RULE_COLOURS[rule], "label": RULE_NAMES[rule]}
        axes.plot(x, [p for found in points.values() for p in found], RULE_MARKERS[rule], **style)
    if len(released):
        axes.errorbar(
            released["s"].map(values.index) + 0.3,
            100 * released["difference"],
            yerr=100 * released["std"],
            fmt="s",
            color=PUBLISHED,
            markerfacecolor="white",
            capsize=3,
            label="published mean ± std",
        )
    axes.axhline(0, color=PUBLISHED, linewidth=0.8, linestyle=":")
    reach = _points(axes, "y")
    low, high = axes.dataLim.intervaly
    axes.set_ylim(-1.6 * reach if low < -0.5 else -1, 1.6 * reach if high > 0.5 else 1)
    axes.set_xticks(range(len(values)), [f"{s:g}" for s in values])
    at_zero = table.loc[table["s"] == 0, "test_accuracy"].mean()
    axes.set(xlabel="s", ylabel="points against s=0", title=f"test accuracy (s=0: {at_zero:.1%})")


def _points(axes: Axes, name: str) -> float:
    """Make axis "x" or "y" one of points: linear within half a point, logarithmic beyond.

    Returns how far from 0 it has to reach.
    """
    span = getattr(axes.dataLim, f"interval{name}")
    reach = max(1.0, *(1.6 * abs(end) for end in span if np.isfinite(end)))
    ticks = [tick for tick in (-80, -20, -5, -1, 0, 1, 5, 20) if abs(tick) <= reach]
    getattr(axes, f"set_{name}scale")("symlog", linthresh=0.5)
    getattr(axes, f"set_{name}ticks")(ticks, [f"{tick:g}" for tick in ticks])
    getattr(axes, f"{name}axis").set_minor_locator(NullLocator())
    return reach


def loss_panel(axes: Axes, curves: pd.DataFrame, colours: dict[float, tuple], title: str) -> None:
    """Training loss by epoch: the mean over runs, and the range of the runs.

    curves: columns s, epoch, train_loss and either seed or low and high.
    """
    for s, own in curves.groupby("s"):
        by_epoch = own.groupby("epoch")["train_loss"].agg(["mean", "min", "max"])
        axes.plot(by_epoch.index, by_epoch["mean"], color=colours[s], marker=".", label=f"s={s:g}")
        axes.fill_between(
            by_epoch.index, by_epoch["min"], by_epoch["max"], color=colours[s], alpha=0.2
        )
    axes.set(xlabel="epoch", title=title, yscale="log")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def _plain_ticks(axes: Axes) -> None:
    """Plain numbers on a logarithmic axis that spans little."""
    low, high = axes.get_ylim()
    if high < 20 * low:
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_locator(NullLocator())


def s_colours(values: Iterable[float]) -> dict[float, tuple]:
    """A colour for each s; 0 is black."""
    values = sorted(set(values))
    colours = dict(zip(values, sns.color_palette("plasma", len(values) + 1), strict=False))
    return colours | {0: PUBLISHED}


def training_figure(
    runs: pd.DataFrame, published: pd.DataFrame, published_loss: pd.DataFrame
) -> Figure:
    """Accuracy by s above, training loss by epoch below (B21 Fig. 3, 9, 10, 12, 13, 15).

    runs: rows of `tables.runs` of one condition; published and published_loss: what
    `tables.published_accuracy` and `tables.published_loss` give.
    """
    below = [*GRADIENT_RULES, *(() if published_loss.empty else ("published",))]
    figure, axes = plt.subplot_mosaic([["accuracy"] * len(below), below], figsize=(WIDTH, 5.6))
    axes["injected"].sharey(axes["chain"])  # before anything is drawn, so that all of it fits
    accuracy_panel(axes["accuracy"], runs, published)
    curves = tables.curves(runs)
    colours = s_colours([*curves["s"], *published_loss["s"]])
    for rule in GRADIENT_RULES:
        own = curves[curves["gradient_rule"] == rule]
        loss_panel(axes[rule], own, colours, RULE_NAMES[rule])
        _plain_ticks(axes[rule])
    if "published" in axes:
        loss_panel(axes["published"], published_loss, colours, "published")
    axes["chain"].set_ylabel("training loss")
    legend_below(figure, axes.values(), ncols=5)
    return taken_from_pyplot(figure)


def effect_figure(effects: pd.DataFrame, by: str, published: pd.DataFrame) -> Figure:
    """Change of test accuracy against s=0 with its interval and every run, a panel for each s.

    effects: rows of `tables.effects` by one column; published: rows with that column, s and
    difference, or none.
    """
    effects, labels = effects[effects["s"] != 0], list(dict.fromkeys(effects[by]))
    values = sorted(set(effects["s"]))
    figure, axes = plt.subplots(
        1, len(values), figsize=(WIDTH, 1.5 + 0.4 * len(labels)), sharey=True, squeeze=False
    )
    for panel, s in zip(axes[0], values, strict=True):
        for side, rule in enumerate(GRADIENT_RULES):
            own = effects[(effects["s"] == s) & (effects["gradient_rule"] == rule)]
            heights = [labels.index(label) + 0.2 * side - 0.1 for label in own[by]]
            for found, height in zip(own["effect"], heights, strict=True):
                every = 100 * np.array(found.values)
                style = {"color": RULE_COLOURS[rule], "markersize": 5, "alpha": 0.6}
                panel.plot(every, np.full(len(every), height), ".", **style)
            panel.errorbar(
                100 * own["difference"],
                heights,
                xerr=[100 * found.half for found in own["effect"]],
                fmt=RULE_MARKERS[rule],
                color=RULE_COLOURS[rule],
                capsize=3,
                label=RULE_NAMES[rule],
            )
        known = published[(published["s"] == s) & published[by].isin(labels)]
        if len(known):
            y = [labels.index(label) + 0.25 for label in known[by]]
            style = {"color": PUBLISHED, "markerfacecolor": "white", "label": "published"}
            panel.plot(100 * known["difference"], y, "s", **style)
        panel.axvline(0, color=PUBLISHED, linewidth=0.8, linestyle=":")
        reach = _points(panel, "x")
        panel.set(title=f"s={s:g}", xlabel="points against s=0", xlim=(-reach, min(reach, 30)))
    axes[0, 0].set_yticks(range(len(labels)), labels)
    axes[0, 0].set_ylim(len(labels) - 0.5, -0.5)
    legend_below(figure, axes[0], ncols=3)
    return taken_from_pyplot(figure)


def zero_calls_figure(rates: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Exact zeros against ReLU calls of whole trainings, and their ratio (B21 Fig. 6).

    rates: rows of `zero_tables.zero_rates` with gradient_rule; published: rows with precision,
    zeros and calls.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.6))
    for (precision, rule), own in rates.groupby(["precision", "gradient_rule"], sort=False):
        style = {"fmt": RULE_MARKERS[rule], "color": PRECISION_COLOURS[precision], "capsize": 2}
        error = [own["rate"] - own["low"], own["high"] - own["rate"]]
        left.plot(own["calls"], own["zeros"], style["fmt"], color=style["color"])
        right.errorbar(
            own["calls"], own["rate"], yerr=error, **style, label=f"{precision}, {RULE_NAMES[rule]}"
        )
    for precision, own in published.groupby("precision", sort=False):
        style = {"color": PRECISION_COLOURS[precision], "markerfacecolor": "white"}
        left.plot(own["calls"], own["zeros"], "s", **style)
        right.plot(
            own["calls"], own["zeros"] / own["calls"], "s", **style, label=f"{precision}, published"
        )
    left.set(xscale="log", xlabel="ReLU calls", ylabel="of them at exactly 0")
    left.set_yscale("symlog", linthresh=1)
    left.set_ylim(bottom=-0.3)
    right.set(xscale="log", yscale="log", xlabel="ReLU calls", ylabel="zeros a call")
    legend_below(figure, [right], ncols=3)
    return taken_from_pyplot(figure)


def zeros_figure(zeros: pd.DataFrame) -> Figure:
    """Exact zeros so far, by epoch, means over the seeds, a panel for each gradient rule.

    zeros: rows of `zero_tables.zeros_by_epoch` of one precision, s=0 under both rules. A straight
    line is a constant rate.
    """
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.0), sharey=True)
    colours = s_colours(zeros["s"])
    for rule, panel in zip(GRADIENT_RULES, axes, strict=True):
        own = zeros[zeros["gradient_rule"] == rule]
        means = own.groupby(["s", "epoch"])["zeros"].mean()
        for s in sorted(set(own["s"])):
            panel.plot(means[s].index, means[s].cumsum(), color=colours[s], label=f"s={s:g}")
        panel.set(title=RULE_NAMES[rule], xlabel="epoch")
        panel.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes[0].set_ylabel("exact zeros so far, mean of a run")
    legend_below(figure, axes, ncols=6)
    return taken_from_pyplot(figure)


def layers_figure(zeros: pd.DataFrame) -> Figure:
    """Which layer the exact zeros of trainings are in, a bar a depth, a panel a precision.

    zeros: rows of `zero_tables.zeros_by_layer`. Layers are greys, the first the darkest.
    """
    layers = [name for name in zeros if name.startswith("layer ")]
    counts = zeros[layers].apply(pd.to_numeric, errors="coerce").fillna(0)
    shares = counts.div(counts.sum(axis=1).where(lambda total: total > 0), axis=0)
    precisions = list(dict.fromkeys(zeros["precision"]))
    figure, axes = plt.subplots(
        1, len(precisions), figsize=(WIDTH, 2.7), sharey=True, squeeze=False
    )
    for panel, precision in zip(axes[0], precisions, strict=True):
        own = shares[zeros["precision"] == precision]
        depths = [str(depth) for depth in zeros.loc[own.index, "depth"]]
        left = np.zeros(len(own))
        for layer, grey in zip(layers, layer_greys(len(layers)), strict=True):
            width = own[layer].fillna(0).to_numpy()
            panel.barh(depths, width, left=left, color=grey, label=layer)
            left += width
        panel.set(title=precision, xlabel="share of the exact zeros", xlim=(0, 1))
        panel.grid(False, axis="y")
    axes[0, 0].set_ylabel("hidden layers")
    axes[0, 0].invert_yaxis()
    legend_below(figure, axes[0], ncols=len(layers))
    return taken_from_pyplot(figure)
