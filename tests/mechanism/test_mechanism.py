"""Zeros of networks and of single layers: counted, told apart from structural ones, predicted."""

import math

import pytest
import torch
from torch import nn

from reluprime import records
from reluprime.instruments import kernels
from reluprime.instruments.activations import ReLU
from reluprime.instruments.precision import DTYPES
from reluprime.mechanism import study as mechanism
from reluprime.mechanism.study import (
    ForwardZerosConfig,
    LinearZerosConfig,
    forward_zeros,
    linear_zeros,
)

SMALL = {"dataset": "mnist-5k", "hidden_sizes": (32, 32), "n_images": 1000}


def test_predicted_and_measured_agree_where_zeros_are_many():
    """bf16, bias added after rounding: hundreds of zeros, so the model must hold within 15 %.

    Independent zeros would scatter by 3 % (one standard error); the networks are fixed by seed.
    """
    config = ForwardZerosConfig(
        **SMALL | {"n_images": 4000}, precision="bf16", linear_form="unfused", n_networks=8
    )
    found = forward_zeros(config)
    for name, zeros in found["zeros"].items():
        assert found["calls"][name] == 8 * 4000 * 32
        assert zeros > 150
        assert math.isclose(zeros, found["predicted"][name], rel_tol=0.15)
        assert found["structural"][name] < 0.02 * zeros


def test_the_fused_form_makes_far_fewer():
    def total(form):
        config = ForwardZerosConfig(**SMALL, precision="bf16", linear_form=form, n_networks=4)
        return sum(forward_zeros(config)["zeros"].values())

    assert total("unfused") > 20 * max(1, total("fused"))


def test_density_times_width():
    z = torch.linspace(-1, 1, 100_001, dtype=torch.float64).unsqueeze(1)
    expected = kernels.expected_zeros(z, torch.tensor([1e-3], dtype=torch.float64))
    assert math.isclose(expected, 100_001 * 1e-3 / 2, rel_tol=0.01)
    assert kernels.expected_zeros(torch.zeros(4, 1), torch.ones(1)) == 0.0


def test_zeros_that_fp64_shares_are_structural():
    """Two planted zeros: a dead unit, 0 in every precision, and a sum that cancels in fp32."""
    network = nn.Sequential(nn.Linear(1, 2), ReLU())
    a = 1 + 2**-23
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[0.0], [a]]))
        network[0].bias.copy_(torch.tensor([0.0, -torch.tensor(a) * torch.tensor(a)]))
    exact = nn.Sequential(nn.Linear(1, 2), ReLU()).double()
    exact.load_state_dict({k: v.double() for k, v in network.state_dict().items()})
    kernels.in_forms(network, "unfused", "native")
    counts = {}
    with torch.no_grad():
        mechanism._count(network, exact, torch.tensor([[a]]), counts, chain=True)
    assert (counts["1"].zeros, counts["1"].structural, counts["1"].calls) == (2, 1, 2)


def test_a_network_without_biases_has_structural_zeros_and_no_prediction():
    config = {"architecture": "resnet18", "width": 0.0625, "dataset": "mnist-5k", "n_images": 8}
    single, double = (
        forward_zeros(ForwardZerosConfig(**config, batch_size=8, precision=p))
        for p in ("fp32", "fp64")
    )
    assert single["zeros"]["relu"] > 1000  # MNIST's black border
    assert single["structural"]["relu"] == double["zeros"]["relu"]
    assert set(single["predicted"].values()) == {None}


def test_blocks_with_branches_have_no_prediction():
    """The first activation of resnet20 has a batch norm before it, and the blocks come after."""
    config = {"architecture": "resnet20", "width": 0.125, "dataset": "mnist-5k", "n_images": 8}
    found = forward_zeros(ForwardZerosConfig(**config, batch_size=8))
    assert len(found["predicted"]) == 10
    assert set(found["predicted"].values()) == {None}


