import math

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from reluprime.config import cells
from reluprime.instruments import data, fully_connected
from reluprime.instruments.activations import GRADIENT_RULES, ReLU
from reluprime.volume import VolumeConfig, estimate
from reluprime.volume import study as volume
from reluprime.volume.stacked import estimate_in_stacks

CPU = torch.device("cpu")
DTYPES = {
    "fp64": torch.float64,
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]
# Narrow and deep with zero biases: once a layer is dead for an image, all later
# pre-activations are exactly 0, on every machine and in every precision.
NARROW = {
    "dataset": "mnist-5k",
    "hidden_sizes": (16, 8, 8, 8),
    "initialisation": "kaiming-uniform",
    "batch_size": 50,
    "n_networks": 6,
}


def config(**changes):
    return VolumeConfig(**{**NARROW, **changes})


# ---- a brute-force oracle ----


def gradient_of(network, x, y):
    """All parameters' gradients from one backward pass, in fp64 as one vector."""
    network.zero_grad()
    F.cross_entropy(network(x), y).backward()
    return [p.grad.double().flatten() for p in network.parameters()]


def build(config, x, classes, activation, seed):
    """The network by its own constructor."""
    if config.architecture == "mlp":
        sizes = [x.shape[1], *config.hidden_sizes, classes]
        options = {"relu_after_first": config.relu_after_first}
        return fully_connected.mlp(
            sizes, activation, seed=seed, initialisation=config.initialisation, **options
        )
    options = {name: getattr(config, name) for name in config.traits.options}
    return config.traits.builder(classes, activation, seed=seed, **options)


def by_brute_force(config, batches):
    """Two networks a rule, built apart; two backward passes on every mini-batch; no screen."""
    result = {}
    for rule in GRADIENT_RULES:
        affected, first, difference, first_layer, nonfinite = [], [], [], [], 0
        for seed in range(config.seed, config.seed + config.n_networks):
            x, y = batches[0]
            classes = 1 + int(torch.cat([y for _, y in batches]).max())
            pair = [
                build(config, x, classes, lambda s=s, rule=rule: ReLU(s, rule), seed).to(x)
                for s in (0.0, 1.0)
            ]
            hits = []
            for index, (x, y) in enumerate(batches):
                a, b = (gradient_of(network, x, y) for network in pair)
                whole = torch.cat(a), torch.cat(b)
                if not all(bool(v.isfinite().all()) for v in whole):
                    nonfinite += 1
                elif not torch.equal(*whole):
                    hits.append(index)
                    difference.append(float((whole[1] - whole[0]).norm() / whole[0].norm()))
                    first_layer.append(float((b[0] - a[0]).norm() / a[0].norm()))
            affected.append(len(hits))
            first.append(hits[0] if hits else None)
        result |= {
            f"affected_{rule}": affected,
            f"first_affected_{rule}": first,
            f"relative_difference_{rule}": difference,
            f"relative_difference_first_layer_{rule}": first_layer,
            f"nonfinite_{rule}": nonfinite,
        }
    return result


def assert_agree(found, expected, rel=1e-12):
    for name, value in expected.items():
        if name.startswith("relative"):
            assert found[name] == pytest.approx(value, rel=rel, nan_ok=True), name
        else:
            assert found[name] == value, name


