"""Figures of the page "How many kinks does it take?"."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Image
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator, StrMethodFormatter

from reluprime.dose import papers
from reluprime.dose.experiments import NETWORKS
from reluprime.dose.tables import RELEASED, by_width
from reluprime.evidence.panels import legend_below, narrow
from reluprime.evidence.style import (
    PUBLISHED,
    RULE_COLOURS,
    RULE_MARKERS,
    RULE_NAMES,
    WIDTH,
    png,
    spread,
    taken_from_pyplot,
)

NAMES = {"mlp": "MLP 3x256, MNIST", "vgg11": "VGG11, CIFAR-10", "resnet18": "ResNet-18, CIFAR-10"}
GREYS = ("#222222", "#777777", "#aaaaaa")


def _count(value: float, _) -> str:
    """1, 10, ... 1,000, then 10k, 1M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= size:
            return f"{value / min(size, size if letter != 'k' else 1e3):g}{letter}"
    return f"{value:,g}"


def _log_doses(axes: Axes, label: str = "dose: kinks that the same run meets at s=0") -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(_count))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(label)


def _line(axes: Axes, curve: pd.DataFrame, rule: str, label: str) -> None:
    """Mean points against the dose, and the range of the runs."""
    own = curve[curve["dose"] > 0].sort_values("dose")
    if own.empty:
        return
    colour = RULE_COLOURS[rule]
    axes.plot(own["dose"], 100 * own["difference"], "-", marker=RULE_MARKERS[rule], color=colour)
    axes.fill_between(own["dose"], 100 * own["least"], 100 * own["most"], color=colour, alpha=0.15)
    last = own.iloc[-1]
    axes.annotate(
        label,
        (last["dose"], 100 * last["difference"]),
        xytext=(6, 2),
        textcoords="offset points",
        color=colour,
        va="bottom",
        fontsize=9,
    )


def dose_panel(axes: Axes, pairs: pd.DataFrame) -> None:
    """Points of test accuracy against s=0 over the dose, at s=1, by gradient rule."""
    for rule, label in RULE_NAMES.items():
        own = pairs[(pairs["gradient_rule"] == rule) & (pairs["s"] == 1)]
        if len(own):
            _line(axes, by_width(own), rule, label)
    axes.axhline(0, color=PUBLISHED, linewidth=0.8)
    _log_doses(axes)
    axes.margins(x=0.18)
    axes.set_ylabel("points against s=0")


def dose_figure(by_network: dict[str, pd.DataFrame]) -> Figure:
    """One panel a network that has runs: what the derivative and the constant cost, at s=1."""
    shown = {name: pairs for name, pairs in by_network.items() if len(pairs)}
    shown = shown or {"mlp": by_network["mlp"]}  # of which nothing is known so far
    size = {"figsize": (WIDTH, 1.9 * len(shown)), "squeeze": False}
    figure, axes = plt.subplots(len(shown), 1, sharex=True, sharey=True, **size)
    for panel, (name, pairs) in zip(axes.flat, shown.items(), strict=True):
        dose_panel(panel, pairs)
        panel.set_title(NAMES[name])
        if panel is not axes.flat[-1]:
            panel.set_xlabel("")
    return taken_from_pyplot(figure)


def answer_figure(by_network: dict[str, pd.DataFrame]) -> Figure:
    """The report in one picture: accuracy over the dose at s=1, derivative and constant.

    by_network: rows of `dose.pairs` by network; a line a network and rule, of means over seeds.
    """
    figure, axes = plt.subplots(figsize=(WIDTH, 3.7))
    ends = []
    for (network, pairs), marker in zip(by_network.items(), "os^", strict=True):
        for rule in RULE_NAMES:
            own = pairs[(pairs["gradient_rule"] == rule) & (pairs["s"] == 1)]
            line = by_width(own) if len(own) else own.assign(dose=0.0)
            line = line[line["dose"] > 0].sort_values("dose")
            if line.empty:
                continue
            points = 100 * line["difference"]
            axes.plot(line["dose"], points, marker=marker, color=RULE_COLOURS[rule], markersize=5)
            if rule == "injected":
                last = (line["dose"].iloc[-1], points.iloc[-1])
                ends.append((NAMES[network], *last, RULE_COLOURS[rule]))
    _label_ends(axes, ends, 4.5)
    _log_doses(axes)
    axes.set_xlim(right=5e9)
    axes.set(ylim=(-66, 11), ylabel="test accuracy against s=0, in points")
    words = {"fontsize": 10.5, "va": "bottom", "fontweight": "bold"}
    axes.text(2, 3, "derivative: s times the gradient", color=RULE_COLOURS["chain"], **words)
    axes.text(2, -64, "constant: s in its place", color=RULE_COLOURS["injected"], **words)
    return taken_from_pyplot(figure)


