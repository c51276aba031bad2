import json
import math
import os
import pickle
import signal
import subprocess
import sys
import time

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import nn

from reluprime import records
from reluprime.instruments import models, precision
from reluprime.instruments.activations import ReLU
from reluprime.instruments.batches import Batches
from reluprime.instruments.data import as_rgb_32, load
from reluprime.instruments.fully_connected import mlp
from reluprime.instruments.watch import relu_calls
from reluprime.records import scratch
from reluprime.training import checkpoint, loop
from reluprime.training import networks as training_networks
from reluprime.training import study as training
from reluprime.training.config import TrainingConfig, conditions
from reluprime.training.study import fit

SMALL = {"dataset": "mnist-5k", "hidden_sizes": (16, 8), "n_train": 600, "epochs": 3, "lr": 0.05}
ADAM = {"optimizer": "adam", "momentum": 0.0, "lr": 0.01}
CPU = torch.device("cpu")  # whose rates are fp64; a GPU's are fp32


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("RELUPRIME_CHECKPOINTS", str(tmp_path))
    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)  # a checkpoint after each epoch
    return tmp_path


def config(**changes):
    return TrainingConfig(**SMALL | changes)


def numbers(history):
    """All of a result but its wall times."""
    return {name: value for name, value in history.items() if name != "seconds"}


# ---- against a plain loop ----


class Emulated(nn.Module):
    """The derivative s at 0 under the chain rule, from PyTorch's own ReLU (B21, footnote 1)."""

    def __init__(self, s):
        super().__init__()
        self.s = s

    def forward(self, x):
        return torch.relu(x) + self.s * (torch.relu(-x) - torch.relu(x) + x)


class Injected(nn.Module):
    """The gradient s at 0, whatever comes from upstream."""

    def __init__(self, s):
        super().__init__()
        self.s = s

    def forward(self, x):
        y = torch.relu(x)
        if y.requires_grad:
            at_zero = x.detach() == 0
            x.register_hook(lambda gradient: torch.where(at_zero, self.s, gradient))
        return y


class _Band(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, s, rule, width):
        ctx.save_for_backward(x)
        ctx.s, ctx.rule, ctx.width = s, rule, width
        return torch.relu(x)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        result = gradient * (x > 0)
        band = (x >= -ctx.width) & (x <= ctx.width)
        result[band] = ctx.s if ctx.rule == "injected" else ctx.s * gradient[band]
        return result, None, None, None


class Banded(nn.Module):
    """The rule in a band around 0, plainly."""

    def __init__(self, s, rule, width):
        super().__init__()
        self.own = s, rule, width

    def forward(self, x):
        return _Band.apply(x, *self.own)


def clip(parameters, largest):
    """The gradient of all parameters together, no longer than `largest` (1e-6 as in PyTorch)."""
    norm = torch.cat([p.grad.flatten() for p in parameters]).norm()
    for p in parameters:
        p.grad *= min(1.0, largest / (norm + 1e-6))


def plain_loop(c, activation=nn.ReLU):
    """The same training, written out with `activation` and without any of our loop."""
    dataset, dtype = load("mnist-5k", device="cpu"), precision.DTYPES[c.precision]
    batches = Batches(
        dataset if c.architecture == "mlp" else as_rgb_32(dataset),
        dtype,
        seeds=[c.seed],
        batch_size=c.batch_size,
        n_train=c.n_train,
        augment=c.augment,
        validation=c.evaluate_on == "validation",
    )
    network = models.build(c, batches.image_shape, 10, ReLU, seed=c.seed).to(dtype)
    for parent in list(network.modules()):
        for name in [n for n, child in parent.named_children() if isinstance(child, ReLU)]:
            setattr(parent, name, activation())
    if c.optimizer == "adam":
        optimizer = torch.optim.Adam(network.parameters(), c.lr, weight_decay=c.weight_decay)
    else:
        optimizer = torch.optim.SGD(
            network.parameters(), c.lr, momentum=c.momentum, weight_decay=c.weight_decay
        )
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, c.epochs)
    losses, shares, accuracies = [], [], []
    for epoch in range(c.epochs):
        network.train()
        total, correct = 0.0, 0
        for x, y in batches.train(epoch):
            optimizer.zero_grad()
            logits = network(x[0])
            loss = F.cross_entropy(logits, y[0])
            loss.backward()
            if c.clip_norm:
                clip(list(network.parameters()), c.clip_norm)
            optimizer.step()
            total += loss.item() * len(y[0])
            correct += int((logits.argmax(1) == y[0]).sum())
        if c.schedule == "cosine":
            scheduler.step()
        losses.append(total / batches.n_train)
        shares.append(correct / batches.n_train)
        network.eval()
        with torch.no_grad():
            hits = [(network(x[0]).argmax(1) == y[0]).sum() for x, y in batches.evaluation()]
        accuracies.append(float(sum(hits)) / batches.n_evaluation)
    return losses, shares, accuracies


