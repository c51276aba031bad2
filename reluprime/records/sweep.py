"""Computing the cells of a grid that a store lacks."""

import json
import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager

import pandas as pd
import torch
from pydantic import BaseModel
from tqdm import tqdm

from reluprime.instruments import precision
from reluprime.records import cluster, provenance, scratch
from reluprime.records.keys import cell_key, study_name
from reluprime.records.store import Store, newest_by_cell
from reluprime.records.tables import hashable, one_a_cell
from reluprime.records.taken import taken

COMPUTE = ("missing", "never", "always")
PAUSE = 0.5  # seconds, before looking again for cells that others compute


def sweep(
    study: Callable,
    configs: Iterable[BaseModel],
    store: Store,
    compute: str = "missing",
    max_seconds: float | None = None,
    device: str | torch.device | None = None,
    executor: str = "local",
) -> pd.DataFrame:
    """The results of a grid; each new cell is in `store` as soon as it is done.

    `compute`: "missing" computes the cells that `store` lacks, "never" none, "always" all anew.
    A cell that `store` has from a CPU or a GPU is not missing. Of two machines that share a grid
    the rows are of one, as far as it goes: see :func:`tables.one_a_cell`.
    Locally, what another process computes for `store` is waited for and not computed twice.
    No cell starts later than `max_seconds` after the call. `device`: by default CUDA if there is.
    `executor`: "local" computes one cell after the other in this process; "ray" as many at once
    as the cluster at RAY_ADDRESS (or else this machine) has room for, a cell again elsewhere if
    its worker or node dies; this process alone writes to `store`, and what it cannot write
    is to be computed anew.

    Returns one row a cell that `store` has in the end, in the order of `configs`. Columns: the
    config's fields (lists as tuples), the result's, `key`, `provenance`. ``attrs["missing"]``
    counts the cells without a row; a UserWarning tells of them; ``attrs["study"]`` is the study's
    name. Raises ValueError for an unknown `compute` or `executor`, a config given twice or a field
    in both config and result; and before anything is computed, RecordsError if `store` cannot be
    written, and locally ValueError for a precision that the device lacks.
    """
    if compute not in COMPUTE:
        raise ValueError(f"compute={compute!r} is unknown; choose one of {list(COMPUTE)}")
    if executor not in EXECUTORS:
        raise ValueError(f"executor={executor!r} is unknown; choose one of {list(EXECUTORS)}")
    deadline = time.monotonic() + (math.inf if max_seconds is None else max_seconds)
    grid, name = _grid(study, configs), study_name(study)
    known = newest_by_cell(store.read(name).values())
    if configs := _to_compute(grid, known, compute):
        store.check_writable(name)
        may_start = lambda: time.monotonic() < deadline  # noqa: E731
        if executor == "local" and compute == "missing":
            computed = _shared(study, configs, device, may_start, store)
        else:
            computed = EXECUTORS[executor](study, configs, device, may_start)
        # Closed here also where a record cannot be written: see `scratch`.
        with closing(computed):
            for record in tqdm(computed, desc=name, total=len(configs)):
                store.append(record)
    found = _frame(grid, one_a_cell(store.read(name).values(), grid))
    found.attrs["study"] = name
    if missing := found.attrs["missing"]:
        what = f"{missing} of {len(grid)} cells of {name} are missing in {store.path}"
        warnings.warn(f"{what}; sweep again with compute='missing' to get them", stacklevel=2)
    return found


def check_sweep(study: Callable, configs: Iterable[BaseModel], store: Store, compute: str) -> None:
    """Raise ValueError where :func:`sweep` would, locally, before it computes anything."""
    grid, records = _grid(study, configs), store.read(study_name(study))
    _able(study, _to_compute(grid, newest_by_cell(records.values()), compute), None)


def _to_compute(grid: dict, records: dict, compute: str) -> list[BaseModel]:
    """Of a grid by key, which configs `compute` asks for."""
    todo = {"missing": grid.keys() - records.keys(), "never": (), "always": grid}[compute]
    return [config for key, config in grid.items() if key in todo]