def answer_pictures(by_network: dict[str, pd.DataFrame]) -> dict[str, Figure | Image]:
    """:func:`answer_figure` by the names of its files: wide, for a phone, and as PNG."""
    wide = answer_figure(by_network)
    return {"answer.svg": wide, "answer-narrow.svg": narrow(wide), "answer.png": png(wide)}


def _label_ends(axes: Axes, ends: list[tuple[str, float, float, str]], gap: float) -> None:
    """Names beside the ends (name, x, y, colour) of lines, at least `gap` apart in y."""
    place = {"xytext": (8, 0), "textcoords": "offset points", "va": "center", "fontsize": 9}
    heights = spread([height for _, _, height, _ in ends], gap)
    for (name, x, _, colour), height in zip(ends, heights, strict=True):
        axes.annotate(name, (x, height), color=colour, **place)


def s_figure(pairs: pd.DataFrame) -> Figure:
    """The constant at each s: points over the dose."""
    figure, axes = plt.subplots(figsize=(WIDTH, 3.1))
    own = pairs[pairs["gradient_rule"] == "injected"]
    values = sorted(set(own["s"]), key=abs)
    shades = plt.get_cmap("Oranges")(np.linspace(0.35, 1, max(len(values), 1)))
    ends = []
    for s, shade in zip(values, shades, strict=False):
        curve = by_width(own[own["s"] == s])
        curve = curve[curve["dose"] > 0].sort_values("dose")
        if curve.empty:
            continue
        style = "--" if s < 0 else "-"
        axes.plot(curve["dose"], 100 * curve["difference"], style, marker=".", color=shade)
        last = curve.iloc[-1]
        ends.append((f"s={s:g}", last["dose"], 100 * last["difference"], shade))
    _label_ends(axes, ends, 6)
    axes.axhline(0, color=PUBLISHED, linewidth=0.8)
    _log_doses(axes)
    axes.margins(x=0.12)
    axes.set_ylabel("points against s=0")
    return taken_from_pyplot(figure)


def dead_figure(pairs: pd.DataFrame) -> Figure:
    """Units that died against the kinks that a run met, at s=1; one dot a run."""
    figure, axes = plt.subplots(figsize=(WIDTH, 3.1))
    for rule, label in RULE_NAMES.items():
        own = pairs[(pairs["gradient_rule"] == rule) & (pairs["s"] == 1) & (pairs["kinks"] > 0)]
        dead = (own["dead_units"] - own["dead_at_0"]).clip(lower=0)
        axes.plot(own["kinks"], dead, RULE_MARKERS[rule], color=RULE_COLOURS[rule], label=label)
    line = np.geomspace(1, 768, 20)
    axes.plot(line, line, ":", color=PUBLISHED, label="one unit a kink")
    axes.set_yscale("symlog", linthresh=1)
    axes.yaxis.set_major_formatter(FuncFormatter(_count))
    axes.yaxis.set_minor_locator(NullLocator())
    _log_doses(axes, "kinks that the run met")
    axes.set_ylabel("units that died, of 768")
    legend_below(figure, [axes], ncols=3)
    return taken_from_pyplot(figure)


