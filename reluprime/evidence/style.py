"""The report's figures: one style, ours beside the published figure."""

import io
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import seaborn as sns
from IPython import get_ipython
from IPython.core.pylabtools import print_figure
from IPython.display import Image
from matplotlib.figure import Figure
from matplotlib_inline.backend_inline import set_matplotlib_formats

from reluprime.evidence.panels import narrow

RULE_COLOURS = {"chain": "#0072b2", "injected": "#d55e00", "control": "#666666"}
RULE_NAMES = {"chain": "derivative", "injected": "constant"}
RULE_MARKERS = {"chain": "o", "injected": "X"}
# Every precision; where they stand side by side, in this order.
PRECISION_COLOURS = {
    "fp16": "#cc79a7",
    "bf16": "#e69f00",
    "tf32": "#332288",
    "fp32": "#009e73",
    "fp64": "#56b4e9",
}
PRECISION_MARKERS = {"fp16": "o", "bf16": "^", "tf32": "P", "fp32": "s", "fp64": "D"}
PUBLISHED = "#222222"
WIDTH = 7.2  # inches: of a page's column
UNDATED = {"Date": None}  # so that a figure of the same records is the same file
QUIET = "#999999"  # what tells no rule apart: layers, lines that join


def use_style() -> None:
    """Set the style of all figures: SVG without a ground of its own, the same bytes each time."""
    shell = get_ipython()
    if shell:
        set_matplotlib_formats("svg", metadata=UNDATED)
        shell.display_formatter.mimebundle_formatter.for_type(Figure, _with_narrow)
    sns.set_theme(
        context="notebook",
        style="whitegrid",
        rc={
            "figure.dpi": 110,
            "figure.constrained_layout.use": True,
            "axes.titlesize": 11,
            "axes.labelsize": 10,
            "legend.fontsize": 9,
            "figure.facecolor": "none",
            "axes.facecolor": "none",
            "svg.hashsalt": "reluprime",
        },
    )


def _with_narrow(figure: Figure, **_: Any) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """To the picture that Jupyter shows, add as metadata what a phone shows in its place."""
    picture = print_figure(narrow(figure), "svg", metadata=UNDATED)
    return {}, {"image/svg+xml": {"narrow": picture}}


def taken_from_pyplot(figure: Figure) -> Figure:
    """Take a figure from the figures that pyplot has open; every figure function ends with this.

    Jupyter shows the figures that are open in pyplot when a cell ends, and also the value of the
    cell's last line. A figure that is both would be shown twice.
    """
    plt.close(figure)
    return figure


def png(figure: Figure) -> Image:
    """A figure on white, for those who show no SVG."""
    content = io.BytesIO()
    figure.savefig(content, format="png", facecolor="white", metadata={"Software": None})
    return Image(content.getvalue(), format="png")


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Heights for labels of these, from the top down at least `gap` apart."""
    placed, last = {}, float("inf")
    for index in sorted(range(len(heights)), key=lambda i: -heights[i]):
        placed[index] = last = min(heights[index], last - gap)
    return [placed[index] for index in range(len(heights))]


def layer_greys(n: int) -> list[str]:
    """A grey for each of n layers, the first the darkest."""
    return [str(0.2 + 0.6 * layer / max(1, n - 1)) for layer in range(n)]
