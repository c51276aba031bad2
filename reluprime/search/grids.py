"""The searches that the report's pages ask for, with the trainings beside them."""

import pandas as pd

from reluprime.config import DatasetName
from reluprime.instruments.activations import GRADIENT_RULES
from reluprime.parameters import (
    AtLeastOne,
    Derivative,
    DerivativesAtZero,
    Grids,
    HiddenSizes,
    Number,
    Repeats,
    SweepParameters,
    Width,
)
from reluprime.search.study import SearchConfig, Space, arms, search
from reluprime.search.tables import best_rates
from reluprime.training.config import TrainingConfig, conditions
from reluprime.training.grids import M23_ADAM, Curves, SmallTrainings
from reluprime.training.study import fit

M23_SPACE = Space(lr=(1e-4, 1e-2), batch_size=(32, 64, 128))


def _as_in_m23(training: TrainingConfig, n_trials: int, repeats: int) -> list[SearchConfig]:
    """M23's searches over trainings with ReLU6 (M23 4.5), `repeats` of each arm."""
    base = SearchConfig(
        training=training.replace(activation="relu6", evaluate_on="validation"),
        space=M23_SPACE,
        n_trials=n_trials,
        sampler="random",
        grace_epochs=3,
    )
    return arms(base, GRADIENT_RULES, repeats)


class TrainingCurves(Curves):
    """Page 03: accuracy at several s, and learning rates tuned for each (B21 4.1)."""

    needed_first = ("searches",)

    search_s: AtLeastOne[Derivative] = [0, 1, 50]
    search_trials: Repeats = 4
    search_epochs: Repeats = 1
    tuned_seeds: Repeats = 1

    def grids(self) -> Grids:
        """Those of the trainings, and `searches`: one for each arm."""
        trial = self.mlp().replace(epochs=self.search_epochs, evaluate_on="validation")
        searches = [
            SearchConfig(training=arm, n_trials=self.search_trials)
            for arm in conditions(trial, self.search_s, GRADIENT_RULES, 1)
        ]
        return super().grids() | {"searches": (search, searches)}

    def grids_after(self, found: dict[str, pd.DataFrame]) -> Grids:
        """`tuned`: each arm at the learning rate that its search found."""
        best = best_rates(found["searches"])
        tuned = [
            config.replace(lr=best[config.s, config.gradient_rule])
            for config in conditions(self.mlp(), self.search_s, GRADIENT_RULES, self.tuned_seeds)
            if (config.s, config.gradient_rule) in best
        ]
        return {"tuned": (fit, tuned)}


class SmallSearches(SmallTrainings):
    """Page 08, second and third part: M23's trainings, and its fully connected search."""

    fc_search_hidden_sizes: HiddenSizes = [2000]
    fc_search_images: Number = 5000
    fc_search_epochs: Repeats = 10
    fc_search_trials: Repeats = 10
    fc_search_repeats: Repeats = 4

    def grids(self) -> Grids:
        """Those of the trainings, and `searches`."""
        trial = TrainingConfig(
            dataset=self.fc_dataset,
            hidden_sizes=self.fc_search_hidden_sizes,
            n_train=self.fc_search_images,
            epochs=self.fc_search_epochs,
            **M23_ADAM,
        )
        searches = _as_in_m23(trial, self.fc_search_trials, self.fc_search_repeats)
        return super().grids() | {"searches": (search, searches)}


class MobileNet(SweepParameters):
    """Page 09: MobileNetV3-small, trained and searched (M23 Fig. 6)."""

    mobilenet_dataset: DatasetName = "mnist"
    mobilenet_epochs: Repeats = 2
    mobilenet_images: Number = 60000
    mobilenet_width: Width = 1.0
    mobilenet_s: DerivativesAtZero = [0, 1]
    mobilenet_seeds: Repeats = 3
    search_images: Number = 5000
    search_width: Width = 0.5
    mobilenet_search_epochs: Repeats = 6
    mobilenet_search_trials: Repeats = 10
    mobilenet_search_repeats: Repeats = 4

    def grids(self) -> Grids:
        """Sweeps `runs`, with s in all activations and (as M23 was run) in none, and `searches`."""
        relu = self._network(self.mobilenet_epochs, self.mobilenet_images, self.mobilenet_width)
        as_run = relu.replace(activation_sites="none")
        runs = conditions(relu, self.mobilenet_s, GRADIENT_RULES, self.mobilenet_seeds)
        runs += conditions(as_run, self.mobilenet_s, ["injected"], self.mobilenet_seeds)
        trial = self._network(self.mobilenet_search_epochs, self.search_images, self.search_width)
        n_trials, repeats = self.mobilenet_search_trials, self.mobilenet_search_repeats
        return {"runs": (fit, runs), "searches": (search, _as_in_m23(trial, n_trials, repeats))}

    def _network(self, epochs: int, images: int, width: float) -> TrainingConfig:
        return TrainingConfig(
            architecture="mobilenet_v3_small",
            dataset=self.mobilenet_dataset,
            epochs=epochs,
            n_train=images,
            width=width,
            **M23_ADAM,
        )
