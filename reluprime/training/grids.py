"""The trainings that the report's pages ask for."""

from typing import Annotated, Literal

from pydantic import Field

from reluprime.config import DatasetName
from reluprime.instruments import data
from reluprime.instruments.activations import GRADIENT_RULES
from reluprime.instruments.arithmetic import Arithmetic
from reluprime.instruments.models import Initialisation
from reluprime.instruments.precision import Precision
from reluprime.parameters import (
    AtLeastOne,
    ByPrecision,
    DerivativesAtZero,
    Distinct,
    Grids,
    HiddenSizes,
    Number,
    Precisions,
    Repeats,
    Sizes,
    SweepParameters,
    Width,
    including,
)
from reluprime.training import zeros
from reluprime.training.config import TrainingConfig, conditions
from reluprime.training.experiments import ADAM
from reluprime.training.study import fit
from reluprime.training.zeros import ZeroCountConfig

M23_ADAM = ADAM | {"lr": 1e-3, "schedule": "constant"}
PLAIN_SGD = {"momentum": 0.0, "weight_decay": 0.0, "lr": 0.1, "schedule": "constant"}

OtherPrecision = Literal["fp64", "tf32", "bf16", "fp16"]  # fp32 is that of the other conditions


class Networks(SweepParameters):
    """The networks that pages 03 and 04 train (B21 4.1)."""

    mlp_dataset: DatasetName = "mnist"
    mlp_hidden_sizes: HiddenSizes = [512, 512, 512]
    mlp_epochs: Repeats = 5
    mlp_seeds: Repeats = 5
    conv_dataset: DatasetName = "cifar10"
    conv_images: Number = 50000
    conv_width: Width = 0.25
    vgg_initialisation: Initialisation = "kaiming-uniform"
    vgg_epochs: Repeats = 6
    vgg_seeds: Repeats = 3
    resnet_epochs: Repeats = 5
    resnet_seeds: Repeats = 2

    def mlp(self) -> TrainingConfig:
        """The fully connected network, with SGD."""
        return TrainingConfig(
            dataset=self.mlp_dataset,
            hidden_sizes=self.mlp_hidden_sizes,
            epochs=self.mlp_epochs,
            lr=0.01,
        )

    def vgg(self) -> TrainingConfig:
        """VGG11 without batch norm, with SGD."""
        return self._convolutional("vgg11", self.vgg_epochs, 0.02).replace(
            initialisation=self.vgg_initialisation
        )

    def resnet(self) -> TrainingConfig:
        """ResNet-18 without batch norm, with SGD."""
        return self._convolutional("resnet18", self.resnet_epochs, 0.01)

    def _convolutional(self, architecture: str, epochs: int, lr: float) -> TrainingConfig:
        return TrainingConfig(
            architecture=architecture,
            dataset=self.conv_dataset,
            width=self.conv_width,
            n_train=self.conv_images,
            augment=True,
            epochs=epochs,
            lr=lr,
        )


class Curves(Networks):
    """Page 03 without its searches: accuracy at several s (B21 Fig. 3, 9, 10, 15)."""

    mlp_s: DerivativesAtZero = [-1, 0, 0.5, 1, 10, 50]
    vgg_s: DerivativesAtZero = [0, 0.1, 1]
    resnet_s: DerivativesAtZero = [0, 1]
    plain_s: DerivativesAtZero = [0, 1, 50]
    plain_seeds: Repeats = 2

    def grids(self) -> Grids:
        """Sweeps `mlp`, `vgg`, `resnet`, and `plain`: the mlp with plain SGD."""
        arms = {
            "mlp": (self.mlp(), self.mlp_s, self.mlp_seeds),
            "vgg": (self.vgg(), self.vgg_s, self.vgg_seeds),
            "resnet": (self.resnet(), self.resnet_s, self.resnet_seeds),
            "plain": (self.mlp().replace(**PLAIN_SGD), self.plain_s, self.plain_seeds),
        }
        return {
            name: (fit, conditions(base, s_values, GRADIENT_RULES, seeds))
            for name, (base, s_values, seeds) in arms.items()
        }


