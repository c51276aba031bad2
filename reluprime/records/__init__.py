"""Results on disk, one JSON line a cell, so that a sweep that was killed goes on where it stopped.

A study is a function ``study(config, device=None) -> dict`` of one frozen pydantic model that has
a `precision` and may have a `reduced_precision`; its integer ``study.version`` is raised whenever
its results change. A cell is one (study, config).
"""

import fcntl
import functools
import hashlib
import io
import json
import math
import os
import platform
import subprocess
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import pandas as pd
import torch
from pydantic import BaseModel
from tqdm import tqdm

from reluprime import __version__
from reluprime.instruments import precision
from reluprime.records import cluster

REPOSITORY = Path(__file__).resolve().parents[2]
COMPUTE = ("missing", "never", "always")
FIELDS = {"key", "study", "version", "config", "result", "provenance"}


class RecordsError(OSError):
    """A store cannot be read or written; the message names the path and what to do."""


def study_name(study: Callable) -> str:
    """What a study is called in the store: see `config.study`."""
    return study.study_name


def cell_key(study: Callable, config: BaseModel, device: str = "cpu") -> str:
    """16 hex digits (of a SHA-256) for the study's name, its version, the config and the device.

    device: "cpu" or "cuda". Its kernels add up in another order, so a cell's results on both are
    two records, and neither replaces the other.
    """
    return _key(study_name(study), study.version, config.model_dump(mode="json"), device)


def _key(name: str, version: int, config: dict, device: str) -> str:
    cell = {"study": name, "version": version, "config": config}
    if device != "cpu":  # which the first records do not name
        cell["device"] = device
    canonical = json.dumps(cell, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


class Store:
    """A folder of results, ``<study name>.jsonl`` each; a relative path starts at REPOSITORY.

    Lines are JSON with Python's tokens for the floats it lacks: NaN, Infinity and -Infinity.
    """

    def __init__(self, path: str | Path):
        self.path = REPOSITORY / path  # not the working directory: a notebook may run in any

    def file(self, name: str) -> Path:
        """Where the records of the study called `name` are."""
        return self.path / f"{name}.jsonl"

    def read(self, name: str) -> dict[str, dict]:
        """The records of a study by key; the latest line of a key wins.

        A line that is no record is left out with a UserWarning, and stays in the file. Raises
        RecordsError if the file cannot be read; a missing file is an empty one.
        """
        found, _ = self._read(name, 0)
        return {record["key"]: record for record in found}

    def since(self, name: str, start: int) -> tuple[list[dict], int]:
        """-> the records of a study from a byte of its file on, oldest first, and where they end.

        As :meth:`read`: a line that is no record is left out with a UserWarning.
        """
        return self._read(name, start)

    def _read(self, name: str, start: int) -> tuple[list[dict], int]:
        try:
            data = self.file(name).read_bytes()
        except FileNotFoundError:
            return [], start
        except OSError as error:
            raise self._error("read", name, error) from error
        *lines, torn = data[start:].split(b"\n")
        found, first = [], 1 + data[:start].count(b"\n")
        for number, line in enumerate(lines, start=first):
            try:
                found.append(_parse(line))
            except ValueError as error:
                advice = "delete it (of a merge conflict only the marker lines) or restore it"
                self._warn(name, number, f"{error}; {advice} with git")
        if torn:
            self._warn(
                name, first + len(lines), "torn, as by a kill; sweep again to compute its cell"
            )
        return found, start + sum(len(line) + 1 for line in lines)

    def append(self, record: dict) -> None:
        """Put one record on disk; processes may append to the same file at once.

        Raises RecordsError if the file cannot be written, TypeError if `record` is not JSON.
        """
        line = json.dumps(record).encode() + b"\n"
        with self._open(record["study"]) as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # until the file is closed
            _drop_torn_line(file)
            if file.write(line) < len(line):
                raise RecordsError(f"{file.name} took only part of a record: free some disk space")
            os.fsync(file.fileno())

    def check_writable(self, name: str) -> None:
        """Raise RecordsError if records of the study called `name` cannot be appended."""
        self._open(name).close()

    def _open(self, name: str) -> io.FileIO:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            return open(self.file(name), "a+b", buffering=0)  # unbuffered: one write a record
        except OSError as error:
            raise self._error("write", name, error) from error

    def _error(self, verb: str, name: str, error: OSError) -> RecordsError:
        return RecordsError(
            f"cannot {verb} {self.file(name)}: {error.strerror}. Correct its permissions, or pass "
            "a Store(path) in another folder; compute='never' only reads"
        )

    def _warn(self, name: str, number: int, what: str) -> None:
        warnings.warn(f"{self.file(name)}, line {number} is left out: {what}", stacklevel=4)


def _parse(line: bytes) -> dict:
    """The record in a line; raises ValueError if there is none."""
    try:
        record = json.loads(line)
    except ValueError:
        raise ValueError("not JSON") from None
    if not isinstance(record, dict) or not record.keys() >= FIELDS:
        raise ValueError(f"not a record with the fields {sorted(FIELDS)}")
    if record["key"] != _key(*_cell(record), record["provenance"].get("device", "cpu")):
        raise ValueError("its key does not match its study, version, config and device")
    return record


def _cell(record: dict) -> tuple[str, int, dict]:
    return record["study"], record["version"], record["config"]


def _by_cell(records: Iterable[dict]) -> dict[str, dict]:
    """One record a cell, by the cell's key on the CPU; where both devices have one, the newer."""
    found: dict[str, dict] = {}
    for record in records:
        cell = _key(*_cell(record), "cpu")
        if cell not in found or _made(record) >= _made(found[cell]):
            found[cell] = record
    return found


def _made(record: dict) -> str:
    """When a record was made: a date and time, UTC, that sorts as text."""
    return record["provenance"].get("utc", "")


def _drop_torn_line(file: io.FileIO) -> None:
    """Cut what a kill in mid-write left behind, so that the next line is not glued to it."""
    if file.seek(0, os.SEEK_END) == 0:
        return
    file.seek(-1, os.SEEK_END)
    if file.read(1) != b"\n":
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)


