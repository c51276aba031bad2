"""A claim of the papers, the cells that its rule reads, and how it is judged from them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import pandas as pd
from pydantic import BaseModel

from reluprime import records
from reluprime.evidence.finding import OPEN, Condition, Finding
from reluprime.instruments.activations import GRADIENT_RULES

DEVICES = ("cpu", "cuda")  # a cell can have a record of each


class Cell(NamedTuple):
    """A cell of a rule's grid."""

    study: Callable
    config: BaseModel
    # Another config of the study: this cell is computed, and read, only if that one's result
    # asks for it (see `asks`). None: in any case.
    after: BaseModel | None = None


def asks_for_more(study: str, result: dict) -> bool:
    """Whether the result of a cell's `after` makes the cell necessary.

    A training at s=0 that met no exact zero equals every other s bit for bit, so its arms need no
    run of their own. A paired run is made longer only if it had no event.
    """
    if study == "bifurcation.paired_run":
        return result["event"] is None
    return any(any(map(any, layer)) for layer in result["exact_zeros"].values())


@lru_cache(2**16)
def _key(study: Callable, config: BaseModel, device: str) -> str:
    """`records.cell_key`, remembered: a rule looks each of its cells up many times."""
    return records.cell_key(study, config, device)


class Evidence:
    """The records of some cells, looked up by config, so that every field of it is fixed."""

    def __init__(self, found: Iterable[dict]):
        self._found = {record["key"]: record for record in found}

    @classmethod
    def of_store(cls, store: records.Store, studies: Iterable[str]) -> "Evidence":
        """All records of a store, by the names of their studies."""
        return cls(r for name in studies for r in store.read(name).values())

    def of(self, study: Callable, config: BaseModel) -> list[dict]:
        """The records of a cell, at most one for each kind of device."""
        keys = (_key(study, config, device) for device in DEVICES)
        return [self._found[key] for key in keys if key in self._found]

    def table(self, study: Callable, configs: Iterable[BaseModel]) -> pd.DataFrame:
        """A row a record of these configs: the columns of `records.table`."""
        rows = [record for config in configs for record in self.of(study, config)]
        return records.frame(study, rows)

    def by_machine(self, cells: Iterable[Cell]) -> dict[str, "Evidence"]:
        """What each machine has of these cells, that which made most of the records first.

        Of two that made as many, the first to finish: one that catches up moves no number.
        """
        found: dict[str, list[dict]] = {}
        for cell in cells:
            for record in self.of(cell.study, cell.config):
                found.setdefault(records.machine(record["provenance"]), []).append(record)
        most_first = sorted(
            found.items(), key=lambda of: (-len(of[1]), max(map(records.made, of[1])), of[0])
        )
        return {machine: Evidence(own) for machine, own in most_first}

    def on_one_machine(self, cells: Iterable[Cell]) -> "Evidence":
        """What the machine has that made most of these cells' records.

        The same config gives other bits on another machine (see `records.machine`), so nothing is
        paired, pooled or compared between two.
        """
        return next(iter(self.by_machine(cells).values()), self)

    def complete(self, cells: Sequence[Cell]) -> dict[str, "Evidence"]:
        """Those of :meth:`by_machine` that lack no cell; all made-up evidence is of one."""
        found = self.by_machine(cells) or {"": self}
        return {machine: own for machine, own in found.items() if not own.missing(cells)}

    def due(self, cells: Iterable[Cell]) -> list[Cell]:
        """Those of the cells that the records found so far ask for."""
        return [cell for cell in cells if self._asked(cell)]

    def missing(self, cells: Iterable[Cell]) -> list[Cell]:
        """Cells that are due and have no record."""
        return [cell for cell in self.due(cells) if not self.of(cell.study, cell.config)]

    def _asked(self, cell: Cell) -> bool:
        if cell.after is None:
            return True
        name = records.study_name(cell.study)
        before = self.of(cell.study, cell.after)
        return any(asks_for_more(name, record["result"]) for record in before)


Example = Callable[[Cell], dict | None]  # a made-up result of a cell; None: it has no record


@dataclass(frozen=True)
class Claim:
    """One row of the scorecard, and the rule that judges it."""

    id: str
    statement: str
    published: str
    source: str  # where the papers make the claim
    figure: str  # where the report shows it: notebook#heading
    rule: str  # in words, for the registry and the page
    thresholds: Mapping[str, float]
    grid: Callable[[str, str], list[Cell]]  # of a gradient rule and an arithmetic
    judge: Callable[[Evidence, str, str], Finding]  # of complete evidence; the same two
    scale: str  # of the grid, in words
    # Made-up records: what the rule says of them is registered with it.
    examples: Mapping[str, Example]
    reduced: bool = False  # the grid is below the paper's scale
    arithmetics: tuple[str, ...] = ("native",)
    inferred: str | None = None  # the arithmetic that the published number comes from
    on_published: Callable[[], Finding] | None = None  # the rule on the papers' released data
    flaw: Callable[[], str | None] | None = None  # what the published numbers alone show
    counts_zeros: bool = False  # both rules see the same zeros: they cannot answer differently

    def conditions(self) -> list[Condition]:
        """The (gradient rule, arithmetic) pairs under which the claim is judged."""
        return [(rule, arithmetic) for arithmetic in self.arithmetics for rule in GRADIENT_RULES]

    def cells(self) -> list[Cell]:
        """The cells of all conditions; one that several read comes several times."""
        return [cell for condition in self.conditions() for cell in self.grid(*condition)]

    def finding(self, evidence: Evidence, condition: Condition) -> Finding:
        """What the evidence says; nothing as long as a cell is missing.

        Each machine that has all cells is judged by itself; where they disagree, it is open.
        """
        cells = self.grid(*condition)
        complete = evidence.complete(cells)
        if not complete:
            evidence = evidence.on_one_machine(cells)
            due = len(evidence.due(cells))
            there = due - len(evidence.missing(cells))
            return Finding(None, f"{there} of {due} cells so far" if there else "")
        found = {machine: self.judge(own, *condition) for machine, own in complete.items()}
        if len({finding.outcome for finding in found.values()}) == 1:
            return next(iter(found.values()))
        words = (f"{machine}: {own.outcome} ({own.value})" for machine, own in found.items())
        return Finding(OPEN, "; ".join(words))

    def begun(self, evidence: Evidence, condition: Condition) -> list[str]:
        """Machines that have some of the cells where another has all, and how many, in words.

        They are not judged, and may answer differently once they have all. Cells that another rule
        asked for count as well.
        """
        cells = self.grid(*condition)
        if not evidence.complete(cells):
            return []
        lack = {
            m: (own.due(cells), own.missing(cells)) for m, own in evidence.by_machine(cells).items()
        }
        return [
            f"{machine} has {len(due) - len(missing)} of {len(due)} cells so far"
            for machine, (due, missing) in lack.items()
            if missing
        ]
