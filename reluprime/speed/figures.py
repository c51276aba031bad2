"""The figure of speeds and their goals."""

import statistics

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from reluprime.evidence.style import PUBLISHED, QUIET, WIDTH, taken_from_pyplot
from reluprime.speed.tables import ratios


def speed_figure(frame: pd.DataFrame) -> Figure:
    """How many times as fast ours is, a bar a comparison, with its range and its goal.

    frame: rows of `study.measure`. A goal is a black stroke; the line is at equal speed.
    """
    found = ratios(frame)
    figure, axes = plt.subplots(figsize=(WIDTH, 1 + 0.42 * len(found)))
    for row, (values, goal) in enumerate(found.values()):
        middle = statistics.median(values)
        axes.barh(row, middle - 1, left=1, height=0.6, color=QUIET)
        axes.plot([min(values), max(values)], [row, row], color=PUBLISHED, linewidth=1)
        axes.annotate(
            f" {middle:.2g}", (max(middle, *values, 1, goal or 0), row), va="center", fontsize=9
        )
        if goal:
            axes.plot([goal, goal], [row - 0.4, row + 0.4], color="black", linewidth=3)
    axes.axvline(1, color=PUBLISHED, linewidth=0.8)
    axes.set_yticks(range(len(found)), [name.replace(" / ", "\nagainst ") for name in found])
    axes.set_xscale("log")
    ticks = [0.1, 1, 10]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set(xlabel="times as fast; black stroke: goal")
    axes.margins(x=0.1)
    axes.invert_yaxis()
    return taken_from_pyplot(figure)
