"""A stack of networks says what the loop over networks says."""

import pytest
import torch
import torch.nn.functional as F

from reluprime.instruments.activations import GRADIENT_RULES, ReLU
from reluprime.instruments.fully_connected import mlp
from reluprime.volume import VolumeConfig, ZoneConfig, stacked, stacks, zone, zone_stacks
from reluprime.volume import study as volume

SIZES = (6, 5, 4, 3)


def networks(count=3, **options):
    """Weights and biases of eighths: sums of products with whole inputs are exact in any order."""
    built = [mlp(SIZES, ReLU, seed=seed, **options) for seed in range(count)]
    with torch.no_grad():
        for parameter in (p for network in built for p in network.parameters()):
            parameter.copy_((parameter * 8).round() / 8)
    return built


def images(rows=40):
    return torch.randint(0, 3, (rows, SIZES[0]), generator=torch.Generator().manual_seed(0)).float()


@pytest.mark.parametrize("options", [{}, {"relu_after_first": False}])
def test_outputs_are_those_of_each_network(options):
    built, x = networks(**options), images()
    outputs = stacks.outputs(stacks.layers(built), x)[-1]
    expected = torch.stack([network(x) for network in built])
    assert torch.equal(outputs, expected.detach())


def test_zeros_are_counted_by_activation_mini_batch_and_network():
    built, x = networks(), images(40)
    stack = stacks.layers(built)
    counts = stacks.zeros(stack, stacks.outputs(stack, x), batch_size=16)
    assert counts.shape == (2, 3, 3)  # the last mini-batch has 8 images
    for n, network in enumerate(built):
        for q, own in enumerate(x.split(16)):
            z1 = network.linear1(own)
            z2 = network.linear2(torch.relu(z1))
            assert counts[:, q, n].tolist() == [int((z == 0).sum()) for z in (z1, z2)]
    assert counts.any()


@pytest.mark.parametrize("rule", GRADIENT_RULES)
def test_gradients_are_those_of_each_network(rule):
    built, x = networks(), images()
    y = torch.arange(len(x)) % 3
    stack = stacks.layers(built)
    screened = stacks.outputs(stack, x)
    found = stacks.gradients(stack, x.expand(3, *x.shape), y.expand(3, -1), screened, 1.0, rule)
    for n, network in enumerate(built):
        for module in network:
            if isinstance(module, ReLU):
                module.s, module.gradient_rule = 1.0, rule
        F.cross_entropy(network(x), y).backward()
        for own, parameter in zip(found, network.parameters(), strict=True):
            expected = parameter.grad.double().flatten()
            assert torch.allclose(own[n], expected, rtol=1e-5, atol=1e-7)


def test_a_screened_zero_counts_though_the_product_has_none():
    built, x = networks(1), images()
    y = torch.arange(len(x)) % 3
    stack = stacks.layers(built)
    shifted = [stack[0]._replace(bias=stack[0].bias + 1e-3), *stack[1:]]  # no sum is 0
    screened = stacks.outputs(stack, x)
    g0, g1 = (stacks.gradients(shifted, x[None], y[None], screened, s, "chain") for s in (0.0, 1.0))
    assert stacks.compare(g0, g1)[0].affects


def test_gradients_that_are_not_finite_say_nothing():
    a, b = torch.tensor([[1.0, 2.0], [1.0, torch.nan]]), torch.tensor([[1.0, 3.0], [1.0, 0.0]])
    first, second = stacks.compare([a.double()], [b.double()])
    assert (first.finite, first.differs, first.affects) == (True, True, True)
    assert first.difference == pytest.approx(1 / 5**0.5)
    assert (second.finite, second.affects) == (False, False)
    same = stacks.compare([a[:1].double()], [a[:1].double()])[0]
    assert (same.differs, same.difference) == (False, 0.0)


# Zero biases, narrow and deep: later pre-activations of a dead layer are 0 in any order of sums.
DEAD = VolumeConfig(
    dataset="mnist-5k",
    hidden_sizes=(16, 8, 8, 8),
    initialisation="kaiming-uniform",
    batch_size=50,
    n_networks=6,
    max_batches=12,
)


def _both(config, monkeypatch, at_once):
    monkeypatch.setattr(stacked, "at_once", lambda *_: at_once)
    monkeypatch.setattr(volume, "_estimate", stacked.estimate_in_stacks)
    at_once = volume.estimate(config)
    monkeypatch.undo()
    return volume.estimate(config), at_once


@pytest.mark.parametrize("stop", [False, True])
@pytest.mark.parametrize("at_once", [1, 5, 100])
@pytest.mark.parametrize("batch_size", [50, 350])  # at 350 the last mini-batch has 150 images
def test_a_stack_estimates_what_the_loop_estimates(monkeypatch, stop, at_once, batch_size):
    config = DEAD.replace(stop_at_first=stop, batch_size=batch_size)
    one_by_one, together = _both(config, monkeypatch, at_once)
    assert sum(one_by_one["affected_injected"]) > 0
    assert together.keys() == one_by_one.keys()
    for name, value in one_by_one.items():
        if name.startswith("relative_difference"):
            assert together[name] == pytest.approx(value, rel=1e-4)
        else:
            assert together[name] == value


@pytest.mark.parametrize("at_once", [1, 5, 100])
@pytest.mark.parametrize(
    ("name", "precision"), [("epilogue", "fp32"), ("epilogue", "fp16"), ("separate", "fp16")]
)
def test_a_stack_finds_the_first_affected_of_the_loop(monkeypatch, name, precision, at_once):
    config = ZoneConfig(
        **dict(DEAD) | {"arithmetic": name, "precision": precision, "stop_at_first": True}
    )
    one_by_one = zone.first_affected(config)
    monkeypatch.setattr(stacked, "at_once", lambda *_: at_once)
    monkeypatch.setattr(zone, "_first_affected", zone_stacks.first_affected_in_stacks)
    together = zone.first_affected(config)
    assert sum(one_by_one["affected_injected"]) > 0
    assert sum(one_by_one["structural_zeros"].values()) > 0
    assert together.keys() == one_by_one.keys()
    for column, value in one_by_one.items():
        if column.startswith("relative_difference"):
            assert together[column] == pytest.approx(value, rel=1e-2)
        else:
            assert together[column] == value, column


def test_too_little_memory_halves_the_stack_and_goes_on(monkeypatch):
    tried = []
    original = stacked._estimate_stack

    def only_two(config, *rest):
        tried.append(config.n_networks)
        if config.n_networks > 2:
            raise torch.cuda.OutOfMemoryError
        return original(config, *rest)

    monkeypatch.setattr(stacked, "_estimate_stack", only_two)
    one_by_one, together = _both(DEAD, monkeypatch, 100)
    assert tried == [6, 3, 1, 1, 1, 1, 1, 1]
    assert together["affected_injected"] == one_by_one["affected_injected"]
    assert together["exact_zeros"] == one_by_one["exact_zeros"]


def test_an_error_that_is_not_memory_is_not_tried_again():
    def run(size):
        raise ValueError(size)

    with pytest.raises(ValueError, match="8"):
        stacks.halving(run, 8)


def test_batch_norm_has_no_stack():
    with pytest.raises(ValueError, match="BatchNorm1d"):
        stacks.layers([mlp(SIZES, ReLU, seed=0, batch_norm=True)])
