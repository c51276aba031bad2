"""What a page does not do at the papers' scale, and what its records cost."""

import html
from collections.abc import Iterable
from typing import Any

import pandas as pd

from reluprime.parameters import Parameters
from reluprime.records import machine
from reluprime.report import pages

PAPER = "paper"  # the profile that has the papers' scale
HOUR = 3600
NOTHING = "no time, since there are no records"


def differences(name: str, parameters: Parameters) -> list[str]:
    """The parameters of a page that are not those of the profile at the papers' scale, in words."""
    theirs = pages.checked(name, pages.section(name, PAPER))
    found = []
    for parameter, own in parameters:
        paper = getattr(theirs, parameter)
        if parameter not in pages.RUN and own != paper:
            found.append(_compared(parameter.replace("_", " "), own, paper))
    return found


def _compared(words: str, own: Any, paper: Any) -> str:
    if isinstance(own, (list, tuple)) and len(own) != len(paper):
        return f"{words}: {len(own)} value{'s' * (len(own) != 1)} instead of {len(paper)}"
    return f"{words}: {_plain(own)} instead of {_plain(paper)}"


def _plain(value: Any) -> str:
    if isinstance(value, dict):  # a bound or number for each precision
        return ", ".join(f"{name} {_plain(own)}" for name, own in value.items()) or "no bound"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_plain, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else f"{value:,g}"


def cost(frames: Iterable[pd.DataFrame]) -> str:
    """What computing these records took, by machine; a record in two frames counts once."""
    taken = {
        key: (machine(how), how["wall_seconds"])
        for frame in frames
        if len(frame)
        for key, how in zip(frame["key"], frame["provenance"], strict=True)
    }
    by_machine = pd.DataFrame(taken.values(), columns=["machine", "seconds"]).groupby("machine")
    hours = by_machine["seconds"].sum() / HOUR
    return " and ".join(f"{_hours(own)} ({name})" for name, own in hours.items()) or NOTHING


def _hours(hours: float) -> str:
    minutes = round(60 * hours)
    if minutes >= 60:
        return f"{hours:.1f} hours"
    return f"{minutes} minute{'s' * (minutes > 1)}" if minutes else "less than a minute"


def line(name: str, parameters: Parameters, frames: Iterable[pd.DataFrame]) -> str:
    """Scale and cost as HTML: a line of a page's summary, which unfolds into the differences."""
    differing = differences(name, parameters)
    taken = f"computing what its parameters ask for took {cost(frames)}."
    if not differing:
        return f'<p class="scale">Cost: {taken}</p>'
    parts = "1 parameter is not" if len(differing) == 1 else f"{len(differing)} parameters are not"
    summary = f"Scale: {parts} as at the papers' scale. Cost: {taken}"
    items = "".join(f"<li>{html.escape(words)}</li>" for words in differing)
    return f'<details class="scale"><summary>{summary}</summary><ul>{items}</ul></details>'
