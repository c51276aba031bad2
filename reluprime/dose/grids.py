"""The trainings with widened kinks that a reader asks for; the registered ones are with claims."""

from typing import Literal

from reluprime.config import DatasetName
from reluprime.dose.experiments import MITIGATIONS, NETWORKS, bands
from reluprime.instruments.activations import GradientRule
from reluprime.parameters import (
    Derivative,
    Distinct,
    Grids,
    HiddenSizes,
    KinkWidth,
    Parameters,
    Repeats,
    SweepParameters,
)
from reluprime.training.study import fit


class Doses(SweepParameters):
    """Page 14: any of the networks, with bands around its kinks."""

    registered_store: str = "records"
    dose_network: Literal["mlp", "vgg11", "resnet18"] = "mlp"
    dose_dataset: DatasetName = "mnist"
    dose_hidden_sizes: HiddenSizes = [256, 256, 256]
    dose_epochs: Repeats = 5
    dose_seeds: Repeats = 5
    dose_widths: Distinct[KinkWidth] = [1e-07, 1e-06, 1e-05]
    dose_s: Distinct[Derivative] = [1.0]
    dose_gradient_rules: Distinct[GradientRule] = ["injected"]
    dose_optimizer: Literal["sgd", "adam"] = "sgd"
    dose_batch_norm: bool = False

    def grids(self) -> Grids:
        """One sweep, `mine`; learning rates as in the registered grid."""
        changes = {
            "dataset": self.dose_dataset,
            "epochs": self.dose_epochs,
            "batch_norm": self.dose_batch_norm,
        }
        if self.dose_network == "mlp":
            changes["hidden_sizes"] = self.dose_hidden_sizes
        if self.dose_optimizer == "adam":
            changes |= MITIGATIONS["Adam"]
        base, _ = NETWORKS[self.dose_network]
        own = base.replace(**changes)
        runs = [
            run.config
            for rule in self.dose_gradient_rules
            for run in bands(own, self.dose_widths, self.dose_s, rule, range(self.dose_seeds))
        ]
        return {"mine": (fit, list(dict.fromkeys(runs)))}  # the rules share their runs at s=0


class PublishedDoses(Parameters):
    """Page 19: the doses that the papers' trainings would meet."""

    registered_store: str = "records"
