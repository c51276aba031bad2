"""Files of a computation that is not on disk yet, kept until its record is.

A study writes its state where it can go on from, and has no use for it once it is done. But a full
disk may refuse the record, and then the state is all that there is.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

_waiting: ContextVar[list[Path] | None] = ContextVar("waiting", default=None)


def folder() -> Path:
    """Where such files are: RELUPRIME_CHECKPOINTS, or a folder in the home directory."""
    named = os.environ.get("RELUPRIME_CHECKPOINTS") or "~/.cache/reluprime/checkpoints"
    return Path(named).expanduser()


@contextmanager
def kept_until_written() -> Iterator[None]:
    """Within it :func:`discard` only notes a file; at its end, without an error, they are removed.

    Compute and write a result within it.
    """
    token = _waiting.set([])
    try:
        yield
        for path in _waiting.get():
            _remove(path)
    finally:
        _waiting.reset(token)


def discard(path: Path) -> None:
    """Remove a file that a finished computation needs no more: now, or once its result is kept."""
    waiting = _waiting.get()
    if waiting is None:
        _remove(path)
    else:
        waiting.append(path)


def _remove(path: Path) -> None:
    with suppress(OSError):  # a file that stays costs a little room, and no result
        path.unlink(missing_ok=True)
