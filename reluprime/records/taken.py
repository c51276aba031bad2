"""Which process computes a cell, where several share a store."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

from reluprime.records.store import Store


@contextmanager
def taken(store: Store, key: str) -> Iterator[bool]:
    """Take a cell for this process: whether nobody has it. A killed process lets go."""
    folder = store.path / ".taken"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / key
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        try:
            yield True
        finally:
            path.unlink(missing_ok=True)


def is_taken(store: Store, key: str) -> bool:
    """Whether another process computes a cell now."""
    with taken(store, key) as own:
        return not own
