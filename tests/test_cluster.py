"""Ray, where this process can reach nothing but itself: `make cluster`."""

import json
import os
import threading
import time
from pathlib import Path

import pytest
import torch

from reluprime import records
from reluprime.instruments.data import DataError
from reluprime.records import cluster
from reluprime.search import study as tuning
from reluprime.search.study import SearchConfig, Space
from reluprime.training import study as training
from reluprime.training.config import TrainingConfig

ray = pytest.importorskip("ray")
# No route but loopback's, which this table does not list: a header alone.
ROUTES = Path("/proc/net/route")
ALONE = ROUTES.exists() and len(ROUTES.read_text().splitlines()) == 1
pytestmark = [
    pytest.mark.skipif(not ALONE, reason="Ray is tested without a network: make cluster"),
    pytest.mark.filterwarnings("ignore"),  # Ray's own
]

TRAINING = TrainingConfig(
    dataset="mnist-5k", hidden_sizes=(64,), epochs=25, n_train=4000, lr=0.05, seed=0
)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch, tmp_path):
    """As a task on one CPU has it, so that sums are added up in the same order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setenv("RELUPRIME_CHECKPOINTS", str(tmp_path / "checkpoints"))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    yield
    ray.shutdown()
    torch.set_num_threads(threads)


def results(store):
    """{key: result without its times} and the number of lines."""
    lines = store.file("training.fit").read_text().splitlines()
    found = {r["key"]: r["result"] | {"seconds": None} for r in map(json.loads, lines)}
    return found, len(lines)


def test_both_engines_train_the_same_trials():
    base = TRAINING.model_copy(
        update={"activation": "relu6", "epochs": 4, "n_train": 500, "evaluate_on": "validation"}
    )
    space = Space(lr=(1e-3, 1e-1), batch_size=(32, 64), s=(0, 1), s_upper=(0, 1))
    config = SearchConfig(training=base, space=space, n_trials=4, sampler="random")
    with_ray = config.model_copy(update={"engine": "ray"})
    assert tuning.search(with_ray) == tuning.search(config)
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    # ASHA stops trials early, and changes nothing about the epochs that they did.
    halved = tuning.search(with_ray.model_copy(update={"grace_epochs": 2}))
    assert {trial["epochs"] for trial in halved["trials"]} == {2, 4}
    for trial in halved["trials"]:
        drawn = {name: trial[name] for name in ("lr", "batch_size", "s", "s_upper")}
        alone = training.fit(base.model_copy(update=drawn))["validation_accuracy"][0]
        assert alone[trial["epochs"] - 1] == trial["validation_accuracy"]


def test_a_sweep_on_ray_stores_what_a_local_one_does(tmp_path):
    configs = [TRAINING.model_copy(update={"seed": seed, "epochs": 2}) for seed in range(3)]
    stores = {name: records.Store(tmp_path / name) for name in ("local", "ray")}
    for executor, store in stores.items():
        frame = records.sweep(training.fit, configs, store, executor=executor)
        assert frame["seed"].tolist() == [0, 1, 2]
    assert results(stores["ray"]) == results(stores["local"])
    again = records.sweep(training.fit, configs, stores["ray"], executor="ray")
    assert len(again) == 3
    assert results(stores["ray"])[1] == 3


def test_a_cell_that_fails_is_named_and_the_finished_ones_are_stored(tmp_path, monkeypatch):
    monkeypatch.setenv("RELUPRIME_DATA", str(tmp_path))
    bad = TRAINING.model_copy(update={"dataset": "cifar10"})
    good = TRAINING.model_copy(update={"epochs": 1})
    store = records.Store(tmp_path / "records")
    with pytest.raises(DataError, match=r"in training\.fit"):
        records.sweep(training.fit, [good, bad], store, executor="ray")
    records.sweep(training.fit, [good], store, executor="ray")
    assert results(store)[1] == 1


def test_no_cell_starts_after_max_seconds(tmp_path):
    store = records.Store(tmp_path)
    with pytest.warns(UserWarning, match="1 of 1 cells"):
        frame = records.sweep(training.fit, [TRAINING], store, max_seconds=0, executor="ray")
    assert frame.empty


def kill_once_training(nodes, node, folder):
    """Take a node down, ungracefully, once a training there has left a checkpoint."""
    deadline = time.monotonic() + 90
    while not list(folder.glob("*.pt")):
        if time.monotonic() > deadline:
            return
        time.sleep(0.02)
    nodes.remove_node(node, allow_graceful=False)


def test_a_node_that_dies_in_mid_sweep_loses_nothing(tmp_path, monkeypatch):
    from ray.cluster_utils import Cluster

    # Seconds each, so that the node is gone before its first training ends.
    configs = [TRAINING.model_copy(update={"seed": seed, "epochs": 120}) for seed in range(4)]
    local, store = records.Store(tmp_path / "local"), records.Store(tmp_path / "ray")
    records.sweep(training.fit, configs, local)
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    doomed = nodes.add_node(
        num_cpus=1, env_vars={"RELUPRIME_CHECKPOINTS": str(tmp_path / "doomed")}
    )
    monkeypatch.setenv("RAY_ADDRESS", nodes.address)
    try:
        assert cluster.connect() == {"cpu": 1}
        assert ray.cluster_resources()["CPU"] == 2
        killer = threading.Thread(
            target=kill_once_training, args=(nodes, doomed, tmp_path / "doomed")
        )
        killer.start()
        frame = records.sweep(training.fit, configs, store, executor="ray")
        killer.join()
    finally:
        ray.shutdown()
        nodes.shutdown()
    assert list((tmp_path / "doomed").glob("*.pt"))  # a training ended in the middle
    assert len(frame) == 4
    assert results(store) == results(local)
