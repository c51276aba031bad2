"""Tests that rules use, for a few paired differences or a few independent values.

Ten runs or fewer: sign-flip and permutation tests, which are exact, and no bootstrap. The unit is
a seed or a network, never a mini-batch.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

RISK = 0.05  # of every test and interval, unless a rule says otherwise


def sign_flip(differences: Sequence[float]) -> float:
    """One-sided p-value that paired differences lie above 0, from all flips of their signs.

    Exact up to 16 differences, else from 10**5 random flips with a fixed seed. Where all are 0,
    as where no run met a zero, it is 1. Source: Fisher 1935.
    """
    values = np.asarray(differences, dtype=float)
    if not values.any():
        return 1.0
    test = stats.permutation_test(
        (values,),
        np.mean,
        permutation_type="samples",
        alternative="greater",
        n_resamples=10**5,
        rng=0,
    )
    return float(test.pvalue)


def larger(a: Sequence[float], b: Sequence[float]) -> float:
    """One-sided p-value that independent values of `a` lie above those of `b` in the mean.

    From all divisions of the values into two groups of their sizes, or 10**4 random ones. Raises
    ValueError for a value that is not finite: what a diverged run counts as is the rule's choice.
    """
    a, b = (np.asarray(values, dtype=float) for values in (a, b))
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("a permutation test needs finite values")
    test = stats.permutation_test(
        (a, b),
        lambda x, y, axis: np.mean(x, axis=axis) - np.mean(y, axis=axis),
        permutation_type="independent",
        alternative="greater",
        n_resamples=10**4,
        rng=0,
    )
    return float(test.pvalue)


def more_spread(a: Sequence[float], b: Sequence[float]) -> float:
    """:func:`larger` for the distances of values to the median of their own group."""
    return larger(*(np.abs(np.asarray(v) - np.median(v)) for v in (a, b)))


def signed_rank(differences: Sequence[float]) -> float:
    """One-sided p-value that paired differences lie above 0, by their ranks; 1 if all are 0.

    Differences of 0 are no evidence and are left out. Source: Wilcoxon 1945.
    """
    values = np.asarray(differences, dtype=float)
    values = values[values != 0]
    if len(values) == 0:
        return 1.0
    return float(stats.wilcoxon(values, alternative="greater").pvalue)


def equivalence(differences: Sequence[float], margin: float) -> float:
    """p-value of two one-sided t-tests: small where the mean lies within +-margin.

    differences: paired. Those that are all the same have no spread to test with: 0 inside the
    margin, 1 outside. NaN with fewer than two. Source: Schuirmann 1987.
    """
    values = np.asarray(differences, dtype=float)
    if len(values) < 2:
        return math.nan
    if np.ptp(values) < 1e-9:  # accuracies are whole images
        return float(abs(values[0]) >= margin)
    above = stats.ttest_1samp(values, -margin, alternative="greater").pvalue
    below = stats.ttest_1samp(values, margin, alternative="less").pvalue
    return float(max(above, below))


def is_larger(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether values of a tend to exceed those of b (one-sided Mann-Whitney test)."""
    if len(a) == 0 or len(b) == 0:
        return False
    return bool(stats.mannwhitneyu(a, b, alternative="greater").pvalue < RISK)


def differ(successes: Sequence[int], trials: Sequence[int], risk: float) -> bool:
    """Whether proportions differ between groups (chi-squared test of homogeneity)."""
    k, n = np.asarray(successes), np.asarray(trials)
    if k.sum() in (0, n.sum()):
        return False
    return bool(stats.chi2_contingency([k, n - k]).pvalue < risk)
