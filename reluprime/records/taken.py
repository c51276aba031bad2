"""Which process computes a cell, where several share a store."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from reluprime.records.store import Store


@contextmanager
def taken(store: Store, key: str) -> Iterator[bool]:
    """Take a cell for this process: whether nobody has it. A killed process lets go."""
    folder = store.path / ".taken"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / key
    file = _locked(path)
    if file is None:
        yield False
        return
    with file:
        try:
            yield True
        finally:
            path.unlink(missing_ok=True)


def _locked(path: Path) -> TextIO | None:
    """A file for this process alone until it is closed; None if another has it."""
    while True:
        file = path.open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        except BlockingIOError:
            file.close()
            return None
        except FileNotFoundError:
            pass
        file.close()  # another has let go of it, and removed it, in the meantime


def is_taken(store: Store, key: str) -> bool:
    """Whether another process computes a cell now."""
    with taken(store, key) as own:
        return not own
