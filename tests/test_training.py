import json
import math
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import nn

from reluprime import models, training
from reluprime.activations import ReLU
from reluprime.batches import Batches
from reluprime.data import load
from reluprime.training import TrainingConfig, conditions, fit

SMALL = {"dataset": "mnist-5k", "hidden_sizes": (16, 8), "n_train": 600, "epochs": 3, "lr": 0.05}
ADAM = {"optimizer": "adam", "momentum": 0.0, "lr": 0.01}


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("RELUPRIME_CHECKPOINTS", str(tmp_path))
    return tmp_path


def config(**changes):
    return TrainingConfig(**SMALL | changes)


def numbers(history):
    """All of a result but its wall times."""
    return {name: value for name, value in history.items() if name != "seconds"}


# ---- against a plain loop ----


def plain_loop(c, dtype):
    """The same training, written out with PyTorch's own ReLU and without any of our loop."""
    batches = Batches(
        load("mnist-5k", device="cpu"), dtype, seeds=[c.seed], batch_size=128, n_train=c.n_train
    )
    network = models.mlp((784, *c.hidden_sizes, 10), ReLU, seed=c.seed, batch_norm=c.batch_norm)
    for name in [n for n, m in network.named_children() if isinstance(m, ReLU)]:
        setattr(network, name, nn.ReLU())
    network = network.to(dtype)
    if c.optimizer == "adam":
        optimizer = torch.optim.Adam(network.parameters(), c.lr, weight_decay=c.weight_decay)
    else:
        optimizer = torch.optim.SGD(
            network.parameters(), c.lr, momentum=c.momentum, weight_decay=c.weight_decay
        )
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, c.epochs)
    losses, accuracies = [], []
    for epoch in range(c.epochs):
        network.train()
        total = 0.0
        for x, y in batches.train(epoch):
            optimizer.zero_grad()
            loss = F.cross_entropy(network(x[0].flatten(1)), y[0])
            loss.backward()
            optimizer.step()
            total += loss.item() * len(y[0])
        if c.schedule == "cosine":
            scheduler.step()
        losses.append(total / batches.n_train)
        network.eval()
        with torch.no_grad():
            hits = [
                (network(x[0].flatten(1)).argmax(1) == y[0]).sum() for x, y in batches.evaluation()
            ]
        accuracies.append(float(sum(hits)) / 1000)
    return losses, accuracies


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"schedule": "constant", "momentum": 0.0, "weight_decay": 0.0},
        {"weight_decay": 0.1, "seed": 3},
        ADAM,
        ADAM | {"batch_norm": True},
    ],
)
def test_fit_is_the_plain_loop(changes):
    c = config(precision="fp64", **changes)
    losses, accuracies = plain_loop(c, torch.float64)
    history = fit(c)
    assert history["train_loss"][0] == pytest.approx(losses, rel=1e-9)
    assert history["test_accuracy"][0] == accuracies
    assert history["diverged_epoch"] == [None]
    assert history["n_batches"] == 5


def test_a_loss_scale_cancels_under_the_chain_rule():
    plain, scaled = (fit(config(precision="fp64", loss_scale=scale)) for scale in (1.0, 1000.0))
    assert scaled["train_loss"][0] == pytest.approx(plain["train_loss"][0], rel=1e-9)


@pytest.mark.parametrize("precision", ["fp64", "fp32", "bf16", "fp16"])
def test_every_precision_of_the_cpu_learns(precision):
    history = fit(config(precision=precision, loss_scale=128.0, n_train=4000))
    assert history["test_accuracy"][0][-1] > 0.5


def test_tf32_needs_a_gpu():
    with pytest.raises(ValueError, match="tf32"):
        fit(config(precision="tf32"), torch.device("cpu"))


def test_the_same_config_gives_the_same_bits_and_another_seed_others():
    first, again, other = (fit(config(dropout=0.5, seed=seed)) for seed in (0, 0, 1))
    assert numbers(first) == numbers(again)
    assert first["train_loss"] != other["train_loss"]


def test_the_global_random_state_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fit(config(dropout=0.5, epochs=1))
    assert torch.equal(torch.rand(3), expected)


def test_validation_accuracy_is_called_so():
    history = fit(config(evaluate_on="validation", epochs=1))
    assert "test_accuracy" not in history
    accuracy = history["validation_accuracy"][0][0] * 120  # the last fifth of 600
    assert accuracy == pytest.approx(round(accuracy))


