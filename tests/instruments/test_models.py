import pytest
import torch
import torchvision
from scipy import stats
from torch import nn

from reluprime.instruments.activations import LeakyReLU, ReLU, ReLU6
from reluprime.instruments.convolutional import (
    mobilenet_v3_small,
    resnet18,
    resnet20,
    resnet50,
    vgg11,
)
from reluprime.instruments.fully_connected import mlp
from reluprime.instruments.models import ARCHITECTURES, NetworkConfig, build
from reluprime.instruments.watch import relu_calls

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


# ---- convolutional networks ----

CONV = {
    "vgg11": (vgg11, 8, 8),
    "resnet18": (resnet18, 9, 17),
    "resnet50": (resnet50, 17, 49),
}


def shapes(network):
    return {name: tuple(p.shape) for name, p in network.named_parameters()}


@pytest.mark.parametrize("name", CONV)
@pytest.mark.parametrize("batch_norm", [False, True])
def test_every_relu_is_ours_and_is_called(name, batch_norm):
    make, modules, calls = CONV[name]
    network = make(10, ReLU, seed=0, width=0.0625, batch_norm=batch_norm)
    assert sum(isinstance(m, ReLU) for m in network.modules()) == modules
    assert not any(isinstance(m, nn.ReLU) for m in network.modules())
    called = []
    for module in network.modules():
        if isinstance(module, ReLU):
            module.register_forward_pre_hook(lambda *_: called.append(1))
    assert network(torch.rand(2, 3, 32, 32)).shape == (2, 10)
    assert len(called) == calls


@pytest.mark.parametrize(("make", "reference"), [(resnet18, "resnet18"), (resnet50, "resnet50")])
def test_full_width_resnets_are_torchvisions(make, reference):
    original = shapes(torchvision.models.get_model(reference, num_classes=10))
    ours = shapes(make(10, ReLU, seed=0))
    if make is resnet18:  # a first convolution of 3x3
        assert ours.pop("conv1.weight") == (64, 3, 3, 3)
        del original["conv1.weight"]
    assert ours == original


def test_resnet18_keeps_the_size_in_its_first_convolution():
    network = resnet18(10, ReLU, seed=0)
    assert (network.conv1.stride, network.conv1.padding) == ((1, 1), (1, 1))


@pytest.mark.parametrize("batch_norm", [False, True])
def test_full_width_vgg11_is_torchvisions_but_for_its_classifier(batch_norm):
    reference = "vgg11_bn" if batch_norm else "vgg11"
    original = shapes(torchvision.models.get_model(reference, num_classes=10))
    ours = shapes(vgg11(10, ReLU, seed=0, batch_norm=batch_norm))
    assert ours.pop("output.weight") == (10, 512)
    assert ours.pop("output.bias") == (10,)
    assert ours == {k: v for k, v in original.items() if k.startswith("features")}


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_without_batch_norm_only_the_last_layer_of_a_resnet_has_a_bias(name):
    network = CONV[name][0](10, ReLU, seed=0, width=0.0625, batch_norm=False)
    assert [n for n in shapes(network) if n.endswith("bias")] == ["fc.bias"]
    assert not any(isinstance(m, nn.BatchNorm2d) for m in network.modules())


@pytest.mark.parametrize("name", CONV)
def test_width_multiplies_the_channels(name):
    make = CONV[name][0]
    full, half = (make(10, ReLU, seed=0, width=w) for w in (1.0, 0.5))
    pairs = zip(full.modules(), half.modules(), strict=True)
    convolutions = [(a, b) for a, b in pairs if isinstance(a, nn.Conv2d)]
    assert all(b.out_channels * 2 == a.out_channels for a, b in convolutions)
    assert convolutions[0][1].in_channels == 3


@pytest.mark.parametrize("name", CONV)
def test_a_seed_is_a_convolutional_network(name):
    make = CONV[name][0]
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first, again, other = (make(10, ReLU, seed=s, width=0.0625) for s in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(map(torch.equal, first.parameters(), again.parameters()))
    assert not all(map(torch.equal, first.parameters(), other.parameters()))


def test_initial_values_of_convolutions():
    """ResNet: torchvision's normal with variance 2 / fan_out; VGG11: uniform on 1/sqrt(fan_in)."""
    convolution = resnet18(10, ReLU, seed=0).layer3[1].conv2.weight
    assert convolution.std().item() == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.01)
    plain = vgg11(10, ReLU, seed=0).features[8].weight
    assert plain.abs().max().item() == pytest.approx((1 / (256 * 9)) ** 0.5, rel=0.01)
    scaled = vgg11(10, ReLU, seed=0, initialisation="kaiming-uniform").features[8]
    assert scaled.weight.abs().max().item() == pytest.approx((6 / (256 * 9)) ** 0.5, rel=0.01)
    assert not scaled.bias.any()


