"""Files of a computation that is not on disk yet, kept until its record is.

A study writes its state where it can go on from, and has no use for it once it is done. But a full
disk may refuse the record, and then the state is all that there is.
"""

import hashlib
import os
import struct
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

_DIGEST = 32  # bytes of a SHA-256, before the seconds and the state
_SECONDS = struct.Struct("<d")
_waiting: ContextVar[list[Path] | None] = ContextVar("waiting", default=None)
_earlier: ContextVar[float] = ContextVar("earlier", default=0.0)  # seconds of other processes


def folder() -> Path:
    """Where such files are: RELUPRIME_CHECKPOINTS, or a folder in the home directory.

    Raises FileNotFoundError where there is none.
    """
    named = os.environ.get("RELUPRIME_CHECKPOINTS") or "~/.cache/reluprime/checkpoints"
    try:
        return Path(named).expanduser()
    except RuntimeError as error:
        advice = "set RELUPRIME_CHECKPOINTS to the folder of checkpoints"
        raise FileNotFoundError(f"there is no home directory: {advice}") from error


def clock() -> float:
    """Seconds, as of time.perf_counter, and those of the computations that this one goes on from.

    Two readings tell how long a computation took in all the processes that worked at it.
    """
    return time.perf_counter() + _earlier.get()


class State:
    """Bytes of a computation that is not done, in a file that is whole or not there.

    One that cannot be written or read costs time alone: a UserWarning says that the `what` goes on
    without it or starts anew.
    """

    def __init__(self, name: str, what: str):
        """Made when the computation begins: the seconds since then are kept with it."""
        self._name, self._what, self._began = name, what, clock()

    @property
    def path(self) -> Path:
        """Where it is."""
        return folder() / self._name

    def write(self, data: bytes) -> None:
        """Put it in the place of the last one."""
        try:
            path = self.path
            path.parent.mkdir(parents=True, exist_ok=True)
            # Of this process: others may compute the same. A kill in mid-write leaves the last one.
            part = path.with_name(f"{path.name}.{os.getpid()}.part")
            data = _SECONDS.pack(clock() - self._began) + data
            part.write_bytes(_digest(data) + data)
            os.replace(part, path)
        except OSError as error:
            warnings.warn(f"the {self._what} goes on without a checkpoint: {error}", stacklevel=3)

    def read(self) -> bytes | None:
        """What was written last; None if there is nothing, or it is damaged.

        The :func:`clock` then has the seconds that it took.
        """
        try:
            data = self.path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            self.start_anew(str(error))
            return None
        digest, data = data[:_DIGEST], data[_DIGEST:]
        if _digest(data) != digest:
            self.start_anew(f"{self.path} is damaged")
            return None
        (seconds,) = _SECONDS.unpack_from(data)
        _earlier.set(_earlier.get() + seconds)
        return data[_SECONDS.size :]

    def start_anew(self, why: str) -> None:
        """Warn that it is of no use."""
        warnings.warn(f"the {self._what} starts anew: {why}", stacklevel=4)

    def remove(self) -> None:
        """Remove it, with what killed processes left of it, once the result is kept."""
        with suppress(OSError):
            path = self.path
            discard(path)
            for part in path.parent.glob(f"{path.name}.*.part"):
                discard(part)


def _digest(data: bytes) -> bytes:
    """Of seconds and state; states from before there were seconds have another."""
    return hashlib.sha256(b"seconds" + data).digest()


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
