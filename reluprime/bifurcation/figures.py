"""Figures of paired runs and of the plane of weights (B21 Fig. 1, 7 and 8)."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from reluprime.evidence.panels import legend_below
from reluprime.evidence.style import (
    PUBLISHED,
    QUIET,
    RULE_COLOURS,
    RULE_MARKERS,
    RULE_NAMES,
    WIDTH,
    layer_greys,
    taken_from_pyplot,
)

MANY = 50  # exact zeros of a layer, whose triangles are drawn small


def _rule(label: str) -> str:
    return label.partition(" ")[0]


def _name(label: str) -> str:
    """The words for "chain s=1" or "control"."""
    rule, _, rest = label.partition(" ")
    return f"{RULE_NAMES.get(rule, rule)} {rest}".strip()


def distance_panel(axes: Axes, run: dict) -> None:
    """L1 distance of control and variants to the s=0 network, by step (B21 Fig. 1, left).

    Lines that end at one height have one label.
    """
    ends: dict[float, list[str]] = {}
    for label, values in run["distance"].items():
        style = "--" if label == "control" else "-"
        axes.plot(values, style, color=RULE_COLOURS[_rule(label)])
        finite = [value for value in values if np.isfinite(value)]
        ends.setdefault(finite[-1], []).append(label)
    place = {"xytext": (0, 4), "textcoords": "offset points", "ha": "right", "fontsize": 9}
    for height, labels in ends.items():
        last = len(run["distance"][labels[0]]) - 1
        colour = RULE_COLOURS[_rule(labels[0])] if len(labels) == 1 else PUBLISHED
        axes.annotate(", ".join(map(_name, labels)), (last, height), color=colour, **place)
    axes.set_yscale("symlog", linthresh=1e-7)
    axes.set_yticks([0, 1e-6, 1e-4, 1e-2, 1, 100, 1e4])
    axes.set_ylim(-3e-8, 1e5)
    axes.set(xlabel="step", ylabel="L1 distance to s=0", title="Weights")
    axes.axhline(1, color=PUBLISHED, linewidth=0.8, linestyle=":")


def preactivation_panel(axes: Axes, run: dict) -> None:
    """Smallest |pre-activation| of each hidden layer, exact zeros at the foot (Fig. 1, centre)."""
    layers = [np.asarray(values) for values in run["min_abs_preactivation"].values()]
    greys = layer_greys(len(layers) + 1)  # without the lightest
    for index, values in enumerate(layers):
        positive = np.where(values > 0, values, np.nan)
        axes.plot(positive, ".", markersize=3, color=greys[index], label=f"layer {index + 1}")
        steps = np.flatnonzero(values == 0)
        few = {"markersize": 9, "markeredgecolor": "black"} if len(steps) < MANY else {}
        feet = np.full(len(steps), 0.05 if index % 2 == 0 else 0.13)
        style = {"transform": axes.get_xaxis_transform(), "color": greys[index], "markersize": 4}
        axes.plot(steps, feet, "v", **style | few)
    axes.set_yscale("log")
    axes.set(xlabel="step", ylabel="smallest |pre-activation|", title="exact zeros: triangles")


def event_figure(runs: Sequence[dict]) -> Figure:
    """One row a run: distances and smallest pre-activations (B21 Fig. 1, 7 and 8, left, centre).

    runs: rows of `bifurcation.paired_run` as dicts.
    """
    figure, axes = plt.subplots(len(runs), 2, figsize=(WIDTH, 2.7 * len(runs)), squeeze=False)
    for (left, right), run in zip(axes, runs, strict=True):
        distance_panel(left, run)
        preactivation_panel(right, run)
        how = f" in {run['arithmetic']}" if "arithmetic" in run else ""  # left out at native
        left.set_title(f"{run['precision']}{how}, seed {run['seed']}")
    legend_below(figure, axes[:, 1], ncols=2, markerscale=3)
    return taken_from_pyplot(figure)


def weight_plane_figure(planes: pd.DataFrame) -> Figure:
    """|pre-activation| over a plane, exact zeros in white (B21 Fig. 1 and 7, right).

    planes: rows of `bifurcation.weight_plane`; the first with an event is shown.
    """
    with_event = planes[planes["event"].notna()]
    if with_event.empty:
        figure, axes = plt.subplots(figsize=(WIDTH, 1))
        axes.set_axis_off()
        axes.text(0.5, 0.5, "No pre-activation was exactly 0 in these runs.", ha="center")
        return taken_from_pyplot(figure)
    plane = with_event.iloc[0]
    names = {"plane": plane["run"]["precision"], "plane_fp64": "fp64"}
    grids = {name: np.array(plane[name]) for name in names}
    smallest = min(g[g > 0].min() for g in grids.values())
    largest = max(g.max() for g in grids.values())
    power = int(np.floor(np.log10(plane["coordinates"][-1])))
    reach = plane["coordinates"][-1] / 10**power
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.2), sharey=True)
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
        panel.set(title=f"{precision}: {share:.1%} exactly 0", xlabel=f"v, in $10^{{{power}}}$")
    axes[0].set_ylabel(f"u, in $10^{{{power}}}$")
    figure.colorbar(image, ax=axes, label="|pre-activation|", shrink=0.85)
    return taken_from_pyplot(figure)


def distance_figure(table: pd.DataFrame) -> Figure:
    """Distance to the s=0 network by step, a panel for each precision (M23 Fig. 1).

    table: rows of `tables.distances`. Solid: L1 distance; dashed: what M23 plotted. A line starts
    where the networks part and ends where a weight is no longer finite.
    """
    precisions = list(dict.fromkeys(table["precision"]))
    figure, axes = plt.subplots(
        1, len(precisions), figsize=(WIDTH, 3.2), sharey=True, squeeze=False
    )
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
                label=f"{RULE_NAMES[rule]}, {quantity}",
            )
        if not (own["value"] > 0).any():
            what = "not finite" if own["value"].isna().any() else "never apart"
            panel.text(0.5, 0.5, what, ha="center", transform=panel.transAxes)
        panel.set(title=precision, xlabel="step", yscale="log", xlim=(0, own["step"].max()))
    axes[0, 0].set_ylabel("distance to s=0")
    legend_below(figure, axes[0], ncols=2)
    return taken_from_pyplot(figure)


def runs_figure(events: pd.DataFrame) -> Figure:
    """What each gradient rule made of the first exact zero of each run, joined by a line.

    events: rows of `tables.events`.
    """
    runs = list(dict.fromkeys(events["run"]))
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 1.5 + 0.3 * len(runs)), sharey=True)
    words = {"gradient": "relative change of the gradient", "jump": "jump of the weights (L1)"}
    for panel, (value, label) in zip(axes, words.items(), strict=True):
        ends = events.pivot_table(index="run", columns="gradient_rule", values=value).loc[runs]
        panel.hlines(range(len(runs)), ends.min(axis=1), ends.max(axis=1), color=QUIET, zorder=0)
        for rule in ends:
            style = {"color": RULE_COLOURS[rule], "markersize": 8}
            panel.plot(ends[rule], range(len(runs)), RULE_MARKERS[rule], **style)
            middle = ends[rule].median()
            panel.text(middle, -0.6, RULE_NAMES[rule], color=RULE_COLOURS[rule], ha="center")
        panel.set(xscale="log", xlabel=label)
        panel.margins(x=0.15)
    axes[0].set_yticks(range(len(runs)), runs)
    axes[0].set_ylim(len(runs) - 0.5, -1.1)
    return taken_from_pyplot(figure)
