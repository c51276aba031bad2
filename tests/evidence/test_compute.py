"""Processes that share a store, on a study whose cells say who computed them and how often."""

import multiprocessing
import os
import signal
import time
from typing import Literal

import pytest

from reluprime import records
from reluprime.config import Config, study
from reluprime.evidence import compute
from reluprime.evidence.claim import Cell
from reluprime.records import Store
from reluprime.records.taken import is_taken


class ToyConfig(Config):
    precision: Literal["fp32"] = "fp32"
    seed: int = 0
    s: float = 0.0
    seconds: float = 0.0
    zeros: int = 1
    fails: bool = False


@study("test_compute.toy", version=1)
def toy(config: ToyConfig, device=None) -> dict:
    if config.fails:
        raise ValueError("as it was told to")
    time.sleep(config.seconds)
    return {"exact_zeros": {"activation": [[config.zeros]]}, "process": os.getpid()}


@study("test_compute.count", version=1)
def count(config: ToyConfig, device=None) -> dict:
    return {"exact_zeros": {"activation": config.zeros}}  # a number, as in zone.first_affected


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def arms(seeds, **changes):
    """A run at s=0 for each seed, and an arm that is due if that met a zero."""
    for seed in seeds:
        zero = ToyConfig(seed=seed, **changes)
        yield Cell(toy, zero)
        yield Cell(toy, ToyConfig(seed=seed, s=1.0, **changes), after=zero)


def lines(store):
    name = records.study_name(toy)
    return store.since(name, 0)[0] if store.file(name).exists() else []


def soon(seconds=60.0):
    return time.time() + seconds


def start(cells, store):
    process = multiprocessing.get_context("spawn").Process(
        target=compute.work, args=(list(cells), store, soon())
    )
    process.start()
    return process


def test_arms_are_computed_after_their_reference_if_it_met_a_zero(store):
    cells = [*arms([0, 1]), *arms([2], zeros=0)]
    compute.work(cells, store, soon())
    found = [(r["config"]["seed"], r["config"]["s"]) for r in lines(store)]
    assert found == [(0, 0.0), (0, 1.0), (1, 0.0), (1, 1.0), (2, 0.0)]


def test_results_for_which_nothing_waits_may_have_any_form(store):
    compute.work([Cell(count, ToyConfig())], store, soon())
    compute.work([Cell(count, ToyConfig()), Cell(count, ToyConfig(seed=1))], store, soon())
    assert len(store.since(records.study_name(count), 0)[0]) == 2


def test_a_gpu_completes_a_grid_of_which_a_cpu_has_records(store, monkeypatch):
    """A rule judges each machine that has all cells by itself, and pairs no two."""
    cells = list(arms([0]))
    compute.work(cells, store, soon())
    measured = []

    def on_gpu(study, config, device):
        measured.append(device)
        key = records.cell_key(study, config, device)
        record = lines(store)[0] | {"key": key, "config": config.model_dump(mode="json")}
        return record | {"provenance": record["provenance"] | {"device": device}}

    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr(records, "measure", on_gpu)
    for _ in range(2):
        compute.work(cells, store, soon())
        assert measured == ["cuda", "cuda"]
    assert len(lines(store)) == 4


def test_an_arm_that_comes_before_its_reference_waits_for_it(store):
    compute.work([*arms([0])][::-1], store, soon())
    assert [r["config"]["s"] for r in lines(store)] == [0.0, 1.0]


def test_an_arm_whose_reference_nobody_computes_is_left(store):
    _, arm = arms([0])
    compute.work([arm], store, soon())
    assert lines(store) == []


def test_what_the_store_has_is_not_computed_again(store):
    cells = list(arms([0, 1]))
    compute.work(cells, store, soon())
    compute.work(cells, store, soon())
    assert len(lines(store)) == 4


def test_no_cell_starts_after_the_end(store):
    compute.work(list(arms([0])), store, time.time())
    assert lines(store) == []


def test_processes_share_the_work_and_none_is_done_twice(store):
    cells = list(arms(range(6), seconds=0.3))
    processes = [start(cells, store) for _ in range(3)]
    for process in processes:
        process.join(60)
    found = lines(store)
    assert [p.exitcode for p in processes] == [0, 0, 0]
    assert len(found) == len({r["key"] for r in found}) == 12
    assert len({r["result"]["process"] for r in found}) > 1
    assert list((store.path / ".taken").iterdir()) == []


def test_a_killed_process_leaves_its_cell_to_the_others(store):
    slow = [Cell(toy, ToyConfig(seconds=2.0))]
    first = start(slow, store)
    key = records.cell_key(toy, slow[0].config)
    while not is_taken(store, key):
        time.sleep(0.05)
    second = start(slow, store)  # waits for the first
    time.sleep(0.2)
    os.kill(first.pid, signal.SIGKILL)
    second.join(60)
    assert [r["key"] for r in lines(store)] == [key]
    assert lines(store)[0]["result"]["process"] == second.pid


def test_a_failure_names_its_cell_and_how_many_workers_failed(store, capfd):
    grid = [Cell(toy, ToyConfig(fails=True))]
    with pytest.raises(ValueError, match="as it was told to") as raised:
        compute.compute(grid, store, 60.0)
    assert "fails=True" in raised.value.__notes__[0]
    with pytest.raises(ChildProcessError, match="2 of 2 workers failed"):
        compute.compute(grid, store, 60.0, workers=2)
    assert "as it was told to" in capfd.readouterr().err


def test_reading_on_finds_what_was_added_and_numbers_lines_from_the_start(store):
    compute.work(list(arms([0])), store, soon())
    name = records.study_name(toy)
    found, end = store.since(name, 0)
    assert len(found) == 2
    with store.file(name).open("a") as file:
        file.write("no record\n")
    with pytest.warns(UserWarning, match="line 3 is left out"):
        compute.work(list(arms([1])), store, soon())
    with pytest.warns(UserWarning, match="line 3 is left out"):
        later, last = store.since(name, end)
    assert [r["config"]["seed"] for r in later] == [1, 1]
    assert last == store.file(name).stat().st_size
    assert store.since(name, last) == ([], last)