class Mitigation(Networks):
    """Page 04: batch norm, Adam, dropout and precision (B21 Fig. 4, 11 to 15)."""

    mitigation_s: DerivativesAtZero = [0, 1, 50]
    dropouts: Distinct[Annotated[float, Field(gt=0, lt=1)]] = [0.5]
    precisions_mlp: Distinct[OtherPrecision] = ["fp64", "bf16"]
    epochs_at_most: ByPrecision = {"fp16": 1}
    seeds_at_most: ByPrecision = {"fp64": 2, "fp16": 1}
    conv_mitigation_s: DerivativesAtZero = [0, 1]
    conv_mitigation_seeds: Repeats = 1
    precisions_vgg: Distinct[OtherPrecision] = []
    normalised: Distinct[Literal["vgg11", "resnet18"]] = []
    adam_datasets: AtLeastOne[DatasetName] = ["cifar10"]

    def grids(self) -> Grids:
        """A sweep for each condition of :meth:`fully_connected` and :meth:`convolutional`."""
        return {
            name: (fit, g) for name, g in (self.fully_connected() | self.convolutional()).items()
        }

    def fully_connected(self) -> dict[str, list[TrainingConfig]]:
        """The mlp's runs by condition."""
        return {
            "SGD": self._mlps(),
            "batch norm": self._mlps(batch_norm=True),
            "Adam": self._mlps(**ADAM, lr=1e-3),
            **{f"dropout {rate:g}": self._mlps(dropout=rate) for rate in self.dropouts},
            **{f"SGD, {p}": self._mlps(p) for p in self.precisions_mlp},
        }

    def convolutional(self) -> dict[str, list[TrainingConfig]]:
        """The runs of VGG11 and ResNet-18 by condition."""
        vgg, resnet = self.vgg(), self.resnet()
        normalised = [base for base in (vgg, resnet) if base.architecture in self.normalised]
        return {
            "vgg11, SGD": self._convs(vgg, self.vgg_seeds),
            **{
                f"{base.architecture}, batch norm": self._convs(base, batch_norm=True)
                for base in normalised
            },
            **{
                f"vgg11, Adam, {dataset}": self._convs(vgg, **ADAM, lr=3e-4, dataset=dataset)
                for dataset in self.adam_datasets
            },
            **{f"vgg11, SGD, {p}": self._convs(vgg, precision=p) for p in self.precisions_vgg},
            "resnet18, SGD": self._convs(resnet, self.resnet_seeds),
        }

    def _mlps(self, precision: Precision = "fp32", **changes) -> list[TrainingConfig]:
        epochs = min(self.mlp_epochs, self.epochs_at_most.get(precision, self.mlp_epochs))
        seeds = min(self.mlp_seeds, self.seeds_at_most.get(precision, self.mlp_seeds))
        base = self.mlp().replace(precision=precision, epochs=epochs, **changes)
        return conditions(base, self.mitigation_s, GRADIENT_RULES, seeds)

    def _convs(
        self, base: TrainingConfig, seeds: int | None = None, **changes
    ) -> list[TrainingConfig]:
        """seeds: None: `conv_mitigation_seeds`."""
        seeds = self.conv_mitigation_seeds if seeds is None else seeds
        changed = base.replace(**changes)
        return conditions(changed, self.conv_mitigation_s, GRADIENT_RULES, seeds)


class ZeroCalls(SweepParameters):
    """Page 05: exact zeros by depth and width (B21 Fig. 6)."""

    zero_dataset: DatasetName = "mnist"
    zero_depths: Sizes = [1, 3, 5, 6]
    zero_widths: Sizes = [16, 64, 256, 512]
    zero_epochs: dict[Precision, Repeats] = {"fp32": 20, "bf16": 5}
    zero_arithmetic: Arithmetic = "epilogue"
    zero_emulated_epochs: dict[Precision, Repeats] = {"fp32": 20, "fp16": 5}

    def grids(self) -> Grids:
        """The `counts`, and those `emulated` in another arithmetic."""
        return {
            "counts": (zeros.count, self._counts(self.zero_epochs)),
            "emulated": (
                zeros.count,
                self._counts(self.zero_emulated_epochs, arithmetic=self.zero_arithmetic),
            ),
        }

    def _counts(self, epochs: dict[str, int], **changes) -> list[ZeroCountConfig]:
        return [
            ZeroCountConfig(
                dataset=self.zero_dataset,
                hidden_sizes=(width,) * depth,
                precision=precision,
                epochs=n,
                s=1.0,
                gradient_rule=rule,
                **changes,
            )
            for precision, n in epochs.items()
            for rule in GRADIENT_RULES
            for depth in self.zero_depths
            for width in self.zero_widths
        ]