def assert_is_plain_loop(history, c, activation=nn.ReLU):
    losses, shares, accuracies = plain_loop(c, activation)
    assert history["train_loss"][0] == pytest.approx(losses, rel=1e-9)
    assert history["train_accuracy"][0] == shares
    assert history[f"{c.evaluate_on}_accuracy"][0] == accuracies


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"schedule": "constant", "momentum": 0.0, "weight_decay": 0.0},
        {"weight_decay": 0.1, "seed": 3},
        ADAM,
        ADAM | {"batch_norm": True},
        {"evaluate_on": "validation", "augment": True, "batch_size": 96},
    ],
)
def test_fit_is_the_plain_loop(changes):
    c = config(precision="fp64", **changes)
    history = fit(c, CPU)
    assert_is_plain_loop(history, c)
    assert history["diverged_epoch"] == [None]
    assert history["n_batches"] == 5
    assert len(history["seconds"]) == 3


@pytest.mark.parametrize(
    ("architecture", "batch_norm"), [("vgg11", False), ("resnet18", True), ("resnet50", True)]
)
def test_fit_is_the_plain_loop_for_convolutional_networks(architecture, batch_norm):
    c = TrainingConfig(
        architecture=architecture,
        dataset="mnist-5k",
        width=0.0625,
        batch_norm=batch_norm,
        precision="fp64",
        n_train=100,
        batch_size=32,
        epochs=2,
        augment=True,
        evaluate_on="validation",
    )
    assert_is_plain_loop(fit(c, CPU), c)


@pytest.mark.parametrize(
    ("s", "rule", "activation"),
    [
        (0.0, "chain", nn.ReLU),
        (0.0, "injected", nn.ReLU),
        (1.0, "chain", lambda: Emulated(1.0)),
        (-0.5, "chain", lambda: Emulated(-0.5)),
        (1.0, "injected", lambda: Injected(1.0)),
    ],
)
def test_fit_is_the_plain_loop_with_planted_zeros(monkeypatch, s, rule, activation):
    dead_network(monkeypatch)
    c = config(precision="fp64", s=s, gradient_rule=rule, lr=1e-3, epochs=2)
    history = fit(c, CPU)
    assert history["affected_steps"][0][0] > 0
    assert_is_plain_loop(history, c, activation)


@pytest.mark.parametrize("rule", ["chain", "injected"])
@pytest.mark.parametrize("s", [0.0, 1.0, -0.5])
@pytest.mark.parametrize("kink_layer", [None, 1, 2])
def test_fit_is_the_plain_loop_with_a_band(kink_layer, s, rule):
    c = config(precision="fp64", kink_width=0.05, kink_layer=kink_layer, s=s, gradient_rule=rule,
               lr=1e-3, epochs=2)  # fmt: skip
    widths = iter([0.05 if kink_layer in (None, layer) else 0.0 for layer in (1, 2)])
    history = fit(c, CPU)
    assert_is_plain_loop(history, c, lambda: Banded(s, rule, next(widths)))
    assert history["train_loss"] != fit(config(precision="fp64", lr=1e-3, epochs=2))["train_loss"]


def test_s_holds_at_exact_zeros_of_layers_without_a_band(monkeypatch):
    dead_network(monkeypatch)
    c = config(precision="fp64", kink_width=0.05, kink_layer=1, s=1.0, lr=1e-3, epochs=2)
    widths = iter([0.05, 0.0])
    history = fit(c, CPU)
    assert_is_plain_loop(history, c, lambda: Banded(1.0, "chain", next(widths)))
    assert history["affected_steps"][0][0] > 0


@pytest.mark.parametrize("changes", [{}, ADAM, {"loss_scale": 1000.0}])
def test_fit_is_the_plain_loop_with_clipped_gradients(changes):
    c = config(precision="fp64", clip_norm=0.1, **changes)
    history = fit(c, CPU)
    assert_is_plain_loop(history, c)
    assert history["train_loss"] != fit(config(precision="fp64", **changes))["train_loss"]


def test_a_norm_that_is_never_reached_changes_no_bit():
    assert numbers(fit(config(clip_norm=1e6))) == numbers(fit(config()))


def test_a_loss_scale_cancels_under_the_chain_rule():
    plain, scaled = (fit(config(precision="fp64", loss_scale=scale)) for scale in (1.0, 1000.0))
    assert scaled["train_loss"][0] == pytest.approx(plain["train_loss"][0], rel=1e-9)