def unit_figure(layers: pd.DataFrame) -> Figure:
    """Dead units after each epoch, and kinks met in it, by layer; layers: `unit_tables.by_layer`.

    A shade a band. Grey: the runs at s=0 with the same bands.
    """
    size = {"figsize": (WIDTH, 4.0), "sharex": True, "sharey": "row"}
    figure, axes = plt.subplots(2, 3, **size)
    shades = plt.get_cmap("Oranges")(np.linspace(0.4, 0.9, 3))
    means = layers.groupby(["kink_width", "s", "layer", "epoch"])[["kinks", "dead"]].mean()
    widths = sorted(set(layers["kink_width"]))
    for (width, s, layer), own in means.groupby(level=[0, 1, 2]):
        epochs = own.index.get_level_values("epoch")
        shade = shades[widths.index(width)] if s else "#999999"
        dose = means.loc[(width, 0.0), "kinks"].groupby("layer").sum().sum()
        label = f"dose {dose:,.0f}" if s else "s=0"
        for panel, name in zip(axes[:, layer - 1], ("dead", "kinks"), strict=True):
            panel.plot(epochs, own[name], "-" if s else "--", marker=".", color=shade, label=label)
    for layer, panel in enumerate(axes[0], start=1):
        panel.set_title(f"layer {layer}")
    axes[0, 0].set_ylabel("dead units, of 256")
    axes[1, 0].set(ylabel="kinks in the epoch", yscale="log")
    for panel in axes[1]:
        panel.set(xlabel="epoch", xticks=sorted(set(layers["epoch"])))
    if len(layers):
        legend_below(figure, axes.flat, ncols=4)
    return taken_from_pyplot(figure)


def mitigation_figure(pairs: pd.DataFrame) -> Figure:
    """What the constant costs at s=1 over the dose, a line a way to train; gains are not drawn."""
    figure, axes = plt.subplots(figsize=(WIDTH, 3.5))
    names = list(dict.fromkeys(pairs["condition"]))
    styles = ("-", "--", "-.", ":")
    for index, name in enumerate(names):
        own = pairs[(pairs["condition"] == name) & (pairs["s"] == 1)]
        curve = by_width(own[own["gradient_rule"] == "injected"])
        if curve.empty:
            continue
        curve = curve[(curve["dose"] > 0) & (curve["difference"] < 0)].sort_values("dose")
        first = name == RELEASED
        axes.plot(
            curve["dose"],
            -100 * curve["difference"],
            styles[index % len(styles)],
            marker="X" if first else ".",
            color=RULE_COLOURS["injected"] if first else GREYS[(index - 1) // 2 % len(GREYS)],
            label=name,
        )
    axes.axhline(1, color=PUBLISHED, linewidth=0.8)
    _log_doses(axes)
    axes.set(yscale="log", ylabel="points lost against s=0")
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    if axes.lines[:-1]:
        legend_below(figure, [axes], ncols=4)
    return taken_from_pyplot(figure)


def paper_figure(by_network: dict[str, pd.DataFrame], doses: pd.DataFrame) -> Figure:
    """Our curves at s=1 by kinks a unit, a panel a network, and the doses of the papers' trainings.

    by_network: rows of `runs.pairs`. doses: of `papers.paper_doses`, with the drop that was
    published at s=1 (NaN where none was), which is a cross.
    """
    shown = {name: pairs for name, pairs in by_network.items() if len(pairs)} or {
        "mlp": by_network["mlp"]
    }
    size = {"figsize": (WIDTH, 1.8 * len(shown)), "squeeze": False, "sharex": True, "sharey": True}
    figure, axes = plt.subplots(len(shown), 1, **size)
    for panel, (name, pairs) in zip(axes.flat, shown.items(), strict=True):
        _, units = papers.size(NETWORKS[name][0])
        for rule, label in RULE_NAMES.items():
            own = pairs[(pairs["gradient_rule"] == rule) & (pairs["s"] == 1)]
            if len(own):
                curve = by_width(own)
                _line(panel, curve.assign(dose=curve["dose"] / units), rule, label)
        panel.axhline(0, color=PUBLISHED, linewidth=0.8)
        _log_doses(panel, "dose: kinks a unit")
        panel.margins(x=0.12)
        panel.set(title=NAMES[name], ylabel="points against s=0")
        if panel is not axes.flat[-1]:
            panel.set_xlabel("")
        for height, row in enumerate(doses[doses["architecture"] == name].to_dict("records")):
            _paper(panel, row, 0.06 + 0.12 * height)
    return taken_from_pyplot(figure)


def _paper(axes: Axes, row: dict, height: float) -> None:
    low, high = row["low"] / row["units"], row["high"] / row["units"]
    axes.axvspan(low, high, color="#777777", alpha=0.25)
    axes.plot(row["a_unit"], 100 * row["published"], "x", color=PUBLISHED, markersize=9)
    place = {"transform": axes.get_xaxis_transform(), "fontsize": 8, "ha": "right"}
    optimizer = row["training"].rpartition(", ")[2]
    axes.text(0.9 * low, height, f"B21's dose, {optimizer}", **place)
