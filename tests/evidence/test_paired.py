"""Paired differences of a few runs, in words."""

import math

import numpy as np
import pytest

from reluprime.evidence.intervals import clopper_pearson
from reluprime.evidence.paired import CIFAR_MARGIN, LEAST, MLP_MARGIN, TOO_FEW, paired


def test_of_few_pairs_every_run_is_shown_and_nothing_is_tested():
    found = paired([-0.01, -0.02, -0.03], MLP_MARGIN)
    assert found.points() == "-2.00 (-1.00, -2.00, -3.00)"
    assert found.says() == TOO_FEW
    assert np.isnan([found.half, found.p_within, found.p_differs]).all()
    assert paired([0.004], MLP_MARGIN).points() == "+0.40"
    assert paired([], MLP_MARGIN).points() == "–"


def test_an_interval_by_hand():
    """Five values with a standard deviation of 0.1 points: t of 4 degrees of freedom is 2.776."""
    values = np.array([-1, 1, 0, -1, 1]) * 0.001
    found = paired(values, MLP_MARGIN)
    assert found.half == pytest.approx(2.776 * 0.001 / math.sqrt(5), rel=1e-3)
    assert found.points() == "+0.00 ± 0.12"
    assert found.says() == "within half a point"


def test_what_differs_can_be_within_the_margin():
    values = [-0.001, -0.002, -0.001, -0.003, -0.002]
    found = paired(values, MLP_MARGIN)
    assert found.p_differs == 1 / 32  # one of all flips of five signs
    assert found.says() == "within half a point, differs"
    assert paired([-v for v in values], MLP_MARGIN).says() == found.says()
    assert paired([10 * v for v in values], MLP_MARGIN).says() == "differs"
    assert paired([10 * v for v in values], CIFAR_MARGIN).says() == "differs"
    assert paired([5 * v for v in values], CIFAR_MARGIN).says() == "within two points, differs"


def test_four_of_five_runs_on_one_side_are_open():
    assert paired([-0.02, -0.03, -0.02, -0.03, 0.01], MLP_MARGIN).says() == "open"


@pytest.mark.parametrize("n", [LEAST, 10])
def test_no_loss_and_no_gain_are_each_found_as_rarely_as_said(n):
    """5 % for each; 2,000 draws."""
    random = np.random.RandomState(5)
    said = [paired(random.normal(0, 0.1, n), MLP_MARGIN).says() for _ in range(2000)]
    low, _ = clopper_pearson(2000 - said.count("open"), 2000, risk=0.001)
    assert low <= 0.1