class ImageNet(SweepParameters):
    """Page 07: ResNet-50 on a folder of images (B21 Fig. 17)."""

    image_folder: str = ""
    imagenet_epochs: Repeats = 90
    imagenet_width: Width = 1.0
    imagenet_batch_size: Number = 256
    imagenet_s: DerivativesAtZero = [0, 1]
    imagenet_seeds: Repeats = 2

    def grids(self) -> Grids:
        """One sweep, `runs`; none without a folder. Raises DataError if it is missing."""
        if not self.image_folder:
            return {}
        base = TrainingConfig(
            architecture="resnet50",
            dataset="image-folder",
            image_folder=self.image_folder,
            fingerprint=data.fingerprint(self.image_folder),
            batch_norm=True,
            width=self.imagenet_width,
            batch_size=self.imagenet_batch_size,
            epochs=self.imagenet_epochs,
            lr=0.1,
            weight_decay=1e-4,
            schedule="constant",
        )
        return {
            "runs": (fit, conditions(base, self.imagenet_s, GRADIENT_RULES, self.imagenet_seeds))
        }


class SmallTrainings(SweepParameters):
    """Page 08, second part: M23's fully connected network and its ResNet (M23 Fig. 2, 3, 5)."""

    fc_dataset: DatasetName = "mnist"
    fc_hidden_sizes: HiddenSizes = [200, 200, 200]
    fc_epochs: Repeats = 50
    fc_s: DerivativesAtZero = [0, -0.5, 0.5, 0.8, 1]
    fc_precisions: Annotated[Precisions, including("fp32", "bf16")] = ["fp32", "bf16", "fp16"]
    fc_epochs_at_most: ByPrecision = {"fp16": 1}
    fc_seeds: Repeats = 3
    resnet20_dataset: DatasetName = "mnist"
    resnet20_images: Number = 5000
    resnet20_width: Width = 0.25
    resnet20_epochs: Repeats = 10
    resnet20_s: DerivativesAtZero = [0, -0.5, 0.5, 0.8, 1]
    resnet20_seeds: Repeats = 1

    def grids(self) -> Grids:
        """Sweeps `fc` and `resnet`."""
        fully_connected = [config for p in self.fc_precisions for config in self._fc(p)]
        return {"fc": (fit, fully_connected), "resnet": (fit, self._resnets())}

    def _fc(self, precision: Precision) -> list[TrainingConfig]:
        base = TrainingConfig(
            dataset=self.fc_dataset,
            hidden_sizes=self.fc_hidden_sizes,
            precision=precision,
            epochs=min(self.fc_epochs, self.fc_epochs_at_most.get(precision, self.fc_epochs)),
            **M23_ADAM,
        )
        return conditions(base, self.fc_s, GRADIENT_RULES, self.fc_seeds)

    def _resnets(self) -> list[TrainingConfig]:
        """s in all activations, as M23 means it, and in the first alone, as it was run."""
        base = TrainingConfig(
            architecture="resnet20",
            dataset=self.resnet20_dataset,
            n_train=self.resnet20_images,
            width=self.resnet20_width,
            epochs=self.resnet20_epochs,
            **M23_ADAM,
        )
        return [
            config
            for sites in ("all", "first")
            for config in conditions(
                base.replace(activation_sites=sites),
                self.resnet20_s,
                GRADIENT_RULES,
                self.resnet20_seeds,
            )
        ]
