"""Shares, means and accuracies: what a number of an evaluation says."""

import numpy as np
import pandas as pd

from reluprime import records
from reluprime.evidence.intervals import clopper_pearson
from reluprime.volume.experiments import PUBLISHED_PAIRS, PUBLISHED_SHARES


def least_share_of_pairs(mini_batches: int) -> pd.DataFrame:
    """Row 2 of B21's Table 1 beside the least value that its row 1 allows.

    Each network in the zone has at least one affected mini-batch of its `mini_batches`.
    """
    return pd.DataFrame(
        {
            "precision": f"{precision[2:]} bits",
            "networks in the zone": f"{PUBLISHED_SHARES[precision]:.0%}",
            "affected pairs, published": f"{PUBLISHED_PAIRS[precision]:.4%}",
            "affected pairs, at least": f"{PUBLISHED_SHARES[precision] / mini_batches:.2%}",
            "published, times 1000": f"{1000 * PUBLISHED_PAIRS[precision]:.1%}",
        }
        for precision in ("fp16", "fp32")
    )


def bounds_without_a_hit() -> pd.DataFrame:
    """What n networks, none of them in the zone, say about the share (95 % Clopper-Pearson)."""
    return pd.DataFrame(
        {"networks": n, "in the zone": 0, "share at most": f"{clopper_pearson(0, n)[1]:.2%}"}
        for n in (1, 10, 1000)
    )


def runs_without_a_value() -> pd.DataFrame:
    """Released ResNet-18 runs without batch norm, SGD: epochs whose metrics are missing."""
    table = records.published("paper_test_accuracy.csv")
    own = table[(table["network"] == "resnet18") & ~table["batch_norm"].astype(bool)]
    columns = ["s", "runs", "runs_complete", "rows_missing_metric"]
    return own[columns].astype({"runs_complete": int, "rows_missing_metric": int})


def mean_without_diverged(diverged: int) -> pd.DataFrame:
    """The mean of ten runs that reach 80 % or diverge, those dropped or at chance."""
    runs = 10
    values = pd.Series([0.8] * (runs - diverged) + [float("nan")] * diverged)
    means = {
        "mean, those dropped": values.mean(),
        "mean, those at chance": values.fillna(0.1).mean(),
    }
    return pd.DataFrame([{"runs": runs, "diverged": diverged} | means])


def gain_by_selection() -> pd.DataFrame:
    """How much the best of equally good candidates gains on the images that select it.

    Mean over 10,000 draws from a fixed seed.
    """
    accuracy, images, candidates = 0.9, 10_000, 20
    random = np.random.RandomState(0)
    best = random.binomial(images, accuracy, (10_000, candidates)).max(1) / images
    gain = {"accuracy of each": f"{accuracy:.0%}", "of the best": f"{best.mean():.2%}"}
    return pd.DataFrame([{"candidates": candidates, "images": images} | gain])


def mini_batch_of_sixteen() -> pd.DataFrame:
    """The accuracy of a last mini-batch of 16 images, all correct, over a batch size of 128."""
    return pd.DataFrame([{"correct": 16, "over 128": 16 / 128, "over 16": 16 / 16}])


def integer_losses() -> pd.DataFrame:
    """Losses that are written into an array of integers."""
    losses = np.array([0.93, 0.35, 1.98])
    stored = np.arange(3)
    stored[:] = losses
    return pd.DataFrame({"loss": losses, "stored": stored})
