"""Runs that several processes worked at: whose bits they are, and how long they took."""

import os
from types import SimpleNamespace

import pytest
import torch

from reluprime import records
from reluprime.records import scratch
from reluprime.search import study as tuning
from reluprime.search.study import SearchConfig, search
from reluprime.training import loop
from reluprime.training import study as training
from reluprime.training.config import TrainingConfig
from reluprime.training.study import fit

RUN = TrainingConfig(dataset="mnist-5k", hidden_sizes=(8,), n_train=600, epochs=4, dropout=0.1)
SEARCH = SearchConfig(training=RUN.replace(evaluate_on="validation"), n_trials=3)
EPOCH = 100.0  # seconds that each takes by the clock of these tests


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("RELUPRIME_CHECKPOINTS", str(tmp_path / "checkpoints"))
    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)


@pytest.fixture
def epochs(monkeypatch):
    """The epochs trained so far; each takes EPOCH seconds, and after `end` of them all stops."""
    done = SimpleNamespace(epochs=[], end=None)
    train = loop.Trainer.epoch

    def counted(trainer, batches, epoch):
        if len(done.epochs) == done.end:
            raise KeyboardInterrupt
        done.epochs.append(epoch)
        train(trainer, batches, epoch)

    monkeypatch.setattr(loop.Trainer, "epoch", counted)
    clock = SimpleNamespace(perf_counter=lambda: EPOCH * len(done.epochs))
    monkeypatch.setattr(scratch, "time", clock)
    return done


def in_legs(study, config, store, epochs, ends):
    """The record of a cell whose process is stopped after these numbers of epochs."""
    for epochs.end in ends:
        with pytest.raises(KeyboardInterrupt):
            records.sweep(study, [config], store, device="cpu")
    epochs.end = None
    records.sweep(study, [config], store, device="cpu")
    (record,) = store.read(records.study_name(study)).values()
    return record


@pytest.mark.parametrize("ends", [[], [3], [1, 2, 3]])
def test_a_resumed_training_took_what_all_its_processes_took(ends, tmp_path, epochs):
    record = in_legs(fit, RUN, records.Store(tmp_path / "store"), epochs, ends)
    assert epochs.epochs == [0, 1, 2, 3]
    assert record["provenance"]["wall_seconds"] == 4 * EPOCH
    assert len(record["result"]["seconds"]) == 4


def test_a_resumed_search_took_what_all_its_processes_took(tmp_path, epochs):
    record = in_legs(search, SEARCH, records.Store(tmp_path / "store"), epochs, [2, 5, 11])
    assert epochs.epochs == [0, 1, 2, 3] * 3
    assert record["provenance"]["wall_seconds"] == 12 * EPOCH


def test_the_next_cell_took_its_own_time_alone(tmp_path, epochs):
    store = records.Store(tmp_path / "store")
    in_legs(fit, RUN, store, epochs, [2])
    records.sweep(fit, [RUN.replace(seed=1)], store, device="cpu")
    times = [r["provenance"]["wall_seconds"] for r in store.read("training.fit").values()]
    assert times == [4 * EPOCH, 4 * EPOCH]


@pytest.fixture
def other_threads():
    """Call it to compute with another number of threads from then on."""
    before = torch.get_num_threads()
    yield lambda: torch.set_num_threads(before + 1)
    torch.set_num_threads(before)


@pytest.mark.parametrize(("study", "config"), [(fit, RUN), (search, SEARCH)])
def test_with_other_threads_a_run_starts_anew(study, config, tmp_path, epochs, other_threads):
    """Its bits would be those of neither number, and its record would say the last one."""
    store = records.Store(tmp_path / "store")
    epochs.end = 5 if study is search else 3
    with pytest.raises(KeyboardInterrupt):
        records.sweep(study, [config], store, device="cpu")
    del epochs.epochs[:]
    other_threads()
    record = in_legs(study, config, store, epochs, [])
    assert epochs.epochs[:4] == [0, 1, 2, 3]
    assert record["provenance"]["threads"] == torch.get_num_threads()
    assert record["provenance"]["wall_seconds"] == len(epochs.epochs) * EPOCH
    assert len(list((tmp_path / "checkpoints").iterdir())) >= 1  # the other number's, to go on


def test_a_search_knows_its_trials_by_the_threads_that_made_them(other_threads):
    names = [tuning._state_name(SEARCH, "cpu")]
    other_threads()
    names.append(tuning._state_name(SEARCH, "cpu"))
    assert names[0] != names[1]


def test_processes_that_save_at_once_leave_each_other_their_files(monkeypatch):
    """One writes all of its state while another is about to put its own in place."""
    state, replace = scratch.State("both.pt", "training"), os.replace

    def late(part, path):
        with monkeypatch.context() as other:
            other.setattr(os, "replace", replace)
            other.setattr(os, "getpid", lambda: 1)
            scratch.State("both.pt", "training").write(b"theirs")
        replace(part, path)  # a file that is gone would be a warning, which is an error here

    monkeypatch.setattr(os, "replace", late)
    state.write(b"ours")
    assert state.read() == b"ours"
    assert [path.name for path in state.path.parent.iterdir()] == ["both.pt"]
