"""What the families of the campaign share: counting, children that are killed, comparing stores."""

import io
import json
import os
import resource
import signal
import sys
import threading
import time
import traceback
import warnings
from itertools import chain
from pathlib import Path

from tqdm import tqdm

from reluprime import records
from reluprime.records import REPOSITORY

MOST_SECONDS = 10.0  # of a refusal, on a processor: the machine may do other things as well
HANGS = 120  # seconds after which a call is given up
# A bar's own lock is one of all forks, which a kill in mid-line leaves taken for ever; and a fork
# may come while the thread that watches bars has it.
tqdm.set_lock(threading.RLock())
tqdm.monitor_interval = 0
# Where a command may write by mistake; two families are tried at a time, for `bench trust`.
PLACES = ("_build/mine", "book", "notebooks", "records", "reluprime", "tests")
APART = {"__pycache__", ".taken", "trust.campaign.jsonl"}
KINDS = ("tried", "harmless", "refused", "unnamed", "late", "lost", "silent", "outside")


class Tally:
    """Counts of tries; `failures` in words, without the folder's path."""

    def __init__(self, folder: Path):
        self.folder, self.counts = folder, dict.fromkeys(KINDS, 0)
        self.slowest, self.failures = 0.0, []

    def count(self, kind: str, what: str = "") -> None:
        self.counts["tried"] += 1
        self.counts[kind] += 1
        if kind not in ("harmless", "refused"):
            self.failures.append(f"{kind}: {what}".replace(str(self.folder), ".")[:400])

    def refusal(self, message: str, culprits: tuple[str, ...], seconds: float, what: str) -> None:
        """A try that was refused: rightly if one of `culprits` is in the message, and soon."""
        self.slowest = max(self.slowest, seconds)
        named = any(culprit in message for culprit in culprits) and "Traceback" not in message
        kind = "unnamed" if not named else "late" if seconds > MOST_SECONDS else "refused"
        self.count(kind, f"{what}: {message.strip()[-300:]}")

    def result(self) -> dict:
        more = {"slowest_seconds": round(self.slowest, 3), "failures": self.failures[:10]}
        return self.counts | more


def child(function, errors: Path | None = None) -> int:
    """Run a function in a fork; its exit status says whether it raised, `errors` gets what."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        with open(os.devnull, "w") as nothing:
            os.dup2(nothing.fileno(), 1)
            os.dup2(nothing.fileno(), 2)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                function()
                status = 0
            except BaseException:
                if errors:
                    errors.write_text(traceback.format_exc())
        if errors and not status:
            errors.write_text("\n".join(str(w.message) for w in caught))
    finally:
        os._exit(status)


def ended(pid: int) -> int:
    """The exit status of a child, negative where a signal ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def killed_after(function, seconds: float) -> int:
    pid = child(function)
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    return ended(pid)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Torn(io.FileIO):
    """A file of which a kill leaves the first bytes of what is written."""

    keep = 0

    def write(self, data):
        super().write(data[: self.keep])
        die()


def timeless(record: dict) -> str:
    """A result as text, without times."""
    result = {n: v for n, v in record["result"].items() if n not in ("seconds", "check_seconds")}
    return json.dumps(result, sort_keys=True)


def stored(store: records.Store, name: str) -> dict[str, list[str]]:
    """The results of a study by key, each as often as a line has it."""
    found: dict[str, list[str]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for record in store.since(name, 0)[0]:
            found.setdefault(record["key"], []).append(timeless(record))
    return found


def compare(tally: Tally, before: dict, after: dict, unbroken: dict, what: str) -> None:
    """Count a try: what was `before` must be there `after`, once, and all as `unbroken`."""
    if any(after.get(key, [])[:1] != results[:1] for key, results in before.items()):
        tally.count("lost", what)
    elif after.keys() != unbroken.keys():
        tally.count("lost", f"{what}: {len(after)} of {len(unbroken)} cells in the end")
    elif any(results != unbroken[key] for key, results in after.items()):
        tally.count("silent", f"{what}: a result that differs, or a cell twice")
    else:
        tally.count("harmless")


def written(*folders: Path) -> dict[str, int]:
    """When each file of the repository and of some folders was written; 0 of a folder.

    Without what is built, but for a reader's own records, and what the campaign itself writes.
    """
    places = (*folders, *(REPOSITORY / name for name in PLACES))
    paths = chain(REPOSITORY.iterdir(), *(place.rglob("*") for place in places))
    return {
        str(path): 0 if path.is_dir() else path.lstat().st_mtime_ns
        for path in paths
        if APART.isdisjoint(path.parts)
    }


def changed(before: dict[str, int], after: dict[str, int]) -> str:
    """The first of what was written, or removed, between two looks; "" if nothing was."""
    return ", ".join(sorted({path for path, _ in before.items() ^ after.items()})[:3])


def children_seconds() -> float:
    """Seconds that processors spent on children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Hang(BaseException):
    """A call did not return."""


def _give_up(*_):
    raise Hang


def quiet(function, *arguments) -> tuple[str, float]:
    """What a call says when it refuses, with what it warned of, and its processor's seconds."""
    began = time.process_time()
    signal.signal(signal.SIGALRM, _give_up)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        signal.alarm(HANGS)
        try:
            function(*arguments)
            said = ""
        except (ValueError, OSError) as error:
            said = str(error)
        except BaseException as error:
            said = f"Traceback: {type(error).__name__}: {error}"
        finally:
            signal.alarm(0)
    said = "\n".join([said, *(str(w.message) for w in caught)]).strip()
    return said, time.process_time() - began


def main(families: dict) -> None:
    family, seed, tries, folder = sys.argv[1:]
    folder = Path(folder)
    os.environ["RELUPRIME_CHECKPOINTS"] = str(folder / "checkpoints")
    tally = Tally(folder)
    before = written()
    families[family](tally, int(seed), int(tries), folder)
    if paths := changed(before, written()):
        tally.count("outside", paths)
    print(json.dumps(tally.result()))