STAGES = {
    "vgg11": [f"features.{i}" for i in (0, 3, 6, 8, 11, 13, 16, 18)],
    "resnet18": ["conv1", *(f"layer{s}.{b}.conv1" for s in range(1, 5) for b in range(2))],
    "resnet50": [
        "conv1",
        *(
            f"layer{s}.{b}.{conv}"
            for s, blocks in enumerate((3, 4, 6, 3), 1)
            for b in range(blocks)
            for conv in ("conv1", "conv2")
        ),
    ],
}


@pytest.mark.parametrize(
    ("name", "stage"), [(name, stage) for name, stages in STAGES.items() for stage in stages]
)
def test_s_reaches_every_stage(name, stage):
    """With the stage's weights at 0 its pre-activations are 0, and only s can move them."""

    def gradient(s):
        network = CONV[name][0](
            10, lambda: ReLU(s, "injected"), seed=0, width=0.0625, batch_norm=False
        )
        convolution = network.get_submodule(stage)
        for parameter in convolution.parameters():
            nn.init.zeros_(parameter)
        network(torch.rand(2, 3, 64, 64)[..., :32, :32]).sum().backward()
        return convolution.weight.grad

    torch.manual_seed(0)
    at_zero = gradient(0.0)
    torch.manual_seed(0)
    assert not torch.equal(at_zero, gradient(1.0))


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("name", CONV)
def test_s_is_the_gradient_at_every_call(name, batch_norm):
    """With each call's input at exactly 0, ``injected`` gives each of them the gradient s."""
    make, _, calls = CONV[name]
    network = make(10, lambda: ReLU(0.25, "injected"), seed=0, width=0.0625, batch_norm=batch_norm)
    planted = []

    def plant(_, inputs):
        zeros = inputs[0] - inputs[0].detach()  # of value 0, and yet a function of the weights
        zeros.retain_grad()
        planted.append(zeros)
        return (zeros,)

    for module in network.modules():
        if isinstance(module, ReLU):
            module.register_forward_pre_hook(plant)
    network(torch.rand(2, 3, 32, 32)).sum().backward()
    assert len(planted) == calls
    assert not any(zeros.any() for zeros in planted)
    assert all((zeros.grad == 0.25).all() for zeros in planted)


