"""Count exact zeros while a network trains (B21 4.5, Fig. 6)."""

from itertools import accumulate
from typing import Literal

import torch
from pydantic import PositiveInt

from reluprime.config import Epochs, study
from reluprime.training.config import TrainingConfig
from reluprime.training.study import fit


class ZeroCountConfig(TrainingConfig):
    """A training run of which only the zeros are kept."""

    hidden_sizes: tuple[PositiveInt, ...] = (256, 256, 256)
    epochs: Epochs = 100  # B21 4.5
    schedule: Literal["cosine", "constant"] = "constant"  # so that all epochs weigh the same
    evaluate_on: Literal["test"] = "test"


@study("zeros.count", version=1)
def count(config: ZeroCountConfig, device: torch.device | None = None) -> dict:
    """Train as :func:`training.fit` does and add up the exact zeros of the training passes.

    Returns, with one list for each network:

    - cumulative_zeros: by epoch, over all activations (B21 Fig. 6, numerator)
    - cumulative_calls: by epoch, all pre-activations (its denominator, counted over all images;
      the release counted the neurons once an epoch)
    - zeros_by_layer: {activation: zeros of all epochs}
    - final_accuracy (on test images), diverged_epoch
    """
    history = fit(config, device)
    layers = history["exact_zeros"]
    zeros = [
        [sum(n) for n in zip(*(by_network[member] for by_network in layers.values()), strict=True)]
        for member in range(config.n_networks)
    ]
    calls = sum(history["relu_calls"].values())
    return {
        "cumulative_zeros": [list(accumulate(by_epoch)) for by_epoch in zeros],
        "cumulative_calls": [[calls * (e + 1) for e in range(len(n))] for n in zeros],
        "zeros_by_layer": {name: [sum(n) for n in v] for name, v in layers.items()},
        "final_accuracy": [accuracy[-1] for accuracy in history["test_accuracy"]],
        "diverged_epoch": history["diverged_epoch"],
    }
