"""The report's figures: one style, ours beside the published figure."""

from collections.abc import Iterable

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
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


def predicted_rate_figure(rates: pd.DataFrame) -> Figure:
    """Measured against predicted zeros a pre-activation, one point an activation of a condition.

    rates: `tables.forward_rates` with columns precision and form. Conditions without a zero
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
