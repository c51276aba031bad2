"""What is compared, and what the table says; how fast it is, is for `reluprime bench` alone."""

import math
import os

import pandas as pd
import pytest
import torch

from reluprime.instruments import data
from reluprime.instruments.activations import relu
from reluprime.instruments.precision import DTYPES, numerics
from reluprime.network.study import NetworkCheckConfig
from reluprime.records import scratch
from reluprime.speed import config as speed_config
from reluprime.speed import grids as speed_grids
from reluprime.speed import released, tasks
from reluprime.speed import study as speed
from reluprime.speed import tables as speed_tables
from reluprime.speed.config import (
    IN_MEMORY,
    PRODUCTS,
    RELEASED,
    TORCH,
    Contender,
    SpeedConfig,
    Task,
)
from reluprime.volume import VolumeConfig
from reluprime.volume import study as volume

CPU = torch.device("cpu")


def row(task="mlp-256", device="cpu", operations=None, **seconds):
    return {
        "task": task,
        "unit": "epoch",
        "seconds": seconds,
        "operations": operations,
        "matrix_product_rate": 1e9,
        "provenance": {
            "device": device,
            "device_name": "A",
            "utc": "2026-01-02T03:04:05+00:00",
            "threads": 2,
            "torch": "2.14",
        },
    }


def test_ratios_are_taken_pair_by_pair():
    frame = pd.DataFrame([row(ours=[1.0, 2.0, 4.0], released=[6.0, 10.0, 32.0])])
    (line,) = speed_tables.table(frame).to_dict("records")
    assert (line["times ours"], line["range"]) == ("6", "5 to 8")
    assert (line["ours"], line["theirs"]) == ("2", "10")
    assert line["goal"] == "5, reached"
    assert speed_tables.ratios(frame) == {"mlp-256 / released": ([6.0, 5.0, 8.0], 5.0)}


def test_the_prose_has_the_released_ways_and_the_goals():
    rows = [
        row(ours=[1.0, 2.0, 4.0], released=[6.0, 10.0, 32.0]),
        row(task="monte-carlo", ours=[1.0], released=[14.0]),
        row(task="vgg11", ours=[1.0], released=[14.0]),  # without a goal on a CPU
    ]
    assert speed_tables.in_prose(pd.DataFrame(rows)) == {
        "monte_carlo_times": 14.0,
        "epoch_times": 6.0,
        "goals": 2,
        "goals_reached": 1,
    }
    on_a_gpu = row(task="monte-carlo", device="cuda", ours=[1.0], released=[900.0])
    both = speed_tables.in_prose(pd.DataFrame([*rows, on_a_gpu]))
    assert (both["monte_carlo_times"], both["goals"]) == (14.0, 2)
    nothing = speed_tables.in_prose(pd.DataFrame())
    assert math.isnan(nothing["epoch_times"])
    assert nothing["goals"] == 0


@pytest.mark.parametrize(
    ("task", "device", "against", "ours", "theirs", "goal"),
    [
        ("mlp-256", "cpu", RELEASED, 1.0, 4.9, "5, not reached"),
        ("mlp-256", "cuda", RELEASED, 1.0, 4.9, ""),
        ("resnet18", "cpu", RELEASED, 1.0, 9.0, ""),
        ("resnet18", "cuda", RELEASED, 1.0, 3.0, "3, reached"),
        ("activation-images", "cuda", TORCH, 1.1, 1.0, "0.909, reached"),
        ("activation-images", "cuda", TORCH, 1.2, 1.0, "0.909, not reached"),
        ("monte-carlo", "cuda", IN_MEMORY, 1.0, 49.0, "50, not reached"),
    ],
)
def test_goals_are_of_a_kind_of_device(task, device, against, ours, theirs, goal):
    frame = pd.DataFrame([row(task, device, **{"ours": [ours], against: [theirs]})])
    (line,) = speed_tables.table(frame).to_dict("records")
    assert line["goal"] == goal


def test_the_share_of_the_matrix_products():
    rows = [row("monte-carlo", "cuda", 4e9, ours=[6.0, 8.0, 10.0]), row(ours=[1.0], released=[1.0])]
    first, second = speed_tables.table(pd.DataFrame(rows)).to_dict("records")
    assert (first["against"], first["theirs"], first["times ours"]) == (PRODUCTS, "4", "0.50")
    assert first["goal"] == "0.5, reached"
    assert second["against"] == RELEASED  # where nothing was counted there is no share


