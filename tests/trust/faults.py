"""Cut records, full disks, folders that cannot be written, no home, many processes at once."""

import contextlib
import functools
import json
import os
import pwd
import random
import resource
import shutil
import signal
import subprocess

from kills import CELLS, RUN, SEARCH, once
from tries import child, children_seconds, compare, ended, stored, timeless

from reluprime import records
from reluprime.instruments import data
from reluprime.search.study import search
from reluprime.training import study as training
from reluprime.training.study import fit
from reluprime.volume.study import estimate

NOBODY = 65534


def truncations(tally, seed, tries, folder):
    """Every cut of a line: the record before it stays, and the cut one is whole or not there."""
    once(estimate, CELLS, folder)
    store, name = records.Store(folder / "cut"), "volume.estimate"
    source = records.Store(folder / "unbroken").file(name)
    first, second, third = source.read_bytes().splitlines(keepends=True)[:3]
    store.path.mkdir()
    whole = {json.loads(line)["key"]: [timeless(json.loads(line))] for line in (first, second)}
    alone = dict(list(whole.items())[:1])
    for cut in range(min(tries, len(second))):
        store.file(name).write_bytes(first + second[:-cut] if cut else first + second)
        expected = whole if cut < 2 else alone
        found = stored(store, name)
        store.append(json.loads(third))
        later = stored(store, name)
        if found != expected or {k: v for k, v in later.items() if k in whole} != expected:
            tally.count("lost" if len(found) < len(expected) else "silent", f"cut by {cut} bytes")
        else:
            tally.count("harmless")


def _is_mounted(path) -> bool:
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(path)], capture_output=True
    )
    return done.returncode == 0


def _error(errors) -> str:
    """The error that a child ended with; notes of the cell may follow it."""
    lines = [line for line in errors.read_text().splitlines() if "Error" in line]
    return lines[-1]


def full_disks(tally, seed, tries, folder):
    """A disk with no room for the record, then with room: nothing is trained again."""
    random_ = random.Random(seed)
    training.SAVE_SECONDS = 0.0
    unbroken, _ = once(fit, [RUN], folder)
    disk = folder / "disk"
    disk.mkdir()
    mounted = _is_mounted(disk)
    try:
        for number in range(tries):
            room, errors = random_.randint(0, 2000), folder / f"errors{number}"
            _one_full_disk(tally, disk, room, errors, unbroken, mounted)
    finally:
        if mounted:
            subprocess.run(["umount", str(disk)], check=True)


def _one_full_disk(tally, disk, room, errors, unbroken, mounted):
    store, filler = records.Store(disk / "store"), disk / "filler"
    shutil.rmtree(store.path, ignore_errors=True)
    store.path.mkdir()
    (store.path / ".taken").mkdir()

    def filled(append):
        def full(store, record):
            file = os.open(filler, os.O_CREAT | os.O_WRONLY)
            with contextlib.suppress(OSError):
                while os.write(file, bytes(512)):
                    pass
            append(store, record)

        return full

    def limited():
        if mounted:
            records.Store.append = filled(records.Store.append)
        else:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            append = records.Store.append

            def cramped(store, record):
                limits = resource.getrlimit(resource.RLIMIT_FSIZE)
                resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
                append(store, record)

            records.Store.append = cramped
        records.sweep(fit, [RUN], store)

    began = children_seconds()
    status = ended(child(limited, errors))
    seconds = children_seconds() - began
    filler.unlink(missing_ok=True)
    if status:
        tally.refusal(_error(errors), ("training.fit.jsonl",), seconds, "full")

    def finished():
        training.Trainer.epoch = None  # would be an error: every epoch is done
        records.sweep(fit, [RUN], store)

    if status and ended(child(finished)):
        tally.count("lost", f"a finished training, with {room} bytes of room")
    else:
        ended(child(lambda: records.sweep(fit, [RUN], store)))
        compare(tally, {}, stored(store, "training.fit"), unbroken, f"{room} bytes of room")


def read_only(tally, seed, tries, folder):
    """A store is refused by its path; a folder of checkpoints costs a warning."""
    training.SAVE_SECONDS = 0.0
    unbroken, _ = once(fit, [RUN], folder)
    folder.chmod(0o755)
    for number in range(tries):
        shut, errors = folder / f"shut{number}", folder / f"errors{number}"
        shut.mkdir(mode=0o555)
        store = records.Store(shut if number % 2 else folder / f"open{number}")
        store.path.mkdir(mode=0o777, exist_ok=True)
        if not number % 2:
            store.path.chmod(0o777)
        errors.touch()
        errors.chmod(0o666)

        def as_nobody(store=store, shut=shut):
            os.environ["RELUPRIME_CHECKPOINTS"] = str(shut / "checkpoints")
            os.seteuid(NOBODY)
            records.sweep(fit, [RUN], store)

        began = children_seconds()
        status = ended(child(as_nobody, errors))
        said, seconds = errors.read_text(), children_seconds() - began
        if number % 2 and status:
            tally.refusal(_error(errors), (str(shut),), seconds, "store")
        elif status or str(shut) not in said:
            tally.count("unnamed", said[-300:])
        else:
            compare(tally, {}, stored(store, "training.fit"), unbroken, "checkpoints")


def without_home(tally, seed, tries, folder):
    """mnist-5k needs none; other data say what to set; a training goes on without checkpoints."""
    unbroken, _ = once(fit, [RUN], folder)

    def nowhere():
        training.SAVE_SECONDS = 0.0
        for name in ("HOME", "RELUPRIME_CHECKPOINTS", "RELUPRIME_DATA"):
            os.environ.pop(name, None)

        def nobody(_):
            raise KeyError

        pwd.getpwuid = nobody

    def trained(store):
        nowhere()
        records.sweep(fit, [RUN], store)

    def loaded():
        nowhere()
        data.load("mnist")

    for number in range(tries):
        errors = folder / f"errors{number}"
        if number % 2:
            ended(child(loaded, errors))
            tally.refusal(_error(errors), ("RELUPRIME_DATA",), 0, "mnist")
            continue
        store = records.Store(folder / f"{number}")
        status = ended(child(lambda store=store: trained(store), errors))
        if status or "RELUPRIME_CHECKPOINTS" not in errors.read_text():
            tally.count("unnamed", errors.read_text()[-300:])
        else:
            compare(tally, {}, stored(store, "training.fit"), unbroken, "no home")


def processes(tally, seed, tries, folder):
    """Eight at once: on one store, on one folder of checkpoints, on one search."""
    training.SAVE_SECONDS = 0.0
    groups = (("store", estimate, CELLS), ("checkpoints", fit, [RUN]), ("search", search, [SEARCH]))
    unbroken = {}
    for name, study, grid in groups:
        (folder / name).mkdir()
        unbroken[name], _ = once(study, grid, folder / name)
    for number in range(max(1, tries // 24)):
        for name, study, grid in groups:
            shared = name == "store"
            stores = [
                records.Store(folder / name / (f"{number}" if shared else f"{number}-{n}"))
                for n in range(8)
            ]
            errors = [folder / name / f"errors{number}-{n}" for n in range(8)]
            pids = [
                child(functools.partial(records.sweep, study, grid, store), error)
                for store, error in zip(stores, errors, strict=True)
            ]
            statuses = [ended(pid) for pid in pids]
            for store, status, error in zip(stores, statuses, errors, strict=True):
                if status:
                    tally.count("unnamed", error.read_text()[-300:])
                    continue
                found = stored(store, records.study_name(study))
                compare(tally, {}, found, unbroken[name], f"eight on one {name}")
