"""What a rule answers about one condition, and the verdict on a claim that follows from all.

A claim is judged in one cell for each gradient rule and arithmetic. The words of a cell and the
order of the verdicts are those of the report's scorecard.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

HOLDS, FAILS, OPEN, NO_OCCASION = "holds", "fails", "open", "no occasion"
DECIDED = (HOLDS, FAILS)
NOT_TESTED = "not tested"

Condition = tuple[str, str]  # gradient rule, arithmetic


@dataclass(frozen=True)
class Finding:
    """What the records say about a claim under one gradient rule and arithmetic."""

    outcome: str | None  # HOLDS, FAILS, OPEN, NO_OCCASION, or None: records are missing
    value: str  # what was measured, in words


def all_must_hold(parts: Iterable[str]) -> str:
    """The outcome of a rule from those of its parts, all of which must hold.

    One that fails decides; else one that is open, then one without occasion, leaves it undecided.
    """
    parts = list(parts)
    return next((word for word in (FAILS, OPEN, NO_OCCASION) if word in parts), HOLDS)


def of_parts(parts: Mapping[str, str], value: str) -> Finding:
    """The finding of a rule all of whose parts must hold; its words end with those that do not.

    parts: outcomes by what each part is about; value: what was measured.
    """
    words = [value]
    for word in (FAILS, OPEN, NO_OCCASION):
        if own := [name for name, outcome in parts.items() if outcome == word]:
            words.append(f"{word}: {', '.join(own)}")
    return Finding(all_must_hold(parts.values()), "; ".join(words))


def hold_where_there_is_occasion(parts: Sequence[str]) -> str:
    """As :func:`all_must_hold`, but parts without occasion count only where all are without."""
    return next((word for word in (FAILS, OPEN, HOLDS) if word in parts), NO_OCCASION)


def decided(holds: bool, fails: bool) -> str:
    """The outcome of one test for a statement and one against it; raises if both succeed."""
    if holds and fails:
        raise ValueError("a part of a rule cannot hold and fail")
    return HOLDS if holds else FAILS if fails else OPEN


def verdict(
    outcomes: Mapping[Condition, str | None],
    inferred: str | None = None,
    flaw: str | None = None,
    reduced: bool = False,
) -> str:
    """The scorecard's word for a table of outcomes; the first that applies.

    outcomes: one for each (gradient rule, arithmetic). inferred: the arithmetic that the published
    number is inferred to come from. flaw: "impossible as published" or "insufficient as
    published", where the published numbers themselves show it. reduced: the records are below the
    paper's scale.
    """
    if flaw:
        return flaw
    chain, injected = (_decided(outcomes, rule) for rule in ("chain", "injected"))
    return _at_scale(_verdict(outcomes, chain, injected, inferred), reduced)


def _decided(outcomes: Mapping[Condition, str | None], gradient_rule: str) -> dict[str, str]:
    """The decided outcomes of one gradient rule by arithmetic."""
    own = {a: word for (rule, a), word in outcomes.items() if rule == gradient_rule}
    return {arithmetic: word for arithmetic, word in own.items() if word in DECIDED}


def _verdict(outcomes, chain: dict[str, str], injected: dict[str, str], inferred) -> str:
    if _all(chain, HOLDS):
        return "reproduced"
    as_released = {inferred: injected.get(inferred)} if inferred else injected
    if _all(as_released, HOLDS):
        return "reproduced as released"
    if inferred is None and {*injected.values()} == {*DECIDED}:
        return "depends on the arithmetic"
    if _all(chain, FAILS) and _all(injected, FAILS):
        return "not reproduced"
    if not chain and not injected:
        return _undecided(outcomes.values())
    return "mixed"


def _all(outcomes: dict[str, str], word: str) -> bool:
    return bool(outcomes) and all(outcome == word for outcome in outcomes.values())


def _undecided(words: Iterable[str | None]) -> str:
    words = {*words}
    return next((word for word in (OPEN, NO_OCCASION) if word in words), NOT_TESTED)


def _at_scale(word: str, reduced: bool) -> str:
    if not reduced or word in (OPEN, NO_OCCASION, NOT_TESTED):
        return word
    word = word.replace("not reproduced", "contradicted").replace("reproduced", "supported")
    return f"{word} at reduced scale"


def matches(frame: pd.DataFrame, wanted: dict) -> pd.Series:
    """Rows whose columns have the wanted values; None is also what pandas makes of it, NaN."""
    match = pd.Series(True, index=frame.index)
    for name, value in wanted.items():
        column = frame[name]
        match &= column.isna() if value is None else column.map(lambda found, v=value: found == v)
    return match