def test_goals_wait_for_a_gpu():
    measured = [row("monte-carlo", "cuda", ours=[1.0]), row("vgg11", "cpu", ours=[1.0])]
    waiting = speed_tables.unmeasured_goals(pd.DataFrame(measured))
    assert "monte-carlo" not in set(waiting["task"])
    assert {"vgg11", "resnet18", "mlp-2048", "activation-images"} <= set(waiting["task"])
    assert "mlp-256" not in set(waiting["task"])  # has no goal there
    assert len(speed_tables.unmeasured_goals(pd.DataFrame())) == len(waiting) + 3


def test_an_empty_store_has_an_empty_table():
    assert speed_tables.table(pd.DataFrame()).empty
    assert speed_tables.devices(pd.DataFrame()).empty


def test_a_device_is_listed_once():
    frame = pd.DataFrame(
        [row(ours=[1.0]), row("vgg11", ours=[1.0]), row("vgg11", "cuda", ours=[1])]
    )
    lines = speed_tables.devices(frame).to_dict("records")
    assert [(line["device"], line["kind"]) for line in lines] == [("A", "CPU"), ("A", "GPU")]
    assert [line["date"] for line in lines] == ["2026-01-02"] * 2


def test_contenders_take_turns_after_a_warm_up(monkeypatch):
    calls = []

    def contender(name, units):
        return Contender(lambda: calls.append(name) or True, units, False)

    task = Task("unit", {"ours": contender("ours", 4), "other": contender("other", 1)})
    monkeypatch.setitem(tasks.TASKS, "mlp-256", lambda config, device: task)
    monkeypatch.setattr(speed, "matrix_product_rate", lambda device: 1.0)
    monkeypatch.setattr(speed, "timed", lambda run, device: (run() and 8.0 * len(calls), None))
    result = speed.measure(SpeedConfig(task="mlp-256", repeats=2), CPU)
    assert calls == ["ours", "other"] * 3
    assert result["seconds"] == {"ours": [6.0, 10.0], "other": [32.0, 48.0]}  # by its units


def test_a_wrong_result_is_no_record(monkeypatch):
    def check(results):
        raise RuntimeError(f"has not learned: {results}")

    task = Task("unit", {"ours": Contender(lambda: 0.1, 1, False)}, check=check)
    monkeypatch.setitem(tasks.TASKS, "mlp-256", lambda config, device: task)
    monkeypatch.setattr(speed, "matrix_product_rate", lambda device: 1.0)
    with pytest.raises(RuntimeError, match="has not learned"):
        speed.measure(SpeedConfig(task="mlp-256"), CPU)


def test_the_release_runs_in_its_numerics_and_ours_in_ours(monkeypatch):
    seen = {}

    def look(name):
        def run():
            seen[name] = (
                torch.backends.cudnn.benchmark,
                torch.are_deterministic_algorithms_enabled(),
                os.environ.get("RELUPRIME_CHECKPOINTS"),
            )

        return run

    monkeypatch.setenv("RELUPRIME_CHECKPOINTS", "mine")
    with numerics("fp32", CPU):
        speed._prepared(Contender(look("ours"), 1, False))()
        speed._prepared(Contender(look("released"), 1, True))()
        speed._prepared(Contender(look("again"), 1, False))()
    assert seen["ours"][:2] == seen["again"][:2] == (False, True)
    assert seen["released"] == (True, False, "mine")
    assert len({checkpoints for _, _, checkpoints in seen.values()}) == 3
    assert os.environ["RELUPRIME_CHECKPOINTS"] == "mine"


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_grid_has_every_task_once(device):
    names = [config.task for config in speed_grids.grid(torch.device(device))]
    assert names == list(tasks.TASKS)
    assert {task for task, _ in speed_tables.GOALS} <= set(names)


# ---- the tasks ----


def test_the_monte_carlo_must_find_the_same(full_data_root, monkeypatch):
    monkeypatch.setenv("RELUPRIME_DATA", str(full_data_root("mnist")))
    task = tasks.TASKS["monte-carlo"](SpeedConfig(task="monte-carlo", n_released=2), CPU)
    assert task.operations == 2 * 60_000 * (784 * 256 + 256 * 256 * 2)  # up to the last ReLU
    assert task.contenders.keys() == {"ours", RELEASED, IN_MEMORY}
    task.check({"ours": [0, 3, 1], RELEASED: [0, 3]})  # ours has more networks
    with pytest.raises(RuntimeError, match="differ"):
        task.check({"ours": [0, 3, 1], RELEASED: [0, 2]})


