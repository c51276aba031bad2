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
    """How often the 95 % bootstrap interval of the mean of n normal differences holds 0: it falls
    short for a few, so it is used for many networks alone, and never for a few runs."""
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


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (8, 8, (1.0, 0.33, 3.06)),
        (0, 8, (0.0, 0.0, 0.58)),
        (3, 0, (math.inf, 0.41, math.inf)),
        (0, 0, (math.nan,) * 3),
    ],
)
def test_a_ratio_of_counts_has_its_interval(a, b, expected):
    found = intervals.ratio_of_counts(np.int64(a), np.int64(b))  # as a table's column has them
    assert found == pytest.approx(expected, abs=0.02, nan_ok=True)


def test_rate_interval_is_wider_where_runs_lie_further_apart():
    calls = np.array([1e9, 1e9, 1e9, 2e9])
    even, apart = np.array([10.0, 10, 10, 20]), np.array([2.0, 2, 2, 44])
    total = poisson_interval(np.array(50.0))
    # Runs that agree are Poisson's, though their own scatter is 0.
    assert intervals.rate_interval(even, calls) == pytest.approx([e / 5e9 for e in total])
    low, high = intervals.rate_interval(apart, calls)
    # Pearson's dispersion: (3 * 8^2 / 10 + 24^2 / 20) / 3 = 16; t of 3 degrees of freedom: 3.1824.
    half = 3.1824 * math.sqrt(16 / 50)
    assert (low, high) == pytest.approx((1e-8 * math.exp(-half), 1e-8 * math.exp(half)), 1e-4)


def test_rate_interval_of_one_run_or_none_met_is_poisson_s():
    assert intervals.rate_interval(np.array([10.0]), np.array([2.0])) == pytest.approx(
        (4.795 / 2, 18.39 / 2), 1e-3
    )
    low, high = intervals.rate_interval(np.zeros(3), np.ones(3))
    assert (low, high) == pytest.approx((0, 3.689 / 3), abs=1e-3)


def test_the_papers_margins_cover_shares_of_networks_and_mini_batches():
    """Of networks that differ, on mini-batches that differ: 95 % or more, by their own interval.

    A (network, mini-batch) pair is affected with a probability of both: pairs are not independent,
    which McDiarmid's margin allows for and one of independent pairs would not.
    """
    random, held = np.random.RandomState(2), {"networks": 0, "pairs": 0, "independent pairs": 0}
    truth_pairs, truth_networks = 0.25, 0.5  # of uniform u v, and of u > 1/2
    n_networks, n_batches, draws = 40, 30, 400
    for _ in range(draws):
        u, v = random.uniform(size=n_networks), random.uniform(size=n_batches)
        pairs = (random.uniform(size=(n_networks, n_batches)) < np.outer(u, v)).mean()
        networks = int((u > truth_networks).sum())
        low, high = intervals.clopper_pearson(networks, n_networks)
        held["networks"] += low <= 0.5 <= high
        margin = intervals.mcdiarmid_margin(n_networks, n_batches)
        held["pairs"] += abs(pairs - truth_pairs) <= margin
        low, high = intervals.clopper_pearson(
            round(pairs * n_networks * n_batches), n_networks * n_batches
        )
        held["independent pairs"] += low <= truth_pairs <= high
    reached = {n: intervals.clopper_pearson(k, draws, risk=0.001)[1] for n, k in held.items()}
    assert reached["networks"] >= 0.95
    assert reached["pairs"] >= 0.95
    assert reached["independent pairs"] < 0.95  # so a test with this power would see a wrong margin
