"""Figures of the Monte Carlo, ours beside the published ones."""

from collections.abc import Iterable, Iterator

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reluprime.evidence.panels import legend_below
from reluprime.evidence.style import (
    PRECISION_COLOURS,
    PRECISION_MARKERS,
    PUBLISHED,
    RULE_COLOURS,
    RULE_MARKERS,
    RULE_NAMES,
    WIDTH,
    taken_from_pyplot,
)
from reluprime.volume.table_1 import ROWS

FORMS = {"chain": "o--", "injected": "X-"}  # of a line and its marks, by gradient rule
ALIKE = 0.01  # shares of networks that a figure shows as one
WORK_FILLS = {"B21": "#444444", "M23": "white"}


def share_panel(axes: Axes, ours: pd.DataFrame, published: pd.DataFrame, by: str) -> None:
    """Share of networks in the zone over one size.

    ours: rows with `by`, precision, gradient_rule, share, low, high (see
    `shares.zone_shares`); published: rows with `by`, precision, share.
    """
    for label, group, style in _lines(ours, by):
        _with_intervals(axes, group, by, label=label, **style)
    for precision, group in published.groupby("precision", sort=False):
        axes.plot(
            group[by],
            group["share"],
            linestyle=":",
            color=PRECISION_COLOURS[precision],
            marker="s",
            markerfacecolor="white",
            label=f"{precision}, published",
        )
    axes.set(xlabel=by.replace("_", " "), ylim=(-0.03, 1.03))


def _lines(shares: pd.DataFrame, by: str) -> Iterator[tuple[str, pd.DataFrame, dict]]:
    """A line a precision where both gradient rules have the same shares, else one for each rule.

    The same: within ALIKE at each size; the line is then that of the constant.
    """
    for precision, both in shares.groupby("precision", sort=False):
        style = {"color": PRECISION_COLOURS[precision], "markersize": 5}
        if both.groupby(by)["share"].agg(np.ptp).max() <= ALIKE:
            one = both[both["gradient_rule"] == both["gradient_rule"].iloc[-1]]
            yield precision, one, style | {"fmt": FORMS["injected"]}
        else:
            for rule, own in both.groupby("gradient_rule", sort=False):
                yield f"{precision}, {RULE_NAMES[rule]}", own, style | {"fmt": FORMS[rule]}


def _with_intervals(axes: Axes, shares: pd.DataFrame, by: str, **style) -> None:
    error = [shares["share"] - shares["low"], shares["high"] - shares["share"]]
    axes.errorbar(shares[by], shares["share"], yerr=np.clip(error, 0, None), capsize=2, **style)


def volume_figure(panels: dict[str, tuple[pd.DataFrame, pd.DataFrame]]) -> Figure:
    """Shares over several sizes, side by side (B21 Fig. 2, M23 Fig. 4).

    panels: {size: (ours, published)} as in :func:`share_panel`.
    """
    figure, axes = plt.subplots(2, 2, figsize=(WIDTH, 5.6), sharey=True)
    for panel, (by, (ours, published)) in zip(axes.flat, panels.items(), strict=True):
        share_panel(panel, ours, published, by)
        if by in ("width", "batch_size"):
            panel.set_xscale("log", base=2)
    for panel in axes[:, 0]:
        panel.set_ylabel("share of networks in the zone")
    legend_below(figure, axes.flat, ncols=4)
    return taken_from_pyplot(figure)


