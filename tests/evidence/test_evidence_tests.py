"""The tests that rules use: by hand, and their error rates by simulation."""

import math
from itertools import combinations, product

import numpy as np
import pytest
from scipy import stats

from reluprime.evidence import tests
from reluprime.evidence.intervals import clopper_pearson

DRAWS = 1000  # with a true risk of 5 % the share found is within 0.035 and 0.065 in 97 of 100


def share_found(test, draw):
    """How often a test finds something at 5 %, in DRAWS draws with a fixed seed."""
    random = np.random.RandomState(0)
    return np.mean([test(draw(random)) < 0.05 for _ in range(DRAWS)])


@pytest.mark.parametrize("values", [[1, 2, 3, 4, 5], [3, -1, 2, 0, 5], [0.5, -2, 1]])
def test_sign_flips_by_hand(values):
    flips = [np.dot(signs, values) for signs in product((1, -1), repeat=len(values))]
    expected = np.mean([total >= sum(values) for total in flips])
    assert tests.sign_flip(values) == expected


def test_differences_of_zero_are_no_evidence():
    """Runs that met no zero are equal whatever s is; that must not count for or against."""
    assert tests.sign_flip([0.0] * 5) == 1
    assert tests.sign_flip([-0.0, 0.0]) == 1
    assert tests.signed_rank([0.0] * 20) == 1
    assert tests.sign_flip([1, 2, 3, 4, 0]) > 0.05  # four that count are too few


def test_five_pairs_can_pass_and_four_cannot():
    assert tests.sign_flip([1, 1.1, 1.2, 1.3, 1.4]) == 1 / 32
    assert tests.sign_flip([1, 1.1, 1.2, 1.3]) == 1 / 16


def test_permutations_by_hand():
    a, b = [5, 7, 9.0], [1, 6, 2, 3.0]
    observed, everything = np.mean(a) - np.mean(b), a + b
    found = []
    for chosen in combinations(range(7), 3):
        rest = [everything[i] for i in range(7) if i not in chosen]
        found.append(np.mean([everything[i] for i in chosen]) - np.mean(rest))
    assert tests.larger(a, b) == pytest.approx(np.mean(np.array(found) >= observed - 1e-12))


def test_spread_is_the_distance_to_the_median():
    wide, narrow = [0, 10, -10, 8, -8, 9], [100, 100.1, 99.9, 100.2, 99.8, 100]
    assert tests.more_spread(wide, narrow) < 0.05
    assert tests.more_spread(narrow, wide) > 0.5


def test_signed_ranks_against_scipy_without_ties():
    values = [0.3, -0.1, 0.5, 0.9, 0.2, -0.4, 1.0]
    expected = stats.wilcoxon(values, alternative="greater").pvalue
    assert tests.signed_rank([*values, 0.0, 0.0]) == expected


def test_equivalence_by_hand():
    values = [0.001, 0.002, 0.003, 0.002]
    mean, error = np.mean(values), np.std(values, ddof=1) / 2
    expected = stats.t.sf((mean + 0.005) / error, 3), stats.t.cdf((mean - 0.005) / error, 3)
    assert tests.equivalence(values, 0.005) == pytest.approx(max(expected))


@pytest.mark.parametrize(("value", "p"), [(0.0, 0), (0.0049, 0), (0.005, 1), (-0.02, 1)])
def test_equal_differences_are_inside_or_outside(value, p):
    assert tests.equivalence([value] * 3, 0.005) == p


def test_one_difference_shows_nothing():
    assert math.isnan(tests.equivalence([0.0], 0.005))


def test_error_rates():
    """What a test finds where there is nothing, and where there is much."""
    nothing = {
        tests.sign_flip: lambda r: r.normal(0, 1, 8),
        tests.signed_rank: lambda r: r.normal(0, 1, 12),
        lambda x: tests.equivalence(x, 0.5): lambda r: r.normal(0.5, 0.2, 5),
        lambda x: tests.larger(x[:5], x[5:]): lambda r: r.normal(0, 1, 10),
    }
    for test, draw in nothing.items():
        assert 0.025 < share_found(test, draw) < 0.065
    assert share_found(tests.sign_flip, lambda r: r.normal(2, 1, 8)) > 0.95
    assert share_found(lambda x: tests.equivalence(x, 0.5), lambda r: r.normal(0, 0.2, 5)) > 0.9


def test_is_larger_keeps_its_error_rate():
    """400 comparisons of equal distributions: 5 % false alarms, below 9 % but for 1 in 1,000."""
    random = np.random.RandomState(0)
    alarms = [tests.is_larger(*random.normal(size=(2, 30))) for _ in range(400)]
    assert np.mean(alarms) < 0.09
    assert tests.is_larger([5, 6, 7, 8], [1, 2, 3, 4])
    assert not tests.is_larger([1, 2, 3, 4], [5, 6, 7, 8])
    assert not tests.is_larger([], [1])


def test_differ():
    assert tests.differ([10, 90], [100, 100], 0.01)
    assert not tests.differ([50, 52], [100, 100], 0.01)
    assert not tests.differ([0, 0], [100, 100], 0.01)


@pytest.mark.parametrize(
    ("alarm", "risk"),
    [
        (lambda r: tests.more_spread(*r.normal(size=(2, 6))) < 0.05, 0.05),
        (lambda r: tests.is_larger(*r.normal(size=(2, 10))), 0.05),
        (lambda r: tests.differ(r.binomial(200, 0.3, 4), [200] * 4, 0.01), 0.01),
        (lambda r: tests.larger(*r.standard_cauchy((2, 5))) < 0.05, 0.05),
        (lambda r: tests.sign_flip(r.standard_cauchy(8)) < 0.05, 0.05),
    ],
    ids=["more_spread", "is_larger", "differ", "larger, heavy tails", "sign_flip, heavy tails"],
)
def test_false_alarms_are_no_more_than_promised(alarm, risk):
    """The share of 500 draws without an effect; its own 99.9 % interval must reach the risk.

    Distances to the median of one's own group are not quite exchangeable, so that `more_spread`
    with groups of six may alarm a half more often.
    """
    random = np.random.RandomState(5)
    alarms = sum(bool(alarm(random)) for _ in range(500))
    low, _ = clopper_pearson(alarms, 500, risk=0.001)
    assert low <= risk * 1.5


def test_many_true_alarms_are_not_missed():
    random = np.random.RandomState(6)
    found = sum(tests.more_spread(r.normal(0, 9, 8), r.normal(0, 1, 8)) < 0.05
                for r in [random] for _ in range(100))  # fmt: skip
    assert found >= 95  # with this seed it is all
