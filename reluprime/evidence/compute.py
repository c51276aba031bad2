"""Compute the registered grids, cell by cell, as far as the results so far ask for them.

Processes may share a store: each takes a cell that no other has, and one that is killed leaves
its cell to the others.
"""

import multiprocessing
import time
import warnings
from collections.abc import Iterable

import torch
from pydantic import BaseModel

from reluprime import records
from reluprime.evidence.claim import Cell, Claim, asks_for_more
from reluprime.instruments import precision
from reluprime.records import scratch
from reluprime.records.taken import is_taken, taken

PAUSE = 1.0  # seconds, before looking again for a cell that others have or that waits for theirs


def cells_of(claims: Iterable[Claim], arithmetic: str | None = None) -> list[Cell]:
    """The cells of claims' grids, in one arithmetic or all, each once and in their order."""
    cells = [
        cell
        for claim in claims
        for condition in claim.conditions()
        if arithmetic in (None, condition[1])
        for cell in claim.grid(*condition)
    ]
    return list({records.cell_key(cell.study, cell.config): cell for cell in cells}.values())


def compute(cells: list[Cell], store: records.Store, max_seconds: float, workers: int = 1) -> None:
    """Compute what a store lacks of cells, in their order; none starts after `max_seconds`.

    On a GPU a record of a CPU does not count, nor the other way round: a claim is judged on a
    machine that has all its cells, and pairs are of one machine (see :meth:`Claim.finding`), so
    each kind of device must be able to complete a grid by itself.

    Results may ask for more cells (arms of a training that met a zero), so what is due is looked
    up anew before each. Stopped and started again it goes on. With several workers each is a
    process of its own, on the GPU if there is one; all are waited for, and ChildProcessError is
    raised if one failed. Cells whose numerics this machine lacks are left out, with a UserWarning.
    """
    cells, end = [c for c in cells if _computable(c.config)], time.time() + max_seconds
    if workers == 1:
        return work(cells, store, end)
    spawn = multiprocessing.get_context("spawn")  # CUDA does not live through a fork
    running = [spawn.Process(target=work, args=(cells, store, end)) for _ in range(workers)]
    for process in running:
        process.start()
    for process in running:
        process.join()
    if failed := sum(process.exitcode != 0 for process in running):
        words = f"{failed} of {workers} workers failed: see what they printed above"
        raise ChildProcessError(words)  # an OSError: the command says what cannot be done


def _computable(config: BaseModel) -> bool:
    """Whether this device has the precision of a config; warns where it has not."""
    reduced = getattr(config, "reduced_precision", False)
    try:
        precision.require(config.precision, precision.best_device(), reduced)
    except ValueError as error:
        warnings.warn(f"left out: {error}", stacklevel=4)
        return False
    return True


def work(cells: list[Cell], store: records.Store, end: float) -> None:
    """Compute cells that no other process has, in their order, until `end` (of time.time())."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    todo = {records.cell_key(cell.study, cell.config, device): cell for cell in cells}
    known = _KnownResults(store, {_awaited_key(cell, device) for cell in cells if cell.after})
    while todo and time.time() < end:
        known.update({records.study_name(cell.study) for cell in todo.values()})
        todo = {key: cell for key, cell in todo.items() if known.wants(key, cell, device)}
        if not _compute_first_free(todo, known, store, device):
            # What is left is with others, or waits for theirs: without any, it is not due.
            if not any(is_taken(store, key) for key in {*todo, *known.awaited(todo, device)}):
                return
            time.sleep(PAUSE)


def _compute_first_free(
    todo: dict[str, Cell], known: "_KnownResults", store: records.Store, device: str
) -> bool:
    """Compute the first cell that is due and that no other process has; say if there was one."""
    for key, cell in todo.items():
        if not known.is_due(cell, device):
            continue
        with taken(store, key) as own:
            if not own:
                continue
            # Another may have finished it since the store was read.
            known.update({records.study_name(cell.study)})
            if known.wants(key, cell, device):
                with scratch.kept_until_written():
                    record = records.measure(cell.study, cell.config, device)
                    store.append(record)
                seconds = record["provenance"]["wall_seconds"]
                print(f"{key} {record['study']} {seconds:.1f} s", flush=True)
            return True
    return False


class _KnownResults:
    """What a store has, by key; each update reads on from where the last one ended."""

    def __init__(self, store: records.Store, awaited: set[str]):
        """awaited: keys of the cells that others wait for.

        These alone are asked whether they need more: other studies count exact zeros otherwise.
        """
        self._store, self._awaited = store, awaited
        self._ends: dict[str, int] = {}
        self._asks: dict[str, bool] = {}  # by key: whether its result asks for more

    def update(self, studies: Iterable[str]) -> None:
        """Read what was added to the files of these studies."""
        for name in studies:
            found, self._ends[name] = self._store.since(name, self._ends.get(name, 0))
            for record in found:
                key = record["key"]
                self._asks[key] = key in self._awaited and asks_for_more(name, record["result"])

    def wants(self, key: str, cell: Cell, device: str) -> bool:
        """Whether a cell has no record, and may still be due."""
        return key not in self._asks and self._asks.get(_awaited_key(cell, device), True)

    def is_due(self, cell: Cell, device: str) -> bool:
        """Whether a cell waits for no other, or that one's result asks for it."""
        return cell.after is None or self._asks.get(_awaited_key(cell, device), False)

    def awaited(self, cells: dict[str, Cell], device: str) -> set[str]:
        """Keys of the cells without a record that others wait for."""
        return {_awaited_key(c, device) for c in cells.values() if c.after} - self._asks.keys()


def _awaited_key(cell: Cell, device: str) -> str | None:
    """The key of the cell that this one waits for; None where it waits for none."""
    return cell.after and records.cell_key(cell.study, cell.after, device)