def relative_difference_figure(values: pd.DataFrame, published: dict[str, tuple]) -> Figure:
    """Relative gradient change on affected mini-batches (B21 Table 1, row 3).

    values: columns precision, gradient_rule, relative_difference, one row a mini-batch;
    published: {precision: (first quartile, median, third quartile)}.
    """
    figure, axes = plt.subplots(figsize=(WIDTH, 3.8))
    order = [p for p in PRECISION_COLOURS if p in set(values["precision"])]
    named = values.assign(gradient_rule=values["gradient_rule"].map(RULE_NAMES))
    sns.boxplot(
        named,
        x="precision",
        y="relative_difference",
        hue="gradient_rule",
        order=order,
        hue_order=[*RULE_NAMES.values()],
        palette={name: RULE_COLOURS[rule] for rule, name in RULE_NAMES.items()},
        whis=(0, 100),
        gap=0.1,
        log_scale=(False, True),
        ax=axes,
    )
    for (precision, rule), own in values.groupby(["precision", "gradient_rule"]):
        place = order.index(precision) + (0.2 if rule == "injected" else -0.2)
        words = _times_the_gradient(own["relative_difference"].median())
        top = own["relative_difference"].max()
        axes.text(place, 1.4 * top, words, color=RULE_COLOURS[rule], ha="center", fontsize=9)
    axes.margins(y=0.12)
    for index, precision in enumerate(order):
        if precision in published:
            low, median, high = published[precision]
            axes.errorbar(
                index + 0.45,
                median,
                yerr=[[median - low], [high - median]],
                color=PUBLISHED,
                marker="s",
                markerfacecolor="white",
                capsize=4,
                label="published quartiles"
                if "published quartiles" not in axes.get_legend_handles_labels()[1]
                else None,
            )
    axes.set(xlabel="", ylabel="relative L2 gradient change, s=1 against s=0")
    axes.axhline(1, color=PUBLISHED, linewidth=0.8, linestyle=":")
    axes.legend().remove()
    legend_below(figure, [axes], ncols=3)
    return taken_from_pyplot(figure)


def _times_the_gradient(change: float) -> str:
    return f"{change:.2g} times" if change >= 1 else f"{100 * change:.2g} %"


def prediction_figure(points: dict[str, pd.DataFrame]) -> Figure:
    """Released shares of networks in the zone against predicted ones, a panel an arithmetic.

    points: {arithmetic: rows of `predictions.points`}. Bars are exact 95 % intervals of both.
    """
    figure, axes = plt.subplots(1, len(points), figsize=(WIDTH, 3.4), sharey=True, squeeze=False)
    for panel, (arithmetic, table) in zip(axes.flat, points.items(), strict=True):
        panel.plot([0, 1], [0, 1], ":", color=PUBLISHED, linewidth=0.8)
        for (work, precision), own in table.groupby(["work", "precision"]):
            panel.errorbar(
                own["ours"],
                own["published"],
                xerr=[own["ours"] - own["low"], own["high"] - own["ours"]],
                yerr=[
                    own["published"] - own["published_low"],
                    own["published_high"] - own["published"],
                ],
                fmt=PRECISION_MARKERS[precision],
                color="#444444",
                markerfacecolor=WORK_FILLS[work],
                markersize=6,
                linewidth=0.8,
                label=f"{work}, {precision}",
            )
        if table.empty:
            panel.text(0.5, 0.5, "no point is complete", ha="center")
        panel.set(xlabel="share in this arithmetic", title=arithmetic, xlim=(-0.03, 1.03))
    axes[0, 0].set(ylabel="published share of networks", ylim=(-0.03, 1.03))
    most_first = sorted(axes.flat, key=lambda panel: -len(panel.containers))
    legend_below(figure, most_first, ncols=4)
    return taken_from_pyplot(figure)