def test_an_epoch_must_learn(full_data_root, monkeypatch):
    monkeypatch.setenv("RELUPRIME_DATA", str(full_data_root("mnist")))
    task = tasks.TASKS["mlp-256"](SpeedConfig(task="mlp-256", n_train=100), CPU)
    products = 784 * 256 + 256 * 256 * 2 + 256 * 10
    backward = 2 * products - 784 * 256  # of weights, and of inputs but the images
    assert task.operations == 2 * (100 * (products + backward) + 10_000 * products)
    task.check({"ours": [0.2, 0.95], RELEASED: [0.91]})
    for wrong in ([0.95, 0.1], []):
        with pytest.raises(RuntimeError, match="has not learned"):
            task.check({"ours": wrong, RELEASED: [0.91]})


@pytest.mark.parametrize(("task", "name"), [("monte-carlo", "mnist"), ("vgg11", "cifar10")])
def test_a_set_that_is_missing_is_named_with_the_command_that_has_it(
    task, name, tmp_path, monkeypatch
):
    """torchvision's own words name an argument that no command of ours takes."""
    monkeypatch.setenv("RELUPRIME_DATA", str(tmp_path))
    with pytest.raises(data.DataError, match=f"reluprime data {name}"):
        tasks.TASKS[task](SpeedConfig(task=task), CPU)


# ---- the released code, written anew ----


def test_the_released_rule_is_ours_under_injected():
    x = torch.tensor([-1.0, 0.0, -0.0, 2.0])
    upstream = torch.tensor([3.0, 5.0, 0.0, 7.0])
    found = []
    for function in (
        lambda x: released.InjectedReLU.apply(x, 0.5),
        lambda x: relu(x, 0.5, "injected"),
    ):
        own = x.clone().requires_grad_()
        function(own).backward(upstream)
        found.append(own.grad.tolist())
    assert found == [[0.0, 0.5, 0.5, 7.0]] * 2


def test_the_released_monte_carlo_finds_the_same_mini_batches():
    dataset = data.load("mnist-5k", device="cpu")
    images = data.unit_images(dataset.train_images, torch.float32)
    batches = list(zip(images.split(256), dataset.train_labels.split(256), strict=True))
    config = VolumeConfig(dataset="mnist-5k", n_networks=12)
    ours = volume.estimate(config, CPU)["affected_injected"]
    assert released.monte_carlo(batches, range(12), CPU) == ours
    assert any(ours)


def test_the_released_loop_learns():
    dataset = data.load("mnist-5k", device="cpu")
    x, y = data.unit_images(dataset.train_images, torch.float32), dataset.train_labels
    test = [(data.unit_images(dataset.test_images, torch.float32), dataset.test_labels)]
    network = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(784, 32), released.ReleasedReLU(0.0),
        torch.nn.Linear(32, 10),
    )  # fmt: skip
    batches = list(zip(x.split(50), y.split(50), strict=True))
    accuracies = released.train(network, batches, test, lr=0.05, epochs=2, device=CPU)
    assert len(accuracies) == 2
    assert accuracies[-1] > 0.8


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_the_released_loader(name, full_data_root, monkeypatch):
    monkeypatch.setenv("RELUPRIME_DATA", str(full_data_root(name)))
    x, y = next(iter(released.loader(name, train=True, batch_size=3, n_images=5)))
    assert x.shape == ((3, 1, 28, 28) if name == "mnist" else (3, 3, 32, 32))
    assert y.dtype == torch.int64
    raw = released.loader(name, train=False, batch_size=4, normalised=False)
    x, _ = next(iter(raw))
    dataset = data.load(name, device="cpu")
    assert torch.equal(x, data.unit_images(dataset.test_images[:4], torch.float32))


