"""The trainings that B21's claims are judged on, at the scales that we computed.

Where nothing else is said, they train as B21's release does.
"""

from collections.abc import Sequence

from reluprime.evidence.claim import Cell, Evidence
from reluprime.training import arms
from reluprime.training.arms import Arm, Scale
from reluprime.training.config import TrainingConfig

NEAR_CHANCE = 0.05  # P10: what cannot be trained ends as close to chance
SEEDS = {"least seeds that met a zero": arms.MIN_SEEDS, "counts as chance": arms.AT_CHANCE}
FIVE, THREE = range(5), range(3)
BASE_MLP = TrainingConfig(dataset="mnist", hidden_sizes=(1024, 1024, 1024), epochs=5, lr=0.01)
BASE_VGG = TrainingConfig(
    architecture="vgg11",
    dataset="cifar10",
    width=0.25,
    epochs=5,
    lr=0.02,
    augment=True,
    # PyTorch's own start does not learn at this scale; B21 3.2 writes this one.
    initialisation="kaiming-uniform",
)

BASE_RESNET = TrainingConfig(
    architecture="resnet18", dataset="cifar10", width=0.25, epochs=5, lr=0.01, augment=True
)

DROPOUT_S = (1.0, 50.0)  # at which runs with dropout are beside those without
ADAM = {"optimizer": "adam", "momentum": 0.0, "weight_decay": 0.0}


class Experiment:
    """The scales of one network: the smaller with five seeds, larger ones with three."""

    def __init__(self, config: TrainingConfig, *larger: dict):
        self.small = Scale(config, FIVE)
        self.large = [Scale(config.replace(**changes), THREE) for changes in larger]

    def cells(self, gradient_rule: str, s_values: Sequence[float]) -> list[Cell]:
        """The cells of every scale: see :func:`arms.Scale.cells`."""
        return [c for s in (self.small, *self.large) for c in s.cells(gradient_rule, s_values)]

    def arms(self, evidence: Evidence, s: float, gradient_rule: str) -> tuple[Arm, list[Arm]]:
        """The arm at the smaller scale, and those at the larger ones."""
        small, *large = (arms.arm(evidence, f, s, gradient_rule) for f in (self.small, *self.large))
        return small, large


WIDER = {"width": 0.5}
LONGER = {"epochs": 10}
VGG = Experiment(BASE_VGG, LONGER, WIDER)
VGG_SGD = Experiment(BASE_VGG, LONGER)  # without the wider one, which has the arms of P9 alone
VGG_ADAM = Experiment(BASE_VGG.replace(**ADAM, lr=3e-4), LONGER)
RESNET = Experiment(BASE_RESNET, WIDER)
MLP_WIDER = {"hidden_sizes": (2048, 2048, 2048)}
MLP = Experiment(BASE_MLP, MLP_WIDER)
MLP_DROPOUT = Experiment(BASE_MLP.replace(dropout=0.5), MLP_WIDER)
LARGE_S = (50.0, 10.0)


def _at(precision: str, *larger: dict) -> Experiment:
    changes = {"precision": precision, "arithmetic": "epilogue"}
    return Experiment(BASE_VGG.replace(**changes), *larger)


# 64 bits at one scale; B21's 16 bits are fp16, and bf16 stands beside it.
VGG_AT = {
    "fp64": _at("fp64"),
    "fp32": _at("fp32", LONGER),
    "fp16": _at("fp16", LONGER),
    "bf16": _at("bf16", LONGER),
}
