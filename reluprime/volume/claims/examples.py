"""Made-up Monte Carlo cells, of which each rule says what it answers."""

from collections.abc import Callable, Sequence

from reluprime.evidence.claim import Cell, Example
from reluprime.volume.experiments import LARGE, PUBLISHED_SHARES
from reluprime.volume.networks import VolumeConfig
from reluprime.volume.zone import ZoneConfig


def made_up_networks(
    affected: Callable[[VolumeConfig, int, str], int],
    relative: Callable[[VolumeConfig], Sequence[float]] = lambda _: (19.0, 25.0, 47.0),
) -> Example:
    """Monte Carlo cells.

    affected(config, network, gradient_rule): its affected mini-batches; relative(config): three
    relative gradient differences that they have in turn.
    """

    def result(cell: Cell) -> dict:
        config, n_batches = cell.config, 235
        found = {"n_batches": n_batches}
        seeds = range(config.seed, config.seed + config.n_networks)
        for rule in ("chain", "injected"):
            counts = [min(affected(config, seed, rule), n_batches) for seed in seeds]
            spread = [relative(config)[k % 3] for k in range(sum(counts))]
            found |= {
                f"affected_{rule}": counts,
                f"first_affected_{rule}": [0 if count else None for count in counts],
                f"relative_difference_{rule}": spread,
                f"relative_difference_first_layer_{rule}": spread,
                f"nonfinite_{rule}": 0,
            }
        return found

    return result


def among(share: float) -> Callable[[int], bool]:
    """Whether a network is among a share of them, evenly spread over seeds."""
    return lambda seed: int((seed + 1) * share) > int(seed * share)


def no_records(_) -> None:
    return None


def conv_networks(
    first: Callable[[ZoneConfig, int], int | None], n_batches: int = LARGE
) -> Example:
    """Networks whose first affected mini-batch is a function of config and seed."""

    def result(cell: Cell) -> dict:
        config, end = cell.config, cell.config.max_batches or n_batches
        found = [first(config, config.seed + k) for k in range(config.n_networks)]
        shown = [None if f is None or f >= end else f for f in found]
        in_zone = [int(f is not None) for f in shown]
        lists = {"affected": in_zone, "first_affected": shown, "nonfinite": 0}
        relative = ("relative_difference", "relative_difference_first_layer")
        lists |= dict.fromkeys(relative, [1.0] * sum(in_zone))
        rules = ("chain", "injected")
        return {"n_batches": end} | {
            f"{name}_{rule}": value for name, value in lists.items() for rule in rules
        }

    return result


def as_published(config: VolumeConfig, seed: int, _: str) -> int:
    share = PUBLISHED_SHARES[config.precision]
    if config.precision == "fp32" and config.relu_after_first:
        share = 0.47
    return int(among(share)(seed))
