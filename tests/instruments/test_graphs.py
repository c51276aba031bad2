"""What can be said of steps on a GPU without one: same results, and no wait for the host."""

import gc
import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from reluprime.instruments import derivative, graphs, models
from reluprime.instruments.activations import ReLU
from reluprime.instruments.fully_connected import mlp
from reluprime.instruments.precision import DTYPES
from reluprime.training import loop
from reluprime.training import study as training
from reluprime.training.config import TrainingConfig
from reluprime.training.study import fit
from reluprime.volume import VolumeConfig, ZoneConfig, first_affected, screening, stacks, zone
from reluprime.volume import study as volume

SMALL = {"dataset": "mnist-5k", "hidden_sizes": (16, 8), "n_train": 1000, "epochs": 3, "lr": 0.0625}
ADAM = {"optimizer": "adam", "momentum": 0.0}
IMAGES = {"hidden_sizes": (), "width": 0.0625}
VGG11 = IMAGES | {"architecture": "vgg11", "batch_norm": True}
RESNET18 = IMAGES | {"architecture": "resnet18"}


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("RELUPRIME_CHECKPOINTS", str(tmp_path))
    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)


@pytest.fixture
def recorded(monkeypatch):
    """Every device records its steps; a recording computes nothing, as on a GPU."""
    calls = []

    def record(step, inputs):
        calls.append("record")
        weak = weakref.WeakMethod(step)  # a graph does not lead back to what was recorded

        def replay():
            calls.append("replay")
            weak()(*inputs)

        return replay

    def warm_up(step, tensors):
        calls.append("warm up")
        step(*tensors)

    monkeypatch.setattr(graphs, "captures", lambda _: True)
    monkeypatch.setattr(graphs, "record", record)
    monkeypatch.setattr(graphs, "warm_up", warm_up)
    return calls


def numbers(history):
    return {name: value for name, value in history.items() if name != "seconds"}


@pytest.mark.parametrize(
    "changes",
    [
        {"s": 1.0, "gradient_rule": "injected"},
        {"schedule": "constant", "n_networks": 2},
        ADAM | {"lr": 0.0078125, "batch_norm": True},
        {"dropout": 0.5},
        VGG11,
        {"s": 1.0, "kink_width": 0.0625, "kink_layer": 2, "clip_norm": 0.5},
    ],
)
def test_replays_train_as_the_loop_does(changes, request, monkeypatch):
    config = TrainingConfig(**SMALL | changes)
    # Rates of a GPU are fp32; those of a cosine are not, so both are rounded here.
    monkeypatch.setattr(loop, "learning_rate", lambda c, epoch: c.lr / 2**epoch)
    expected = numbers(fit(config))
    calls = request.getfixturevalue("recorded")
    assert numbers(fit(config)) == expected
    full, epochs = config.n_train // config.batch_size, config.epochs
    assert calls == ["warm up"] * 3 + ["record"] + ["replay"] * (full * epochs - 3)


def test_the_rate_of_a_recorded_step_follows_the_schedule(recorded):
    first = fit(TrainingConfig(**SMALL))
    constant = fit(TrainingConfig(**SMALL, schedule="constant"))
    assert first["train_loss"][0][0] == constant["train_loss"][0][0]
    assert first["train_loss"][0][1] != constant["train_loss"][0][1]


def test_a_resumed_run_records_anew_and_goes_on(recorded, stop_before):
    config = TrainingConfig(**SMALL)
    unbroken = fit(config)
    stop_before(1, config)
    recorded.clear()
    assert numbers(fit(config)) == numbers(unbroken)
    assert recorded[:4] == ["warm up"] * 3 + ["record"]


def test_fewer_mini_batches_than_the_warm_up_are_never_recorded(recorded):
    config = TrainingConfig(**SMALL | {"n_train": 300, "epochs": 1})
    assert numbers(fit(config))["n_batches"] == 3
    assert recorded == ["warm up"] * 2


# ---- no wait for the host ----


class Waited(Exception):
    """A program had to know a value: a GPU's host would have waited for it."""


