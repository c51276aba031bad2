"""Files of a computation that is not on disk yet, kept until its record is.

A study writes its state where it can go on from, and has no use for it once it is done. But a full
disk may refuse the record, and then the state is all that there is.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

_waiting: ContextVar[list[Path] | None] = ContextVar("waiting", default=None)


@contextmanager
def kept_until_written() -> Iterator[None]:
    """Within it :func:`discard` only notes a file; at its end, without an error, they are removed.

    Compute and write a result within it.
    """
    token = _waiting.set([])
    try:
        yield
        for path in _waiting.get():
            path.unlink(missing_ok=True)
    finally:
        _waiting.reset(token)


def discard(path: Path) -> None:
    """Remove a file that a finished computation needs no more: now, or once its result is kept."""
    waiting = _waiting.get()
    if waiting is None:
        path.unlink(missing_ok=True)
    else:
        waiting.append(path)
