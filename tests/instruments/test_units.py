import math

import pytest
import torch
from torch import nn

from reluprime.instruments.activations import ReLU
from reluprime.instruments.watch import UnitRanges


class Twice(nn.Module):
    """Calls its activation twice a pass, with other units each time."""

    def __init__(self):
        super().__init__()
        self.relu = ReLU()

    def forward(self, x):
        return self.relu(x), self.relu(x[:, :2] - 10)


def counts(network, *passes):
    ranges = UnitRanges(network)
    for x in passes:
        with ranges.one_pass():
            network(torch.tensor(x))
    return ranges.sizes() | ranges.counts()


def found(n, dead, on):
    return {"": n, "dead_units": {"": dead}, "always_on_units": {"": on}}


def test_a_unit_is_dead_if_no_image_of_any_pass_is_above_zero():
    first, second = [[-1.0, -1.0, 1.0, 1.0, 0.0]], [[-2.0, 3.0, 3.0, -1.0, 0.0], [-1.0] * 5]
    assert counts(ReLU(), first) == found(5, 3, 2)
    assert counts(ReLU(), second) == found(5, 3, 0)
    assert counts(ReLU(), first, second[:1]) == found(5, 2, 1)
    assert counts(ReLU(), second[:1], first) == found(5, 2, 1)


def test_a_channel_is_a_unit_over_all_positions():
    image = [[[[-1.0, -1.0]], [[-1.0, 1.0]], [[1.0, 1.0]]]]  # one image, three channels, 1 x 2
    assert counts(ReLU(), image) == found(3, 1, 1)


@pytest.mark.parametrize("order", [1, -1])
def test_a_unit_that_met_nan_is_neither(order):
    for value, dead, on in ((-1.0, 1, 0), (1.0, 0, 1)):
        passes = [[[math.nan, value]], [[value, value]]][::order]
        assert counts(ReLU(), *passes) == found(2, dead, on)


def test_each_call_of_an_activation_has_units_of_its_own():
    result = counts(Twice(), [[5.0, 20.0, -1.0]], [[6.0, 5.0, -1.0]])
    # above 0 in the first call: (yes, yes, no) twice; in the second: (no, yes), then (no, no)
    assert result == {"relu": 5, "dead_units": {"relu": 2}, "always_on_units": {"relu": 2}}


def test_nothing_is_watched_after_a_pass():
    network = ReLU()
    with UnitRanges(network).one_pass():
        assert network._forward_pre_hooks
    assert not network._forward_pre_hooks