def provenance(config: BaseModel, device: torch.device, wall_seconds: float) -> dict:
    """How a result came about: versions, hardware and numerics; no path and no host name."""
    reduced = getattr(config, "reduced_precision", False)
    return {
        "reluprime": __version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "torchvision": metadata.version("torchvision"),
        "numpy": metadata.version("numpy"),
        "cuda": torch.version.cuda,
        "device": device.type,
        "device_name": _device_name(device),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "precision": precision.describe(config.precision, device, reduced),
        "wall_seconds": round(wall_seconds, 3),
        "utc": datetime.now(UTC).isoformat(timespec="seconds"),
    }


@functools.cache
def _commit() -> str:
    """Short hash of HEAD, with "-dirty" if the package differs; "unknown" outside a clone.

    In what `git archive` wrote it is the hash that git put into the file COMMIT.
    """
    if not (REPOSITORY / ".git").exists():  # an installed copy may lie in some other clone
        return _archived_commit()
    git = functools.partial(subprocess.run, cwd=REPOSITORY, check=True, capture_output=True)
    try:
        head = git(["git", "rev-parse", "--short", "HEAD"]).stdout.decode().strip()
        changes = git(["git", "--no-optional-locks", "status", "--porcelain", "reluprime"]).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head}-dirty" if changes else head


def _archived_commit() -> str:
    file = REPOSITORY / "reluprime" / "COMMIT"
    text = file.read_text().strip() if file.exists() else ""
    return text if text.isalnum() else "unknown"  # not the placeholder that git replaces


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    for line in cpuinfo.read_text().splitlines() if cpuinfo.exists() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


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
    A cell that `store` has from a CPU or a GPU is not missing; from both, the newer record counts.
    No cell starts later than `max_seconds` after the call. `device`: by default CUDA if there is.
    `executor`: "local" computes one cell after the other in this process; "ray" as many at once
    as the cluster at RAY_ADDRESS (or else this machine) has room for, a cell again elsewhere if
    its worker or node dies; this process alone writes to `store`.

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
    records = _by_cell(store.read(name).values())
    todo = {"missing": grid.keys() - records.keys(), "never": (), "always": grid}[compute]
    if todo:
        configs = [config for key, config in grid.items() if key in todo]
        store.check_writable(name)
        computed = EXECUTORS[executor](study, configs, device, lambda: time.monotonic() < deadline)
        for record in tqdm(computed, desc=name, total=len(configs)):
            store.append(record)
            records |= _by_cell([record])
    found = _frame(grid, records)
    found.attrs["study"] = name
    if missing := found.attrs["missing"]:
        what = f"{missing} of {len(grid)} cells of {name} are missing in {store.path}"
        warnings.warn(f"{what}; sweep again with compute='missing' to get them", stacklevel=2)
    return found


