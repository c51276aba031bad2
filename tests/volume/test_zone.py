"""Who is in the zone: screened, compared rule by rule and left early, as if all were compared."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from reluprime.config import cells
from reluprime.instruments import data, models
from reluprime.instruments.activations import GRADIENT_RULES, ReLU
from reluprime.instruments.arithmetic import emulate
from reluprime.instruments.batches import Batches
from reluprime.volume import VolumeConfig, ZoneConfig, estimate, first_affected, zone
from reluprime.volume.networks import raw_batches
from reluprime.volume.screening import confirm

CPU = torch.device("cpu")
DTYPES = {
    "fp64": torch.float64,
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
CONDITIONS = [
    ("native", "fp32"),
    ("native", "bf16"),
    ("epilogue", "fp32"),
    ("epilogue", "fp16"),
    ("separate", "bf16"),
    ("separate", "fp16"),
]


# ---- the oracle: all gradients on all mini-batches, and all zeros of both precisions ----


def gradient(network, x, y):
    network.zero_grad()
    F.cross_entropy(network(x), y).backward()
    return torch.cat([p.grad.double().flatten() for p in network.parameters()])


def preactivations(network, x):
    found = []
    handles = [
        m.register_forward_pre_hook(lambda _, z, name=name: found.append((name, z[0].detach())))
        for name, m in network.named_modules()
        if isinstance(m, ReLU)
    ]
    network(x)
    for handle in handles:
        handle.remove()
    return found


def by_brute_force(config, batches, n_classes):
    found = {f"first_affected_{rule}": [] for rule in GRADIENT_RULES} | {"seen": []}
    found |= {"screened": [], "rounded": [], "exact_zeros": {}, "structural_zeros": {}}
    for seed in range(config.seed, config.seed + config.n_networks):

        def network(s, rule, seed=seed):
            shape = batches[0][0].shape[1:]
            built = models.build(config, shape, n_classes, lambda: ReLU(s, rule), seed=seed)
            return built.to(DTYPES[config.precision])

        at_zero, first = network(0.0, "chain"), {}
        for rule in GRADIENT_RULES:
            at_one = network(1.0, rule)
            pairs = ((gradient(at_zero, *b), gradient(at_one, *b)) for b in batches)
            hits = [not torch.equal(a, b) and bool((a + b).isfinite().all()) for a, b in pairs]
            first[rule] = hits.index(True) if True in hits else None
            found[f"first_affected_{rule}"].append(first[rule])
        seen = len(batches) if None in first.values() else 1 + max(first.values())
        found["seen"].append(seen)
        add_zeros(found, at_zero, [x for x, _ in batches[:seen]])
    return found


def add_zeros(found, network, inputs):
    exact = copy.deepcopy(network).double()
    screened = rounded = 0
    for x in inputs:
        pairs = zip(preactivations(network, x), preactivations(exact, x.double()), strict=True)
        numbers = [(n, int((z == 0).sum()), int(((z == 0) & (q == 0)).sum()))
                   for (n, z), (_, q) in pairs]  # fmt: skip
        screened += any(zeros for _, zeros, _ in numbers)
        for name, zeros, shared in numbers:
            if any(n for _, n, _ in numbers):
                for kind, number in (("exact_zeros", zeros), ("structural_zeros", shared)):
                    found[kind][name] = found[kind].get(name, 0) + number
            rounded += zeros - shared
    found["screened"].append(screened)
    found["rounded"].append(rounded)


def assert_agrees(config, batches, n_classes):
    found = zone._first_affected(config, batches, n_classes)
    expected = by_brute_force(config, batches, n_classes)
    assert {name: found[name] for name in expected} == expected
    for rule in GRADIENT_RULES:
        firsts = found[f"first_affected_{rule}"]
        assert found[f"affected_{rule}"] == [int(first is not None) for first in firsts]
        assert len(found[f"relative_difference_{rule}"]) == sum(found[f"affected_{rule}"])
    return found


# ---- random networks ----


@pytest.mark.parametrize(("name", "precision"), CONDITIONS)
def test_random_mlps_agree_with_comparing_everything(name, precision):
    config = ZoneConfig(
        dataset="mnist-5k",
        hidden_sizes=(24, 16),
        precision=precision,
        arithmetic=name,
        batch_size=200,
        n_networks=5,
    )
    batches = raw_batches(config, DTYPES[precision], CPU)
    found = assert_agrees(config, *batches)
    assert found["n_batches"] == 20
    assert found["relu_calls"] == 4000 * 40
    if name == "separate":
        assert found["affected_chain"] == [1] * 5
        assert max(found["seen"]) < 20
        assert min(found["rounded"]) > 0


@pytest.mark.parametrize("inputs", ["raw", "release"])
@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("architecture", ["vgg11", "resnet18"])
@pytest.mark.parametrize(("name", "precision"), [("epilogue", "fp32"), ("separate", "fp16")])
def test_random_convolutional_networks_agree(name, precision, architecture, batch_norm, inputs):
    config = ZoneConfig(
        dataset="mnist-5k",
        architecture=architecture,
        width=0.0625,
        batch_norm=batch_norm,
        inputs=inputs,
        precision=precision,
        arithmetic=name,
        batch_size=16,
        max_batches=3,
        n_networks=3,
    )
    make = {"raw": raw_batches, "release": zone._as_released}[inputs]
    found = assert_agrees(config, *make(config, DTYPES[precision], CPU))
    if (architecture, batch_norm, inputs) == ("resnet18", False, "raw"):
        assert sum(found["structural_zeros"].values()) > 100  # black frames, and no bias


# ---- planted networks ----


@pytest.fixture
def planted(monkeypatch):
    """Puts one network in the place of all that are built."""

    def plant(network):
        def build(config, shape, n_classes, activation, **_):
            own = copy.deepcopy(network)
            for name, module in network.named_modules():
                if isinstance(module, ReLU):
                    own.set_submodule(name, activation())
            return emulate(own, config.arithmetic)

        monkeypatch.setattr(models, "build", build)

    return plant


A = 1 + 2.0**-10  # A * A - (1 + 2**-9) = 2**-20, and 0 where the product is rounded to fp16


def one_neuron():
    """z = w x + b; outputs (z, 9000 z): the loss of label 1 is exactly 0 for a z that is large."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(1, 2), ReLU(), nn.Linear(2, 2))
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([[A], [0.0]]))
        network[1].bias.copy_(torch.tensor([-(1 + 2.0**-9), 1.0]))
        network[3].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
        network[3].bias.copy_(torch.tensor([0.0, 9000.0]))
    return network


