import pytest
import torch
from scipy import stats
from torch import nn

from reluprime.activations import LeakyReLU, ReLU, ReLU6
from reluprime.models import mlp

SIZES = (784, 256, 64, 10)


def linears(network):
    return [module for module in network if isinstance(module, nn.Linear)]


# ---- what is computed ----


@pytest.mark.parametrize("rule", ["chain", "injected"])
def test_two_neurons_by_hand(rule):
    """x = 2: z = (2, 0), so y = 3 * 2 + 5 * 0 + 1 = 7, and only s sees the second neuron."""
    network = mlp((1, 2, 1), lambda: ReLU(0.5, rule), seed=0)
    values = [[[1.0], [-1.0]], [0.0, 2.0], [[3.0, 5.0]], [1.0]]
    with torch.no_grad():
        for parameter, value in zip(network.parameters(), values, strict=True):
            parameter.copy_(torch.tensor(value))
    y = network(torch.tensor([[2.0]]))
    assert y.item() == 7.0
    found = torch.autograd.grad(y.sum() * 4, list(network.parameters()))
    # upstream of z: (4 * 3, 4 * 5); slopes (1, at the kink)
    at_kink = {"chain": 0.5 * 20, "injected": 0.5}[rule]
    expected = [[[12.0 * 2], [at_kink * 2]], [12.0, at_kink], [[4.0 * 2, 0.0]], [4.0]]
    assert [g.tolist() for g in found] == expected


def test_layers_and_their_names():
    network = mlp((4, 3, 2, 1), ReLU, seed=0)
    assert [(name, type(module).__name__) for name, module in network.named_children()] == [
        ("linear1", "Linear"),
        ("activation1", "ReLU"),
        ("linear2", "Linear"),
        ("activation2", "ReLU"),
        ("output", "Linear"),
    ]
    shapes = [(m.in_features, m.out_features) for m in linears(network)]
    assert shapes == [(4, 3), (3, 2), (2, 1)]
    assert all(p.dtype == torch.float32 and p.device.type == "cpu" for p in network.parameters())


def test_batch_norm_and_dropout_have_their_places():
    network = mlp((4, 3, 2, 1), ReLU6, seed=0, batch_norm=True, dropout=0.25)
    names = ["linear1", "norm1", "activation1", "dropout1"]
    names += ["linear2", "norm2", "activation2", "dropout2", "output"]
    assert [name for name, _ in network.named_children()] == names
    assert (network.norm1.num_features, network.norm2.num_features) == (3, 2)
    assert network.dropout1.p == network.dropout2.p == 0.25


def test_without_the_first_activation():
    network = mlp((4, 3, 2, 1), ReLU, seed=0, relu_after_first=False, batch_norm=True)
    names = ["linear1", "norm1", "linear2", "norm2", "activation2", "output"]
    assert [name for name, _ in network.named_children()] == names


def test_no_hidden_layer():
    for relu_after_first in (True, False):
        network = mlp((4, 1), ReLU, seed=0, relu_after_first=relu_after_first)
        assert [name for name, _ in network.named_children()] == ["output"]


def test_each_site_has_its_own_activation():
    network = mlp((4, 3, 2, 1), LeakyReLU, seed=0)
    assert network.activation1 is not network.activation2


# ---- seeds and initial values ----


@pytest.mark.parametrize("initialisation", ["torch", "kaiming-uniform"])
def test_a_seed_is_a_network(initialisation):
    def parameters(seed, s=0.0):
        network = mlp(SIZES, lambda: ReLU(s), seed=seed, initialisation=initialisation)
        return torch.cat([p.detach().flatten() for p in network.parameters()])

    first = parameters(7)
    torch.manual_seed(123)
    assert torch.equal(parameters(7, s=1.0), first)
    assert not torch.equal(parameters(8), first)


def test_the_global_random_state_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    mlp(SIZES, ReLU, seed=0)
    assert torch.equal(torch.rand(3), expected)
    with pytest.raises(ValueError, match="activation built"):
        mlp(SIZES, nn.ReLU, seed=0)
    after = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(4)[3:], after)


def assert_uniform(values, bound):
    """Within the bound, and a Kolmogorov-Smirnov test that errs once in 1,000 true cases."""
    values = values.detach().double().flatten()
    assert values.abs().max() <= bound * (1 + 1e-6)
    assert stats.kstest(values.numpy(), "uniform", args=(-bound, 2 * bound)).pvalue > 0.001


def test_torch_initialisation_is_uniform_within_one_by_root_m():
    network = mlp(SIZES, ReLU, seed=0)
    for layer in linears(network):
        assert_uniform(layer.weight, layer.in_features**-0.5)
    biases = torch.cat([layer.bias * layer.in_features**0.5 for layer in linears(network)])
    assert_uniform(biases, 1.0)


def test_torch_initialisation_is_pytorchs_own():
    network = mlp(SIZES, ReLU, seed=3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        own = [nn.Linear(784, 256), nn.Linear(256, 64), nn.Linear(64, 10)]
    for layer, expected in zip(linears(network), own, strict=True):
        assert torch.equal(layer.weight, expected.weight)
        assert torch.equal(layer.bias, expected.bias)


def test_kaiming_uniform_is_b21s_formula_with_zero_biases():
    network = mlp(SIZES, ReLU, seed=0, initialisation="kaiming-uniform")
    for layer in linears(network):
        assert_uniform(layer.weight, (6 / layer.in_features) ** 0.5)
        assert not layer.bias.any()


# ---- misuse ----


@pytest.mark.parametrize(
    "factory", [nn.ReLU, nn.Identity, lambda: nn.Sequential(ReLU())], ids=["nn", "none", "wrapped"]
)
def test_an_activation_that_is_not_ours_raises(factory):
    with pytest.raises(ValueError, match=r"built 0 of the 2 activations; .*ReLU.*ReLU6.*LeakyReLU"):
        mlp((4, 3, 2, 1), factory, seed=0)


def test_a_factory_that_changes_its_mind_raises():
    made = iter([ReLU(), nn.ReLU()])
    with pytest.raises(ValueError, match="built 1 of the 2 activations"):
        mlp((4, 3, 2, 1), lambda: next(made), seed=0)


@pytest.mark.parametrize("unknown", ["activation_fn", "s", "drop_out", "bn"])
def test_an_unknown_keyword_raises(unknown):
    with pytest.raises(TypeError, match=unknown):
        mlp((4, 3, 1), ReLU, seed=0, **{unknown: 1})


def test_an_unknown_initialisation_raises():
    with pytest.raises(ValueError, match=r"initialisation='he'; choose one of \('torch', 'kaiming"):
        mlp((4, 3, 1), ReLU, seed=0, initialisation="he")


@pytest.mark.parametrize("sizes", [(), (4,)])
def test_too_few_sizes_raise(sizes):
    with pytest.raises(ValueError, match="needs at least an input and an output width"):
        mlp(sizes, ReLU, seed=0)