def _grid(study: Callable, configs: Iterable[BaseModel]) -> dict[str, BaseModel]:
    """The configs by key; raises ValueError if one comes twice."""
    grid = {}
    for config in configs:
        key = cell_key(study, config)
        if key in grid:
            raise ValueError(f"the grid has a config twice: {config!r}")
        grid[key] = config
    return grid


def _shared(study, configs, device, may_start, store: Store) -> Iterator[dict]:
    """:func:`_one_by_one` for what no other process has computed, or computes, for the store."""
    device = _able(study, configs, device)
    known, end = set(), 0
    while configs:
        waiting = []
        for config in configs:
            if not may_start():
                return
            with taken(store, cell_key(study, config, device.type)) as own:
                if not own:
                    waiting.append(config)
                    continue
                new, end = store.since(study_name(study), end)
                known |= newest_by_cell(new).keys()
                if cell_key(study, config) not in known:
                    yield from _one_by_one(study, [config], device, may_start)
        if len(waiting) == len(configs):
            time.sleep(PAUSE)
        configs = waiting


def _able(study, configs, device) -> torch.device:
    """The device, by default the best; ValueError where it cannot compute some config."""
    device = precision.best_device() if device is None else torch.device(device)
    for config in configs:
        with _named_in_errors(study, config):
            reduced = getattr(config, "reduced_precision", False)
            precision.require(config.precision, device, reduced)
    return device


def _one_by_one(study, configs, device, may_start: Callable[[], bool]) -> Iterator[dict]:
    device = _able(study, configs, device)  # before the first is computed
    for config in configs:
        if not may_start():
            return
        with scratch.kept_until_written():  # until the next is asked for, after this is appended
            yield measure(study, config, device)


def _on_cluster(study, configs, device, may_start: Callable[[], bool]) -> Iterator[dict]:
    """Checkpoints go when a worker is done, which may be out of reach of this process.

    So a cell whose record this process cannot write, as on a full disk, is computed again.
    """
    return cluster.run(measure, [(study, c, device) for c in configs], device, may_start)


EXECUTORS = {"local": _one_by_one, "ray": _on_cluster}


def measure(study: Callable, config: BaseModel, device: str | torch.device | None) -> dict:
    """The record of one cell, computed now; by default on CUDA if there is one.

    An error in it says of which cell.
    """
    with _named_in_errors(study, config):
        return _measure(study, config, device)


@contextmanager
def _named_in_errors(study: Callable, config: BaseModel) -> Iterator[None]:
    try:
        yield
    except BaseException as error:  # an interrupt too
        error.add_note(f"in {study_name(study)}({config!r})")
        raise


def _measure(study: Callable, config: BaseModel, device: str | torch.device | None) -> dict:
    device = precision.best_device() if device is None else torch.device(device)
    began = scratch.clock()
    result = study(config, device=device)
    seconds = scratch.clock() - began  # with those of processes that were killed
    result = json.loads(json.dumps(result))  # as it will be read back: tuples become lists
    if clash := result.keys() & {*config.model_dump(), "key", "provenance"}:
        raise ValueError(f"the result has fields that are columns already: {sorted(clash)}")
    return {
        "key": cell_key(study, config, device.type),
        "study": study_name(study),
        "version": study.version,
        "config": config.model_dump(mode="json"),
        "result": result,
        "provenance": provenance.describe(config, device, seconds),
    }


def _frame(grid: dict[str, BaseModel], records: dict[str, dict]) -> pd.DataFrame:
    """One row a cell of `grid` that is in `records`; an empty frame has its columns too."""
    inputs = {key: config.model_dump() for key, config in grid.items()}
    rows = []
    for key in filter(records.__contains__, grid):
        row = {name: hashable(value) for name, value in inputs[key].items()}
        record = records[key]
        origin = {"key": record["key"], "provenance": record["provenance"]}
        rows.append(row | record["result"] | origin)
    last = ("key", "provenance")
    names = [name for row in [*inputs.values(), *rows] for name in row if name not in last]
    frame = pd.DataFrame(rows, columns=[*dict.fromkeys(names), *last])
    frame.attrs["missing"] = len(grid) - len(rows)
    return frame
