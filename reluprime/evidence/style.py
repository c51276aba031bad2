"""The report's figures: one style, ours beside the published figure."""

from collections.abc import Iterable, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

RULE_COLOURS = {"chain": "#0072b2", "injected": "#d55e00", "control": "#666666"}
# Every precision; where they stand side by side, in this order.
PRECISION_COLOURS = {
    "fp16": "#cc79a7",
    "bf16": "#e69f00",
    "tf32": "#332288",
    "fp32": "#009e73",
    "fp64": "#56b4e9",
}
PRECISION_MARKERS = {"fp16": "o", "bf16": "^", "tf32": "P", "fp32": "s", "fp64": "D"}
FORM_MARKERS = {  # every form of `kernels.LINEAR_FORMS`
    "native": "o",
    "fused": "s",
    "unfused": "^",
    "split": "v",
    "split-2": "<",
    "split-8": ">",
    "wide": "D",
    "tf32": "P",
    "tf32-unfused": "X",
    "sequential": "p",
    "blocks-8": "h",
    "blocks-32": "8",
    "blocks-128": "*",
}
PUBLISHED = "#222222"


def use_style() -> None:
    """Set the style of all figures: white ground (also on dark pages), readable when narrow."""
    sns.set_theme(
        context="notebook",
        style="whitegrid",
        rc={
            "figure.dpi": 110,
            "figure.constrained_layout.use": True,
            "axes.titlesize": 11,
            "axes.labelsize": 10,
            "legend.fontsize": 9,
            "svg.hashsalt": "reluprime",
        },
    )


def closed(figure: Figure) -> Figure:
    """Close a figure in pyplot, and return it; every figure function ends with this.

    Jupyter shows the figures that are open in pyplot when a cell ends, and also the value of the
    cell's last line. A figure that is both would be shown twice.
    """
    plt.close(figure)
    return figure


