"""A few paired differences of accuracies, for tables: mean, interval, and what the tests say."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from reluprime.evidence.intervals import t_margin
from reluprime.evidence.tests import RISK, equivalence, sign_flip
from reluprime.evidence.words import signed

MLP_MARGIN = 0.005  # of test accuracy
CIFAR_MARGIN = 0.02  # networks of reduced width
WITHIN = {MLP_MARGIN: "within half a point", CIFAR_MARGIN: "within two points"}
LEAST = 5  # pairs, for a test or an interval
TOO_FEW = "too few pairs"


class Paired(NamedTuple):
    """Differences, and what is known of their mean; NaN where there are fewer than LEAST."""

    values: tuple[float, ...]
    margin: float  # a key of WITHIN
    mean: float  # NaN without values
    half: float  # of the 95 % t-interval of the mean
    p_differs: float  # the smaller of two one-sided sign-flip tests: for a loss, and for a gain
    p_within: float  # of two one-sided t-tests that the mean lies within the margin

    def points(self) -> str:
        """The mean in points, with half of its interval, or if they are few with every value."""
        mean = "–" if math.isnan(self.mean) else signed(100 * self.mean)
        if not math.isnan(self.half):
            return f"{mean} ± {100 * self.half:.2f}"
        every = ", ".join(signed(100 * value) for value in self.values)
        return f"{mean} ({every})" if len(self.values) > 1 else mean

    def says(self) -> str:
        """Within the margin, differs, both, or open: what the tests say, each at 5 %.

        As in the registered rules a loss and a gain have a test each, so that where there is
        neither, up to 10 % differ. With five pairs no test for both at once can reach 5 %.
        """
        if len(self.values) < LEAST:
            return TOO_FEW
        within = [WITHIN[self.margin]] if self.p_within < RISK else []
        differs = ["differs"] if self.p_differs < RISK else []
        return ", ".join(within + differs) or "open"


def paired(values: Sequence[float], margin: float) -> Paired:
    """The differences of some pairs, with the tests that verdicts use."""
    own = np.asarray(values, dtype=float)
    found = tuple(own.tolist()), margin, float(own.mean()) if len(own) else math.nan
    if len(own) < LEAST:
        return Paired(*found, math.nan, math.nan, math.nan)
    p_differs = min(sign_flip(own), sign_flip(-own))
    return Paired(*found, t_margin(own), p_differs, equivalence(own, margin))
