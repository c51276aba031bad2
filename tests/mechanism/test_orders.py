"""Networks that meet an exact zero, by form: as all zeros counted, and as the zone has it."""

import pytest
import torch
from torch import nn

from reluprime.instruments import data, fully_connected, kernels
from reluprime.instruments.activations import ReLU
from reluprime.instruments.fully_connected import mlp
from reluprime.mechanism import orders
from reluprime.mechanism.orders import SharesConfig, shares
from reluprime.mechanism.study import ForwardZerosConfig, forward_zeros
from reluprime.volume import zone

CPU = torch.device("cpu")
SMALL = {"dataset": "mnist-5k", "hidden_sizes": (32, 16)}


@pytest.fixture
def coarse(monkeypatch):
    """Weights and images on coarse grids, on which sums are 0 in about half of the networks."""
    read = data.unit_images

    @torch.no_grad()
    def coarse_mlp(*args, **options):
        network = mlp(*args, **options)
        for values in network.parameters():
            values.copy_((values * 2**14).round() / 2**14)
        return network

    for user in (fully_connected, orders):
        monkeypatch.setattr(user, "mlp", coarse_mlp)
    monkeypatch.setattr(data, "unit_images", lambda x, dtype: (read(x, dtype) * 8).round() / 8)


@pytest.mark.parametrize("form", ["native", "unfused", "sequential", "split-2"])
def test_the_networks_with_a_zero_are_those_whose_zeros_can_be_counted(form, coarse):
    found = shares(SharesConfig(**SMALL, linear_form=form, n_networks=10, seed=3), CPU)
    assert found["relu_calls"] == 4000 * 48
    assert found["n_batches"] == 16
    assert len(found["first_zero"]) == 10
    assert 0 < sum(first is None for first in found["first_zero"]) < 10
    for seed, first in enumerate(found["first_zero"], start=3):

        def zeros(n_batches, seed=seed):
            own = {"linear_form": form, "n_images": min(256 * n_batches, 4000), "seed": seed}
            return sum(forward_zeros(ForwardZerosConfig(**SMALL, **own), CPU)["zeros"].values())

        assert first == 0 or zeros(16 if first is None else first) == 0
        assert first is None or zeros(first + 1) > 0


def test_the_share_is_the_zones_under_the_constant(coarse):
    found = shares(SharesConfig(**SMALL, n_networks=20), CPU)["first_zero"]
    same = zone.ZoneConfig(**SMALL, arithmetic="epilogue", n_networks=20)
    assert found == zone.first_affected(same, CPU)["first_affected_injected"]
    assert 0 < sum(first is None for first in found) < 20


@pytest.mark.parametrize("form", kernels.ORDERED)
def test_an_order_of_sums_does_not_know_the_mini_batch(form, coarse):
    def met(batch_size):
        cell = {"linear_form": form, "n_networks": 10, "batch_size": batch_size, "seed": 3}
        config = SharesConfig(**SMALL, **cell)
        return [first is not None for first in shares(config, CPU)["first_zero"]]

    assert met(100) == met(4000)
    assert len(set(met(4000))) == 2


def test_every_hidden_layer_is_looked_at_and_the_output_is_not():
    network = mlp((2, 2, 2, 2), ReLU, seed=0)
    for layer in network[::2]:
        nn.init.eye_(layer.weight)
        nn.init.ones_(layer.bias)
    kernels.in_forms(network, "sequential", "native")
    x = torch.ones(3, 2)
    with torch.no_grad():
        for index, meets in ((0, True), (2, True), (4, False)):
            layer = network[index].layer
            layer.bias[1] = -1.0 - index / 2  # less what comes in
            assert orders._meets_zero(network, x) is meets
            layer.bias[1] = 1.0
        network[0].layer.bias[1], network[2].layer.bias[1] = -4.0, 3.0  # 0 less a ReLU between
        assert orders._meets_zero(network, x) is False


@pytest.mark.parametrize(("form", "first"), [("unfused", 0), ("sequential", 0), ("wide", None)])
def test_layers_are_in_the_form(form, first, monkeypatch):
    """One product that cancels the bias where it is rounded to fp32, and nowhere else."""
    a = torch.tensor(1 + 2.0**-23)
    network = mlp((784, 1, 10), ReLU, seed=0)
    nn.init.zeros_(network[0].weight)
    with torch.no_grad():
        network[0].weight[0, 5] = a
        network[0].bias.fill_(-(a * a))
    monkeypatch.setattr(orders, "mlp", lambda sizes, activation, seed: network)
    monkeypatch.setattr(data, "unit_images", lambda x, dtype: torch.full(x.shape, float(a)))
    config = SharesConfig(dataset="mnist-5k", hidden_sizes=(1,), linear_form=form, n_networks=1)
    assert shares(config, CPU)["first_zero"] == [first]


def test_wrong_configs_are_refused():
    for wrong in ({"precision": "fp16"}, {"linear_form": "in order"}, {"hidden_sizes": (0,)}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            SharesConfig(**wrong)