def test_a_power_of_two_as_loss_scale_changes_no_bit():
    plain, scaled = (fit(config(precision="fp64", loss_scale=scale)) for scale in (1.0, 1024.0))
    assert numbers(scaled) == numbers(plain)


def test_a_small_loss_scale_loses_gradients_in_fp16():
    common = {"precision": "fp16", "epochs": 1, "n_train": 256}
    plain, lost = (fit(config(**common, loss_scale=scale)) for scale in (1.0, 2.0**-20))
    c = config(**common | {"lr": 1e-30})
    assert lost["train_loss"] == fit(c)["train_loss"]
    assert plain["train_loss"] != lost["train_loss"]


def test_dropout_is_for_training_alone():
    """At a rate that moves no weight, dropout changes the losses and not the evaluation."""
    with_it, without = (
        fit(config(precision="fp64", lr=1e-300, epochs=1, dropout=p)) for p in (0.5, 0.0)
    )
    assert with_it["test_accuracy"] == without["test_accuracy"]
    assert with_it["train_loss"] != without["train_loss"]


@pytest.mark.parametrize("precision", ["fp64", "fp32", "bf16", "fp16"])
def test_every_precision_of_the_cpu_learns(precision):
    history = fit(config(precision=precision, loss_scale=128.0, n_train=4000))
    assert history["test_accuracy"][0][-1] > 0.5


def test_tf32_needs_a_gpu():
    with pytest.raises(ValueError, match="tf32"):
        fit(config(precision="tf32"), torch.device("cpu"))


@pytest.mark.parametrize("changes", [{"dropout": 0.5}, {"n_networks": 2, "batch_norm": True}])
def test_the_same_config_gives_the_same_bits_and_another_seed_others(changes):
    first, again, other = (fit(config(seed=seed, **changes)) for seed in (0, 0, 1))
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


def epochs_of(c, epoch):
    """The epoch's mini-batches, each (images, pixels)."""
    batches = Batches(
        load("mnist-5k", device="cpu"),
        torch.float64,
        seeds=[c.seed],
        batch_size=c.batch_size,
        n_train=c.n_train,
    )
    return [x[0].flatten(1) for x, _ in batches.train(epoch)]


def lone_pixel(c, step):
    """-> a pixel and its value where one image of the first epoch's `step` exceeds all others."""
    parts = epochs_of(c, 0)
    two = torch.cat(parts).topk(2, dim=0).values  # (2, pixels)
    found = (two[0] > two[1]) & (parts[step] == two[0]).any(0)
    pixel = int(found.nonzero()[0])
    return pixel, two[0, pixel].item()


def plant_lone_zeros(monkeypatch, spots):
    """Neurons below 0 for all images but one, where each is exactly 0."""
    build = models.build

    def planted(*args, **kwargs):
        network = build(*args, **kwargs)
        with torch.no_grad():
            network.linear1.weight[: len(spots)] = 0
            for neuron, (pixel, value) in enumerate(spots):
                network.linear1.weight[neuron, pixel] = 1
                network.linear1.bias[neuron] = -value
        return network.double()

    monkeypatch.setattr(training.models, "build", planted)


LONE = {"precision": "fp64", "weight_decay": 0.0, "batch_size": 20, "n_train": 100}


def test_each_zero_and_each_affected_step_is_counted_once(monkeypatch):
    """Two neurons are 0 for one image and a third for another, which may share its mini-batch."""
    c = config(**LONE)
    first, last = lone_pixel(c, 0), lone_pixel(c, -1)
    plant_lone_zeros(monkeypatch, [first, first, last])
    history = fit(c)
    assert history["exact_zeros"] == {"activation1": [[3] * 3], "activation2": [[0] * 3]}
    by_hand = [
        sum(any((x[:, p] == v).any() for p, v in (first, last)) for x in epochs_of(c, epoch))
        for epoch in range(3)
    ]
    assert by_hand[0] == 2
    assert history["affected_steps"] == [by_hand]


def test_a_step_with_zeros_in_two_layers_is_one_affected_step(monkeypatch):
    dead_network(monkeypatch)
    plant_lone_zeros(monkeypatch, [lone_pixel(config(**LONE), 0)])
    history = fit(config(**LONE))
    assert history["exact_zeros"] == {"activation1": [[1] * 3], "activation2": [[300] * 3]}
    assert history["affected_steps"] == [[history["n_batches"]] * 3] == [[5] * 3]