def curve_figure(table: pd.DataFrame) -> Figure:
    """Released shares over mini-batches (marks) and predicted ones (lines with intervals).

    table: rows of `predictions.curve_points`; a panel a curve, but for those that are 1 at every
    point, published and predicted.
    """
    by_curve = table.groupby(["panel", "precision"], sort=False)
    curves = [
        (name, own)
        for name, own in by_curve
        if not (own[["ours", "published"]] == 1).all(axis=None)
    ]
    rows = max(1, -(-len(curves) // 3))
    figure, axes = plt.subplots(rows, 3, figsize=(WIDTH, 1.8 * rows), sharey=True, squeeze=False)
    if not curves:
        axes[0, 0].text(0, 0.5, "no curve to show")
        axes[0, 0].set_axis_off()
    for panel in axes.flat[max(1, len(curves)) :]:
        panel.remove()
    for panel, ((name, precision), own) in zip(axes.flat, curves, strict=False):
        panel.plot(own["batches"], own["ours"], color="#444444", label="predicted")
        panel.fill_between(own["batches"], own["low"], own["high"], color="#444444", alpha=0.25)
        panel.plot(own["batches"], own["published"], "D", color=PUBLISHED, ms=4, label="published")
        panel.set_xscale("log")
        panel.set(title=f"{name}, {precision}", xlabel="mini-batches", ylim=(-0.03, 1.03))
    for panel in axes[:, 0]:
        panel.set_ylabel("share of networks")
    legend_below(figure, axes.flat, ncols=2)
    return taken_from_pyplot(figure)


def conv_volume_figure(shares: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Share of networks in the zone against mini-batches seen (B21 Fig. 5, 16).

    shares: rows of `convolutional.conv_shares` with architecture, batch_norm, precision and
    gradient_rule; published: rows with architecture, batch_norm, precision, batches and share.
    """
    networks = list(dict.fromkeys(shares["architecture"]))
    figure, axes = plt.subplots(
        len(networks),
        2,
        figsize=(WIDTH, 2.7 * len(networks)),
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    for row, network in zip(axes, networks, strict=True):
        for panel, norm in zip(row, (False, True), strict=True):
            _conv_panel(panel, *(_of(t, network, norm) for t in (shares, published)))
            panel.set_title(f"{network}, {'with' if norm else 'without'} batch norm")
        row[0].set_ylabel("share in the zone")
    for panel in axes[-1]:
        panel.set(xlabel="mini-batches of 100 images", xscale="log", ylim=(-0.03, 1.03))
    known = set(shares["precision"]) | set(published["precision"])
    _explain(axes[0, 0], [precision for precision in PRECISION_COLOURS if precision in known])
    legend_below(figure, [axes[0, 0]], ncols=5)
    return taken_from_pyplot(figure)


def _of(table: pd.DataFrame, network: str, norm: bool) -> pd.DataFrame:
    return table[(table["architecture"] == network) & (table["batch_norm"] == norm)]


def _explain(axes: Axes, precisions: Iterable[str]) -> None:
    """Labels of empty lines for a legend: what a colour means, and what a form."""
    for precision in precisions:
        axes.plot([], [], color=PRECISION_COLOURS[precision], linewidth=4, label=precision)
    names = {"injected": "constant, or both rules", "chain": "derivative"}
    for rule, label in names.items():
        axes.plot([], [], FORMS[rule], color=PUBLISHED, label=label)
    axes.plot([], [], ":s", color=PUBLISHED, markerfacecolor="white", label="published")


def _conv_panel(axes: Axes, shares: pd.DataFrame, published: pd.DataFrame) -> None:
    for _, own, style in _lines(shares, "batches"):
        _with_intervals(axes, own, "batches", **style)
    for precision, own in published.groupby("precision", sort=False):
        axes.plot(
            own["batches"],
            own["share"],
            ":s",
            color=PRECISION_COLOURS[precision],
            markerfacecolor="white",
        )


def table_1_figure(marks: pd.DataFrame) -> Figure:
    """B21's Table 1 as a forest plot: a panel each of its rows, ours by rule, squares published.

    marks: rows of `table_1.marks`. Zero stands at the left edge of a logarithmic axis.
    """
    precisions = list(dict.fromkeys(marks["precision"]))
    figure, axes = plt.subplots(
        1, len(ROWS), figsize=(WIDTH, 1.4 + 0.55 * len(precisions)), sharey=True
    )
    offsets = {"published": -0.25, "chain": 0.0, "injected": 0.25}
    for panel, row in zip(axes, ROWS, strict=True):
        for rule, offset in offsets.items():
            own = marks[(marks["row"] == row) & (marks["rule"] == rule)]
            panel.errorbar(
                own["value"],
                [precisions.index(precision) + offset for precision in own["precision"]],
                xerr=np.clip([own["value"] - own["low"], own["high"] - own["value"]], 0, None),
                fmt=RULE_MARKERS.get(rule, "s"),
                color=RULE_COLOURS.get(rule, PUBLISHED),
                markerfacecolor="white" if rule == "published" else None,
                capsize=3,
                label=RULE_NAMES.get(rule, rule),
            )
        panel.set(title=row)
        panel.margins(x=0.1)
    axes[1].set_xscale("symlog", linthresh=1e-6)
    axes[1].set_xticks([0, 1e-6, 1e-4, 1e-2], ["0", "$10^{-6}$", "0.01 %", "1 %"])
    if (marks["row"] == ROWS[2]).any():  # at fp64 no gradient changes
        axes[2].set_xscale("log")
    axes[0].set_xticks([0, 0.5, 1], ["0", "50 %", "100 %"])
    axes[0].set_yticks(range(len(precisions)), precisions)
    axes[0].invert_yaxis()
    legend_below(figure, axes, ncols=3)
    return taken_from_pyplot(figure)
