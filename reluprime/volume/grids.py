"""The Monte Carlo estimates that the pages on the bifurcation zone ask for."""

from reluprime.config import DatasetName, cells
from reluprime.instruments.arithmetic import Arithmetic
from reluprime.instruments.precision import Precision
from reluprime.parameters import (
    ByPrecision,
    Grids,
    Number,
    Precisions,
    Sizes,
    SweepParameters,
    Width,
)
from reluprime.volume.experiments import B21, M23, PER_CELL, PER_CONV_CELL, Sweep, conv_config
from reluprime.volume.networks import VolumeConfig
from reluprime.volume.study import estimate
from reluprime.volume.zone import ZoneConfig, first_affected


class RelativeVolume(SweepParameters):
    """Page 02: random fully connected networks (B21 Table 1 and Fig. 2, M23 Fig. 4)."""

    dataset: DatasetName = "mnist"
    precisions: Precisions = ["fp16", "bf16", "fp32", "fp64"]
    n_networks: Number = 1000
    table_at_most: ByPrecision = {"fp16": 100}
    variant_networks: Number = 1000
    size_arithmetic: Arithmetic = "epilogue"
    size_precisions: Precisions = ["fp16", "fp32", "fp64"]
    sweep_networks: Number = 1000
    small_networks: Number = 1000
    sweep_at_most: ByPrecision = {"fp64": 50}
    sample_sizes: Sizes = [10000, 20000, 30000, 40000, 50000, 60000]

    def grids(self) -> Grids:
        """`table`, its variants `no_first_relu` and `wide_start`, and the sizes `b21` and `m23`."""
        table = [c for p in self.precisions for c in self._table(p, self.n_networks)]
        one_relu_less = self._table("fp32", self.variant_networks, relu_after_first=False)
        wide = self._table("fp32", self.variant_networks, initialisation="kaiming-uniform")
        return {
            "table": (estimate, table),
            "no_first_relu": (estimate, one_relu_less),
            "wide_start": (estimate, wide),
            "b21": (first_affected, self._sizes(B21, self.sweep_networks)),
            "m23": (first_affected, self._sizes(M23, self.small_networks)),
        }

    def _table(self, precision: Precision, number: int, **condition) -> list[VolumeConfig]:
        n_networks = min(number, self.n_networks, self.table_at_most.get(precision, number))
        config = VolumeConfig(
            dataset=self.dataset, precision=precision, n_networks=n_networks, **condition
        )
        return cells(config, PER_CELL)

    def _sizes(self, sweep: Sweep, number: int) -> list[ZoneConfig]:
        """One size changed at a time; networks of their own at each, at most n_networks."""
        number = min(number, self.n_networks)
        return [
            cell
            for precision in self.size_precisions
            for by, sizes in sweep.shapes.items()
            for size in sizes
            for cell in cells(
                sweep.config(by, size, precision, self.size_arithmetic).replace(
                    dataset=self.dataset,
                    n_networks=min(number, self.sweep_at_most.get(precision, number)),
                ),
                PER_CELL,
            )
        ]


class ConvolutionalVolume(SweepParameters):
    """Page 06: random VGG11 and ResNet-18, with and without batch norm (B21 Fig. 5, 9, 16)."""

    volume_dataset: DatasetName = "cifar10"
    volume_width: Width = 1.0
    volume_arithmetic: Arithmetic = "epilogue"
    volume_precisions: Precisions = ["fp16", "fp32"]
    vgg11_networks: Number = 1000
    resnet18_networks: Number = 300
    volume_batches: Number = 100

    def grids(self) -> Grids:
        """One sweep, `estimates`."""
        numbers = {"vgg11": self.vgg11_networks, "resnet18": self.resnet18_networks}
        grid = [
            cell
            for precision in self.volume_precisions
            for batch_norm in (False, True)
            for architecture, n_networks in numbers.items()
            for cell in cells(
                conv_config(architecture, batch_norm, precision, self.volume_arithmetic).replace(
                    dataset=self.volume_dataset,
                    width=self.volume_width,
                    max_batches=self.volume_batches,
                    n_networks=n_networks,
                ),
                PER_CONV_CELL,
            )
        ]
        return {"estimates": (first_affected, grid)}
