"""Results on disk, one JSON line a cell, so that a sweep that was killed goes on where it stopped.

A line has key, study, version, config, result and provenance, and the digest of the last two; lines
from before there was a digest have none.
"""

import fcntl
import io
import json
import os
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

from pydantic import ValidationError

from reluprime.config import known_study
from reluprime.records import forms
from reluprime.records.keys import config_class, digest, key_of

REPOSITORY = Path(__file__).resolve().parents[2]
FIELDS = {
    "key": str,
    "study": str,
    "version": int,
    "config": dict,
    "result": dict,
    "provenance": dict,
}
_AGAIN = "free some disk space, and run it again"


class RecordsError(OSError):
    """A store cannot be read or written; the message names the path and what to do."""


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
        """The records of a study by key; of several with a key the newest.

        A line that is no record is left out with a UserWarning, and stays in the file. Raises
        RecordsError if the file cannot be read; a missing file is an empty one.
        """
        found, _ = self._read(name, 0)
        return _newest(found, lambda record: record["key"])

    def studies(self) -> list[str]:
        """The names of the studies that have a file here."""
        return sorted(path.stem for path in self.path.glob("*.jsonl"))

    def since(self, name: str, start: int) -> tuple[list[dict], int]:
        """-> the records of a study from a byte of its file on, oldest first, and where they end.

        As :meth:`read`: a line that is no record is left out with a UserWarning.
        """
        return self._read(name, start)

    def _read(self, name: str, start: int) -> tuple[list[dict], int]:
        lines, end = self.lines(name, start)
        for number, line in lines:
            if isinstance(line, ValueError):
                warnings.warn(f"{self.file(name)}, line {number} is left out: {line}", stacklevel=3)
        return [line for _, line in lines if not isinstance(line, ValueError)], end

    def lines(self, name: str, start: int = 0) -> tuple[list[tuple[int, dict | ValueError]], int]:
        """The lines of a study's file from a byte on, by number, and the byte where they end.

        A line that holds no record of this study is the ValueError that says why and what to do.
        """
        path = self.file(name)
        try:
            other = path.exists() and not path.is_file()  # a pipe would make it wait
            data = b"" if other else path.read_bytes()
        except FileNotFoundError:
            return [], start
        except OSError as error:
            raise self._error("read", name, error) from error
        if other:
            raise RecordsError(f"{path} is no file of records: move it away")
        *lines, torn = data[start:].split(b"\n")
        first = 1 + data[:start].count(b"\n")
        found = [(number, _parse(line, name)) for number, line in enumerate(lines, start=first)]
        if torn:
            last = _parse(torn, name)  # whole if only the end of the line is missing
            if isinstance(last, ValueError) or "digest" not in last:
                last = ValueError("torn, as by a kill; sweep again to compute its cell")
            found.append((first + len(lines), last))
        return found, start + sum(len(line) + 1 for line in lines)

    def append(self, record: dict) -> None:
        """Put one record on disk, with its digest; processes may append to a file at once.

        Raises RecordsError if the file cannot be written, TypeError if `record` is not JSON.
        """
        line = json.dumps(record | {"digest": record_digest(record)}).encode() + b"\n"
        name = record["study"]
        with self.locked(name) as file:
            try:
                _end_last_line(file, name)
                whole = file.write(line) == len(line)
                os.fsync(file.fileno())
            except OSError as error:
                what = f"cannot write {file.name}: {error.strerror}"
                raise RecordsError(f"{what}; {_AGAIN}") from error
        if not whole:
            raise RecordsError(f"{self.file(name)} took only part of a record; {_AGAIN}")

    def locked(self, name: str) -> io.FileIO:
        """A study's file, for this process alone until it is closed; made if there is none.

        Raises RecordsError if it cannot be written.
        """
        while True:
            file = self._open(name)
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.path.samestat(os.fstat(file.fileno()), self.file(name).stat()):
                return file
            file.close()  # `merge` has put another file in its place in the meantime

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


def record_digest(record: dict) -> str:
    """What tells a changed digit: 16 hex digits over a record's result and provenance."""
    return digest([record["result"], record["provenance"]])


def _parse(line: bytes, name: str) -> dict | ValueError:
    """The record in a line of the study called `name`, or why there is none."""
    advice = "delete it (of a merge conflict only the marker lines) or restore it with git"
    try:
        record = json.loads(line)
        if b"\\ud" in line.lower():  # half a surrogate pair is no text: it could not be printed
            json.dumps(record, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return ValueError(f"not JSON; {advice}")
    if not isinstance(record, dict) or not record.keys() >= FIELDS.keys():
        return ValueError(f"not a record with the fields {sorted(FIELDS)}; {advice}")
    for field, kind in FIELDS.items():
        if type(record[field]) is not kind:
            return ValueError(f"its {field} is no {kind.__name__}; {advice}")
    what = _mismatch(record, name) or _impossible(record)
    return ValueError(f"{what}; {advice}") if what else record


def _mismatch(record: dict, name: str) -> str:
    """What in a record does not fit the rest of it, "" if all does."""
    if others := record.keys() - FIELDS.keys() - {"digest"}:  # a spoilt "digest" would be ignored
        return f"it has {sorted(others)}, which is no field of a record"
    if not isinstance(record["provenance"].get("utc", ""), str):
        return "its utc is no text"
    if record["key"] != key_of(*_cell(record), record["provenance"].get("device", "cpu")):
        return "its key does not match its study, version, config and device"
    if record["study"] != name:
        return f"it is a record of {record['study']}"
    if "digest" in record and record["digest"] != record_digest(record):
        return "its digest does not match its result and provenance"
    return ""


def _impossible(record: dict) -> str:
    """What no study can have written, "" if there is nothing such."""
    name, version, config = _cell(record)
    study = known_study(name)
    if study is not None and study.version == version:
        try:
            written = config_class(study).model_validate(config).model_dump(mode="json")
        except ValidationError as error:
            return f"its study does not take its config: {forms.words(error)}"
        if written != config:
            return "its config is not written as its study writes it"
    return forms.problem(name, version, config, record["result"], record["provenance"])


def _cell(record: dict) -> tuple[str, int, dict]:
    return record["study"], record["version"], record["config"]


def newest_by_cell(records: Iterable[dict]) -> dict[str, dict]:
    """One record a cell, the newest, by the cell's key on the CPU, whatever device it is from."""
    return _newest(records, lambda record: key_of(*_cell(record), "cpu"))


def _newest(records: Iterable[dict], key: Callable[[dict], str]) -> dict[str, dict]:
    """By key the record that was made last; of two made in the same second the later one here."""
    found: dict[str, dict] = {}
    for record in records:
        old = found.setdefault(key(record), record)
        if made(record) >= made(old):
            found[key(record)] = record
    return found


def made(record: dict) -> str:
    """When a record was made: a date and time, UTC, that sorts as text."""
    return record["provenance"].get("utc", "")


def _end_last_line(file: io.FileIO, name: str) -> None:
    """Cut what a kill in mid-write left behind, so that the next line is not glued to it.

    If it is a whole record but for the end of its line, that is written.
    """
    if file.seek(0, os.SEEK_END) == 0:
        return
    file.seek(-1, os.SEEK_END)
    if file.read(1) == b"\n":
        return
    file.seek(0)
    data = file.read()
    end = data.rfind(b"\n") + 1
    last = _parse(data[end:], name)
    if isinstance(last, dict) and "digest" in last:
        file.write(b"\n")
    else:
        file.truncate(end)