def table(study: Callable, store: Store) -> pd.DataFrame:
    """All cells of a study's present version, one row each, with the columns of :func:`sweep`."""
    records = _by_cell(store.read(study_name(study)).values())
    return frame(study, (r for r in records.values() if r["version"] == study.version))


def frame(study: Callable, records: Iterable[dict]) -> pd.DataFrame:
    """Records of a study, one row each, with the columns of :func:`sweep`."""
    rows = [
        {name: _hashable(value) for name, value in record["config"].items()}
        | record["result"]
        | {"key": record["key"], "provenance": record["provenance"]}
        for record in records
    ]
    found = pd.DataFrame(rows)
    found.attrs["study"] = study_name(study)
    return found


def machine(provenance: dict) -> str:
    """What must be the same for two runs of a config to have the same bits, but for versions.

    Runs are paired within one machine alone.
    """
    return f"{provenance['device_name']}, {provenance['threads']} threads"


def published(file: str) -> pd.DataFrame:
    """A table of the two papers' figures; `records/published/README.md` says where it is from."""
    return pd.read_csv(REPOSITORY / "records" / "published" / file)


def origin(frame: pd.DataFrame) -> dict[str, str]:
    """How the rows of a sweep or table came about, in words; {} if it has none.

    Keys: study, records (their number), device, versions, date (UTC), time (of computing), keys.
    """
    if frame.empty:
        return {}
    how = pd.DataFrame(frame["provenance"].tolist())

    def each(name: str) -> str:
        return " and ".join(sorted(set(how[name].astype(str))))

    days = sorted({utc[:10] for utc in how["utc"]})
    packages = [f"{name} {each(name)}" for name in ("torch", "torchvision", "numpy", "python")]
    return {
        "study": f"{frame.attrs['study']}",
        "records": f"{len(frame)}",
        "device": each("device_name"),
        "versions": f"{', '.join(packages)}, reluprime {each('reluprime')} ({each('commit')})",
        "date": days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}",
        "time": f"{how['wall_seconds'].sum() / 3600:.2f} hours",
        "keys": " ".join(frame["key"]),
    }


def _grid(study: Callable, configs: Iterable[BaseModel]) -> dict[str, BaseModel]:
    """The configs by key; raises ValueError if one comes twice."""
    grid = {}
    for config in configs:
        key = cell_key(study, config)
        if key in grid:
            raise ValueError(f"the grid has a config twice: {config!r}")
        grid[key] = config
    return grid


def _one_by_one(study, configs, device, may_start: Callable[[], bool]) -> Iterator[dict]:
    device = precision.best_device() if device is None else torch.device(device)
    for config in configs:  # before the first is computed
        with _named_in_errors(study, config):
            reduced = getattr(config, "reduced_precision", False)
            precision.require(config.precision, device, reduced)
    for config in configs:
        if not may_start():
            return
        yield measure(study, config, device)


def _on_cluster(study, configs, device, may_start: Callable[[], bool]) -> Iterator[dict]:
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
    began = time.perf_counter()
    result = study(config, device=device)
    seconds = time.perf_counter() - began
    result = json.loads(json.dumps(result))  # as it will be read back: tuples become lists
    if clash := result.keys() & {*config.model_dump(), "key", "provenance"}:
        raise ValueError(f"the result has fields that are columns already: {sorted(clash)}")
    return {
        "key": cell_key(study, config, device.type),
        "study": study_name(study),
        "version": study.version,
        "config": config.model_dump(mode="json"),
        "result": result,
        "provenance": provenance(config, device, seconds),
    }


def _frame(grid: dict[str, BaseModel], records: dict[str, dict]) -> pd.DataFrame:
    """One row a cell of `grid` that is in `records`; an empty frame has its columns too."""
    inputs = {key: config.model_dump() for key, config in grid.items()}
    rows = []
    for key in filter(records.__contains__, grid):
        row = {name: _hashable(value) for name, value in inputs[key].items()}
        record = records[key]
        origin = {"key": record["key"], "provenance": record["provenance"]}
        rows.append(row | record["result"] | origin)
    last = ("key", "provenance")
    names = [name for row in [*inputs.values(), *rows] for name in row if name not in last]
    frame = pd.DataFrame(rows, columns=[*dict.fromkeys(names), *last])
    frame.attrs["missing"] = len(grid) - len(rows)
    return frame


def _hashable(value):
    """Lists and tuples as tuples at every depth, so that a column can be grouped by."""
    return tuple(map(_hashable, value)) if isinstance(value, (list, tuple)) else value
