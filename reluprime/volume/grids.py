"""The Monte Carlo estimates that the pages on the bifurcation zone ask for."""

from collections.abc import Iterable

from reluprime.config import DatasetName, cells
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
from reluprime.volume.networks import VolumeConfig
from reluprime.volume.study import estimate

# Hidden sizes, depths, widths and batch sizes of B21 Fig. 2 and M23 Fig. 4.
B21 = ((256,) * 3, (1, 2, 3, 4, 5, 6), (16, 64, 256, 512, 1024), (16, 64, 512, 1024))
M23 = ((32,) * 4, (1, 2, 3, 5, 6), (4, 8, 16, 32, 64), (16, 32, 64, 128))
PER_CELL = 50  # networks of one cell of the grid
PER_CONV_CELL = 10


class RelativeVolume(SweepParameters):
    """Page 02: random fully connected networks (B21 Table 1 and Fig. 2, M23 Fig. 4)."""

    dataset: DatasetName = "mnist"
    precisions: Precisions = ["fp16", "bf16", "fp32", "fp64"]
    n_networks: Number = 1000
    table_at_most: ByPrecision = {"fp16": 100}
    variant_networks: Number = 500
    sweep_networks: Number = 200
    sweep_at_most: ByPrecision = {"fp16": 100, "bf16": 100, "fp64": 50}
    small_networks: Number = 200
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
            "b21": (estimate, self._sizes(self.sweep_networks, *B21)),
            "m23": (estimate, self._sizes(self.small_networks, *M23)),
        }

    def _table(self, precision: Precision, number: int, **condition) -> list[VolumeConfig]:
        return self._cells(precision, number, self.table_at_most, **condition)

    def _cells(
        self, precision: Precision, number: int, at_most: ByPrecision, **condition
    ) -> list[VolumeConfig]:
        n_networks = min(number, self.n_networks, at_most.get(precision, number))
        config = VolumeConfig(
            dataset=self.dataset, precision=precision, n_networks=n_networks, **condition
        )
        return cells(config, PER_CELL)

    def _sizes(
        self,
        number: int,
        base: tuple[int, ...],
        depths: Iterable[int],
        widths: Iterable[int],
        batch_sizes: Iterable[int],
    ) -> list[VolumeConfig]:
        """One size changed at a time; a network is left at its first affected mini-batch."""
        shapes = [base[:1] * depth for depth in depths] + [(w,) * len(base) for w in widths]
        conditions = [{"hidden_sizes": shape} for shape in dict.fromkeys(shapes)]
        conditions += [{"hidden_sizes": base, "batch_size": size} for size in batch_sizes]
        return [
            cell
            for precision in self.precisions
            for condition in conditions
            for cell in self._cells(
                precision, number, self.sweep_at_most, stop_at_first=True, **condition
            )
        ]


class ConvolutionalVolume(SweepParameters):
    """Page 06: random VGG11 and ResNet-18, with and without batch norm (B21 Fig. 5, 9, 16)."""

    volume_dataset: DatasetName = "cifar10"
    volume_width: Width = 1.0
    volume_networks: ByPrecision = {"fp32": 100}
    volume_batches: Number = 60
    norm_batches: Number = 10

    def grids(self) -> Grids:
        """One sweep, `estimates`."""
        grid = [
            cell
            for precision, n_networks in self.volume_networks.items()
            for batch_norm in (False, True)
            for architecture in ("vgg11", "resnet18")
            for cell in cells(
                VolumeConfig(
                    dataset=self.volume_dataset,
                    architecture=architecture,
                    width=self.volume_width,
                    batch_norm=batch_norm,
                    precision=precision,
                    batch_size=100,
                    stop_at_first=True,
                    max_batches=self.norm_batches if batch_norm else self.volume_batches,
                    n_networks=n_networks,
                ),
                PER_CONV_CELL,
            )
        ]
        return {"estimates": (estimate, grid)}
