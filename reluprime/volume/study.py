"""Monte Carlo estimate of the bifurcation zone's share of weight space (B21 3.2, Appendix C).

A random network is in the zone if some mini-batch gives another gradient with ReLU'(0) = 1 than
with ReLU'(0) = 0. That needs a pre-activation of exactly 0, so a forward pass screens each
mini-batch and only those with an exact zero pay for backward passes.
"""

import torch

from reluprime.config import study
from reluprime.instruments.activations import GRADIENT_RULES
from reluprime.instruments.precision import best_device, numerics
from reluprime.volume.networks import Batch, VolumeConfig, random_network, raw_batches
from reluprime.volume.screening import Affected, confirm, result, screen
from reluprime.volume.stacked import estimate_in_stacks


@study("volume.estimate", version=1)
def estimate(config: VolumeConfig, device: torch.device | None = None) -> dict:
    """Gradients at s=0 against s=1, under both rules, on every mini-batch of the training set.

    Returns, R standing for each gradient rule:

    - n_batches: mini-batches in the data set (at most max_batches), Q
    - relu_calls: pre-activations of one network on all of them
    - screened: per network, mini-batches with an exact zero (of those seen)
    - exact_zeros: {activation: exact zeros, over all networks}
    - affected_R: per network, mini-batches whose gradient differs in any bit (row 1; without
      `stop_at_first` also row 2)
    - first_affected_R: per network, the first of them, counted from 0, or None
    - relative_difference_R: |g1 - g0|_2 / |g0|_2 for each affected pair, over all parameters;
      relative_difference_first_layer_R: over the first layer's weights, as the release did
    - nonfinite_R: pairs whose gradient is not finite; they count as neither

    The loss is the mean over the mini-batch, as in the release: under ``injected`` the relative
    difference would be 1 / batch_size as large with the sum that Appendix C writes.
    Source: B21 3.2, Table 1 and Appendix C.
    """
    device = best_device() if device is None else device
    with numerics(config.precision, device) as dtype:
        batches, n_classes = raw_batches(config, dtype, device)
        plain = config.traits.fully_connected and not config.batch_norm
        stacked = device.type == "cuda" and plain and config.arithmetic == "native"
        run = estimate_in_stacks if stacked else _estimate
        return run(config, batches, n_classes)


def _estimate(config: VolumeConfig, batches: list[Batch], n_classes: int) -> dict:
    """:func:`estimate` on given mini-batches, one network after the other."""
    like = (config, batches[0][0], n_classes)
    rules = {rule: Affected() for rule in GRADIENT_RULES}
    changed = {r: random_network(*like, 0, 1.0, r) for r in rules}
    screened, zeros = [], {}
    for seed in range(config.seed, config.seed + config.n_networks):
        network = random_network(*like, seed, 0.0, "chain")
        screened.append(0)
        for rule in rules.values():
            rule.start_network()
        for index in screen(network, batches, config.traits.chain):
            screened[-1] += 1
            confirm(network, changed, batches[index], index, rules, zeros)
            if config.stop_at_first and all(rule.counts[-1] for rule in rules.values()):
                break
    return result(batches, network, screened, zeros, rules)