def legend_below(figure: Figure, axes: Iterable[Axes], ncols: int) -> None:
    """One legend under the figure, with each label of its panels once."""
    handles = {}
    for panel in axes:
        handles |= dict(zip(*reversed(panel.get_legend_handles_labels()), strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=ncols)


def _rule(label: str) -> str:
    return label.partition(" ")[0]


def distance_panel(axes: Axes, run: dict) -> None:
    """L1 distance of control and variants to the s=0 network, by step (B21 Fig. 1, left)."""
    for label, values in run["distance"].items():
        style = "--" if label == "control" else "-"
        axes.plot(values, style, color=RULE_COLOURS[_rule(label)], label=label)
    axes.set_yscale("symlog", linthresh=1e-7)
    axes.set_yticks([0, 1e-6, 1e-4, 1e-2, 1, 100])
    axes.set_ylim(-3e-8, 100)
    axes.set(xlabel="step", ylabel="L1 distance to s=0", title="Weights")
    axes.axhline(1, color=PUBLISHED, linewidth=0.8, linestyle=":")
    axes.legend(loc="center right")


def preactivation_panel(axes: Axes, run: dict) -> None:
    """Smallest |pre-activation| of each hidden layer, exact zeros at the foot (Fig. 1, centre)."""
    for index, values in enumerate(run["min_abs_preactivation"].values()):
        values = np.asarray(values)
        positive = np.where(values > 0, values, np.nan)
        axes.plot(positive, ".", markersize=3, color=f"C{index}", label=f"layer {index + 1}")
        for step in np.flatnonzero(values == 0):
            axes.plot(
                step,
                0.05,
                "v",
                transform=axes.get_xaxis_transform(),
                color=f"C{index}",
                markersize=9,
                markeredgecolor="black",
            )
    axes.set_yscale("log")
    axes.set(xlabel="step", ylabel="smallest |pre-activation|", title="Exact zeros: triangles")
    axes.legend(loc="lower right", markerscale=3)


def event_figure(runs: Sequence[dict]) -> Figure:
    """One row a run: distances and smallest pre-activations (B21 Fig. 1, 7 and 8, left, centre).

    runs: rows of `bifurcation.paired_run` as dicts.
    """
    figure, axes = plt.subplots(len(runs), 2, figsize=(9, 3.2 * len(runs)), squeeze=False)
    for (left, right), run in zip(axes, runs, strict=True):
        distance_panel(left, run)
        preactivation_panel(right, run)
        left.set_title(f"{run['precision']}, seed {run['seed']}")
    return closed(figure)


def weight_plane_figure(planes: pd.DataFrame) -> Figure:
    """|pre-activation| over a plane, exact zeros in white (B21 Fig. 1 and 7, right).

    planes: rows of `bifurcation.weight_plane`; the first with an event is shown.
    """
    with_event = planes[planes["event"].notna()]
    if with_event.empty:
        figure, axes = plt.subplots(figsize=(9, 1))
        axes.set_axis_off()
        axes.text(0.5, 0.5, "No pre-activation was exactly 0 in these runs.", ha="center")
        return closed(figure)
    plane = with_event.iloc[0]
    names = {"plane": plane["run"]["precision"], "plane_fp64": "fp64"}
    grids = {name: np.array(plane[name]) for name in names}
    smallest = min(g[g > 0].min() for g in grids.values())
    largest = max(g.max() for g in grids.values())
    reach = plane["coordinates"][-1]
    figure, axes = plt.subplots(1, 2, figsize=(9, 4), sharey=True)
    for panel, (name, precision) in zip(axes, names.items(), strict=True):
        share = (grids[name] == 0).mean()
        image = panel.imshow(
            np.ma.masked_equal(grids[name], 0),
            norm=LogNorm(max(smallest, largest * 1e-5), largest),
            extent=(-reach, reach, -reach, reach),
            origin="lower",
            cmap="viridis",
        )
        panel.grid(False)
        panel.plot(0, 0, "+", color="red", markersize=12)
        panel.set(title=f"{precision}: {share:.1%} exactly 0", xlabel="v")
        panel.ticklabel_format(style="sci", scilimits=(0, 0))
    axes[0].set_ylabel("u")
    figure.colorbar(image, ax=axes, label="|pre-activation|", shrink=0.85)
    return closed(figure)


def share_panel(axes: Axes, ours: pd.DataFrame, published: pd.DataFrame, by: str) -> None:
    """Share of networks in the zone over one size.

    ours: rows with `by`, precision, gradient_rule, share, low, high (see
    `statistics.zone_shares`); published: rows with `by`, precision, share.
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
    return closed(figure)


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
    return closed(figure)


def predicted_rate_figure(rates: pd.DataFrame) -> Figure:
    """Measured against predicted zeros a pre-activation, one point an activation of a condition.

    rates: `statistics.forward_rates` with columns precision and form. Conditions without a zero
    stand at the upper end of their interval, as arrows that point down.
    """
    figure, axes = plt.subplots(figsize=(9, 5.5))
    for (precision, form), group in rates.groupby(["precision", "form"], sort=False):
        met = group[group["rate"] > 0]
        error = [met["rate"] - met["low"], met["high"] - met["rate"]]
        axes.errorbar(
            met["predicted"],
            met["rate"],
            yerr=error,
            fmt=FORM_MARKERS[form],
            color=PRECISION_COLOURS[precision],
            markeredgecolor="black",
            markeredgewidth=0.5,
            elinewidth=1,
            label=f"{precision}, {form}",
        )
        none = group[group["rate"] == 0]
        axes.plot(
            none["predicted"],
            none["high"],
            linestyle="none",
            marker="$\u2193$",
            color=PRECISION_COLOURS[precision],
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    ends = (rates["predicted"].min() / 2, rates["predicted"].max() * 2)
    axes.plot(ends, ends, ":", color=PUBLISHED, linewidth=0.8)
    axes.set(xlabel="predicted: density at 0 times width", ylabel="exact zeros a pre-activation")
    axes.legend(loc="upper left", ncols=2)
    return closed(figure)


WORK_FILLS = {"B21": "#444444", "M23": "white"}


def prediction_figure(points: dict[str, pd.DataFrame]) -> Figure:
    """Released shares of networks in the zone against predicted ones, a panel an arithmetic.

    points: {arithmetic: rows of `predictions.points`}. Bars are exact 95 % intervals of ours.
    """
    figure, axes = plt.subplots(1, len(points), figsize=(9, 4.6), sharey=True, squeeze=False)
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
    return closed(figure)


def curve_figure(table: pd.DataFrame) -> Figure:
    """Released shares over mini-batches (marks) and predicted ones (lines with intervals).

    table: rows of `predictions.curve_points`; a panel a curve.
    """
    curves = list(table.groupby(["panel", "precision"], sort=False))
    rows = max(1, -(-len(curves) // 3))
    figure, axes = plt.subplots(rows, 3, figsize=(9, 2.7 * rows), sharey=True, squeeze=False)
    for panel in axes.flat[len(curves) :]:
        panel.set_axis_off()
    if not curves:
        axes[0, 0].text(0, 0.5, "no curve is complete")
    for panel, ((name, precision), own) in zip(axes.flat, curves, strict=False):
        panel.plot(own["batches"], own["ours"], color="#444444", label="predicted")
        panel.fill_between(own["batches"], own["low"], own["high"], color="#444444", alpha=0.25)
        panel.plot(own["batches"], own["published"], "D", color=PUBLISHED, ms=4, label="published")
        panel.set_xscale("log")
        panel.set(title=f"{name}, {precision}", xlabel="mini-batches", ylim=(-0.03, 1.03))
    for panel in axes[:, 0]:
        panel.set_ylabel("share of networks")
    legend_below(figure, axes.flat, ncols=2)
    return closed(figure)