def test_runs_part_at_the_first_zero_and_not_before(monkeypatch):
    """The only zero is in the last mini-batch of the first epoch, whose loss is already taken.

    A step down puts the neuron below 0 for every image, where nothing hears of it; a step up is
    heard. Injected, s=-1 is a step up; under the chain rule either s=1 or s=-1 is.
    """
    plant_lone_zeros(monkeypatch, [lone_pixel(config(**LONE), -1)])
    arms = [(0.0, "chain"), (1.0, "chain"), (-1.0, "chain"), (-1.0, "injected")]
    runs = [fit(config(**LONE, s=s, gradient_rule=rule)) for s, rule in arms]
    assert [run["affected_steps"][0][0] for run in runs] == [1] * 4
    first, second = ([run["train_loss"][0][epoch] for run in runs] for epoch in (0, 1))
    assert len(set(first)) == 1
    assert (second[1] == second[0]) != (second[2] == second[0])
    assert second[3] not in second[:3]


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


# ---- a band ----


@pytest.mark.parametrize("rule", ["chain", "injected"])
@pytest.mark.parametrize("s", [0.0, 1.0])
def test_a_band_with_nothing_but_zeros_in_it_changes_no_bit(monkeypatch, s, rule):
    dead_network(monkeypatch)
    common = {"precision": "fp64", "s": s, "gradient_rule": rule}
    exact, banded = (numbers(fit(config(**common, kink_width=w))) for w in (0.0, 1e-300))
    assert "kinks" not in exact
    assert banded.pop("kinks") == banded["exact_zeros"]
    assert banded == exact
    assert exact["affected_steps"][0][0] > 0


STILL = {"precision": "fp64", "lr": 1e-300, "epochs": 2, "weight_decay": 0.0}  # weights stay


def pre_activations(network, batches):
    """{activation: the inputs of each of its calls, of all batches (calls, images, units, ...)}."""
    found, handles = {}, []
    for name, module in network.named_modules():
        if isinstance(module, ReLU):
            see = lambda _, inputs, name=name: found[name][-1].append(inputs[0])  # noqa: E731
            found[name] = []
            handles.append(module.register_forward_pre_hook(see))
    with torch.no_grad():
        for x in batches:
            for calls in found.values():
                calls.append([])
            network(x)
    for handle in handles:
        handle.remove()
    return {
        name: [torch.cat(call) for call in zip(*calls, strict=True)]
        for name, calls in found.items()
    }


@pytest.mark.parametrize("kink_layer", [None, 2])
def test_kinks_are_the_inputs_in_the_band(monkeypatch, kink_layer):
    dead_network(monkeypatch)
    c = config(**STILL, kink_width=0.05, kink_layer=kink_layer)
    history = fit(c)
    network = models.build(c, (1, 28, 28), 10, ReLU, seed=0).double()
    by_hand = {
        name: int((z.abs() <= 0.05).sum())
        for name, (z,) in pre_activations(network, epochs_of(c, 0)).items()
    }
    names = ["activation1", "activation2"] if kink_layer is None else ["activation2"]
    assert history["kinks"] == {name: [[by_hand[name]] * 2] for name in names}
    assert history["exact_zeros"] == {"activation1": [[0] * 2], "activation2": [[3 * 600] * 2]}
    assert by_hand["activation2"] > 3 * 600


def test_kinks_of_a_band_affect_no_step():
    history = fit(config(kink_width=0.05))
    assert all(history["kinks"]["activation1"][0])
    assert history["affected_steps"] == [[0] * 3]


@pytest.mark.parametrize(
    "architecture", ["vgg11", "resnet18", "resnet20", "resnet50", "mobilenet_v3_small"]
)
def test_layers_are_counted_in_the_order_of_the_forward_pass(architecture):
    c = TrainingConfig(architecture=architecture, width=0.25, kink_width=0.5, kink_layer=3)
    network = models.build(c, (3, 32, 32), 10, ReLU, seed=0)
    in_order = list(relu_calls(network, torch.zeros(1, 3, 32, 32)))
    assert training_networks.activation_names(network) == in_order
    training_networks.widen_kinks(network, c)
    assert [network.get_submodule(name).kink_width for name in in_order[:4]] == [0, 0, 0.5, 0]


# ---- dead units ----


def shifted(monkeypatch, layer):
    """The layer's first three units are far below 0, its next two far above."""
    build = models.build

    def planted(*args, **kwargs):
        network = build(*args, **kwargs)
        with torch.no_grad():
            network.get_submodule(layer).bias[:5] = torch.tensor([-100.0] * 3 + [100.0] * 2)
        return network

    monkeypatch.setattr(training.models, "build", planted)


