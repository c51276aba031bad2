"""The Monte Carlo, against a brute-force oracle and hand-made cases."""

import math
from itertools import chain

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from reluprime import data, models, volume
from reluprime.activations import GRADIENT_RULES, ReLU
from reluprime.volume import VolumeConfig

CPU = torch.device("cpu")
SMALL = VolumeConfig(
    dataset="mnist-5k", hidden_sizes=(48, 32), precision="fp16", batch_size=500, n_networks=6
)


@pytest.fixture(scope="module")
def small():
    return volume.estimate(SMALL, CPU)


def brute_force(config, rule):
    """Both gradients on every mini-batch of every network, nothing screened."""
    dataset = data.load(config.dataset, device="cpu")
    x = (dataset.train_images.float() / 255).half().flatten(1)
    affected, first, differences = [], [], []
    for seed in range(config.seed, config.seed + config.n_networks):
        networks = [
            models.mlp((784, *config.hidden_sizes, 10), lambda s=s: ReLU(s, rule), seed=seed).half()
            for s in (0.0, 1.0)
        ]
        hits = []
        for index in range(math.ceil(len(x) / config.batch_size)):
            part = slice(index * config.batch_size, (index + 1) * config.batch_size)
            gradients = []
            for network in networks:
                network.zero_grad()
                F.cross_entropy(network(x[part]), dataset.train_labels[part]).backward()
                gradients.append(
                    torch.cat([p.grad.double().flatten() for p in network.parameters()])
                )
            g0, g1 = gradients
            if not torch.equal(g0, g1):
                hits.append(index)
                differences.append(float((g1 - g0).norm() / g0.norm()))
        affected.append(len(hits))
        first.append(hits[0] if hits else None)
    return affected, first, differences


@pytest.mark.parametrize("rule", GRADIENT_RULES)
def test_agrees_with_two_backward_passes_on_every_mini_batch(small, rule):
    affected, first, differences = brute_force(SMALL, rule)
    assert sum(affected) > 0  # else this test shows nothing
    assert small[f"affected_{rule}"] == affected
    assert small[f"first_affected_{rule}"] == first
    assert small[f"relative_difference_{rule}"] == pytest.approx(differences, rel=1e-9)


def test_every_affected_mini_batch_was_screened(small):
    for rule in GRADIENT_RULES:
        assert all(
            a <= s for a, s in zip(small[f"affected_{rule}"], small["screened"], strict=True)
        )
    assert sum(small["exact_zeros"].values()) >= sum(small["screened"])
    assert small["n_batches"] == 8
    assert small["relu_calls"] == 4000 * (48 + 32)


def test_the_same_config_gives_the_same_bits(small):
    assert volume.estimate(SMALL, CPU) == small


def test_cells_split_the_networks_and_change_none(small):
    parts = [volume.estimate(cell, CPU) for cell in volume.cells(SMALL, 4)]
    for name in ("screened", "affected_chain", "relative_difference_injected"):
        assert list(chain(*(part[name] for part in parts))) == small[name]
    assert [cell.n_networks for cell in volume.cells(SMALL, 4)] == [4, 2]


def test_stop_at_first_keeps_the_first(small):
    stopped = volume.estimate(SMALL.model_copy(update={"stop_at_first": True}), CPU)
    for rule in GRADIENT_RULES:
        assert stopped[f"first_affected_{rule}"] == small[f"first_affected_{rule}"]
        assert all(n <= 1 for n in stopped[f"affected_{rule}"])


def test_fp64_meets_no_zero():
    result = volume.estimate(SMALL.model_copy(update={"precision": "fp64"}), CPU)
    assert result["screened"] == [0] * 6
    assert result["exact_zeros"] == {}


# A black image and zero biases: every pre-activation is exactly 0, whatever the weights.
ZEROS = VolumeConfig(hidden_sizes=(3,), n_networks=1, initialisation="kaiming-uniform")


def planted(n):
    x, y = torch.zeros(n, 2), torch.arange(n) % 2
    return volume._estimate(ZEROS, [(x, y)], torch.float32, CPU)


def gradients_by_hand(n, rule):
    """At z = 0: the logits are 0, so p = (1/2, 1/2), and only biases have a gradient."""
    network = models.mlp((2, 3, 2), ReLU, seed=0, initialisation="kaiming-uniform")
    y = torch.arange(n) % 2
    upstream = (0.5 - F.one_hot(y, 2)) / n  # (n, 2), of the mean cross-entropy
    hidden = upstream @ network.output.weight.detach()  # (n, 3)
    at_zero = hidden if rule == "chain" else torch.ones_like(hidden)
    return at_zero.sum(0), upstream.sum(0)


@pytest.mark.parametrize("rule", GRADIENT_RULES)
@pytest.mark.parametrize("n", [3, 5])
def test_planted_zeros_have_the_gradient_of_the_rule(rule, n):
    bias, output_bias = gradients_by_hand(n, rule)
    result = planted(n)
    assert result[f"affected_{rule}"] == [1]
    assert result["exact_zeros"] == {"activation1": 3 * n}
    expected = float(bias.norm() / output_bias.norm())
    assert result[f"relative_difference_{rule}"] == [pytest.approx(expected, rel=1e-6)]


def test_a_mini_batch_whose_gradient_is_not_finite_counts_as_neither():
    x = torch.tensor([[0.0, 0.0], [math.nan, math.nan]])  # a planted zero, and an overflow
    result = volume._estimate(ZEROS, [(x, torch.tensor([0, 1]))], torch.float32, CPU)
    assert result["screened"] == [1]
    for rule in GRADIENT_RULES:
        assert result[f"nonfinite_{rule}"] == 1
        assert result[f"affected_{rule}"] == [0]
        assert result[f"relative_difference_{rule}"] == []


def test_the_release_network_has_no_first_activation():
    config = SMALL.model_copy(update={"relu_after_first": False})
    result = volume.estimate(config, CPU)
    assert set(result["exact_zeros"]) <= {"activation2"}
    assert result["relu_calls"] == 4000 * 32


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n_networks": 0}, "n_networks"),
        ({"n_networks": "many"}, "n_networks"),
        ({"batch_size": -1}, "batch_size"),
        ({"hidden_sizes": ()}, "hidden_sizes"),
        ({"precision": "fp8"}, "'fp64', 'fp32', 'tf32', 'bf16' or 'fp16'"),
        ({"dataset": "imagenet"}, "mnist-5k"),
        ({"initialisation": "xavier"}, "kaiming-uniform"),
        ({"networks": 3}, "networks"),
        ({"seed": -1}, "seed"),
    ],
)
def test_a_wrong_parameter_is_named(wrong, message):
    with pytest.raises(ValidationError, match=message):
        VolumeConfig(**wrong)


def test_a_precision_that_the_device_lacks_stops_before_the_data(monkeypatch):
    monkeypatch.setattr(data, "load", lambda *_, **__: pytest.fail("loaded data"))
    with pytest.raises(ValueError, match="tf32"):
        volume.estimate(VolumeConfig(precision="tf32"), CPU)