@pytest.mark.parametrize("architecture", ["vgg11", "resnet18"])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_convolutional_networks_train(architecture, batch_norm):
    c = TrainingConfig(
        architecture=architecture,
        dataset="mnist-5k",
        width=0.0625,
        batch_norm=batch_norm,
        n_train=100,
        epochs=2,
        augment=True,
    )
    history = fit(c)
    assert len(history["train_loss"][0]) == 2
    assert history["train_loss"][0][1] != history["train_loss"][0][0]


# ---- exact zeros ----


def dead_network(monkeypatch, neurons=3):
    """The second hidden layer's first neurons have weights and biases of exactly 0."""
    build = models.build

    def planted(*args, **kwargs):
        network = build(*args, **kwargs)
        with torch.no_grad():
            network.linear2.weight[:neurons] = 0
            network.linear2.bias[:neurons] = 0
        return network

    monkeypatch.setattr(training.models, "build", planted)


@pytest.mark.parametrize("precision", ["fp32", "fp64"])
def test_planted_zeros_are_counted(monkeypatch, precision):
    """At s=0 no gradient reaches the planted neurons, so they stay at 0 for every image."""
    dead_network(monkeypatch)
    history = fit(config(epochs=2, precision=precision, batch_size=100, weight_decay=0.0))
    assert history["exact_zeros"]["activation2"] == [[3 * 600] * 2]
    assert history["relu_calls"] == {"activation1": 16 * 600, "activation2": 8 * 600}
    assert history["affected_steps"] == [[6, 6]]


def test_without_zeros_s_changes_nothing_and_with_them_the_rules_part(monkeypatch):
    arms = [(0.0, "chain"), (-1.0, "chain"), (-1.0, "injected")]
    runs = [fit(config(precision="fp64", s=s, gradient_rule=r, epochs=1)) for s, r in arms]
    assert not any(sum(map(sum, run["affected_steps"])) for run in runs)
    assert numbers(runs[0]) == numbers(runs[1]) == numbers(runs[2])
    dead_network(monkeypatch)
    runs = [fit(config(precision="fp64", s=s, gradient_rule=r, epochs=1)) for s, r in arms]
    assert len({run["train_loss"][0][0] for run in runs}) == 3


def test_the_loss_scale_does_not_scale_what_is_injected(monkeypatch):
    """The constant s is divided by the scale with the rest of the gradient."""
    dead_network(monkeypatch)
    common = {"precision": "fp64", "gradient_rule": "injected", "epochs": 1}
    plain = fit(config(**common, s=1.0))
    scaled = fit(config(**common, s=64.0, loss_scale=64.0))
    assert scaled["train_loss"][0] == pytest.approx(plain["train_loss"][0], rel=1e-9)


# ---- divergence ----


def test_a_diverged_run_is_a_result_with_its_epoch():
    history = fit(config(lr=1e30, epochs=3))
    assert history["diverged_epoch"] == [0]
    assert len(history["train_loss"][0]) == len(history["seconds"]) == 1
    assert not math.isfinite(history["train_loss"][0][0])
    assert 0 <= history["test_accuracy"][0][0] < 0.2


def test_the_others_of_an_ensemble_go_on(monkeypatch):
    networks = training._networks

    def one_is_broken(*args):
        for index, network in enumerate(networks(*args)):
            if index == 1:
                nn.init.constant_(network.output.weight, math.inf)
            yield network

    alone = fit(config(n_networks=3, precision="fp64"))
    monkeypatch.setattr(training, "_networks", one_is_broken)
    history = fit(config(n_networks=3, precision="fp64", momentum=0.9))
    assert history["diverged_epoch"] == [None, 0, None]
    assert [len(losses) for losses in history["train_loss"]] == [3, 1, 3]
    assert len(history["exact_zeros"]["activation1"][1]) == 1
    for member in (0, 2):
        assert history["train_loss"][member] == alone["train_loss"][member]


# ---- ensembles ----


@pytest.mark.parametrize(("precision", "tolerance"), [("fp64", 1e-9), ("fp32", 1e-3)])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_a_member_of_an_ensemble_is_the_run_alone(precision, tolerance, batch_norm):
    common = {"precision": precision, "batch_norm": batch_norm, "s": 1.0}
    ensemble = fit(config(**common, n_networks=3, seed=2))
    for member in range(3):
        alone = fit(config(**common, seed=2 + member))
        for name in ("train_loss", "train_accuracy", "test_accuracy"):
            assert ensemble[name][member] == pytest.approx(alone[name][0], abs=10 * tolerance)
        assert ensemble["train_loss"][member] == pytest.approx(
            alone["train_loss"][0], rel=tolerance
        )
        assert ensemble["relu_calls"] == alone["relu_calls"]


