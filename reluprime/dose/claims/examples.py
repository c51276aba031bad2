"""Made-up trainings on which the rules about doses are tried."""

from collections.abc import Callable

from reluprime.dose.thresholds import POINT
from reluprime.evidence import made_up
from reluprime.evidence.claim import Cell, Example
from reluprime.training.config import TrainingConfig


def _by_width(kinks: float = 2e8, zeros: int = 200) -> Callable[[TrainingConfig], int]:
    """`kinks` per unit of width, or `zeros` exact zeros, without a band."""
    return lambda c: round(kinks * c.kink_width) if c.kink_width else zeros


def _widened(
    loss: Callable[[TrainingConfig, float], float],
    dead: Callable[[TrainingConfig, float], float] | None = None,
    met: Callable[[TrainingConfig], int] | None = None,
    level: float = 0.9,
) -> Example:
    """Trainings that meet met(config) kinks, exact zeros where there is no band.

    They end at the accuracy `level`, and lose loss(config, dose) at another s than 0, where
    dead(config, dose) units are dead: by default one a kink, up to 250.
    """
    dead, kinks = dead or _one_a_kink, met or _by_width()

    def example(cell: Cell) -> dict:
        config = cell.config
        met = kinks(config)
        of = made_up.trainings(lambda c: loss(c, met), lambda c: 0 if c.kink_width else met // 4)
        result = of(cell)
        last = result["test_accuracy"][0][-1] + level - 0.9
        result["test_accuracy"] = [[last] * 4]
        if config.kink_width:
            result["kinks"] = {"activation": [[met // 4] * 4]}
        if config.count_units:
            units = {"activation": [[round(dead(config, met))] * 4]}
            result |= {"dead_units": units, "always_on_units": units, "units": {"activation": 768}}
        result["relu_calls"] = {"activation": 6 * 10**7}
        return result

    return example


def _never(config: TrainingConfig, met: float) -> float:
    return 0.0


def _by_dose(config: TrainingConfig, met: float) -> float:
    """A point at 100 kinks under the constant at s=1, in proportion to s; none under the other."""
    if config.gradient_rule == "chain":
        return 0.0
    return min(0.7, POINT * abs(config.s) * (config.lr / 0.01) * met / 100)


def _mildly(config: TrainingConfig, met: float) -> float:
    """As `_by_dose`, with a fifth of the loss where something mitigates, or in the first layer."""
    helps = config.batch_norm or config.optimizer == "adam" or config.kink_layer == 1
    rate = 0.01 / config.lr if config.optimizer == "adam" else 1.0
    return _by_dose(config, met) * (rate / 5 if helps else 1)


def _steeply(config: TrainingConfig, met: float) -> float:
    return min(0.7, 10 * _by_dose(config, met))


def _the_mitigated_worse(config: TrainingConfig, met: float) -> float:
    helps = config.batch_norm or config.optimizer == "adam"
    return min(0.7, _by_dose(config, met) * (400 if helps else 1))


def _last_least(config: TrainingConfig, met: float) -> float:
    return _by_dose(config, met) / (5 if config.kink_layer == 3 else 1)


def _alike(config: TrainingConfig, met: float) -> float:
    return min(0.7, POINT * met / 100)


def _real_costs_more(config: TrainingConfig, met: float) -> float:
    return _by_dose(config, met) + (0.0 if config.kink_width else 0.05)


def _by_seed(config: TrainingConfig, met: float) -> float:
    """As `_by_dose` for even seeds, and nothing for odd ones."""
    return 0.0 if config.seed % 2 else _by_dose(config, met)


def _one_a_kink(config: TrainingConfig, met: float) -> float:
    return min(met, 250.0) if config.s else 0.0


EXAMPLES: dict[str, Example] = {
    "a point at 100 kinks under the constant": _widened(_by_dose),
    "no loss at any dose": _widened(_never, dead=lambda c, met: 0.0),
    "the same loss for every s, rule and learning rate": _widened(_alike),
    "a loss of 3 points at every dose": _widened(lambda c, met: 0.03),
    "a gain of 3 points at every dose": _widened(lambda c, met: -0.03),
    "mitigated": _widened(_mildly),
    "real zeros cost five points more": _widened(_real_costs_more),
    "half of the seeds lose": _widened(_by_seed),
    "a thousand times the kinks": _widened(_by_dose, met=_by_width(kinks=2e11)),
    "ten units a kink": _widened(_by_dose, dead=lambda c, met: 10 * _one_a_kink(c, met)),
    "a unit a kink for half of the seeds": _widened(
        _by_dose, dead=lambda c, met: 0.0 if c.seed % 2 else _one_a_kink(c, met)
    ),
    "many kinks, ten points at 100": _widened(_steeply, met=_by_width(kinks=5e9)),
    "many kinks, no loss": _widened(_never, met=_by_width(kinks=5e9)),
    "the last layer costs least": _widened(_last_least),
    "Adam and batch norm are worse": _widened(_the_mitigated_worse),
    "no kink met": _widened(_never, met=_by_width(kinks=0.0, zeros=0)),
    "at chance": _widened(_never, level=0.1),
    "no records": lambda _: None,
}


def _on_both_sides(config: TrainingConfig) -> int:
    """As many kinks with a narrow band as without one, and ten thousand times as many beyond."""
    return 4 if config.kink_width <= 1e-8 else 40_000


def _mitigates(config: TrainingConfig) -> bool:
    return config.batch_norm or config.optimizer == "adam"


# On which the rules by dose are tried: three points are lost where a condition says so.
BY_DOSE_EXAMPLES: dict[str, Example] = {
    name: _widened(loss, met=_on_both_sides)
    for name, loss in {
        "no loss at any dose": _never,
        "three points at any dose": lambda c, met: 0.03,
        "untrainable at any dose": lambda c, met: 0.8,
        "half of the seeds untrainable": lambda c, met: 0.0 if c.seed % 2 else 0.8,
        "untrainable beyond the paper's dose alone": lambda c, met: 0.8 if met > 4 else 0.0,
        "three points within the paper's dose alone": lambda c, met: 0.0 if met > 4 else 0.03,
        "none with batch norm or Adam": lambda c, met: 0.0 if _mitigates(c) else 0.03,
        "with batch norm or Adam alone": lambda c, met: 0.03 if _mitigates(c) else 0.0,
        "more with batch norm or Adam": lambda c, met: 0.09 if _mitigates(c) else 0.03,
        "with dropout alone": lambda c, met: 0.03 if c.dropout else 0.0,
    }.items()
} | {
    "no band within the paper's dose": _widened(
        lambda c, met: 0.03, met=lambda c: 400_000 if c.kink_width else 4
    ),
    "no kink met": _widened(_never, met=lambda c: 0),
    "at chance": _widened(_never, met=_on_both_sides, level=0.1),
    "no records": lambda _: None,
}
