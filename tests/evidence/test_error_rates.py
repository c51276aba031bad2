"""How often intervals hold the truth, and tests find what is not there, by simulation.

Each share comes with its own exact interval (99.9 %), which must reach what is promised; the seeds
are fixed. Of tests at a risk of 5 % it is the alarms that must not be more, of intervals at 95 %
the misses.
"""

import re

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from reluprime import records
from reluprime.dose.claims.paper_dose import most_met
from reluprime.evidence import intervals, tests
from reluprime.evidence.finding import decided
from reluprime.evidence.intervals import clopper_pearson
from reluprime.mechanism.tables import ratio
from reluprime.volume import agreement


def share(draw, draws):
    """-> how often `draw(random)` is true, and the interval of that."""
    random = np.random.RandomState(11)
    hits = sum(bool(draw(random)) for _ in range(draws))
    return hits / draws, clopper_pearson(hits, draws, risk=0.001)


# ---- intervals ----


def poisson_holds(mean):
    def draw(random):
        low, high = intervals.poisson_interval(np.array(float(random.poisson(mean))))
        return low <= mean <= high

    return draw


def t_holds(values):
    """values: (random) -> a few with a mean of 0."""

    def draw(random):
        own = values(random)
        return abs(own.mean()) <= intervals.t_margin(own)

    return draw


def hoeffding_holds(p, n):
    return lambda random: abs(random.binomial(n, p) / n - p) <= intervals.hoeffding_margin(n)


def proportion_holds(p, n):
    def draw(random):
        low, high = clopper_pearson(random.binomial(n, p), n)
        return low <= p <= high

    return draw


def ratio_holds(a, b):
    def draw(random):
        _, low, high = intervals.ratio_of_counts(random.poisson(a), random.poisson(b))
        return low <= a / b <= high

    return draw


HOLD = {
    "poisson_interval, mean 0.5": poisson_holds(0.5),
    "poisson_interval, mean 5": poisson_holds(5),
    "poisson_interval, mean 80": poisson_holds(80),
    "t_margin, three seeds": t_holds(lambda random: random.normal(0, 1, 3)),
    "t_margin, five seeds": t_holds(lambda random: random.normal(0, 1, 5)),
    "t_margin, uniform": t_holds(lambda random: random.uniform(-1, 1, 5)),
    "hoeffding_margin": hoeffding_holds(0.5, 1000),
    "clopper_pearson, rare": proportion_holds(0.01, 300),
    "clopper_pearson, a share of the Monte Carlo": proportion_holds(0.4, 1000),
    "ratio_of_counts": ratio_holds(40, 60),
    "ratio_of_counts, few": ratio_holds(4, 5),
}


@pytest.mark.parametrize("draw", HOLD.values(), ids=HOLD)
def test_an_interval_holds_the_truth_as_often_as_it_says(draw):
    _, (_, high) = share(draw, 500)
    assert high >= 0.95


@pytest.mark.parametrize(("spread", "least"), [(0.0, 0.95), (0.5, 0.93), (1.5, 0.7)])
def test_the_rate_of_runs_that_differ(spread, least):
    """Of ten runs of unequal length. Where their rates differ as much as those of ResNet-18 do, it
    falls short by up to a fifth, and an interval of Poisson counts holds the truth in a tenth."""
    calls, seen = np.array([5.0] * 5 + [10.0] * 5), []

    def draw(random):
        rates = 20 * np.exp(random.normal(-(spread**2) / 2, spread, 10))
        counts = random.poisson(rates * calls)
        low, high = intervals.rate_interval(counts, calls)
        ends = intervals.poisson_interval(np.array(float(counts.sum())))
        seen.append(ends[0] <= 20 * calls.sum() <= ends[1])
        return low <= 20 <= high

    held, (_, high) = share(draw, 400)
    assert high >= least, held
    assert spread < 1 or np.mean(seen) < 0.15


@pytest.mark.parametrize(("spread", "least"), [(0.0, 0.975), (0.3, 0.95), (1.0, 0.85)])
def test_the_most_zeros_that_a_run_meets(spread, least):
    """Of five seeds whose means differ by chance: an upper end at 97.5 % where they do not.

    Where they differ as e differs from 1, the interval of so skewed values falls short by a tenth.
    """

    def draw(random):
        means = 20 * np.exp(random.normal(-(spread**2) / 2, spread, 5))
        return most_met(pd.Series(random.poisson(means))) >= 20

    _, (_, high) = share(draw, 400)
    assert high >= least


# ---- tests ----


def differences(size, scale=1.0, degrees=None):
    """(random) -> paired differences about 0: normal ones, or Student's, whose tails are heavy."""

    def draw(random):
        own = random.normal(0, scale, size) if degrees is None else random.standard_t(degrees, size)
        return np.round(own, 4)  # as accuracies are shares of 10,000 images

    return draw


def alarm(test, draw, risk=tests.RISK):
    return lambda random: test(draw(random)) < risk


def two_sided(draw):
    """A rule's part that holds above 0 and fails below: it must not hold by chance."""

    def found(random):
        values = draw(random)
        up, down = tests.sign_flip(values) < tests.RISK, tests.sign_flip(-values) < tests.RISK
        return decided(up, down) == "holds"

    return found


def welch(random):
    """As P12 reads published means: one-sided, of six runs each with other spreads."""
    one, zero = random.normal(0, 2, 6), random.normal(0, 1, 6)
    own = [(v.mean(), v.std(ddof=1), len(v)) for v in (one, zero)]
    p = stats.ttest_ind_from_stats(*own[0], *own[1], equal_var=False, alternative="less").pvalue
    return p < tests.RISK