def test_training_moves_the_network():
    start, later = (
        forward_zeros(
            ForwardZerosConfig(**SMALL, precision="bf16", linear_form="unfused", epochs=e)
        )
        for e in (0, 2)
    )
    assert start["predicted"] != later["predicted"]
    assert start["calls"] == later["calls"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"norm_form": "affine", "precision": "bf16"}, "needs precision='fp32'"),
        ({"linear_form": "tf32", "precision": "fp64"}, "needs precision='fp32'"),
        ({"linear_form": "sequential", "precision": "bf16"}, "needs precision='fp32'"),
        ({"linear_form": "blocks-8", "architecture": "vgg11"}, "needs architecture='mlp'"),
        ({"linear_form": "fast"}, "linear_form"),
        (
            {"architecture": "vgg11", "batch_norm": True, "epochs": 1},
            "networks with batch norm are looked at untrained",
        ),
    ],
)
def test_wrong_configs_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        ForwardZerosConfig(**wrong)


# ---- one linear layer alone ----

CPU = torch.device("cpu")
LAYER = {"rows": 32, "inputs": 16, "outputs": 64, "n_matrices": 8, "n_batches": 100}


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_zeros_of_a_layer_are_density_times_width(precision):
    """Its outputs at bias b are normal with variance 1/3 around b: their density at 0 is known."""
    config = LinearZerosConfig(**LAYER, precision=precision, arithmetic="separate")
    found = linear_zeros(config, CPU)
    assert found["calls"] == 32 * 64 * 8 * 100
    bias = torch.linspace(-0.25, 0.25, 10_001).to(DTYPES[precision])
    density = math.sqrt(3 / (2 * math.pi)) * torch.exp(-1.5 * bias.double() ** 2)
    expected = found["calls"] * float((density * kernels.linear_width("unfused", bias)).mean())
    assert expected > 80
    assert abs(found["zeros"] - expected) < 4 * math.sqrt(expected)


def test_a_layer_alone_is_drawn_as_pytorch_draws_it():
    layer = mechanism._linear(LinearZerosConfig(inputs=400), torch.Generator().manual_seed(0))
    for values in layer.parameters():
        assert 0.045 < values.abs().max() <= 0.05


def test_a_layer_alone_has_far_fewer_zeros_where_the_sum_is_rounded_once():
    config = {**LAYER, "precision": "bf16"}
    found = {
        name: linear_zeros(LinearZerosConfig(**config, arithmetic=name), CPU)["zeros"]
        for name in ("epilogue", "separate")
    }
    assert found["separate"] > 100 * max(1, found["epilogue"])


def test_other_seeds_are_other_layers_and_the_same_is_the_same():
    def zeros(seed):
        config = LinearZerosConfig(**LAYER, precision="bf16", arithmetic="separate", seed=seed)
        return linear_zeros(config, CPU)["zeros"]

    assert zeros(0) == zeros(0) != zeros(1)


def test_a_layer_alone_is_recorded_with_its_numerics(tmp_path):
    config = LinearZerosConfig(rows=4, inputs=8, outputs=2, n_matrices=1, n_batches=3)
    found = records.sweep(linear_zeros, [config], records.Store(tmp_path), device="cpu")
    assert found["calls"][0] == 4 * 2 * 3
    assert found["provenance"][0]["precision"]["dtype"] == "float16"
    assert found["provenance"][0]["precision"]["reduced_precision_reduction"] is False


def test_partial_sums_of_a_gpu_are_refused_elsewhere():
    with pytest.raises(ValueError, match="reduced_precision=True is a GPU's"):
        linear_zeros(LinearZerosConfig(reduced_precision=True), CPU)
    with pytest.raises(ValueError, match="reduced_precision=True: arithmetic='epilogue' takes"):
        LinearZerosConfig(reduced_precision=True, arithmetic="epilogue")
    with pytest.raises(ValueError, match="precision"):
        LinearZerosConfig(precision="fp32")
