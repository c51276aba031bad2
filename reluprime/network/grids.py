"""The networks that the page "Does it matter for your network?" looks at."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field
from torchvision import models as torchvision_models

from reluprime.config import DatasetName
from reluprime.instruments.arithmetic import Arithmetic
from reluprime.network.study import NetworkCheckConfig, check_network
from reluprime.parameters import (
    AtLeastOne,
    Distinct,
    Grids,
    Number,
    Repeats,
    SweepParameters,
    Width,
)
from reluprime.training.config import TrainingConfig


def _known(network: str) -> str:
    if network not in torchvision_models.list_models(module=torchvision_models):
        raise ValueError("no builder of torchvision.models")
    return network


Network = Annotated[str, AfterValidator(_known)]
Autocast = Literal["fp64", "fp32", "bf16", "fp16", "bf16-autocast", "fp16-autocast"]


class YourNetwork(SweepParameters):
    """Page 15: networks of torchvision, and a trained ResNet-18 with batch norm."""

    your_networks: Distinct[Network] = ["resnet18", "vgg11", "mobilenet_v3_small"]
    smooth_networks: Distinct[Network] = ["convnext_tiny", "vit_b_16"]
    your_precisions: AtLeastOne[Autocast] = ["fp32", "bf16-autocast", "bf16"]
    your_arithmetics: AtLeastOne[Arithmetic] = ["native", "epilogue"]
    your_image_size: Number = 64
    your_batch_size: Number = 16
    your_batches: Annotated[int, Field(ge=2, le=100_000)] = 4
    trained_dataset: DatasetName = "cifar10"
    trained_images: Number = 50000
    trained_width: Width = 0.25
    trained_for: Repeats = 3

    def grids(self) -> Grids:
        """Sweeps `initialised` and `trained`.

        An emulated arithmetic is asked for where the precision is not one of autocast.
        """
        resnet = TrainingConfig(
            architecture="resnet18",
            batch_norm=True,
            lr=0.01,
            augment=True,
            dataset=self.trained_dataset,
            n_train=self.trained_images,
            width=self.trained_width,
            epochs=self.trained_for,
        )
        names = dict.fromkeys(self.your_networks + self.smooth_networks)  # one may be in both
        initialised = [{"network": n, "image_size": self.your_image_size} for n in names]
        return {
            "initialised": (check_network, self._cells(initialised)),
            "trained": (check_network, self._cells([{"trained": resnet}])),
        }

    def _cells(self, networks: list[dict[str, Any]]) -> list[NetworkCheckConfig]:
        return [
            NetworkCheckConfig(
                **network,
                batch_size=self.your_batch_size,
                n_batches=self.your_batches,
                precision=precision.removesuffix("-autocast"),
                autocast=precision.endswith("-autocast"),
                arithmetic=arithmetic,
            )
            for network in networks
            for precision in self.your_precisions
            for arithmetic in self.your_arithmetics
            if arithmetic == "native" or not precision.endswith("-autocast")
        ]