def batch(value, label):
    return torch.full((1, 1), value, dtype=torch.float16), torch.tensor([label])


CLEAR, SURE, WRONG = batch(2.0, 0), batch(A, 1), batch(A, 0)


@pytest.mark.parametrize(
    ("batches", "chain", "injected", "screened", "seen"),
    [
        ([CLEAR, CLEAR], None, None, 0, 2),
        ([CLEAR, WRONG, WRONG], 1, 1, 1, 2),  # both rules at once
        ([SURE, CLEAR, WRONG, WRONG], 2, 0, 2, 3),  # no upstream gradient at SURE's zero
        ([SURE, CLEAR, SURE], None, 0, 2, 3),
    ],
)
def test_each_rule_is_left_at_its_first(planted, batches, chain, injected, screened, seen):
    planted(one_neuron())
    config = ZoneConfig(hidden_sizes=(2,), precision="fp16", arithmetic="separate", n_networks=1)
    found = assert_agrees(config, batches, 2)
    assert found["first_affected_chain"] == [chain]
    assert found["first_affected_injected"] == [injected]
    assert (found["screened"], found["seen"]) == ([screened], [seen])
    assert found["rounded"] == [screened]
    epilogue = ZoneConfig(hidden_sizes=(2,), precision="fp16", arithmetic="epilogue", n_networks=1)
    assert assert_agrees(epilogue, batches, 2)["screened"] == [0]


def test_a_rule_that_has_its_first_is_not_compared_again(planted, monkeypatch):
    planted(one_neuron())
    config = ZoneConfig(hidden_sizes=(2,), precision="fp16", arithmetic="separate", n_networks=1)
    rules = []

    def noted(network, changed, batch, index, due, zeros):
        rules.append(set(due))
        confirm(network, changed, batch, index, due, zeros)

    monkeypatch.setattr(zone, "confirm", noted)
    zone._first_affected(config, [SURE, CLEAR, SURE, WRONG], 2)
    assert rules == [{"chain", "injected"}, {"chain"}, {"chain"}]