UNITS = {"dead_units": lambda z: z <= 0, "always_on_units": lambda z: z > 0}


def assert_units(history, c):
    """The counts are those of the first weights, for a run that leaves them where they are."""
    batches = training._batches(c, CPU, torch.float64)
    network = models.build(c, batches.image_shape, batches.n_classes, ReLU, seed=0).double().eval()
    found = pre_activations(network, [x[0] for x, _ in batches.evaluation()])
    by_unit = {  # for each call (units, images and positions)
        name: [z.transpose(0, 1).flatten(1) for z in calls] for name, calls in found.items()
    }
    for what, holds in UNITS.items():
        assert history[what] == {
            name: [[sum(int(holds(z).all(1).sum()) for z in calls)] * c.epochs]
            for name, calls in by_unit.items()
        }
    assert history["units"] == {name: sum(map(len, calls)) for name, calls in by_unit.items()}


def test_dead_and_always_on_units_are_those_of_the_evaluation(monkeypatch):
    shifted(monkeypatch, "linear1")
    c = config(**STILL, count_units=True, evaluate_on="validation", batch_size=4)
    history = fit(c)
    assert_units(history, c)
    assert history["units"] == {"activation1": 16, "activation2": 8}
    assert history["dead_units"]["activation1"][0][0] >= 3
    assert history["always_on_units"]["activation1"][0][0] >= 2


@pytest.mark.parametrize("architecture", ["vgg11", "resnet18", "resnet50"])
def test_channels_are_units_and_so_are_those_of_each_call(monkeypatch, architecture):
    if architecture == "vgg11":
        shifted(monkeypatch, "features.0")
    small = {"hidden_sizes": (), "width": 0.125, "n_train": 64, "batch_size": 4}
    c = config(**STILL | small | {"epochs": 1}, architecture=architecture, count_units=True,
               evaluate_on="validation")  # fmt: skip
    history = fit(c)
    assert_units(history, c)
    assert all(sum(n[0][0] for n in history[what].values()) >= 2 for what in UNITS)


def test_units_are_counted_on_request_alone():
    history = fit(config(epochs=1))
    assert not {"units", "dead_units", "always_on_units"} & history.keys()
    counted = numbers(fit(config(epochs=1, count_units=True)))
    assert {name: counted[name] for name in numbers(history)} == numbers(history)


# ---- divergence ----


def test_a_diverged_run_is_a_result_with_its_epoch():
    history = fit(config(lr=1e30, epochs=3))
    assert history["diverged_epoch"] == [0]
    assert len(history["train_loss"][0]) == len(history["seconds"]) == 1
    assert not math.isfinite(history["train_loss"][0][0])
    assert 0 <= history["test_accuracy"][0][0] < 0.2


ONE_STEP = {"n_train": 128, "epochs": 4}


def test_a_run_stops_at_the_epoch_that_diverged():
    """The first step makes huge weights, the second epoch's loss overflows."""
    history = fit(config(**ONE_STEP, lr=1e20))
    assert history["diverged_epoch"] == [1]
    lists = [history[name][0] for name in ("train_loss", "train_accuracy", "test_accuracy")]
    lists += [history["affected_steps"][0], history["exact_zeros"]["activation1"][0]]
    assert [len(values) for values in [*lists, history["seconds"]]] == [2] * 6
    assert [math.isfinite(loss) for loss in history["train_loss"][0]] == [True, False]


def test_weights_that_are_not_finite_have_diverged_though_the_loss_is():
    history = fit(config(**ONE_STEP, precision="fp16", lr=6e4, weight_decay=1e4))
    assert history["diverged_epoch"] == [0]
    assert math.isfinite(history["train_loss"][0][0])


def break_the_second(monkeypatch):
    """The second network of an ensemble starts with infinite weights."""
    networks = training.build_networks

    def one_is_broken(*args):
        for index, network in enumerate(networks(*args)):
            if index == 1:
                nn.init.constant_(network.output.weight, math.inf)
            yield network

    monkeypatch.setattr(training, "build_networks", one_is_broken)


def test_an_ensemble_ends_when_all_have_diverged(monkeypatch):
    break_the_second(monkeypatch)
    history = fit(config(**ONE_STEP, n_networks=3, lr=1e20))
    assert history["diverged_epoch"] == [1, 0, 1]
    assert [len(losses) for losses in history["train_loss"]] == [2, 1, 2]
    assert len(history["seconds"]) == 2


def test_the_others_of_an_ensemble_go_on(monkeypatch):
    alone = fit(config(n_networks=3, precision="fp64"))
    break_the_second(monkeypatch)
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
    {"kink_width": 0.05, "s": 1.0, "clip_norm": 1.0, "count_units": True},
]


