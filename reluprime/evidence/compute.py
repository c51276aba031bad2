"""Compute the registered grids, cell by cell, as far as the results so far ask for them."""

import time
from collections.abc import Iterable

from reluprime import records
from reluprime.evidence.claim import Cell, Claim, Evidence


def missing(claim: Claim, store: records.Store, arithmetic: str | None = None) -> list[Cell]:
    """The cells of a claim's grids, in one arithmetic or all, that are due and lack a record."""
    wanted = [c for c in claim.conditions() if arithmetic in (None, c[1])]
    cells = [cell for condition in wanted for cell in claim.grid(*condition)]
    studies = {records.study_name(cell.study) for cell in cells}
    found = Evidence.of_store(store, studies).missing(cells)
    return list({records.cell_key(cell.study, cell.config): cell for cell in found}.values())


def compute(
    claims: Iterable[Claim], store: records.Store, max_seconds: float, arithmetic: str | None
) -> None:
    """Compute what claims' grids lack, claim by claim; no cell starts after `max_seconds`.

    Results may ask for more cells (arms of a training that met a zero), so the first missing cell
    is looked up anew each time. Stopped and started again it goes on; several processes may share
    a store if they have claims of their own.
    """
    end = time.monotonic() + max_seconds
    for claim in claims:
        while (cells := missing(claim, store, arithmetic)) and time.monotonic() < end:
            records.sweep(cells[0].study, [cells[0].config], store)
