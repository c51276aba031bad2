"""Panels with one legend: side by side on a page, one below the other on a phone."""

import pickle
from collections.abc import Iterable

from matplotlib.axes import Axes
from matplotlib.figure import Figure

NARROW = 4.2  # inches: of a phone, where words are then about as large as in the text
NARROW_COLUMNS = 2  # of a legend


def legend_below(figure: Figure, axes: Iterable[Axes], ncols: int, markerscale: float = 1) -> None:
    """Draw one legend under the figure, with each label of its panels once, published ones last."""
    handles = {}
    for panel in axes:
        handles |= dict(zip(*reversed(panel.get_legend_handles_labels()), strict=True))
    labels = sorted(handles, key=lambda label: "published" in label)
    style = {"ncols": ncols, "markerscale": markerscale, "frameon": False}
    figure.legend([handles[label] for label in labels], labels, loc="outside lower center", **style)


def narrow(figure: Figure) -> Figure:
    """A copy of this figure for a phone: its panels in one column, in the order of its rows.

    Each has the height of a row, and says what others of its row and column said for it.
    """
    copy = pickle.loads(pickle.dumps(figure))
    placed = [a for a in copy.axes if a.get_subplotspec()]  # all but the bars of colours
    panels = sorted(placed, key=_place)
    if not panels:
        return copy
    _say_everything(panels)
    rows = max(_place(p)[0] for p in panels) + 1
    height = copy.get_figheight() / rows
    for place, panel in zip(copy.add_gridspec(len(panels), 1), panels, strict=True):
        panel.set_subplotspec(place)
    for legend in tuple(copy.legends):
        legend.remove()
        legend_below(copy, panels, NARROW_COLUMNS, legend.markerscale)
    copy.set_size_inches(NARROW, height * len(panels))
    return copy


def _place(panel: Axes) -> tuple[int, int]:
    """Row and column."""
    place = panel.get_subplotspec()
    return place.rowspan.start, place.colspan.start


def _say_everything(panels: list[Axes]) -> None:
    """Give each panel the title, the labels and the numbers that it shares with others."""
    for panel in panels:
        row = [p for p in panels if _place(p)[0] == _place(panel)[0]]
        column = [p for p in panels if _place(p)[1] == _place(panel)[1]]
        panel.set_title(panel.get_title() or column[0].get_title())
        panel.set_ylabel(panel.get_ylabel() or row[0].get_ylabel())
        panel.set_xlabel(panel.get_xlabel() or column[-1].get_xlabel())
        panel.tick_params(labelleft=True, labelbottom=True)