@pytest.mark.parametrize("changes", RESUMED)
@pytest.mark.parametrize("epochs_done", [1, 2])
def test_an_interrupted_run_goes_on_with_the_same_bits(
    changes, epochs_done, monkeypatch, own_folder
):
    c = config(**changes)
    unbroken = fit(c)
    train, epochs = loop.Trainer.epoch, []

    def interrupted(trainer, batches, epoch):
        if epoch == epochs_done and not epochs.count(epoch):
            epochs.append(epoch)
            raise KeyboardInterrupt
        epochs.append(epoch)
        train(trainer, batches, epoch)

    monkeypatch.setattr(loop.Trainer, "epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit(c)
    assert len(list(own_folder.iterdir())) == 1
    assert numbers(fit(c)) == numbers(unbroken)
    assert epochs == [*range(epochs_done + 1), *range(epochs_done, 3)]
    assert list(own_folder.iterdir()) == []


@pytest.mark.parametrize("changes", [{"seed": 1}, {"epochs": 2}, {"s": 1.0}, {"n_train": 599}])
def test_a_checkpoint_is_its_configs_alone(changes, stop_before, own_folder):
    expected = fit(config(**changes))
    stop_before(1, config())
    assert numbers(fit(config(**changes))) == numbers(expected)
    assert len(list(own_folder.iterdir())) == 1


def test_an_ensemble_goes_on_without_the_member_that_diverged(monkeypatch, stop_before):
    break_the_second(monkeypatch)
    c = config(n_networks=3)
    unbroken = fit(c)
    stop_before(2, c)
    assert repr(numbers(fit(c))) == repr(numbers(unbroken))  # nan is not equal to itself
    assert unbroken["diverged_epoch"] == [None, 0, None]


DAMAGES = {
    "empty": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "zeroed": lambda data: bytes(len(data)),
    "one bit": lambda data: data[:-99] + bytes([data[-99] ^ 1]) + data[-98:],
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_checkpoint_is_named_and_costs_time_alone(damage, stop_before, own_folder):
    unbroken = fit(config())
    stop_before(2, config())
    (path,) = own_folder.iterdir()
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(UserWarning, match=f"{path} is damaged"):
        assert numbers(fit(config())) == numbers(unbroken)
    assert list(own_folder.iterdir()) == []


def test_a_folder_that_cannot_be_written_ends_no_training(monkeypatch, own_folder):
    unbroken = fit(config())
    (own_folder / "file").write_text("")
    monkeypatch.setenv("RELUPRIME_CHECKPOINTS", str(own_folder / "file"))
    with pytest.warns(UserWarning, match="without a checkpoint.*file"):
        assert numbers(fit(config())) == numbers(unbroken)


@pytest.mark.parametrize("content", [b"", b"no pickle", pickle.dumps(print, 2)])
def test_a_checkpoint_that_holds_something_else_is_not_run(content, stop_before, own_folder):
    unbroken = fit(config())
    stop_before(2, config())
    (path,) = own_folder.iterdir()
    scratch.State(path.name, "training").write(content)
    with pytest.warns(UserWarning, match=f"starts anew: {path} is no checkpoint"):
        assert numbers(fit(config())) == numbers(unbroken)


def test_without_a_home_a_training_says_what_to_set(monkeypatch):
    monkeypatch.delenv("RELUPRIME_CHECKPOINTS")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr("pwd.getpwuid", lambda _: (_ for _ in ()).throw(KeyError()))
    with pytest.warns(UserWarning, match="without a checkpoint: .*set RELUPRIME_CHECKPOINTS"):
        fit(config())


def test_what_killed_processes_left_goes_with_the_state(own_folder):
    (own_folder / "x.pt.1.part").write_text("torn")
    state = scratch.State("x.pt", "training")
    state.write(b"all")
    assert state.read() == b"all"
    state.remove()
    assert list(own_folder.iterdir()) == []


def test_an_empty_name_is_no_folder(monkeypatch):
    monkeypatch.setenv("RELUPRIME_CHECKPOINTS", "")
    assert scratch.folder().is_absolute()


def test_a_full_disk_costs_no_training(monkeypatch, own_folder, tmp_path_factory):
    """The state stays until the record is on disk, and then goes."""
    config = TrainingConfig(dataset="mnist-5k", hidden_sizes=(8,), n_train=256, epochs=2)
    store, steps = records.Store(tmp_path_factory.mktemp("store")), []
    train = loop.Trainer.epoch
    monkeypatch.setattr(loop.Trainer, "epoch", lambda *a: (steps.append(1), train(*a)))

    def full(record):
        raise records.RecordsError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(store, "append", full)
        with pytest.raises(records.RecordsError, match="no space"):
            records.sweep(fit, [config], store)
    assert len(list(own_folder.glob("*.pt"))) == 1
    fit(config.replace(seed=1))  # in no sweep, though the one that failed may be remembered
    assert len(list(own_folder.glob("*.pt"))) == 1
    del steps[:]
    records.sweep(fit, [config], store)
    assert steps == []  # no epoch was trained again
    assert not list(own_folder.glob("*.pt"))


def test_checkpoints_are_some_seconds_apart(monkeypatch):
    now, saved = [0.0], []
    monkeypatch.setattr(training, "SAVE_SECONDS", 10.0)
    monkeypatch.setattr(training.time, "monotonic", lambda: now[0])
    epoch = loop.Trainer.epoch

    def of_four_seconds(trainer, batches, index):
        epoch(trainer, batches, index)
        now[0] += 4.0

    monkeypatch.setattr(loop.Trainer, "epoch", of_four_seconds)
    save = lambda *_: saved.append(now[0])  # noqa: E731
    monkeypatch.setattr(checkpoint.Checkpoint, "save", save)
    fit(config(epochs=7))
    assert saved == [12.0, 24.0]


def test_a_run_killed_after_its_last_epoch_trains_no_more(monkeypatch, own_folder):
    unbroken = fit(config())

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.Checkpoint, "remove", killed)
        with pytest.raises(KeyboardInterrupt):
            fit(config())
    with monkeypatch.context() as patch:
        patch.setattr(loop.Trainer, "epoch", killed)
        assert numbers(fit(config())) == numbers(unbroken)
    assert list(own_folder.iterdir()) == []


KILLED = """
import json, sys
from reluprime.training import study as training
from reluprime.training.study import TrainingConfig, fit
training.SAVE_SECONDS = 0.0
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
    assert found
    kept = checkpoint.Checkpoint(TrainingConfig(**changes), fit.version, torch.device("cpu")).read()
    assert 1 <= len(kept["history"]["seconds"]) < 12
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
        ({"kink_width": 0.1, "activation": "relu6"}, "kink_width=0.1: relu6"),
        ({"kink_layer": 1}, "kink_layer=1: without kink_width"),
        ({"kink_width": 0.1, "kink_layer": 3}, "kink_layer=3: the network has 2"),
        ({"n_networks": 2, "kink_width": 0.1}, "kink_width=0.1: with n_networks=2"),
        ({"n_networks": 2, "clip_norm": 1.0}, "clip_norm=1.0: with n_networks=2"),
        ({"n_networks": 2, "count_units": True}, "count_units=True: with n_networks=2"),
    ],
)
def test_a_wrong_value_is_named(changes, message):
    with pytest.raises(ValidationError, match=message):
        config(**changes)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("batch_size", 0),
        ("n_networks", 0),
        ("n_train", 0),
        ("seed", -1),
        ("lr", math.inf),
        ("s", math.nan),
        ("momentum", 1.0),
        ("weight_decay", -0.5),
        ("loss_scale", 0.0),
        ("clip_norm", 0.0),
        ("kink_width", -0.5),
        ("kink_layer", 0),
        ("gradient_rule", "both"),
        ("optimizer", "rmsprop"),
        ("schedule", "linear"),
        ("evaluate_on", "train"),
    ],
)
def test_a_wrong_value_is_shown_with_its_name(name, value):
    with pytest.raises(ValidationError, match=rf"(?s)\n{name}\n.*input_value={value!r}"):
        config(**{name: value})


def test_a_layer_that_a_convolutional_network_lacks():
    c = TrainingConfig(**SMALL | {"hidden_sizes": ()}, architecture="vgg11", width=0.0625,
                       kink_width=0.1, kink_layer=9)  # fmt: skip
    with pytest.raises(ValueError, match="kink_layer=9: the network has 8 activations"):
        fit(c)


@pytest.mark.parametrize("architecture", ["vgg11", "resnet18"])
def test_only_an_mlp_is_an_ensemble(architecture):
    with pytest.raises(ValidationError, match="n_networks=2: only an mlp"):
        TrainingConfig(architecture=architecture, n_networks=2)


def test_a_config_is_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        config().lr = 1.0


def test_more_training_images_than_there_are():
    with pytest.raises(ValueError, match="n_train=4001, but mnist-5k has 4000"):
        fit(config(n_train=4001))


# ---- which activations have s ----


def planted(monkeypatch, **changes):
    """A run whose first neuron of each layer starts with pre-activations of exactly 0."""
    make = models.build

    def build(*args, **kwargs):
        network = make(*args, **kwargs)
        for name, module in network.named_modules():
            if name in ("linear1", "linear2"):
                nn.init.zeros_(module.weight[0])
                nn.init.zeros_(module.bias[:1])
        return network

    monkeypatch.setattr(models, "build", build)
    return fit(config(gradient_rule="injected", epochs=1, n_train=128, **changes))


@pytest.mark.parametrize("activation", ["relu", "relu6"])
def test_s_reaches_the_activations_that_are_named(monkeypatch, activation):
    """A negative s wakes such a neuron: its weights grow against the gradient."""
    losses = {
        (sites, s): planted(monkeypatch, activation_sites=sites, s=s, activation=activation, lr=0.5,
                            batch_size=32)["train_loss"][0]
        for sites in ("all", "first", "none")
        for s in (0.0, -20.0)
    }  # fmt: skip
    unchanged = losses["all", 0.0]
    assert losses["first", 0.0] == losses["none", 0.0] == losses["none", -20.0] == unchanged
    assert losses["all", -20.0] != losses["first", -20.0] != unchanged


@pytest.mark.parametrize(("zeros", "sixes"), [(1, 2), (0, 3), (3, 0)])
def test_relu6_counts_its_kinks_apart(monkeypatch, zeros, sixes):
    make = models.build

    def build(*args, **kwargs):
        network = make(*args, **kwargs)
        layer = network.get_submodule("linear1")
        nn.init.zeros_(layer.weight)
        with torch.no_grad():
            layer.bias.copy_(torch.tensor([0.0] * zeros + [6.0] * sixes + [1.0] * 13))
        return network

    monkeypatch.setattr(models, "build", build)
    history = fit(config(activation="relu6", s_upper=1.0, epochs=1, n_train=100, batch_size=100))
    assert history["exact_zeros"]["activation1"] == [[100 * zeros]]
    assert history["exact_sixes"]["activation1"] == [[100 * sixes]]
    assert history["affected_steps"] == [[1]]


def test_relu_has_no_kink_at_six():
    assert "exact_sixes" not in fit(config(epochs=1))


def test_s_upper_is_the_derivative_at_six():
    def loss(s_upper):
        torch.manual_seed(0)
        network = mlp(
            (4, 3, 2), lambda: training_networks.activation_of(upper(s_upper), True), seed=0
        )
        nn.init.zeros_(network.linear1.weight)
        nn.init.constant_(network.linear1.bias, 6.0)
        network(torch.ones(1, 4)).sum().backward()
        return network.linear1.bias.grad

    def upper(s_upper):
        return config(activation="relu6", s_upper=s_upper)

    assert torch.equal(loss(0.0), torch.zeros(3))
    assert torch.equal(loss(0.5), 0.5 * loss(1.0))
    assert loss(1.0).any()


def test_the_kink_at_six_is_relu6s():
    with pytest.raises(ValidationError, match=r"s_upper=0\.5: only relu6"):
        config(s_upper=0.5)


def test_fields_that_came_later_are_left_out_of_records_where_they_have_their_default():
    later = {"activation", "activation_sites", "s_upper", "fingerprint"}
    intervention = {"kink_width": 0.1, "kink_layer": 1, "clip_norm": 1.0, "count_units": True}
    assert not intervention.keys() & config().model_dump().keys()
    assert intervention.items() <= config(**intervention).model_dump().items()
    assert records.cell_key(fit, TrainingConfig()) == "9cfec7d8f5b31842"  # of the first records
    assert not later & config().model_dump().keys()
    dump = config(activation="relu6", activation_sites="first", s_upper=0.5).model_dump()
    assert later - {"fingerprint"} <= dump.keys()


def test_a_run_can_be_stopped_after_any_epoch(own_folder):
    whole = numbers(fit(config(epochs=4)))
    seen = []

    def stop(history):
        seen.append(len(history["test_accuracy"][0]))
        return len(seen) == 2

    history = fit(config(epochs=4), stop=stop)
    assert seen == [1, 2]
    assert history["test_accuracy"][0] == whole["test_accuracy"][0][:2]
    assert not list(own_folder.glob("*.pt"))


@pytest.mark.parametrize("architecture", ["resnet20", "mobilenet_v3_small"])
def test_the_networks_of_m23_train(architecture):
    small = {"architecture": architecture, "dataset": "mnist-5k", "n_train": 128, "width": 0.25}
    history = fit(TrainingConfig(**small, **ADAM | {"lr": 1e-3}, epochs=2, batch_size=32))
    assert history["train_loss"][0][1] < history["train_loss"][0][0]
