"""Made-up trainings on which the rules about training are tried."""

from reluprime.evidence import made_up
from reluprime.training.config import TrainingConfig


def no_loss(_) -> float:
    """Every s does as well as 0."""
    return 0.0


def is_larger_scale(config: TrainingConfig) -> bool:
    """Whether a config is of a larger scale of its experiment."""
    return config.epochs > 5 or config.width == 0.5 or 2048 in config.hidden_sizes


def small_alone(config: TrainingConfig) -> float:
    """A loss at the smaller scale, and none at larger ones."""
    return 0.0 if is_larger_scale(config) else 0.08


def large_alone(config: TrainingConfig) -> float:
    """A loss at larger scales, and none at the smaller one."""
    return 0.08 if is_larger_scale(config) else 0.0


def near_chance(config: TrainingConfig) -> float:
    """Ends 2.5 points above chance."""
    return 0.775


def four_seeds(config: TrainingConfig) -> int:
    """All but one seed meet zeros."""
    return 0 if config.seed % 100 == 1 else 9


def a_loss(_) -> float:
    """Eight points at every s."""
    return 0.08


def by_chance(config: TrainingConfig) -> float:
    """Five points up or down, by seed."""
    return 0.05 if config.seed % 2 else -0.05


def no_zeros(_) -> int:
    """No exact zero is met."""
    return 0


def resnet_stuck(config: TrainingConfig) -> float:
    """ResNet-18 ends near chance at s of 0.5 and more."""
    return 0.8 if config.s >= 0.5 and config.architecture == "resnet18" else 0.0


def half_stuck(config: TrainingConfig) -> float:
    """Every second seed ends near chance."""
    return 0.8 * (config.seed % 2)


# Tried on every rule here: what must not count, and what a scale or a few seeds cannot show.
COMMON = {
    "a loss at the smaller scale alone": made_up.trainings(small_alone),
    "a loss at larger scales alone": made_up.trainings(large_alone),
    "2.5 points above chance": made_up.trainings(near_chance),
    "four seeds met a zero": made_up.trainings(a_loss, four_seeds),
    "diverged": made_up.trainings(a_loss, diverges=lambda c: c.s == 1.0 and c.seed % 5 == 3),
    "no zeros": made_up.trainings(no_loss, no_zeros),
    "no records": lambda _: None,
}