def test_planted_zeros_are_counted_in_ensembles(monkeypatch):
    dead_network(monkeypatch)
    history = fit(config(n_networks=2, precision="fp64", epochs=1, weight_decay=0.0))
    assert history["exact_zeros"]["activation2"] == [[3 * 600]] * 2
    assert history["affected_steps"] == [[5], [5]]


# ---- checkpoints ----

RESUMED = [
    {"dropout": 0.3},
    ADAM | {"batch_norm": True},
    {"n_networks": 2, "precision": "bf16"},
]


@pytest.mark.parametrize("changes", RESUMED)
@pytest.mark.parametrize("epochs_done", [1, 2])
def test_an_interrupted_run_goes_on_with_the_same_bits(
    changes, epochs_done, monkeypatch, own_folder
):
    c = config(**changes)
    unbroken = fit(c)
    train, epochs = training._train_epoch, []

    def interrupted(config, run, optimizer, batches, epoch, device):
        if epoch == epochs_done and not epochs.count(epoch):
            epochs.append(epoch)
            raise KeyboardInterrupt
        epochs.append(epoch)
        return train(config, run, optimizer, batches, epoch, device)

    monkeypatch.setattr(training, "_train_epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit(c)
    assert len(list(own_folder.iterdir())) == 1
    assert numbers(fit(c)) == numbers(unbroken)
    assert epochs == [*range(epochs_done + 1), *range(epochs_done, 3)]
    assert list(own_folder.iterdir()) == []


def test_a_checkpoint_is_its_configs_alone(monkeypatch, own_folder):
    expected = fit(config(seed=1))
    train = training._train_epoch

    def interrupted(config, run, optimizer, batches, epoch, device):
        if epoch == 1:
            raise KeyboardInterrupt
        return train(config, run, optimizer, batches, epoch, device)

    monkeypatch.setattr(training, "_train_epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit(config(seed=0))
    monkeypatch.setattr(training, "_train_epoch", train)
    assert numbers(fit(config(seed=1))) == numbers(expected)
    assert len(list(own_folder.iterdir())) == 1


KILLED = """
import json, sys
from reluprime.training import TrainingConfig, fit
print(json.dumps(fit(TrainingConfig(**json.loads(sys.argv[1])))))
"""


def test_a_killed_process_loses_no_finished_epoch(own_folder):
    changes = SMALL | {"hidden_sizes": [256], "n_train": 4000, "epochs": 12, "dropout": 0.2}
    command = [sys.executable, "-c", KILLED, json.dumps(changes)]
    process = subprocess.Popen(command, env=os.environ, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (found := list(own_folder.glob("*.pt"))) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = len(torch.load(found[0])["history"]["seconds"])
    assert 1 <= done < 12
    history = fit(TrainingConfig(**changes))
    assert list(own_folder.glob("*.pt")) == []
    assert numbers(history) == numbers(fit(TrainingConfig(**changes)))


# ---- grids and misuse ----


def test_conditions_have_zero_once_and_the_first_seeds_first():
    grid = conditions(config(), [0, 1, 50], ["chain", "injected"], 2)
    arms = [(c.seed, c.s, c.gradient_rule) for c in grid]
    assert arms[:5] == [
        (0, 0.0, "chain"),
        (0, 1.0, "chain"),
        (0, 1.0, "injected"),
        (0, 50.0, "chain"),
        (0, 50.0, "injected"),
    ]
    assert [seed for seed, *_ in arms] == [0] * 5 + [1] * 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "vgg11", "hidden_sizes": (), "dropout": 0.5}, "dropout=0.5"),
        ({"optimizer": "adam", "momentum": 0.9}, "momentum=0.9"),
        ({"n_networks": 2, "dropout": 0.1}, "n_networks=2"),
        ({"learning_rate": 0.1}, "learning_rate"),
        ({"lr": 0.0}, "lr"),
        ({"dropout": 1.0}, "dropout"),
        ({"precision": "fp8"}, "precision"),
        ({"hidden_sizes": ()}, "hidden_sizes"),
    ],
)
def test_a_wrong_value_is_named(changes, message):
    with pytest.raises(ValidationError, match=message):
        config(**changes)
