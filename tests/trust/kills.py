"""Kills at random moments, and inside writes: nothing finished is lost, and no result changes."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from tries import Torn, child, compare, die, ended, killed_after, stored

from reluprime import records
from reluprime.records.merge import merge
from reluprime.search import study as tuning
from reluprime.search.study import SearchConfig, search
from reluprime.training import study as training
from reluprime.training.study import TrainingConfig, fit
from reluprime.volume.study import VolumeConfig, estimate

TINY = {"dataset": "mnist-5k", "hidden_sizes": (8,)}
CELLS = [VolumeConfig(**TINY, max_batches=8, n_networks=3, seed=3 * n) for n in range(4)]
RUN = TrainingConfig(**TINY, n_train=600, epochs=12, lr=0.05, dropout=0.1)
SEARCH = SearchConfig(
    training=TrainingConfig(**TINY, n_train=300, epochs=8, evaluate_on="validation"),
    n_trials=5,
    sampler="random",
    grace_epochs=1,
)


def once(study, grid, folder) -> tuple[dict, float]:
    """The results of a grid that nothing broke, and how long they took."""
    store = records.Store(folder / "unbroken")
    records.sweep(study, grid[:1], records.Store(folder / "warm"))
    began = time.monotonic()
    ended(child(lambda: records.sweep(study, grid, store)))
    return stored(store, records.study_name(study)), time.monotonic() - began


def killed(tally, seed, tries, folder, study, grid):
    """A sweep killed at a random moment, once or twice, and run to its end."""
    training.SAVE_SECONDS = 0.0
    unbroken, seconds = once(study, grid, folder)
    random_ = random.Random(seed)
    for number in range(tries):
        store = records.Store(folder / f"{number}")
        before = {}
        for _ in range(random_.choice((1, 1, 2))):
            moment = random_.uniform(0, seconds)
            killed_after(lambda store=store: records.sweep(study, grid, store), moment)
            before = stored(store, records.study_name(study))
        status = ended(child(lambda store=store: records.sweep(study, grid, store)))
        after = stored(store, records.study_name(study))
        what = f"killed after {moment:.2f} of {seconds:.2f} s, then exit {status}"
        compare(tally, before, after, unbroken, what)
        shutil.rmtree(store.path, ignore_errors=True)


def sweeps(tally, seed, tries, folder):
    killed(tally, seed, tries, folder, estimate, CELLS)


def trainings(tally, seed, tries, folder):
    killed(tally, seed, tries, folder, fit, [RUN])


def searches(tally, seed, tries, folder):
    """Killed as its n-th report is made, at a rung or not."""
    training.SAVE_SECONDS = 0.0
    unbroken, _ = once(search, [SEARCH], folder)
    make, random_ = tuning._pruning, random.Random(seed)

    def dying(report):
        reports = 0

        def pruning(trial):
            stop = make(trial)

            def counted(history):
                nonlocal reports
                reports += 1
                return die() if reports == report else stop(history)

            return counted

        return pruning

    for number in range(tries):
        store, report = records.Store(folder / f"{number}"), random_.randint(1, 16)

        def broken(store=store, report=report):
            tuning._pruning = dying(report)
            records.sweep(search, [SEARCH], store)

        ended(child(broken))
        status = ended(child(lambda store=store: records.sweep(search, [SEARCH], store)))
        after = stored(store, "tuning.search")
        compare(tally, {}, after, unbroken, f"killed at report {report}, then exit {status}")
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)


def appends(tally, seed, tries, folder):
    """Killed in the middle of the line of a record."""
    unbroken, _ = once(estimate, CELLS, folder)
    random_ = random.Random(seed)
    for number in range(tries):
        store, keep = records.Store(folder / f"{number}"), random_.randint(0, 4000)
        after_lines = random_.randint(0, 3)

        def broken(store=store, keep=keep, after_lines=after_lines):
            lines, good = 0, store._open

            def torn(name):
                nonlocal lines
                lines += 1
                if lines <= after_lines + 1:  # the first open only checks
                    return good(name)
                file = Torn(store.file(name), "a+b")
                file.keep = keep
                return file

            store._open = torn
            records.sweep(estimate, CELLS, store)

        ended(child(broken))
        before = stored(store, "volume.estimate")
        ended(child(lambda store=store: records.sweep(estimate, CELLS, store)))
        after = stored(store, "volume.estimate")
        compare(tally, before, after, unbroken, f"killed {keep} bytes into line {after_lines}")


def saves(tally, seed, tries, folder):
    """Killed in the middle of a checkpoint, before it takes its place, and after."""
    training.SAVE_SECONDS = 0.0
    unbroken, _ = once(fit, [RUN], folder)
    random_, write, replace = random.Random(seed), Path.write_bytes, os.replace
    for number in range(tries):
        store, moment = (
            records.Store(folder / f"{number}"),
            random_.choice(("in", "before", "after")),
        )
        save = random_.randint(1, 10)

        def broken(store=store, moment=moment, save=save):
            count = 0

            def writing(path, data):
                nonlocal count
                count += 1
                if moment == "in" and count == save:
                    write(path, data[: len(data) // 2])
                    die()
                return write(path, data)

            def replacing(part, path):
                if moment == "before" and count == save:
                    die()
                replace(part, path)
                if moment == "after" and count == save:
                    die()

            Path.write_bytes, os.replace = writing, replacing
            records.sweep(fit, [RUN], store)

        ended(child(broken))
        status = ended(child(lambda store=store: records.sweep(fit, [RUN], store)))
        after = stored(store, "training.fit")
        compare(tally, {}, after, unbroken, f"killed {moment} save {save}, then exit {status}")
    if left := list((folder / "checkpoints").glob("*")):
        tally.count("outside", f"{len(left)} files stay in the folder of checkpoints")


def merges(tally, seed, tries, folder):
    """Killed while a store is merged, and merged again."""
    unbroken, _ = once(estimate, CELLS, folder)
    random_, source = random.Random(seed), records.Store(folder / "unbroken")
    lines = source.file("volume.estimate").read_text().splitlines(keepends=True)
    for number in range(tries):
        store, keep = records.Store(folder / f"{number}"), random_.randint(0, 4000)
        store.path.mkdir()
        had = random_.randint(0, 2)
        which = random_.randint(1, len(lines) - had)
        store.file("volume.estimate").write_text("".join(lines[:had]))

        def broken(store=store, keep=keep, nth=which):
            count, good = 0, store._open

            def torn(name):
                nonlocal count
                count += 1
                if count < nth:
                    return good(name)
                file = Torn(store.file(name), "a+b")
                file.keep = keep
                return file

            store._open = torn
            merge(source, store)

        ended(child(broken))
        before = stored(store, "volume.estimate")
        ended(child(lambda store=store: merge(source, store)))
        compare(tally, before, stored(store, "volume.estimate"), unbroken, f"{keep} bytes, {had}")


def pages(tally, seed, tries, folder):
    """The real command that executes a page, killed with its kernel at a random moment."""
    random_ = random.Random(seed)

    def run(store):
        command = [sys.executable, "-m", "reluprime", "run", str(folder / "pages"), "--page", "02"]
        command += ["--profile", "quick", "--store", str(store.path)]
        command += ["-p", "n_networks", "4", "-p", "sweep_networks", "2", "-p", "precisions"]
        return subprocess.Popen(
            [*command, "[fp32]"],
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    first, began = records.Store(folder / "unbroken"), time.monotonic()
    run(first).wait()
    unbroken, seconds = stored(first, "volume.estimate"), time.monotonic() - began
    for number in range(tries):
        store, moment = records.Store(folder / f"{number}"), random_.uniform(2, seconds)
        process = run(store)
        time.sleep(moment)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        before = stored(store, "volume.estimate")
        status = run(store).wait()
        after = stored(store, "volume.estimate")
        compare(tally, before, after, unbroken, f"killed after {moment:.1f} s, then exit {status}")
