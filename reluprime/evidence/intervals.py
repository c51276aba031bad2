"""Intervals of proportions, means and counts at RISK, exact where there is an exact one."""

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from reluprime.evidence.tests import RISK


def hoeffding_margin(n: int) -> float:
    """Half width of a proportion's interval from n independent draws (B21, Appendix C)."""
    return math.sqrt(math.log(2 / RISK) / (2 * n))


def mcdiarmid_margin(n_networks: int, n_batches: int) -> float:
    """Half width for the share of (network, mini-batch) pairs (B21, Appendix C)."""
    return math.sqrt((1 / n_networks + 1 / n_batches) * math.log(2 / RISK) / 2)


def clopper_pearson(k: int, n: int, risk: float = RISK) -> tuple[float, float]:
    """Exact interval of a proportion from k successes in n independent draws."""
    interval = stats.binomtest(k, n).proportion_ci(1 - risk, method="exact")
    return float(interval.low), float(interval.high)


def ratio_of_counts(a: int, b: int) -> tuple[float, float, float]:
    """a / b of two Poisson counts over as much, and its exact interval, given their sum.

    Of a + b events a are binomial, at one half if both have one rate. Infinite where b is 0, but
    for the lower end; NaN where both are.
    """
    if a + b == 0:
        return (math.nan,) * 3
    shares = clopper_pearson(int(a), int(a + b))
    low, high = (share / (1 - share) if share < 1 else math.inf for share in shares)
    return (float(a / b) if b else math.inf), low, high


def t_margin(values: np.ndarray) -> float:
    """Half width of the t-interval of the mean of at least two values."""
    return float(stats.sem(values) * stats.t.ppf(1 - RISK / 2, len(values) - 1))


def bootstrap_mean(values: Sequence[float]) -> tuple[float, float]:
    """Percentile interval of the mean (10,000 resamples, fixed seed); a point if all are equal."""
    values = np.asarray(values, dtype=float)
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    random = np.random.RandomState(0)
    means = random.choice(values, (10_000, len(values))).mean(1)
    low, high = np.quantile(means, [RISK / 2, 1 - RISK / 2])
    return float(low), float(high)


def poisson_interval(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Exact interval of a Poisson mean for each observed count."""
    low = np.where(counts > 0, stats.chi2.ppf(RISK / 2, 2 * np.maximum(counts, 0.5)) / 2, 0.0)
    return low, stats.chi2.ppf(1 - RISK / 2, 2 * (counts + 1)) / 2


def rate_interval(counts: np.ndarray, calls: np.ndarray) -> tuple[float, float]:
    """Interval of the pooled rate sum(counts) / sum(calls); both have a value a run.

    Each end is the wider of two intervals: the exact one of Poisson counts, and the t-interval of
    the log of the rate that the scatter between runs widens (Pearson's dispersion, quasi-Poisson).
    The second needs two runs and a count.
    """
    met, total = float(np.sum(counts)), float(np.sum(calls))
    low, high = (float(end) / total for end in poisson_interval(np.array(met)))
    if len(counts) < 2 or met == 0:
        return low, high
    expected = np.asarray(calls) * (met / total)
    dispersion = np.sum((counts - expected) ** 2 / expected) / (len(counts) - 1)
    half = stats.t.ppf(1 - RISK / 2, len(counts) - 1) * math.sqrt(dispersion / met)
    return min(low, met / total * math.exp(-half)), max(high, met / total * math.exp(half))


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """First quartile, median and third quartile; NaN where there are no values."""
    if len(values) == 0:
        return (math.nan, math.nan, math.nan)
    return tuple(float(q) for q in np.quantile(values, [0.25, 0.5, 0.75]))
