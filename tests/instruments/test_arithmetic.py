"""Emulated layers: bit for bit what the table of `arithmetic` says, forward and backward."""

import json
import math
from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from reluprime import bifurcation, records
from reluprime.bifurcation import PairedRunConfig
from reluprime.instruments import arithmetic, models
from reluprime.instruments.activations import GRADIENT_RULES, ReLU
from reluprime.instruments.arithmetic import LAYERS, emulate
from reluprime.instruments.watch import count_kinks
from reluprime.mechanism.kinks import KinksConfig, PoolTiesConfig
from reluprime.mechanism.study import ForwardZerosConfig, forward_zeros
from reluprime.report import studies
from reluprime.training import checkpoint
from reluprime.training import study as training
from reluprime.training.config import TrainingConfig
from reluprime.training.zeros import ZeroCountConfig
from reluprime.volume import VolumeConfig

DTYPES = {
    "fp64": torch.float64,
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
CONDITIONS = [
    ("epilogue", "fp64"),
    ("epilogue", "fp32"),
    ("epilogue", "bf16"),
    ("epilogue", "fp16"),
    ("separate", "bf16"),
    ("separate", "fp16"),
]
# Significant bits and the smallest normal number's exponent.
FORMATS = {
    torch.float64: (53, -1022),
    torch.float32: (24, -126),
    torch.bfloat16: (8, -126),
    torch.float16: (11, -14),
}


# ---- a slow reference: rational numbers, rounded where the table says ----


def rounded(q: Fraction, dtype: torch.dtype) -> Fraction:
    """To the nearest number of `dtype`, ties to even."""
    if q == 0:
        return q
    bits, least = FORMATS[dtype]
    exponent = math.frexp(q)[1] - 1  # exact: no q here is within a double's rounding of 2**n
    step = Fraction(2) ** (max(exponent, least) - bits + 1)
    return round(q / step) * step  # Python rounds ties of fractions to even


def wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype.itemsize == 2 else dtype


def fractions(x: torch.Tensor) -> list[Fraction]:
    return [Fraction(v) for v in x.detach().double().flatten().tolist()]


def assert_is(x: torch.Tensor, expected: list[Fraction], dtype: torch.dtype) -> None:
    assert x.dtype == dtype
    assert fractions(x) == expected


def with_bias(name: str, kind: type, total: Fraction, bias: Fraction, dtype: torch.dtype):
    """The table's rows for linear layers and convolutions, from the product's sum."""
    if name == "epilogue" and kind is nn.Linear:
        return rounded(rounded(rounded(total, wide(dtype)) + bias, wide(dtype)), dtype)
    return rounded(rounded(total, dtype) + bias, dtype)


def test_the_reference_rounds_as_pytorch_does():
    x = torch.randn(500, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = x * torch.tensor([1.0, 2.0**-14, 2.0**-24, 1000.0, 1e-7]).repeat(100)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        assert fractions(x.to(dtype)) == [rounded(q, dtype) for q in fractions(x)]


def layer_of(kind: type, name: str, precision: str, bias: bool = True, whole: bool = False):
    """A layer, its input and an upstream gradient; `whole`: all sums exact in fp32."""
    torch.manual_seed(0)
    linear = kind is nn.Linear
    layer = nn.Linear(12, 5, bias) if linear else nn.Conv2d(3, 4, 3, padding=1, bias=bias)
    x = torch.randn(7, 12) if linear else torch.randn(2, 3, 4, 4)
    upstream = torch.randn(7, 5) if linear else torch.randn(2, 4, 4, 4)
    if whole:
        x, upstream = (x * 50).round(), (upstream * 50).round()
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.copy_((parameter * 40).round() / 4)
    dtype = DTYPES[precision]
    network = emulate(nn.Sequential(layer), name).to(dtype)
    return network[0], x.to(dtype).requires_grad_(), upstream.to(dtype)


def product(layer, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    if isinstance(layer, nn.Linear):
        return F.linear(x, weight)
    return F.conv2d(x, weight, padding=1)


def biases(layer, z: torch.Tensor) -> list[Fraction]:
    shape = (-1,) if isinstance(layer, nn.Linear) else (-1, 1, 1)
    return fractions(layer.bias.view(shape).expand_as(z))


@pytest.mark.parametrize("kind", [nn.Linear, nn.Conv2d])
@pytest.mark.parametrize(("name", "precision"), CONDITIONS)
def test_each_operation_is_rounded_where_the_table_says(name, precision, kind):
    """Given the sums, which the layer takes in fp32 (of fp64 in fp64)."""
    layer, x, _ = layer_of(kind, name, precision)
    dtype = DTYPES[precision]
    if precision == "bf16" and layer.__class__ is not arithmetic.EpilogueLinear:
        pytest.skip("PyTorch's own product of bf16 does not show its sums")
    with torch.no_grad():
        sums = product(layer, x.to(wide(dtype)), layer.weight.to(wide(dtype)))
        z = layer(x)
    pairs = zip(fractions(sums), biases(layer, z), strict=True)
    assert_is(z, [with_bias(name, kind, s, b, dtype) for s, b in pairs], dtype)


@pytest.mark.parametrize("kind", [nn.Linear, nn.Conv2d])
@pytest.mark.parametrize(("name", "precision"), CONDITIONS)
def test_exact_sums_and_their_gradients(name, precision, kind):
    """Whole numbers: the sums are rational numbers, whatever their order."""
    layer, x, upstream = layer_of(kind, name, precision, whole=True)
    dtype = DTYPES[precision]
    z = layer(x)
    exact_x, exact_w = (t.detach().double().requires_grad_() for t in (x, layer.weight))
    sums = product(layer, exact_x, exact_w)
    pairs = zip(fractions(sums), biases(layer, z), strict=True)
    assert_is(z, [with_bias(name, kind, s, b, dtype) for s, b in pairs], dtype)
    z.backward(upstream)
    sums.backward(upstream.double())
    dims = [d for d in range(z.dim()) if d != 1]
    exact = (exact_x.grad, exact_w.grad, upstream.double().sum(dims))
    for found, value in zip((x.grad, layer.weight.grad, layer.bias.grad), exact, strict=True):
        assert_is(found, [rounded(q, dtype) for q in fractions(value)], dtype)
    if dtype.itemsize == 2:  # the case is not trivial
        assert any(rounded(s, dtype) != s for s in fractions(sums))
        assert any(rounded(s, dtype) != s for s in fractions(exact_w.grad))


@pytest.mark.parametrize("kind", [nn.Linear, nn.Conv2d])
@pytest.mark.parametrize(("name", "precision"), CONDITIONS)
def test_without_a_bias_the_form_is_pytorchs_own(name, precision, kind):
    layer, x, upstream = layer_of(kind, name, precision, bias=False, whole=True)
    z = layer(x)
    native_x, native_w = (t.detach().clone().requires_grad_() for t in (x, layer.weight))
    native = product(layer, native_x, native_w)
    assert torch.equal(z, native)
    z.backward(upstream)
    native.backward(upstream)
    assert torch.equal(x.grad, native_x.grad)
    # At fp16 on a CPU PyTorch adds a convolution's images up in fp16.
    if (kind, precision) != (nn.Conv2d, "fp16"):
        assert torch.equal(layer.weight.grad, native_w.grad)


def test_at_bf16_pytorchs_own_linear_layer_is_the_epilogue_where_sums_are_exact():
    layer, x, _ = layer_of(nn.Linear, "epilogue", "bf16", whole=True)
    separate, _, _ = layer_of(nn.Linear, "separate", "bf16", whole=True)
    native = F.linear(x, layer.weight, layer.bias)
    assert torch.equal(layer(x), native)
    assert not torch.equal(separate(x), native)


def test_at_fp32_the_bias_is_added_to_the_rounded_product():
    """Many inputs, as kernels that start their sums with the bias agree on few."""
    for layer, shape in ((nn.Linear(784, 64), (32, 784)), (nn.Conv2d(64, 8, 3), (2, 64, 8, 8))):
        torch.manual_seed(0)
        x, column = torch.randn(shape), (-1, *[1] * (len(shape) - 2))
        bias, layer.bias = layer.bias, None
        product = layer(x)
        layer.bias = bias
        emulated = emulate(nn.Sequential(layer), "epilogue")
        assert torch.equal(emulated(x), product + bias.view(column))


# ---- batch norm ----


def norm_of(precision: str, shape: tuple[int, ...], name: str = "epilogue"):
    torch.manual_seed(0)
    layer = nn.BatchNorm1d(3) if len(shape) == 2 else nn.BatchNorm2d(3)
    nn.init.uniform_(layer.weight, 0.5, 2)
    nn.init.uniform_(layer.bias, -1, 1)
    x = (3 + torch.randn(shape)).to(DTYPES[precision])
    return emulate(nn.Sequential(layer), name).to(DTYPES[precision])[0], x


NORM_SHAPES = [(40, 3), (5, 3, 4, 4)]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", NORM_SHAPES)
@pytest.mark.parametrize(("name", "precision"), CONDITIONS)
def test_batch_norm_rounds_each_operation_and_then_once(name, precision, shape, training):
    layer, x = norm_of(precision, shape, name)
    dtype, own = DTYPES[precision], wide(DTYPES[precision])
    with torch.no_grad():
        layer.running_mean += 2.5
        mean, var = layer.running_mean.to(own), layer.running_var.to(own)
        if training:
            mean, var = arithmetic._statistics(x)
        z = layer.train(training)(x)
    invstd = (var + layer.eps).rsqrt()
    columns = (mean, invstd, layer.weight, layer.bias)
    rows = [fractions(c.view(-1, *[1] * (len(shape) - 2)).expand_as(x)) for c in columns]
    expected = []
    for q, m, i, w, b in zip(fractions(x), *rows, strict=True):
        steps = rounded(rounded(q - m, own) * i, own)
        expected.append(rounded(rounded(rounded(steps * w, own) + b, own), dtype))
    assert_is(z, expected, dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_bias_is_added_alike_in_both_memory_formats(dtype):
    """Convolutions train in channels_last; the layers above are tested in the other format."""
    torch.manual_seed(0)
    z, bias = torch.randn(3, 5, 7, 6).to(dtype), torch.randn(5).to(dtype).requires_grad_()
    upstream = torch.randn(z.shape).to(dtype)
    found = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        own = z.clone(memory_format=memory_format).requires_grad_()
        out = arithmetic._AddBias.apply(own.clone(), bias)
        gradients = torch.autograd.grad(out, (own, bias), upstream)
        assert out.is_contiguous(memory_format=memory_format)
        found.append((out, *gradients))
    for first, last in zip(*found, strict=True):
        assert torch.equal(first, last)
    assert torch.equal(found[0][0], z + bias.view(5, 1, 1))


@pytest.mark.parametrize("shape", NORM_SHAPES)
@pytest.mark.parametrize("precision", ["fp64", "fp32", "bf16", "fp16"])
def test_batch_norm_follows_pytorchs_statistics_and_gradients(precision, shape):
    """Against PyTorch's own in fp64; so the error is that of the precision."""
    layer, x = norm_of(precision, shape)
    own = type(layer).__mro__[2](3).double()
    own.load_state_dict(layer.state_dict())
    x.requires_grad_()
    exact_x = x.detach().double().requires_grad_()
    upstream = torch.randn(shape).to(x.dtype)
    for _ in range(3):
        layer(x).backward(upstream)
        own(exact_x).backward(upstream.double())
    layer.eval()(x).backward(upstream)
    own.eval()(exact_x).backward(upstream.double())
    assert layer.num_batches_tracked == own.num_batches_tracked == 3
    eps = torch.finfo(x.dtype).eps
    pairs = [(x.grad, exact_x.grad), (layer.weight.grad, own.weight.grad)]
    pairs += [(layer.bias.grad, own.bias.grad), (layer.running_mean, own.running_mean)]
    pairs += [(layer.running_var, own.running_var)]
    for found, expected in pairs:
        scale = float(expected.abs().max())
        assert torch.allclose(found.double(), expected, rtol=8 * eps, atol=8 * eps * scale)


def test_statistics_are_taken_in_fp32():
    """65 numbers whose sum at bf16 would stick: at 256 the spacing is 2."""
    x = torch.cat([torch.full((1, 1), 256.0), torch.ones(64, 1)]).bfloat16()
    mean, var = arithmetic._statistics(x)
    assert mean.item() == torch.tensor(320.0).div(65).item()
    assert var.dtype == torch.float32
    assert math.isclose(var.item(), x.double().var(0, correction=0).item(), rel_tol=1e-6)


def test_chunks_of_images_do_not_change_the_result(monkeypatch):
    found = []
    for chunk in (2**18, 1):
        monkeypatch.setattr(arithmetic, "CHUNK", chunk)
        layer, x = norm_of("bf16", (5, 3, 4, 4))
        z = layer(x.requires_grad_())
        z.backward(torch.ones_like(z) * x.detach())
        found.append((z, x.grad))
    for whole, parts in zip(*found, strict=True):
        assert torch.allclose(whole.float(), parts.float(), rtol=2**-7, atol=2**-7)


def test_batch_norm_of_one_value_raises_as_pytorchs_does():
    layer, _ = norm_of("fp32", (40, 3))
    with pytest.raises(ValueError, match="more than one value"):
        layer(torch.ones(1, 3))
    assert layer.eval()(torch.ones(1, 3)).isfinite().all()


# ---- derivatives ----


@pytest.mark.parametrize("training", [True, False])
def test_finite_differences_in_fp64(training):
    torch.manual_seed(0)
    convolutional = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten())
    network = nn.Sequential(convolutional, nn.Linear(12, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    network = emulate(network, "epilogue").double().train(training)
    names, weights = zip(*network.named_parameters(), strict=True)
    x = torch.randn(3, 2, 4, 4, dtype=torch.float64, requires_grad=True)

    def outputs(x, *weights):
        return torch.func.functional_call(network, dict(zip(names, weights, strict=True)), (x,))

    assert torch.autograd.gradcheck(outputs, (x, *weights), atol=1e-6)


A = 1 + 2.0**-10  # its square needs 21 bits: 1 + 2**-9 + 2**-20


def two_neurons(name: str, s: float, rule: str):
    """fp16; z = (A * A - (1 + 2**-9), 2 * A), and the output 3 relu(z1) + 5 relu(z2)."""
    layers = nn.Sequential(nn.Linear(1, 2), ReLU(s, rule), nn.Linear(2, 1, bias=False))
    with torch.no_grad():
        layers[0].weight.copy_(torch.tensor([[A], [2.0]]))
        layers[0].bias.copy_(torch.tensor([-(1 + 2.0**-9), 0.0]))
        layers[2].weight.copy_(torch.tensor([[3.0, 5.0]]))
    network = emulate(layers, name).half()
    x = torch.tensor([[A]], dtype=torch.float16, requires_grad=True)
    with count_kinks(network) as hits:
        output = network(x)
    output.backward()
    return {name: int(n) for name, n in hits.items()}, output, network, x


@pytest.mark.parametrize("rule", GRADIENT_RULES)
@pytest.mark.parametrize(("name", "zeros"), [("epilogue", 0), ("separate", 1)])
def test_a_network_of_two_neurons_by_hand(name, zeros, rule):
    s, least = 0.5, 2.0**-20  # of the first pre-activation where it is not rounded away
    hits, output, network, x = two_neurons(name, s, rule)
    assert hits == {"1": zeros}
    half = torch.float16
    assert_is(output, [rounded(Fraction(10 * A + (0 if zeros else 3 * least)), half)], half)
    at_kink = {"chain": 3 * s, "injected": s}[rule]
    dz = [at_kink if zeros else 3.0, 5.0]
    assert_is(network[0].bias.grad, [Fraction(d) for d in dz], half)
    assert_is(network[0].weight.grad, [rounded(Fraction(d * A), half) for d in dz], half)
    assert_is(x.grad, [rounded(Fraction(dz[0] * A + dz[1] * 2), half)], half)


# ---- in place ----


ARCHITECTURES = {
    "mlp": {"hidden_sizes": (5, 4), "batch_norm": True},
    "vgg11": {"width": 0.0625, "batch_norm": True},
    "resnet18": {"width": 0.0625},
    "resnet20": {"width": 0.25},
    "mobilenet_v3_small": {"width": 0.25},
}


@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from(sorted(ARCHITECTURES)),
    st.sampled_from(CONDITIONS),
    st.integers(0, 1000),
)
def test_names_and_initial_weights_stay(architecture, condition, seed):
    name, precision = condition
    options = {"architecture": architecture} | ARCHITECTURES[architecture]
    configs = [TrainingConfig(**options, precision=precision, arithmetic=a, momentum=0.0)
               for a in ("native", name)]  # fmt: skip
    native, emulated = (
        models.build(c, (3, 32, 32), 10, ReLU, seed=seed).to(DTYPES[precision]) for c in configs
    )
    assert [n for n, _ in native.named_modules()] == [n for n, _ in emulated.named_modules()]
    states = native.state_dict(), emulated.state_dict()
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(a, b) for a, b in zip(*(s.values() for s in states), strict=True))
    left = {type(m) for m in emulated.modules()} & LAYERS[name].keys()
    assert left == set()


@pytest.mark.parametrize(("name", "precision"), CONDITIONS)
@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_emulated_networks_are_the_native_one_up_to_rounding(architecture, name, precision):
    """Every tensor between layers has the storage dtype, forward and backward."""
    dtype = DTYPES[precision]
    options = {"architecture": architecture} | ARCHITECTURES[architecture]
    config = TrainingConfig(**options, precision=precision, arithmetic=name)
    x = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    network = models.build(config, (3, 32, 32), 10, ReLU, seed=0).eval()
    native = emulate(models.build(config, (3, 32, 32), 10, ReLU, seed=0), "native").eval()
    expected = native.double()(x.double())
    found, seen = network.to(dtype), []
    for module in found.modules():
        module.register_forward_hook(lambda _, x, z: seen.extend([*x, z]))
    z = found(x.to(dtype))
    z.sum().backward()
    assert {t.dtype for t in seen} == {p.grad.dtype for p in found.parameters()} == {dtype}
    info, scale = torch.finfo(dtype), float(expected.detach().abs().max())
    tolerance = 30 * info.eps * max(scale, info.smallest_normal)
    assert torch.allclose(z.double(), expected, atol=tolerance, rtol=0)


# ---- studies ----


STUDIES = {
    VolumeConfig: {},
    TrainingConfig: {},
    ZeroCountConfig: {},
    PairedRunConfig: {},
    ForwardZerosConfig: {},
    KinksConfig: {},
    PoolTiesConfig: {},
}


@pytest.mark.parametrize("config", STUDIES)
def test_what_is_another_name_is_refused(config):
    for precision in ("fp32", "fp64"):
        with pytest.raises(ValueError, match="'separate' is 'epilogue' at precision="):
            config(precision=precision, arithmetic="separate")
        assert config(precision=precision, arithmetic="epilogue").arithmetic == "epilogue"
    for name in ("epilogue", "separate"):
        with pytest.raises(ValueError, match="'tf32' is a GPU's own"):
            config(precision="tf32", arithmetic=name)
        assert config(precision="fp16", arithmetic=name).arithmetic == name
    with pytest.raises(ValueError, match="arithmetic"):
        config(arithmetic="fused")
    assert "arithmetic" not in config().model_dump()


def test_an_arithmetic_says_the_form_of_every_layer_itself():
    with pytest.raises(ValueError, match="says the form of every layer"):
        ForwardZerosConfig(precision="fp16", arithmetic="separate", linear_form="unfused")


def test_keys_of_all_records_are_those_that_they_had():
    files = sorted((records.REPOSITORY / "records").glob("*.jsonl"))
    assert len(files) >= 10
    for file in files:
        study = studies.STUDIES[file.stem]
        for line in file.read_text().splitlines():
            record = json.loads(line)
            if record["version"] == study.version:
                config = records.config_class(study).model_validate(record["config"])
                key = records.cell_key(study, config, record["provenance"].get("device", "cpu"))
                assert key == record["key"]


SMALL = {"dataset": "mnist-5k", "hidden_sizes": (32, 16), "epochs": 1, "lr": 0.05}


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize(("name", "precision"), [("epilogue", "fp32"), ("separate", "bf16")])
def test_an_ensemble_trains_as_its_members_do(name, precision, batch_norm):
    common = SMALL | {"arithmetic": name, "precision": precision, "batch_norm": batch_norm}
    both = training.fit(TrainingConfig(**common, n_networks=2, s=1.0))
    for seed in (0, 1):
        alone = training.fit(TrainingConfig(**common, seed=seed, s=1.0))
        assert alone["train_loss"][0] == pytest.approx(both["train_loss"][seed], rel=1e-3)
        assert alone["test_accuracy"][0] == pytest.approx(both["test_accuracy"][seed], abs=0.01)


def test_a_training_meets_the_zeros_of_its_arithmetic():
    def zeros(name):
        run = training.fit(TrainingConfig(**SMALL, arithmetic=name, precision="bf16", s=1.0))
        return {layer: sum(n[0]) for layer, n in run["exact_zeros"].items()}

    separate, epilogue = zeros("separate"), zeros("epilogue")
    assert separate.keys() == epilogue.keys() == {"activation1", "activation2"}
    assert sum(separate.values()) > 20 > sum(epilogue.values())


def test_a_checkpoint_is_of_one_arithmetic():
    paths = {
        checkpoint.Checkpoint(
            TrainingConfig(precision="fp16", arithmetic=a), 1, torch.device("cpu")
        ).state.path
        for a in ("native", "epilogue", "separate")
    }
    assert len(paths) == 3


def test_separate_is_the_mechanisms_unfused_form_of_an_mlp():
    common = {"dataset": "mnist-5k", "hidden_sizes": (32, 32), "n_images": 500, "precision": "bf16"}
    by_form = forward_zeros(ForwardZerosConfig(**common, linear_form="unfused"))
    by_name = forward_zeros(ForwardZerosConfig(**common, arithmetic="separate"))
    assert by_name["zeros"] == by_form["zeros"]
    assert sum(by_name["zeros"].values()) > 10
    assert set(by_name["predicted"].values()) == {None}


def test_a_paired_run_in_an_arithmetic_parts_at_its_event():
    config = PairedRunConfig(
        dataset="mnist-5k", hidden_sizes=(32, 16), precision="fp16", arithmetic="separate", lr=0.01
    )
    found = bifurcation.paired_run(config)
    step = found["event"]["step"]
    assert set(found["distance"]["control"]) == {0.0}
    assert set(found["distance"]["injected s=1"][:step]) <= {0.0}
    assert found["distance"]["injected s=1"][-1] > 0
    plane = bifurcation.weight_plane(bifurcation.WeightPlaneConfig(run=config, resolution=3))
    assert plane["event"]["step"] == step
    assert plane["plane"][1][1] == 0 < plane["plane_fp64"][1][1]
