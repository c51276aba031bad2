"""What a rule of the scorecard answers, and what rules have in common."""

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

Frames = dict[str, pd.DataFrame]  # all records that the rules read, by study name


@dataclass(frozen=True)
class Finding:
    """What the records say under one gradient rule."""

    value: str  # our measurement, for the scorecard
    holds: bool | None  # None: the records are below the scale that the rule asks for


NOTHING = Finding("", None)


def all_of(parts: Iterable[bool | None]) -> bool | None:
    """Whether all parts of a claim hold: one that does not decides, else None if one is open."""
    parts = list(parts)
    if False in parts:
        return False
    return None if None in parts else True


def matches(frame: pd.DataFrame, wanted: dict) -> pd.Series:
    """Rows whose columns have the wanted values; None is also what pandas makes of it, NaN."""
    match = pd.Series(True, index=frame.index)
    for name, value in wanted.items():
        column = frame[name]
        match &= column.isna() if value is None else column.map(lambda found, v=value: found == v)
    return match