def mnist_batches(config, device):
    """mnist-5k's training images by other means than the study's."""
    loaded = data.load(config.dataset, device=device)
    images = loaded.train_images.reshape(len(loaded.train_images), -1).cpu().float() / 255
    images = images.to(device, DTYPES[config.precision])
    n = config.batch_size
    return [(images[i : i + n], loaded.train_labels[i : i + n]) for i in range(0, len(images), n)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("relu_after_first", [True, False])
@pytest.mark.parametrize("precision", DTYPES)
def test_agrees_with_brute_force(precision, relu_after_first, device):
    case = config(precision=precision, relu_after_first=relu_after_first)
    found = estimate(case, torch.device(device))
    # A GPU's stack and loop add up in different orders.
    rel = 1e-12 if device == "cpu" else 100 * torch.finfo(DTYPES[precision]).eps
    assert_agree(found, by_brute_force(case, mnist_batches(case, torch.device(device))), rel)
    assert found["n_batches"] == 80
    n_pairs = 80 * case.n_networks
    assert 0 < sum(found["affected_injected"]) < n_pairs / 2  # hits, and mini-batches without
    assert found["relu_calls"] == 4000 * (40 if relu_after_first else 24)
    assert all(a <= s for a, s in zip(found["affected_chain"], found["screened"], strict=True))
    assert sum(found["exact_zeros"].values()) >= sum(found["screened"])
    assert ("activation1" in found["exact_zeros"]) == relu_after_first


@pytest.mark.parametrize(("precision", "seed"), [("fp16", 9), ("fp32", 1), ("bf16", 0)])
def test_agrees_with_brute_force_at_pytorchs_initialisation(precision, seed):
    """Rare zeros, made by rounding; on another CPU other networks may have them."""
    case = VolumeConfig(
        dataset="mnist-5k", hidden_sizes=(64, 64), precision=precision, seed=seed, n_networks=3
    )
    assert_agree(estimate(case, CPU), by_brute_force(case, mnist_batches(case, CPU)))


def test_fp64_meets_no_zero_at_pytorchs_initialisation():
    case = VolumeConfig(dataset="mnist-5k", hidden_sizes=(32, 32), precision="fp64", n_networks=2)
    found = estimate(case, CPU)
    assert found["screened"] == [0, 0]
    assert found["exact_zeros"] == {}


# ---- convolutional networks ----


def conv_config(architecture, **changes):
    """Narrow, so that dead channels make zeros on every machine."""
    scaled = {"initialisation": "kaiming-uniform"} if architecture == "vgg11" else {}
    small = {"dataset": "mnist-5k", "width": 0.03, "batch_size": 40, "n_networks": 3}
    return VolumeConfig(architecture=architecture, **scaled | small | {"max_batches": 4} | changes)


def conv_batches(config):
    loaded = data.as_rgb_32(data.load(config.dataset, device="cpu"))
    images = (loaded.train_images.float() / 255).to(DTYPES[config.precision])
    n, count = config.batch_size, config.max_batches
    return [
        (images[i * n : i * n + n], loaded.train_labels[i * n : i * n + n]) for i in range(count)
    ]


@pytest.mark.parametrize("architecture", ["vgg11", "resnet18"])
@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_convolutional_networks_agree_with_brute_force(architecture, batch_norm, precision):
    case = conv_config(architecture, batch_norm=batch_norm, precision=precision)
    found = estimate(case, CPU)
    assert_agree(found, by_brute_force(case, conv_batches(case)))
    assert found["n_batches"] == 4
    if precision == "bf16":
        assert sum(found["affected_injected"]) > 0


def test_blocks_in_a_row_are_no_row_of_layers():
    """resnet20 is a Sequential, and its blocks have branches."""
    case = conv_config("resnet20", width=0.1, precision="bf16")
    found = estimate(case, CPU)
    assert_agree(found, by_brute_force(case, conv_batches(case)))
    assert sum(found["screened"]) > 0


def test_calls_of_a_convolutional_network():
    found = estimate(conv_config("vgg11", width=0.125, n_networks=1), CPU)
    assert found["relu_calls"] == 160 * 151_552 // 8


def test_the_first_mini_batches_are_those_of_the_whole_pass():
    few = estimate(config(max_batches=5), CPU)
    whole = estimate(config(), CPU)
    assert few["n_batches"] == 5
    assert few["relu_calls"] * 16 == whole["relu_calls"]
    for early, late in zip(few["first_affected_chain"], whole["first_affected_chain"], strict=True):
        assert early == (late if late is not None and late < 5 else None)


def test_only_an_mlp_can_lack_its_first_relu():
    with pytest.raises(ValidationError, match="relu_after_first=False"):
        conv_config("vgg11", relu_after_first=False)


# ---- hand-computed cases ----


def blank_batch(labels, precision="fp64", n_inputs=3):
    return torch.zeros(len(labels), n_inputs, dtype=DTYPES[precision]), torch.tensor(labels)


def run(batches, **changes):
    """One network after the other, and all networks as a stack: they must say the same."""
    case = VolumeConfig(**{"initialisation": "kaiming-uniform", "n_networks": 1, **changes})
    n_classes = 1 + int(torch.cat([y for _, y in batches]).max())
    found = volume._estimate(case, batches, n_classes)
    if case.architecture == "mlp" and not case.batch_norm:
        stacked = estimate_in_stacks(case, batches, n_classes)
        assert stacked.keys() == found.keys()
        for name, value in found.items():
            if name.startswith("relative_difference"):
                assert stacked[name] == pytest.approx(value, rel=1e-2, nan_ok=True)
            else:
                assert stacked[name] == value
    return found, case


@pytest.mark.parametrize("copies", [1, 2, 16])
def test_blank_images_by_hand(copies):
    """Zero images and biases: every pre-activation is exactly 0, the output is 0.

    The output's upstream gradients sum to d = (1/4, -1/4), whatever the mini-batch's size. At s=0
    d is the whole gradient. At s=1 the hidden biases get W'd under chain; under injected they get
    1 from each image, which no mean over the mini-batch makes smaller.
    """
    labels = [0, 1, 1, 1] * copies
    found, _ = run([blank_batch(labels)], hidden_sizes=(9,), precision="fp64", seed=5)
    output = fully_connected.mlp((3, 9, 2), ReLU, seed=5, initialisation="kaiming-uniform").output
    d = torch.tensor([0.25, -0.25], dtype=torch.float64)
    chain = float((output.weight.detach().double().T @ d).norm() / d.norm())
    injected = 4 * copies * 3 / (math.sqrt(2) / 4)  # images * sqrt(9 neurons) / |d|
    assert found["affected_chain"] == found["affected_injected"] == [1]
    assert found["first_affected_chain"] == found["first_affected_injected"] == [0]
    assert found["relative_difference_chain"] == pytest.approx([chain], rel=1e-12)
    assert found["relative_difference_injected"] == pytest.approx([injected], rel=1e-12)
    assert found["screened"] == [1]
    assert found["exact_zeros"] == {"activation1": 9 * 4 * copies}
    assert found["relu_calls"] == 9 * 4 * copies


@pytest.mark.parametrize("precision", ["fp64", "fp32", "bf16", "fp16"])
def test_a_blank_image_is_found(precision):
    """Any may have zeros by rounding or dead layers; the blank image's are certain."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(5, 8, 6, generator=generator).to(DTYPES[precision])
    images[2, 3] = 0
    labels = torch.arange(8) % 3
    batches = [(x, labels) for x in images]
    found, case = run(batches, hidden_sizes=(5, 4), precision=precision, n_networks=3)
    assert_agree(found, by_brute_force(case, batches))
    for rule in GRADIENT_RULES:
        assert all(a >= 1 for a in found[f"affected_{rule}"])
        assert all(first <= 2 for first in found[f"first_affected_{rule}"])


@pytest.fixture
def planted(monkeypatch):
    """Sets the parameters of every network that is built; by name, from a function of shape."""

    def plant(**values):
        build = fully_connected.mlp

        def mlp(*arguments, **keywords):
            network = build(*arguments, **keywords)
            with torch.no_grad():
                for name, value in values.items():
                    layer, kind = name.rsplit("_", 1)
                    network.get_submodule(layer).get_parameter(kind).copy_(torch.tensor(value))
            return network

        monkeypatch.setattr(fully_connected, "mlp", mlp)

    return plant


def test_first_layer_and_all_parameters_by_hand(planted):
    """Two neurons, two images; z = (0, 1) for the first image and (1, 3) for the second.

    The outputs' upstream gradient is (g, -g) for each image, so the neurons get 4 g and 2 g.
    """
    planted(
        linear1_weight=[[1.0, -1.0], [1.0, 0.0]],
        linear1_bias=[0.0, 0.0],
        output_weight=[[2.0, 1.0], [-2.0, -1.0]],
        output_bias=[0.0, 0.0],
    )
    x = torch.tensor([[1.0, 1.0], [3.0, 2.0]], dtype=torch.float64)
    y = torch.tensor([0, 1])
    found, _ = run([(x, y)], hidden_sizes=(2,), precision="fp64")

    def p0(margin):  # probability of class 0, the outputs being (margin / 2, -margin / 2)
        return 1 / (1 + math.exp(-margin))

    g = [(p0(2 * 1.0) - 1) / 2, p0(2 * (2.0 * 1 + 3)) / 2]  # of output 0, by image
    dz = [[0.0, 2 * g[0]], [4 * g[1], 2 * g[1]]]  # at s=0, by image and neuron
    first = [sum(dz[i][n] * x[i, k].item() for i in (0, 1)) for n in (0, 1) for k in (0, 1)]
    biases = [dz[0][n] + dz[1][n] for n in (0, 1)]
    outputs = [1 * 0 + g[1] * 1, g[0] * 1 + g[1] * 3, g[0] + g[1]]  # for one class; twice
    size = math.sqrt(sum(v * v for v in [*first, *biases, *outputs, *outputs]))
    size_first = math.sqrt(sum(v * v for v in first))
    for rule, change in (("chain", abs(4 * g[0])), ("injected", 1.0)):
        # the change enters the first neuron's two weights (image (1, 1)) and its bias
        whole, layer = change * math.sqrt(3) / size, change * math.sqrt(2) / size_first
        assert found[f"relative_difference_{rule}"] == pytest.approx([whole], rel=1e-12)
        assert found[f"relative_difference_first_layer_{rule}"] == pytest.approx([layer], rel=1e-12)


def test_a_zero_without_upstream_gradient_counts_under_injected_alone(planted):
    planted(output_weight=[[0.0] * 4] * 2)
    found, _ = run([blank_batch([0, 1, 1])], hidden_sizes=(4,), precision="fp64", n_networks=2)
    assert found["screened"] == [1, 1]
    assert found["affected_chain"] == [0, 0]
    assert found["first_affected_chain"] == [None, None]
    assert found["relative_difference_chain"] == []
    assert found["affected_injected"] == [1, 1]
    assert found["first_affected_injected"] == [0, 0]


def test_a_gradient_that_is_not_finite_is_counted_apart():
    x, y = blank_batch([0, 1], "fp16", n_inputs=64)
    overflow = x.clone()
    overflow[1] = torch.arange(64).to(x) * 1000
    found, _ = run(
        [(overflow, y), (x, torch.tensor([0, 0])), (overflow, y)],
        hidden_sizes=(32, 32, 32),
        precision="fp16",
    )
    for rule in GRADIENT_RULES:
        assert found[f"nonfinite_{rule}"] == 2
        assert found[f"affected_{rule}"] == [1]
        assert found[f"first_affected_{rule}"] == [1]
        assert len(found[f"relative_difference_{rule}"]) == 1


def test_no_exact_zero_no_backward_pass(monkeypatch):
    monkeypatch.setattr(volume, "confirm", lambda *_: pytest.fail("a backward pass"))
    x = torch.rand(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found, _ = run([(x, torch.tensor([0, 1, 0, 1]))], hidden_sizes=(5,), precision="fp64")
    assert found["screened"] == [0]
    assert found["exact_zeros"] == {}


# ---- one config, one result ----


def test_the_same_config_gives_the_same_bits():
    for precision in ("fp16", "fp32"):
        case = config(precision=precision, n_networks=2)
        assert repr(estimate(case, CPU)) == repr(estimate(case, CPU))


def test_cells_are_the_same_networks_as_the_whole():
    whole = config(precision="fp16", seed=3, n_networks=5)
    parts = cells(whole, 2)
    assert [(c.seed, c.n_networks) for c in parts] == [(3, 2), (5, 2), (7, 1)]
    assert cells(whole, 5) == cells(whole, 99) == [whole]
    expected, found = estimate(whole, CPU), [estimate(part, CPU) for part in parts]
    for name, value in expected.items():
        if isinstance(value, list):
            assert repr([v for part in found for v in part[name]]) == repr(value), name
        elif name == "exact_zeros":
            for layer, count in value.items():
                assert sum(part[name].get(layer, 0) for part in found) == count
        elif name.startswith("nonfinite"):
            assert sum(part[name] for part in found) == value
        else:
            assert {part[name] for part in found} == {value}


def test_stopping_at_the_first_affected_mini_batch_does_not_move_it():
    full = estimate(config(precision="fp16"), CPU)
    short = estimate(config(precision="fp16", stop_at_first=True), CPU)
    for rule in GRADIENT_RULES:
        assert short[f"first_affected_{rule}"] == full[f"first_affected_{rule}"]
        assert all(
            (a > 0) == (b > 0)
            for a, b in zip(short[f"affected_{rule}"], full[f"affected_{rule}"], strict=True)
        )
    assert sum(short["screened"]) < sum(full["screened"])


def test_stopping_waits_for_both_rules(planted):
    """The first mini-batch is affected under injected alone, so the second must be seen."""
    planted(linear1_weight=[[1.0, -1.0]], linear1_bias=[0.0], output_bias=[0.0, 0.0, 9000.0])
    sure = torch.ones(1, 2, dtype=torch.float64), torch.tensor([2])  # softmax is exactly one-hot
    wrong = torch.ones(1, 2, dtype=torch.float64), torch.tensor([0])
    found, _ = run([sure, wrong, wrong], hidden_sizes=(1,), precision="fp64", stop_at_first=True)
    assert found["first_affected_injected"] == [0]
    assert found["first_affected_chain"] == [1]
    assert found["affected_injected"] == [2]
    assert found["screened"] == [2]


def test_a_seed_is_the_same_network_in_each_precision():
    found = {p: estimate(config(precision=p), CPU)["screened"] for p in ("fp64", "fp32")}
    assert found["fp64"] == found["fp32"]  # layers that are dead in one are dead in the other


# ---- misuse ----


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("dataset", "MNIST"),
        ("hidden_sizes", (256, 0)),
        ("hidden_sizes", "256"),
        ("precision", "fp8"),
        ("precision", 16),
        ("batch_size", 0),
        ("batch_size", 2.5),
        ("n_networks", -1),
        ("n_networks", "many"),
        ("seed", -1),
        ("initialisation", "he"),
        ("relu_after_first", "perhaps"),
        ("stop_at_first", 2),
        ("neurons", 256),
        ("width", -1.0),
        ("max_batches", 0),
    ],
)
def test_a_wrong_parameter_is_named_with_its_value(field, value):
    with pytest.raises(ValidationError) as error:
        VolumeConfig(**{field: value})
    assert field in str(error.value)
    wrong = 0 if value == (256, 0) else value
    assert f"input_value={wrong!r}" in str(error.value)


def test_a_wrong_choice_names_the_choices():
    with pytest.raises(ValidationError, match="'fp64', 'fp32', 'tf32', 'bf16' or 'fp16'"):
        VolumeConfig(precision="fp8")


def test_a_config_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        VolumeConfig().seed = 1


def test_tf32_on_the_cpu_raises_before_any_work(monkeypatch):
    monkeypatch.setattr(data, "load", lambda *_, **__: pytest.fail("data was loaded"))
    with pytest.raises(ValueError, match=r"precision='tf32' needs an NVIDIA GPU.*'cpu'"):
        estimate(config(precision="tf32"), CPU)