def test_zeros_that_fp64_shares_are_counted_apart(planted):
    """The first neuron's zero is rounding's, the second's is in every precision."""
    network = one_neuron()
    with torch.no_grad():
        network[1].bias[1] = 0.0
    planted(network)
    config = ZoneConfig(hidden_sizes=(2,), precision="fp16", arithmetic="separate", n_networks=1)
    found = assert_agrees(config, [WRONG], 2)
    assert found["exact_zeros"] == {"2": 2}
    assert found["structural_zeros"] == {"2": 1}
    assert found["rounded"] == [1]


def test_with_batch_norm_fp64_sees_the_whole_mini_batch(planted):
    """(-1, 0, 1): the mean is 0, and so is the second image's pre-activation, in any precision."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(1, 1), nn.BatchNorm1d(1), ReLU())
    network.append(nn.Linear(1, 2))
    nn.init.ones_(network[1].weight)
    nn.init.zeros_(network[1].bias)
    planted(network)
    config = ZoneConfig(hidden_sizes=(1,), batch_norm=True, arithmetic="epilogue", n_networks=1)
    batches = [(torch.tensor([[-1.0], [0.0], [1.0]]), torch.tensor([0, 1, 1]))]
    found = assert_agrees(config, batches, 2)
    assert found["exact_zeros"] == found["structural_zeros"] == {"3": 1}
    assert found["rounded"] == [0]
    assert found["affected_chain"] == [1]


# ---- one config, one result ----

SMALL = {
    "dataset": "mnist-5k",
    "hidden_sizes": (16, 8),
    "precision": "fp16",
    "arithmetic": "epilogue",
}


def test_cells_are_the_same_networks_as_the_whole():
    whole = ZoneConfig(**SMALL, n_networks=5, seed=2)
    parts = [first_affected(part, CPU) for part in cells(whole, 2)]
    for name, value in first_affected(whole, CPU).items():
        if isinstance(value, list):
            assert [v for part in parts for v in part[name]] == value
    assert len(parts) == 3


def test_the_stopping_study_of_volume_says_the_same():
    config = {**SMALL, "hidden_sizes": (64, 64), "n_networks": 6}
    found = first_affected(ZoneConfig(**config), CPU)
    expected = estimate(VolumeConfig(**config, stop_at_first=True), CPU)
    for rule in GRADIENT_RULES:
        assert found[f"first_affected_{rule}"] == expected[f"first_affected_{rule}"]
    assert any(found["affected_injected"])


def test_released_inputs_are_those_of_training_and_the_same_for_every_network():
    config = ZoneConfig(**SMALL, inputs="release", batch_size=100, max_batches=3, seed=7)
    batches, n_classes = zone._as_released(config, torch.float16, CPU)
    own = Batches(data.load("mnist-5k", device=CPU), torch.float16, seeds=[0], batch_size=100)
    expected = [(x[0], y[0]) for x, y in own.train(0)][:3]
    assert n_classes == 10
    assert len(batches) == 3
    for pairs in zip(batches, expected, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(*pairs, strict=True))


def test_cifar10_is_cropped_and_flipped_and_grey_sets_are_not(monkeypatch):
    asked = {}

    class Noted(Batches):
        def __init__(self, dataset, dtype, *, augment, **options):
            asked[dataset.train_images.shape[2]] = augment
            super().__init__(dataset, dtype, augment=augment, **options)

    monkeypatch.setattr(zone, "Batches", Noted)
    grey = data.load("mnist-5k", device=CPU)
    rgb = data.as_rgb_32(grey)
    monkeypatch.setattr(data, "load", lambda name, device: rgb if name == "cifar10" else grey)
    for name in ("cifar10", "mnist-5k"):
        config = ZoneConfig(**SMALL | {"dataset": name}, inputs="release", max_batches=1)
        zone._as_released(config, torch.float32, CPU)
    assert asked == {32: True, 28: False}


def test_wrong_configs_are_refused():
    for wrong in ({"stop_at_first": False}, {"inputs": "normalised"}, {"arithmetic": "separate"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            ZoneConfig(**wrong)
    assert "inputs" not in ZoneConfig().model_dump()