def test_on_a_gpu_the_activation_is_timed_as_a_recording(monkeypatch):
    steps = []
    monkeypatch.setattr(tasks.graphs, "captures", lambda _: True)
    monkeypatch.setattr(tasks.graphs, "warm_up", lambda step, tensors: step(*tensors))
    monkeypatch.setattr(tasks.graphs, "record", lambda step, inputs: lambda: steps.append("replay"))
    config = SpeedConfig(task="activation-features", calls=1, repeats=1)
    result = speed.measure(config, CPU)
    assert steps == ["replay"] * 6  # three contenders, one warm-up and one repeat
    assert result["seconds"].keys() == {"ours", TORCH, RELEASED}


def test_two_arithmetics_train_the_same(monkeypatch):
    asked = []
    monkeypatch.setattr(tasks.training, "fit", lambda config, device: asked.append(config))
    task = tasks.TASKS["vgg11-bf16"](SpeedConfig(task="vgg11-bf16", epochs=2, n_train=50), CPU)
    for contender in task.contenders.values():
        contender.run()
    assert [(c.precision, c.arithmetic) for c in asked] == [
        ("bf16", "separate"),
        ("bf16", "native"),
    ]
    assert asked[0].model_copy(update={"arithmetic": "native"}) == asked[1]
    assert {contender.units for contender in task.contenders.values()} == {2}


def test_a_band_trains_as_exact_zeros_do(monkeypatch):
    asked = []
    monkeypatch.setattr(tasks.training, "fit", lambda config, device: asked.append(config))
    task = tasks.TASKS["mlp-256-band"](SpeedConfig(task="mlp-256-band", epochs=2, n_train=50), CPU)
    for contender in task.contenders.values():
        contender.run()
    assert list(task.contenders) == ["ours", speed_config.EXACT]
    assert [c.kink_width > 0 for c in asked] == [True, False]
    assert asked[0].model_copy(update={"kink_width": 0.0}) == asked[1]
    assert (asked[1].hidden_sizes, asked[1].epochs, asked[1].n_train) == ((256,) * 3, 2, 50)
    assert {contender.units for contender in task.contenders.values()} == {2}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_check_is_measured_against_a_step_in_its_precision(monkeypatch, precision):
    asked = []
    monkeypatch.setattr(tasks, "check", lambda *args, **named: asked.append((args, named)))
    monkeypatch.setattr(
        tasks, "NetworkCheckConfig", lambda **c: NetworkCheckConfig(**c | {"image_size": 32})
    )
    task = tasks.TASKS[f"check-{precision}"](SpeedConfig(task=f"check-{precision}"), CPU)
    for contender in task.contenders.values():
        contender.run()
    (((network, batches), named),) = asked
    assert named == {"precision": precision, "arithmetic": "native"}
    assert {w.dtype for w in network.parameters()} == {DTYPES[precision]}
    assert {len(y) for _, y in batches} == {8}
    assert all(w.grad is not None for w in network.parameters())
    assert {contender.units for contender in task.contenders.values()} == {len(batches)}


def test_two_arithmetics_screen_the_same(monkeypatch):
    small = data.load("mnist-5k", device=CPU)
    monkeypatch.setattr(data, "load", lambda name, device: small)
    task = tasks.TASKS["monte-carlo-fp16"](SpeedConfig(task="monte-carlo-fp16", n_networks=4), CPU)
    ours, native = (contender.run() for contender in task.contenders.values())
    assert len(ours) == len(native) == 4
    for found, condition in ((ours, {"precision": "fp16", "arithmetic": "epilogue"}), (native, {})):
        config = VolumeConfig(dataset="mnist-5k", n_networks=4, **condition)
        assert [len(one) for one in found] == volume.estimate(config, CPU)["screened"]
    assert sum(map(len, ours)) > sum(map(len, native))


def test_no_measurement_goes_on_from_the_training_of_another(monkeypatch):
    """A sweep keeps states until the record is written, so each call has a folder of its own."""
    found = []

    def run():
        state = scratch.State("training.pt", "training")
        found.append(state.read())
        state.write(b"done")
        state.remove()

    task = Task("epoch", {"ours": Contender(run, 1, False)})
    monkeypatch.setitem(tasks.TASKS, "mlp-256", lambda config, device: task)
    monkeypatch.setenv("RELUPRIME_CHECKPOINTS", "elsewhere")
    with scratch.kept_until_written():
        speed.measure(SpeedConfig(task="mlp-256", repeats=2), CPU)
    assert found == [None] * 3
    assert os.environ["RELUPRIME_CHECKPOINTS"] == "elsewhere"