class NoWait(TorchDispatchMode):
    """Raises where a tensor's values shape the program."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        # torch.tensor(number) too: on a GPU it is a copy from the host.
        reads = torch.Tag.data_dependent_output in function.tags or "lift_fresh" in str(function)
        shapes = torch.Tag.dynamic_output_shape in function.tags
        if function is torch.ops.aten.index.Tensor:  # its shape depends on values of masks alone
            shapes = any(i is not None and i.dtype == torch.bool for i in args[1])
        if reads or shapes:
            raise Waited(function)
        return function(*args, **(kwargs or {}))


def train_an_epoch(config):
    cpu = torch.device("cpu")
    dtype = DTYPES[config.precision]
    batches = training._batches(config, cpu, dtype)
    networks = list(training.build_networks(config, batches, cpu, dtype))
    run = loop.SingleRun(networks[0]) if len(networks) == 1 else loop.EnsembleRun(networks)
    optimizer = loop.make_optimizer(config, run.weights, cpu)
    with NoWait():
        loop.Trainer(config, run, optimizer, cpu).epoch(batches, 0)


@pytest.mark.parametrize(
    "changes",
    [
        {"s": 1.0},
        {"s": 1.0, "gradient_rule": "injected", "loss_scale": 8.0},
        {"s": 1.0, "n_networks": 2},
        {"activation": "relu6", "s": 1.0, "s_upper": 1.0, "dropout": 0.5},
        ADAM | {"s": 1.0, "batch_norm": True},
        VGG11 | {"s": 1.0, "augment": True},
        RESNET18 | {"s": 1.0},
        RESNET18 | {"s": 1.0, "kink_width": 0.0625, "clip_norm": 0.5},
        {"kink_width": 0.0625, "kink_layer": 2},
        ADAM | {"s": 1.0, "batch_norm": True, "arithmetic": "epilogue"},
        VGG11 | {"s": 1.0, "batch_norm": True, "arithmetic": "separate", "precision": "bf16"},
    ],
)
def test_an_epoch_never_waits_for_the_host(changes, monkeypatch):
    monkeypatch.setattr(derivative, "_positions", lambda x, kink: x == kink)  # as on a GPU
    train_an_epoch(TrainingConfig(**SMALL | changes))


def test_a_run_leaves_no_graph_behind(recorded):
    """One that the garbage collector frees later would spoil the recording of another."""
    config = TrainingConfig(**SMALL | {"epochs": 1})
    gc.collect()
    gc.disable()
    try:
        fit(config)
        left = [o for o in gc.get_objects() if type(o) in (graphs._GraphRunner, loop.Trainer)]
    finally:
        gc.enable()
    assert left == []


def test_looking_for_zeros_would_wait():
    with pytest.raises(Waited, match="local_scalar"):
        train_an_epoch(TrainingConfig(**SMALL, s=1.0))


def test_the_screen_of_a_stack_never_waits_for_the_host():
    networks = [mlp((784, 8, 8, 10), ReLU, seed=seed) for seed in range(3)]
    stack = stacks.layers(networks)
    with NoWait():
        found = stacks.outputs(stack, torch.rand(10, 784))
        assert stacks.zeros(stack, found, 5).shape == (2, 2, 3)


DEAD = {"hidden_sizes": (16, 8, 8, 8), "initialisation": "kaiming-uniform"}


@pytest.mark.parametrize("stop", [False, True])
@pytest.mark.parametrize("changes", [DEAD, RESNET18])
def test_a_screen_of_several_mini_batches_finds_the_same(changes, stop, monkeypatch):
    small = {"dataset": "mnist-5k", "batch_size": 20, "n_networks": 3, "max_batches": 10}
    config, study = VolumeConfig(**small | changes), volume.estimate
    if stop:
        config, study = ZoneConfig(**small | changes), first_affected
    one_by_one = study(config)
    monkeypatch.setattr(screening, "SCREENED_AT_ONCE", 4)
    for user in (volume, zone):
        monkeypatch.setattr(user, "screen", lambda n, b, _: screening._screen_at_once(n, b))
    assert study(config) == one_by_one
    assert sum(one_by_one["screened"]) > 0


def test_the_screen_of_a_network_never_waits_within_a_group():
    network = models.build(
        models.NetworkConfig(architecture="resnet18", hidden_sizes=(), width=0.0625),
        (3, 32, 32), 10, ReLU, seed=0,
    )  # fmt: skip
    with NoWait():
        assert screening.count_exact_zeros(network, torch.rand(2, 3, 32, 32)).shape == ()