def fisher(random):
    """A point of the released shares against ours, of 1000 networks each, at 1 %."""
    k, published = random.binomial(1000, 0.3, 2)
    row = {"k": k, "n": 1000, "published_k": published, "published_n": 1000}
    return agreement.fisher(row) < 0.01


def panel(random):
    """Five points of a panel, of 1000 networks each, in one test at 1 %."""
    shares = np.array([0.05, 0.2, 0.4, 0.6, 0.9])
    rows = pd.DataFrame(random.binomial(1000, shares, (2, 5)).T, columns=["k", "published_k"])
    same = {"work": "B21", "panel": "batch_size", "precision": "fp32", "n": 1000}
    (found,) = agreement._panel_tests(rows.assign(**same, published_n=1000, size=1))
    return found["p"] < 0.01


ALARMS = {
    "sign_flip, five seeds": (alarm(tests.sign_flip, differences(5)), 0.05),
    "sign_flip, heavy tails": (alarm(tests.sign_flip, differences(6, degrees=2)), 0.05),
    "sign_flip, both ways": (two_sided(differences(8)), 0.05),
    "signed_rank": (alarm(tests.signed_rank, differences(15)), 0.05),
    "signed_rank, heavy tails": (alarm(tests.signed_rank, differences(15, degrees=1)), 0.05),
    "equivalence, at its margin": (
        alarm(lambda d: tests.equivalence(0.005 + 0.002 * d, 0.005), differences(5)),
        0.05,
    ),
    "equivalence, heavy tails": (
        alarm(lambda d: tests.equivalence(0.005 + 0.002 * d, 0.005), differences(5, degrees=3)),
        0.05,
    ),
    "larger": (alarm(lambda d: tests.larger(d[:5], d[5:]), differences(10)), 0.05),
    "more_spread": (alarm(lambda d: tests.more_spread(d[:7], d[7:]), differences(14)), 0.075),
    "is_larger": (lambda r: tests.is_larger(*r.normal(size=(2, 20))), 0.05),
    "differ": (lambda r: tests.differ(r.binomial(200, 0.3, 4), [200] * 4, 0.01), 0.01),
    "ratio of counts": (lambda r: ratio(*r.poisson(30, 2)).p < 0.05, 0.05),
    "Welch from published numbers": (welch, 0.05),
    "Fisher's, a point": (fisher, 0.01),
    "a panel": (panel, 0.01),
}


@pytest.mark.parametrize(("draw", "risk"), ALARMS.values(), ids=ALARMS)
def test_a_test_finds_nothing_where_nothing_is_as_often_as_it_says(draw, risk):
    """`more_spread` may alarm a little more: distances to one's own median are not exchangeable."""
    _, (low, _) = share(draw, 300)
    assert low <= risk


FOUND = {
    "sign_flip": alarm(lambda d: tests.sign_flip(d + 3), differences(6)),
    "signed_rank": alarm(lambda d: tests.signed_rank(d + 1.5), differences(12)),
    "equivalence": alarm(lambda d: tests.equivalence(0.001 * d, 0.005), differences(5)),
    "larger": alarm(lambda d: tests.larger(d[:5] + 3, d[5:]), differences(10)),
    "more_spread": alarm(lambda d: tests.more_spread(d[:8] * 9, d[8:]), differences(16)),
    "is_larger": lambda r: tests.is_larger(r.normal(2, 1, 12), r.normal(0, 1, 12)),
    "differ": lambda r: tests.differ(r.binomial(200, [0.2, 0.5]), [200] * 2, 0.01),
    "ratio of counts": lambda r: ratio(r.poisson(100), r.poisson(40)).p < 0.05,
    "Fisher's": lambda r: agreement.fisher({"k": r.binomial(1000, 0.4), "n": 1000}
                                           | {"published_k": r.binomial(1000, 0.25)}
                                           | {"published_n": 1000}) < 0.01,
}  # fmt: skip


@pytest.mark.parametrize("draw", FOUND.values(), ids=FOUND)
def test_a_test_finds_what_is_large(draw):
    """In 57 of 60 draws at least: the seeds are fixed, and each test has found 59 or 60."""
    found, _ = share(draw, 60)
    assert found >= 0.95


# ---- that none is forgotten ----

# What the package takes from scipy.stats beyond `evidence`, each simulated here, in
# test_predictions (kstwobign), in test_devices (fisher_exact, ttest_ind, norm) or in
# test_order_tables (contingency_tables, of statsmodels), or exact by construction
# (published_luck goes through every division of the released trials).
SCIPY = {"ttest_ind_from_stats", "permutation_test", "binomtest", "fisher_exact",
         "chi2", "chi2_contingency", "kstwobign", "ttest_ind", "norm",
         "contingency_tables"}  # fmt: skip


# Intervals that have a simulation of their own: of runs that differ above, and in test_intervals
# one of pairs that are not independent, and one that falls short for a few. Quartiles are none.
APART = {"rate_interval", "mcdiarmid_margin", "bootstrap_mean", "quartiles"}


def own_functions(module):
    return {n for n, v in vars(module).items() if getattr(v, "__module__", "") == module.__name__}


def named(*simulated):
    """What keys begin with: the name of a function, then perhaps a comma and words."""
    return {key.partition(",")[0] for one in simulated for key in one}


def test_no_test_that_a_rule_uses_is_forgotten():
    assert own_functions(tests) <= named(ALARMS)
    assert own_functions(tests) <= named(FOUND)
    assert own_functions(intervals) - APART <= named(HOLD)
    assert own_functions(intervals) >= APART
    house = records.REPOSITORY / "reluprime"
    files = [p for p in house.rglob("*.py") if p.parent.name != "evidence"]
    used = {name for p in files for name in re.findall(r"\bstats\.([a-z]\w+)", p.read_text())}
    assert used == SCIPY
