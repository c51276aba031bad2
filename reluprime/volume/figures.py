"""Figures of the Monte Carlo, ours beside the published ones."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reluprime.evidence.style import (
    PRECISION_COLOURS,
    PRECISION_MARKERS,
    PUBLISHED,
    RULE_COLOURS,
    RULE_MARKERS,
    RULE_NAMES,
    legend_below,
    taken_from_pyplot,
)
from reluprime.volume.table_1 import ROWS

WORK_FILLS = {"B21": "#444444", "M23": "white"}


def share_panel(axes: Axes, ours: pd.DataFrame, published: pd.DataFrame, by: str) -> None:
    """Share of networks in the zone over one size.

    ours: rows with `by`, precision, gradient_rule, share, low, high (see
    `shares.zone_shares`); published: rows with `by`, precision, share.
    """
    markers = {"chain": "o", "injected": "x"}
    for (precision, rule), group in ours.groupby(["precision", "gradient_rule"], sort=False):
        error = [group["share"] - group["low"], group["high"] - group["share"]]
        axes.errorbar(
            group[by],
            group["share"],
            yerr=np.clip(error, 0, None),
            color=PRECISION_COLOURS[precision],
            marker=markers[rule],
            markersize={"chain": 5, "injected": 9}[rule],
            capsize=2,
            label=f"{precision}, {rule}",
        )
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


def volume_figure(panels: dict[str, tuple[pd.DataFrame, pd.DataFrame]]) -> Figure:
    """Shares over several sizes, side by side (B21 Fig. 2, M23 Fig. 4).

    panels: {size: (ours, published)} as in :func:`share_panel`.
    """
    figure, axes = plt.subplots(2, 2, figsize=(9, 7), sharey=True)
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
    figure, axes = plt.subplots(figsize=(9, 4.2))
    order = [p for p in PRECISION_COLOURS if p in set(values["precision"])]
    sns.boxplot(
        values,
        x="precision",
        y="relative_difference",
        hue="gradient_rule",
        order=order,
        hue_order=["chain", "injected"],
        palette=RULE_COLOURS,
        whis=(0, 100),
        gap=0.1,
        log_scale=(False, True),
        ax=axes,
    )
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


def prediction_figure(points: dict[str, pd.DataFrame]) -> Figure:
    """Released shares of networks in the zone against predicted ones, a panel an arithmetic.

    points: {arithmetic: rows of `predictions.points`}. Bars are exact 95 % intervals of ours.
    """
    figure, axes = plt.subplots(1, len(points), figsize=(9, 3.6), sharey=True, squeeze=False)
    for panel, (arithmetic, table) in zip(axes.flat, points.items(), strict=True):
        panel.plot([0, 1], [0, 1], ":", color=PUBLISHED, linewidth=0.8)
        for (work, precision), own in table.groupby(["work", "precision"], sort=False):
            panel.errorbar(
                own["ours"],
                own["published"],
                xerr=[own["ours"] - own["low"], own["high"] - own["ours"]],
                fmt=PRECISION_MARKERS[precision],
                color="#444444",
                markerfacecolor=WORK_FILLS[work],
                markersize=6,
                linewidth=0.8,
                label=f"{work}, {precision}",
            )
        if table.empty:
            panel.text(0.5, 0.5, "no point is complete", ha="center")
        panel.set(xlabel="predicted share of networks", title=arithmetic, xlim=(-0.03, 1.03))
    axes[0, 0].set(ylabel="published share of networks", ylim=(-0.03, 1.03))
    legend_below(figure, axes.flat, ncols=4)
    return taken_from_pyplot(figure)


def curve_figure(table: pd.DataFrame) -> Figure:
    """Released shares over mini-batches (marks) and predicted ones (lines with intervals).

    table: rows of `predictions.curve_points`; a panel a curve.
    """
    curves = list(table.groupby(["panel", "precision"], sort=False))
    rows = max(1, -(-len(curves) // 4))
    figure, axes = plt.subplots(rows, 4, figsize=(10, 2.0 * rows), sharey=True, squeeze=False)
    for panel in axes.flat[len(curves) :]:
        panel.set_axis_off()
    if not curves:
        axes[0, 0].text(0, 0.5, "no curve is complete")
    for panel, ((name, precision), own) in zip(axes.flat, curves, strict=False):
        panel.plot(own["batches"], own["ours"], color="#444444", label="predicted")
        panel.fill_between(own["batches"], own["low"], own["high"], color="#444444", alpha=0.25)
        panel.plot(own["batches"], own["published"], "D", color=PUBLISHED, ms=4, label="published")
        panel.set_xscale("log")
        panel.set(title=f"{name},\n{precision}", xlabel="mini-batches", ylim=(-0.03, 1.03))
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
        len(networks), 2, figsize=(9, 3.3 * len(networks)), sharex=True, sharey=True, squeeze=False
    )
    for row, network in zip(axes, networks, strict=True):
        for panel, norm in zip(row, (False, True), strict=True):
            _conv_panel(panel, *(_of(t, network, norm) for t in (shares, published)))
            panel.set_title(f"{network}, {'with' if norm else 'without'} batch norm")
        row[0].set_ylabel("share in the zone")
    for panel in axes[-1]:
        panel.set(xlabel="mini-batches of 100 images", xscale="log", ylim=(-0.03, 1.03))
    legend_below(figure, axes.flat, ncols=4)
    return taken_from_pyplot(figure)


def _of(table: pd.DataFrame, network: str, norm: bool) -> pd.DataFrame:
    return table[(table["architecture"] == network) & (table["batch_norm"] == norm)]


def _conv_panel(axes: Axes, shares: pd.DataFrame, published: pd.DataFrame) -> None:
    for (precision, rule), own in shares.groupby(["precision", "gradient_rule"], sort=False):
        error = [own["share"] - own["low"], own["high"] - own["share"]]
        axes.errorbar(
            own["batches"],
            own["share"],
            yerr=np.clip(error, 0, None),
            color=PRECISION_COLOURS[precision],
            marker={"chain": "o", "injected": "X"}[rule],
            linestyle={"chain": "--", "injected": "-"}[rule],
            markersize={"chain": 5, "injected": 8}[rule],
            capsize=2,
            label=f"{precision}, {rule}",
        )
    for precision, own in published.groupby("precision", sort=False):
        axes.plot(
            own["batches"],
            own["share"],
            ":s",
            color=PRECISION_COLOURS[precision],
            markerfacecolor="white",
            label=f"{precision}, published",
        )


def table_1_figure(marks: pd.DataFrame) -> Figure:
    """B21's Table 1 as a forest plot: a panel each of its rows, ours by rule, squares published.

    marks: rows of `table_1.marks`. Zero stands at the left edge of a logarithmic axis.
    """
    precisions = list(dict.fromkeys(marks["precision"]))
    figure, axes = plt.subplots(1, len(ROWS), figsize=(9, 1.4 + 0.6 * len(precisions)), sharey=True)
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
    axes[2].set_xscale("log")
    axes[0].set_xticks([0, 0.5, 1], ["0", "50 %", "100 %"])
    axes[0].set_yticks(range(len(precisions)), precisions)
    axes[0].invert_yaxis()
    legend_below(figure, axes, ncols=3)
    return taken_from_pyplot(figure)
