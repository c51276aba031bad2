"""What one training is: the parameters of a run, validated."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from reluprime.config import DatasetName, Epochs, Seed, added_field
from reluprime.instruments import models
from reluprime.instruments.activations import GradientRule
from reluprime.instruments.precision import Precision


class TrainingConfig(models.NetworkConfig):
    """One training run, or `n_networks` runs with successive seeds as one ensemble."""

    dataset: Literal[DatasetName, "image-folder"] = "mnist"
    image_folder: str | None = Field(default=None, exclude=True)  # its root; not in records
    fingerprint: str | None = added_field(None)  # data.fingerprint of that folder
    hidden_sizes: tuple[PositiveInt, ...] = (2048, 2048, 2048)  # B21 4.1
    activation: Literal["relu", "relu6"] = added_field("relu")
    # Which activations have s and s_upper: all, the first one (M23's ResNet as it was run) or
    # none (M23's MobileNet as it was run); the others have 0.
    activation_sites: Literal["all", "first", "none"] = added_field("all")
    s: float = 0.0  # derivative at 0
    s_upper: float = added_field(0.0)  # derivative at 6, relu6 only
    gradient_rule: GradientRule = "chain"
    # Our intervention: the rule wherever |pre-activation| <= kink_width, in every activation or in
    # the kink_layer-th of the forward pass alone (from 1). s holds at exact zeros in all alike.
    kink_width: NonNegativeFloat = added_field(0.0)  # relu only
    kink_layer: PositiveInt | None = added_field(None)
    precision: Precision = "fp32"  # of weights, activations, gradients and optimizer
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0  # after each hidden layer of an mlp
    optimizer: Literal["sgd", "adam"] = "sgd"
    lr: PositiveFloat = 0.01  # at the first epoch
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9  # sgd; the release's, not in the paper
    weight_decay: NonNegativeFloat = 5e-4  # the release's, not in the paper
    schedule: Literal["cosine", "constant"] = "cosine"  # of lr, by epoch
    loss_scale: PositiveFloat = 1.0  # gradients are divided by it before the step
    clip_norm: PositiveFloat | None = added_field(None)  # of the whole gradient (L2)
    batch_size: PositiveInt = 128  # images; B21 Table 2
    epochs: Epochs = 200  # B21 Table 2
    n_train: PositiveInt | None = None  # the first training images; None: all
    augment: bool = False  # random crop and flip; an image-folder always has its own
    evaluate_on: Literal["test", "validation"] = "test"  # validation: last fifth of training
    count_units: bool = added_field(False)  # those dead, or on, for all images of evaluation
    seed: Seed = 0  # of initial weights, order, crops and dropout
    n_networks: PositiveInt = 1  # seeds seed, seed + 1, ... trained as one ensemble

    @model_validator(mode="after")
    def _fits_together(self):
        if self.dropout and "dropout" not in self.traits.options:
            raise ValueError(f"dropout={self.dropout}: {self.architecture} does not take it")
        if self.optimizer == "adam" and self.momentum:
            raise ValueError(f"momentum={self.momentum} is sgd's; with adam it must be 0")
        if self.s_upper and self.activation != "relu6":
            raise ValueError(f"s_upper={self.s_upper}: only relu6 has a kink at 6")
        if self.n_networks > 1 and (not self.traits.fully_connected or self.dropout):
            raise ValueError(
                f"n_networks={self.n_networks}: only an mlp without dropout can be an ensemble"
            )
        return self

    @model_validator(mode="after")
    def _fits_the_intervention(self):
        if self.kink_width and self.activation != "relu":
            raise ValueError(f"kink_width={self.kink_width}: {self.activation} has no band")
        if self.kink_layer and not self.kink_width:
            raise ValueError(f"kink_layer={self.kink_layer}: without kink_width there is no band")
        if self.kink_layer and self.hidden_sizes:
            check_kink_layer(self.kink_layer, len(self.hidden_sizes))
        alone = {"kink_width": 0.0, "clip_norm": None, "count_units": False}
        for name, value in alone.items() if self.n_networks > 1 else ():
            if getattr(self, name) != value:
                raise ValueError(
                    f"{name}={getattr(self, name)!r}: with n_networks={self.n_networks} it must be "
                    f"{value!r}"
                )
        return self

    @model_validator(mode="after")
    def _fits_the_image_folder(self):
        from_folder = self.dataset == "image-folder"
        known = self.fingerprint is not None  # a record does not say where the folder was
        if known != from_folder or (self.image_folder is not None and not from_folder):
            raise ValueError(
                f"dataset={self.dataset!r} with image_folder={self.image_folder!r} and "
                f"fingerprint={self.fingerprint!r}: 'image-folder' has both, others neither"
            )
        if from_folder and not self.traits.any_size:
            raise ValueError(f"architecture={self.architecture!r} does not take images of any size")
        fixed = {"n_train": None, "augment": False, "evaluate_on": "test", "n_networks": 1}
        for name, value in fixed.items() if from_folder else ():
            if getattr(self, name) != value:
                raise ValueError(
                    f"{name}={getattr(self, name)!r}: with an image-folder it must be {value!r}"
                )
        return self


def check_kink_layer(kink_layer: int, n_activations: int) -> None:
    """Raises ValueError where a network has no such activation."""
    if kink_layer > n_activations:
        raise ValueError(f"kink_layer={kink_layer}: the network has {n_activations} activations")


def conditions(
    base: TrainingConfig, s_values: list[float], rules: list[str], seeds: int
) -> list[TrainingConfig]:
    """`base` at each s, gradient rule and seed 0, 1, ...; s=0 once, as the rules agree there."""
    arms = [(s, rule) for s in s_values for rule in (rules if s else ["chain"])]
    return [
        base.replace(s=float(s), gradient_rule=rule, seed=seed)
        for seed in range(seeds)
        for s, rule in arms
    ]
