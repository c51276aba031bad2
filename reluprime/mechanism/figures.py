"""The figure of predicted and measured rates of exact zeros."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from reluprime.evidence.panels import legend_below
from reluprime.evidence.style import (
    PRECISION_COLOURS,
    PRECISION_MARKERS,
    PUBLISHED,
    QUIET,
    WIDTH,
    taken_from_pyplot,
)

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


def predicted_rate_figure(rates: pd.DataFrame) -> Figure:
    """Measured against predicted zeros a pre-activation, one point an activation of a condition.

    rates: `tables.forward_rates` with columns precision and form. Conditions without a zero
    stand at the upper end of their interval, as arrows that point down.
    """
    figure, axes = plt.subplots(figsize=(WIDTH, 4.6))
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
    legend_below(figure, [axes], ncols=4)
    return taken_from_pyplot(figure)


# Of a linear layer at 16 bits: what is done, from left to right. "fp32" and "16 bits" say in what
# a number is kept after it.
_STEPS = {
    "epilogue": (
        ("products and\ntheir sum", "fp32"),
        ("+ bias", "fp32"),
        ("round", "16 bits"),
    ),
    "separate": (
        ("products and\ntheir sum", "fp32"),
        ("round", "16 bits"),
        ("+ bias,\nround", "16 bits"),
    ),
}


def rounding_figure() -> Figure:
    """Where a linear layer rounds at 16 bits, in the two arithmetics that are written out."""
    figure, axes = plt.subplots(figsize=(WIDTH, 2.3))
    axes.set(xlim=(-0.15, 3.35), ylim=(-0.4, 1.7))
    axes.axis("off")
    for row, (name, steps) in enumerate(reversed(_STEPS.items())):
        axes.text(-0.1, row + 0.45, name, weight="bold")
        for column, (words, kept) in enumerate(steps):
            wide = kept == "fp32"
            box = {"boxstyle": "round,pad=0.4", "facecolor": "white" if wide else "0.85"}
            axes.text(column + 0.25, row, words, ha="center", va="center", fontsize=9, bbox=box)
            arrow = {"arrowstyle": "-|>", "color": "black"}
            ends = (column + 0.93, row), (column + 0.64, row)
            axes.annotate("", *ends, arrowprops=arrow)
            axes.text(column + 0.78, row + 0.14, kept, ha="center", fontsize=8)
        axes.text(2.96, row, "output", va="center", fontsize=9)
    return taken_from_pyplot(figure)


def shapes_figure(shapes: pd.DataFrame) -> Figure:
    """Exact zeros of a GPU's own linear layer against those of two emulations, a mark a shape.

    shapes: rows of `tables.by_shape`. On the dotted line both have as many; 0 is at the edges.
    """
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.2), sharey=True)
    for panel, arithmetic in zip(axes, ("epilogue", "separate"), strict=True):
        for precision, own in shapes.groupby("precision", sort=False):
            rates = own[[arithmetic, "native"]].div(own["calls"], axis=0)
            style = {"color": QUIET, "markeredgecolor": "black", "markersize": 6}
            marker = PRECISION_MARKERS[precision]
            panel.plot(rates[arithmetic], rates["native"], marker, label=precision, **style)
        panel.plot([0, 1], [0, 1], ":", color=PUBLISHED, linewidth=0.8)
        panel.set_xscale("symlog", linthresh=1e-7)
        panel.set_yscale("symlog", linthresh=1e-7)

        panel.set(xlabel=f"zeros an output, {arithmetic}", xlim=(-2e-8, 1e-2), ylim=(-2e-8, 1e-2))
    axes[0].set_ylabel("zeros an output, the GPU's kernel")
    legend_below(figure, axes, ncols=2)
    return taken_from_pyplot(figure)


def kinks_figure(rates: pd.DataFrame) -> Figure:
    """How often each kink is met, a panel for each time of training, a mark a precision.

    rates: rows of `kink_tables.rates`. An arrow: no hit, the upper end of the interval.
    """
    epochs, kinks = sorted(set(rates["epochs"])), list(dict.fromkeys(rates["kink"]))
    precisions = [p for p in PRECISION_MARKERS if p in set(rates["precision"])]
    figure, axes = plt.subplots(1, len(epochs), figsize=(WIDTH, 3.6), sharey=True, squeeze=False)
    for panel, epoch in zip(axes[0], epochs, strict=True):
        for side, precision in enumerate(precisions):
            own = rates[(rates["epochs"] == epoch) & (rates["precision"] == precision)]
            y = pd.Series([kinks.index(k) + 0.2 * side - 0.3 for k in own["kink"]], own.index)
            met = own["hits"] > 0
            style = {"color": QUIET, "markeredgecolor": "black", "linestyle": "none"}
            error = [(own["rate"] - own["low"])[met], (own["high"] - own["rate"])[met]]
            panel.errorbar(
                own["rate"][met],
                y[met],
                xerr=error,
                marker=PRECISION_MARKERS[precision],
                label=precision,
                **style,
            )
            panel.plot(
                own["high"][~met], y[~met], marker="$\u2190$", color="black", linestyle="none"
            )
        panel.set(xscale="log", xlabel="hits a call", title=f"after {epoch} epochs")
    axes[0, 0].set_title("at initialisation" if epochs[0] == 0 else f"after {epochs[0]} epochs")
    axes[0, 0].set_yticks(range(len(kinks)), kinks)
    axes[0, 0].invert_yaxis()
    legend_below(figure, axes[0], ncols=len(precisions))
    return taken_from_pyplot(figure)