@pytest.mark.parametrize("make", [resnet18, resnet50])
def test_resnets_start_distributed_as_torchvisions(make):
    """Two-sample Kolmogorov-Smirnov tests; norms and the like are the same number everywhere."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        original = torchvision.models.get_model(make.__name__, num_classes=10)
    expected = dict(original.named_parameters())
    for name, parameter in make(10, ReLU, seed=0).named_parameters():
        ours, theirs = (p.detach().flatten()[:2000] for p in (parameter, expected[name]))
        if name == "conv1.weight" and make is resnet18:
            ours = ours * 3 / 7  # the deviation goes as 1 / kernel size
        if theirs.unique().numel() == 1:
            assert torch.equal(ours, theirs)
        else:
            assert stats.ks_2samp(ours.numpy(), theirs.numpy()).pvalue > 1e-4, name


def test_vgg11_starts_with_pytorchs_own_values():
    network = vgg11(10, ReLU, seed=0, width=0.25)
    layers = [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert len(layers) == 9
    for layer in layers:
        assert_uniform(layer.weight, layer.weight[0].numel() ** -0.5)


def test_a_narrow_network_keeps_a_channel():
    for make, _, _ in CONV.values():
        network = make(10, ReLU, seed=0, width=1e-6)
        assert network(torch.rand(2, 3, 32, 32)).shape == (2, 10)


def test_a_factory_that_changes_its_mind_is_refused():
    for make, modules, _ in CONV.values():
        made = iter([ReLU(), *(nn.ReLU() for _ in range(modules - 1))])
        with pytest.raises(ValueError, match=f"built 1 of the {modules} activations"):
            make(10, lambda made=made: next(made), seed=0, width=0.0625)


def test_an_activation_that_is_none_is_refused():
    for make, _, _ in CONV.values():
        with pytest.raises(ValueError, match="activation built 0 of the"):
            make(10, nn.Identity, seed=0, width=0.0625)


def test_an_unknown_keyword_is_an_error():
    for make in [mobilenet_v3_small, resnet20, *(make for make, _, _ in CONV.values())]:
        with pytest.raises(TypeError, match="activation_fn"):
            make(10, ReLU, seed=0, activation_fn=nn.ReLU)


# ---- the networks of M23 ----

M23 = {resnet20: 19, mobilenet_v3_small: 14}  # calls of an activation in a pass


@pytest.mark.parametrize(("kink", "derivative"), [(0.0, 0.25), (6.0, 0.5)])
@pytest.mark.parametrize("make", M23)
def test_both_derivatives_reach_every_call(make, kink, derivative):
    """With each call's input exactly at a kink, ``injected`` gives each of them its derivative;
    no ReLU of torchvision is left."""
    network = make(10, lambda: ReLU6(0.25, 0.5, "injected"), seed=0, width=0.25).eval()
    planted = []

    def plant(_, inputs):
        at_kink = inputs[0] - inputs[0].detach() + kink
        at_kink.retain_grad()
        planted.append(at_kink)
        return (at_kink,)

    for module in network.modules():
        assert not isinstance(module, (nn.ReLU, nn.ReLU6))
        if isinstance(module, ReLU6):
            module.register_forward_pre_hook(plant)
    network(torch.rand(2, 3, 32, 32)).sum().backward()
    assert len(planted) == M23[make]
    assert all((x.grad == derivative).all() for x in planted)


def test_mobilenet_is_torchvisions():
    ours = mobilenet_v3_small(10, ReLU, seed=3).eval()
    torch.manual_seed(3)
    theirs = torchvision.models.mobilenet_v3_small(num_classes=10).eval()
    x = torch.rand(2, 3, 64, 64)
    assert torch.equal(ours(x), theirs(x))


def test_resnet20_by_hand():
    network = resnet20(10, ReLU, seed=0)
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert len([m for m in convolutions if m.kernel_size == (3, 3)]) == 19  # and one linear: 20
    assert len([m for m in convolutions if m.kernel_size == (1, 1)]) == 9  # one on every skip
    assert [m.out_channels for m in convolutions[::3]][:4] == [16, 16, 16, 16]
    assert network.get_submodule("output").in_features == 64
    first = next(name for name, m in network.named_modules() if isinstance(m, ReLU))
    assert first == "relu"  # the stem's, the one that M23's release changed
    sizes = []
    for block in ("block3", "block4", "block6", "block7", "block9"):
        network.get_submodule(block).register_forward_hook(
            lambda module, x, y: sizes.append(tuple(y.shape[1:]))
        )
    network(torch.rand(2, 3, 32, 32))
    assert sizes == [(16, 32, 32), (32, 16, 16), (32, 16, 16), (64, 8, 8), (64, 8, 8)]


@pytest.mark.parametrize("make", M23)
def test_width_multiplies_the_channels_of_m23(make):
    half, full = (
        [m.out_channels for m in make(10, ReLU, seed=0, width=w).modules()
         if isinstance(m, nn.Conv2d)]
        for w in (0.5, 1.0)
    )  # fmt: skip
    assert half[0] * 2 == full[0] == 16
    assert half[-1] * 2 == full[-1]


@pytest.mark.parametrize("make", M23)
def test_a_seed_is_a_network_of_m23(make):
    weights = [next(make(10, ReLU, seed=s, width=0.25).parameters()) for s in (0, 0, 1)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


# ---- which network a study is about ----


def test_build_gives_each_architecture():
    for name, (make, _, _) in CONV.items():
        network = build(
            NetworkConfig(architecture=name, width=0.0625, batch_norm=True),
            (3, 32, 32),
            10,
            ReLU,
            seed=4,
        )
        expected = make(10, ReLU, seed=4, width=0.0625, batch_norm=True)
        assert all(map(torch.equal, network.parameters(), expected.parameters()))
        assert shapes(network) == shapes(expected)


def test_build_gives_an_mlp_that_takes_images():
    class Config(NetworkConfig):
        dropout: float = 0.5
        relu_after_first: bool = False

    config = Config(hidden_sizes=(16, 8), batch_norm=True)
    network = build(config, (1, 28, 28), 10, ReLU, seed=4)
    expected = mlp(
        (784, 16, 8, 10), ReLU, seed=4, batch_norm=True, dropout=0.5, relu_after_first=False
    )
    names = ["flatten", *(name for name, _ in expected.named_children())]
    assert [name for name, _ in network.named_children()] == names
    assert all(map(torch.equal, network.parameters(), expected.parameters()))
    assert network(torch.rand(3, 1, 28, 28)).shape == (3, 10)


@pytest.mark.parametrize("name", CONV)
def test_build_leaves_batch_norm_out(name):
    config = NetworkConfig(architecture=name, width=0.0625)
    network = build(config, (3, 32, 32), 7, ReLU, seed=0)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert network(torch.rand(2, 3, 32, 32)).shape == (2, 7)


# ---- the table of architectures ----


def small(name):
    """A small network of an architecture, as its config builds it."""
    sized = {"hidden_sizes": (4, 4)} if ARCHITECTURES[name].fully_connected else {"width": 0.25}
    return build(NetworkConfig(architecture=name, **sized), (3, 32, 32), 10, ReLU, seed=0)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_chain_is_its_layers_one_after_the_other(name):
    network, image = small(name).eval(), torch.rand(2, 3, 32, 32)
    leaves = [module for module in network.modules() if not list(module.children())]

    def one_after_the_other():
        z = image
        for layer in leaves:
            z = layer(z)
        return z

    if ARCHITECTURES[name].chain:
        assert torch.equal(one_after_the_other(), network(image))
    else:
        with pytest.raises((RuntimeError, AssertionError)):
            assert torch.equal(one_after_the_other(), network(image))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_table_says_what_a_network_takes_and_has(name):
    traits, network = ARCHITECTURES[name], small(name)
    norms, drops = (
        any(isinstance(module, kinds) for module in network.modules())
        for kinds in ((nn.BatchNorm1d, nn.BatchNorm2d), nn.Dropout)
    )
    assert (norms, drops) == (traits.own_batch_norm, traits.own_dropout)
    larger = torch.rand(2, 3, 64, 64)
    if traits.any_size:
        assert network(larger).shape == (2, 10)
    else:
        with pytest.raises(RuntimeError):
            network(larger)


def test_build_hands_the_initialisation_on():
    vgg = NetworkConfig(architecture="vgg11", width=0.0625, initialisation="kaiming-uniform")
    mlp_ = NetworkConfig(hidden_sizes=(16,), initialisation="kaiming-uniform")
    for config in (vgg, mlp_):
        network = build(config, (3, 32, 32), 10, ReLU, seed=0)
        layers = [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
        assert not any(layer.bias.any() for layer in layers)


def test_a_network_other_than_an_mlp_has_no_hidden_sizes_by_default():
    class WithDefault(NetworkConfig):
        hidden_sizes: tuple[int, ...] = (16,)

    assert WithDefault().hidden_sizes == (16,)
    assert WithDefault(architecture="vgg11").hidden_sizes == ()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, r"hidden_sizes=\(\) with architecture='mlp'"),
        (
            {"architecture": "vgg11", "hidden_sizes": (16,)},
            r"hidden_sizes=\(16,\) with architecture='vgg11'",
        ),
        (
            {"architecture": "resnet50", "initialisation": "kaiming-uniform"},
            "initialisation='kaiming-uniform'",
        ),
        ({"hidden_sizes": (16, 0)}, "input_value=0"),
        ({"architecture": "vgg11", "width": 0.0}, "input_value=0.0"),
        ({"hidden_sizes": (16,), "depth": 2}, "depth"),
        ({"hidden_sizes": (16,), "width": 0.5}, "width=0.5"),
        (
            {"architecture": "resnet18", "initialisation": "kaiming-uniform"},
            "initialisation='kaiming-uniform'",
        ),
        ({"architecture": "vgg16"}, "architecture"),
        ({"architecture": "resnet20", "batch_norm": False}, "resnet20 always has it"),
        (
            {"architecture": "mobilenet_v3_small", "initialisation": "kaiming-uniform"},
            "mobilenet_v3_small has its own",
        ),
    ],
)
def test_a_network_that_does_not_exist_is_named(values, message):
    with pytest.raises(ValueError, match=message):
        NetworkConfig(**values)


def test_calls_of_a_pass():
    network = vgg11(10, ReLU, seed=0)
    calls = relu_calls(network, torch.zeros(1, 3, 32, 32))
    assert list(calls.values()) == [65536, 32768, 16384, 16384, 8192, 8192, 2048, 2048]
    blocks = relu_calls(resnet18(10, ReLU, seed=0), torch.zeros(2, 3, 32, 32))
    assert blocks["layer1.0.relu"] == 2 * 2 * 64 * 16 * 16  # two images, two calls
    assert network.training
