"""Intervals: their known values, and how often they hold the true one."""

import math

import numpy as np
import pytest

from reluprime.evidence import intervals
from reluprime.evidence.intervals import bootstrap_mean, poisson_interval


def test_margins_of_the_paper():
    assert intervals.hoeffding_margin(1000) == pytest.approx(0.04295, abs=5e-6)
    expected = math.sqrt((1 / 1000 + 1 / 118) * math.log(40) / 2)
    assert intervals.mcdiarmid_margin(1000, 118) == pytest.approx(expected)
    assert round(intervals.mcdiarmid_margin(1000, 118), 2) == 0.13  # as B21 prints it


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [(0, 10, 0, 0.3085), (10, 10, 0.6915, 1), (5, 10, 0.1871, 0.8129), (400, 1000, 0.3695, 0.4311)],
)
def test_clopper_pearson_known_values(k, n, low, high):
    assert intervals.clopper_pearson(k, n) == pytest.approx((low, high), abs=1e-4)


def test_clopper_pearson_covers_at_least_95_percent():
    """2,000 draws: a true coverage of 95 % falls below 93.5 % with probability below 0.002."""
    random = np.random.RandomState(0)
    hits = [
        low <= 0.4 <= high
        for low, high in (
            intervals.clopper_pearson(int(k), 50) for k in random.binomial(50, 0.4, 2000)
        )
    ]
    assert np.mean(hits) >= 0.935


def test_bootstrap_of_the_mean_is_near_the_normal_interval():
    values = np.random.RandomState(0).normal(3, 1, 400)
    low, high = intervals.bootstrap_mean(values)
    half = 1.96 * values.std(ddof=1) / 20
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.01)
    assert intervals.bootstrap_mean([2, 2, 2]) == (2, 2)


def test_quartiles_of_nothing():
    assert all(math.isnan(q) for q in intervals.quartiles([]))
    assert intervals.quartiles([1, 2, 3, 4, 5]) == (2, 3, 4)


def test_bootstrap_coverage():
    """How often the 95 % bootstrap interval of the mean of n normal differences holds 0: it
    falls short for a few runs, so the rules use t-tests, and the page says so."""
    random = np.random.RandomState(3)
    for n, least, most in ((3, 0.65, 0.85), (5, 0.78, 0.9), (30, 0.9, 0.97)):
        inside = []
        for _ in range(200):
            low, high = bootstrap_mean(random.normal(0, 1, n))
            inside.append(low <= 0 <= high)
        assert least < np.mean(inside) < most, n


def test_poisson_interval_against_known_values():
    """Exact 95 % intervals for 0 and 10 events (Garwood 1936)."""
    low, high = poisson_interval(np.array([0.0, 10.0]))
    assert low == pytest.approx([0, 4.795], abs=1e-3)
    assert high == pytest.approx([3.689, 18.39], abs=1e-2)
