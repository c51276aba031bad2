"""Kinks beyond ReLU at 0: derivatives by hand, planted ties."""

import pandas as pd
import pytest
import torch
from torch import nn

from reluprime.mechanism import kink_tables, kinks
from reluprime.mechanism.kinks import KinksConfig, PoolTiesConfig


@pytest.mark.parametrize("s", [0.0, 0.5, 1.0, -2.0])
def test_derivatives_under_chain_are_the_hand_computed_ones_times_upstream(s):
    g = 0.25  # exact in binary, as are all products here
    found = {name: rules["chain"] for name, rules in kinks.derivatives(s, g).items()}
    assert found["ReLU(x) at 0"] == (s * g,)
    assert found["|x| at 0"] == ((2 * s - 1) * g,)
    assert found["max(x, y) at x = y = 1"] == (s * g, (1 - s) * g)
    assert found["min(x, y) at x = y = 1"] == (s * g, (1 - s) * g)
    assert found["soft threshold at x = 1"] == (s * g,)
    assert found["ReLU6(x) at 6"] == (s * g,)
    assert found["LeakyReLU(x) at 0"] == (s * g,)


def test_derivatives_under_injected_do_not_shrink_with_the_upstream_gradient():
    small, large = (kinks.derivatives(1.0, g) for g in (2.0**-20, 2.0**-4))
    for name in small:
        assert max(map(abs, small[name]["injected"])) >= 1 - 2**-4
        assert large[name]["chain"] == tuple(2.0**16 * g for g in small[name]["chain"])


def test_functions_written_with_relu_have_their_values():
    x, y, z = torch.tensor([[-2.0, 0.5, 3.0], [1.0, 0.5, -1.0], [0.0, 2.0, 7.0]])
    own = torch.relu
    assert torch.equal(kinks.absolute(x, own), x.abs())
    assert torch.equal(kinks.maximum(x, y, own), torch.maximum(x, y))
    assert torch.equal(kinks.minimum(x, y, own), torch.minimum(x, y))
    assert torch.equal(kinks.median(x, y, z, own), torch.stack([x, y, z]).median(0).values)
    assert torch.equal(kinks.soft_threshold(x, own), nn.functional.softshrink(x, 1.0))


def test_planted_kinks_are_counted():
    z = torch.tensor([[0.0, 0.0, 6.0, 1.0], [2.0, 2.0, -1.0, 6.0]])
    assert list(kinks._hits(z).values()) == [2, 2, 2, 2]


def test_count_adds_up_all_layers_images_and_networks():
    config = KinksConfig(dataset="mnist-5k", hidden_sizes=(8, 4), n_images=100, n_networks=3)
    found = kinks.count(config)
    assert found["calls"][kinks.AT_ZERO] == 3 * 100 * 12
    assert found["calls"][kinks.AT_TIE] == 3 * 100 * 6
    assert found["largest"] > 0
    table = kink_tables.rates(pd.DataFrame([config.model_dump() | found]))
    assert (table["high"] > table["rate"]).all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"architecture": "resnet18"}, "architecture"),
        ({"architecture": "vgg11", "hidden_sizes": ()}, "architecture"),
        ({"hidden_sizes": (8, 5)}, r"hidden_sizes=\(8, 5\): each must be even"),
    ],
)
def test_a_config_that_cannot_be_counted_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        KinksConfig(**wrong)


def test_planted_ties_of_a_window():
    window = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]]).view(1, 1, 2, 4)
    assert kinks._ties(window) == (2, 1, 1)
    assert kinks._ties(torch.arange(16.0).view(1, 1, 4, 4)) == (4, 0, 0)


def test_the_two_pools_differ_in_the_gradient_of_a_tie_alone():
    x = torch.tensor([[3.0, 3.0, 1.0, 2.0], [0.0, 3.0, 0.0, 0.0]]).view(1, 1, 2, 4)
    gradients = []
    for pool in (nn.MaxPool2d(2), kinks._LastMaximum()):
        own = x.clone().requires_grad_()
        z = pool(own)
        assert z.flatten().tolist() == [3.0, 2.0]
        z.sum().backward()
        gradients.append(own.grad.view(2, 4).tolist())
    assert gradients == [
        [[1, 0, 0, 1], [0, 0, 0, 0]],
        [[0, 0, 0, 1], [0, 1, 0, 0]],
    ]


def test_pool_ties_of_a_network():
    config = PoolTiesConfig(dataset="mnist-5k", width=0.0625, n_images=8, batch_size=4)
    found = kinks.pool_ties(config)
    assert len(found["relative_difference"]) == 2
    assert 0 < found["tied_at_zero"] + found["tied_above_zero"] <= found["windows"]
