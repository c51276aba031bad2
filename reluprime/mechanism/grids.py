"""Grids of the mechanism studies. That of exact zeros by shape needs a GPU."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from reluprime.config import DatasetName, cells
from reluprime.instruments import kernels
from reluprime.instruments.sums import CHUNK
from reluprime.mechanism import kinks
from reluprime.mechanism.kinks import KinksConfig, PoolTiesConfig
from reluprime.mechanism.orders import SharesConfig
from reluprime.mechanism.study import ForwardZerosConfig, LinearZerosConfig, forward_zeros
from reluprime.parameters import (
    AtLeastOne,
    Grids,
    HiddenSizes,
    Number,
    Precisions,
    Sizes,
    SweepParameters,
    Width,
    including,
)
from reluprime.training.config import TrainingConfig
from reluprime.training.study import fit

PIXELS = 784
BATCH_SIZE = 256  # images, where it does not vary
# Width where the batch size varies, widths, batch sizes: B21 Fig. 2 and M23 Fig. 4.
PANELS = {
    "B21": (256, (16, 64, 256, 512, 1024), (16, 64, 256, 512, 1024)),
    "M23": (32, (4, 8, 16, 32, 64), (16, 32, 64, 128, 256)),
}
# Arithmetic, and whether cuBLAS may round partial sums. The emulations are what the kernel's
# counts are compared with.
CONDITIONS = (("native", True), ("native", False), ("epilogue", False), ("separate", False))

FORMS = ("native", "unfused", *kernels.SLICES, "tf32-unfused", *kernels.ORDERED)
# By hidden sizes (B21 Fig. 2 twice, M23 Fig. 4): networks in a form, and in one of
# kernels.ORDERED, which take 3 to 6 times as long. 1.5 hours in all, on one core.
NETWORKS = {(64,) * 3: (1000, 600), (256,) * 3: (300, 150), (32,) * 4: (1000, 400)}
FIRST_SEED, OWN_SEEDS = 4_000_000, 10_000  # of the first size; between the first of two sizes
PER_CELL = 50  # networks

PAGE_FORMS = {  # of the linear layers of page 10
    "fp64": ("native",),
    "fp32": ("native", "unfused", "split", "wide", "tf32"),
    "fp16": ("native", "fused", "unfused", "split"),
    "bf16": ("native", "fused", "unfused", "split"),
}
ROUNDED = ("unfused", "split")  # forms that round sums to storage


def layer_shapes() -> list[tuple[int, int, int]]:
    """(rows, inputs, outputs) of the first and of a later layer, each shape of PANELS once."""
    sizes = [
        size
        for base, widths, batch_sizes in PANELS.values()
        for size in [(BATCH_SIZE, w) for w in widths] + [(b, base) for b in batch_sizes]
    ]
    shapes = ((rows, inputs, w) for rows, w in sizes for inputs in (PIXELS, w))
    return list(dict.fromkeys(shapes))


def gpu_grid() -> list[LinearZerosConfig]:
    """Each shape of the papers' panels of widths and batch sizes at 16 bits, by condition."""
    return [
        LinearZerosConfig(
            precision=precision,
            arithmetic=arithmetic,
            reduced_precision=reduced,
            rows=rows,
            inputs=inputs,
            outputs=outputs,
        )
        for precision in ("fp16", "bf16")
        for rows, inputs, outputs in layer_shapes()
        for arithmetic, reduced in CONDITIONS
    ]


def orders_grid() -> list[SharesConfig]:
    """The sizes of NETWORKS in each of FORMS at fp32; in all forms of a size the same networks."""
    return [
        cell
        for index, (hidden_sizes, (many, few)) in enumerate(NETWORKS.items())
        for form in FORMS
        for cell in cells(
            SharesConfig(
                hidden_sizes=hidden_sizes,
                linear_form=form,
                # To a sum in a written order the mini-batch is only what is in memory at once.
                batch_size=CHUNK // hidden_sizes[0] if form in kernels.ORDERED else BATCH_SIZE,
                n_networks=few if form in kernels.ORDERED else many,
                seed=FIRST_SEED + OWN_SEEDS * index,
            ),
            PER_CELL,
        )
    ]


class WhereZerosComeFrom(SweepParameters):
    """Page 10: exact zeros of forward passes, by where and how a layer rounds."""

    zero_dataset: DatasetName = "mnist"
    form_networks: Annotated[
        dict[Literal["fp64", "fp32", "fp16", "bf16"], Number],
        including("fp32", "fp16", "bf16"),
    ] = {"fp64": 50, "fp32": 200, "fp16": 20, "bf16": 200}
    rounded_networks: Number = 4
    form_depths: Sizes = [1, 3, 6]
    form_widths: Sizes = [64, 256, 1024]
    size_networks: Number = 100
    trained_epochs: Sizes = [1, 5]
    trained_networks: Number = 50
    norm_dataset: DatasetName = "cifar10"
    norm_width: Width = 1.0
    norm_images: Number = 10000
    structural_datasets: AtLeastOne[DatasetName] = ["cifar10", "mnist"]
    structural_width: Width = 1.0
    structural_images: Number = 200

    def grids(self) -> Grids:
        """Sweeps `forms`, `sizes`, `trained`, `norms` of VGG11 and `structural` of ResNet-18."""
        grids = {
            "forms": [
                cell
                for precision in self.form_networks
                for form in PAGE_FORMS[precision]
                for cell in self._form(precision, form)
            ],
            "sizes": self._sizes(),
            "trained": self._trained(),
            "norms": self._norms(),
            "structural": self._structural(),
        }
        return {name: (forward_zeros, grid) for name, grid in grids.items()}

    def _form(self, precision: str, form: str) -> list[ForwardZerosConfig]:
        slow = form in ROUNDED and precision in ("fp16", "bf16")
        number = self.rounded_networks if slow else self.form_networks[precision]
        return self._mlps(number, precision=precision, linear_form=form)

    def _mlps(self, number: int, **condition) -> list[ForwardZerosConfig]:
        config = ForwardZerosConfig(dataset=self.zero_dataset, n_networks=number, **condition)
        return cells(config, PER_CELL)

    def _sizes(self) -> list[ForwardZerosConfig]:
        shapes = [(256,) * d for d in self.form_depths] + [(w,) * 3 for w in self.form_widths]
        return [
            cell
            for shape in dict.fromkeys(shapes)
            if shape != (256,) * 3  # which is among the forms
            for cell in self._mlps(self.size_networks, hidden_sizes=shape)
        ]

    def _trained(self) -> list[ForwardZerosConfig]:
        kinds = (
            ("fp32", "native", self.trained_networks),
            ("bf16", "unfused", self.rounded_networks),
        )
        return [
            cell
            for epochs in self.trained_epochs
            for precision, form, number in kinds
            for cell in self._mlps(number, epochs=epochs, precision=precision, linear_form=form)
        ]

    def _norms(self) -> list[ForwardZerosConfig]:
        base = ForwardZerosConfig(
            architecture="vgg11",
            batch_norm=True,
            dataset=self.norm_dataset,
            width=self.norm_width,
            n_images=self.norm_images,
            batch_size=100,
        )
        return [base.replace(norm_form=form) for form in ("native", *kernels.NORM_FORMS)]

    def _structural(self) -> list[ForwardZerosConfig]:
        return [
            ForwardZerosConfig(
                architecture="resnet18",
                width=self.structural_width,
                n_images=self.structural_images,
                batch_size=100,
                dataset=dataset,
                precision=precision,
            )
            for dataset in self.structural_datasets
            for precision in ("fp32", "fp64")
        ]


def _one_trained(epochs: list[int]) -> list[int]:
    if not any(epochs):
        raise ValueError("one must be above 0: the trainings with ReLU6 last the longest")
    return epochs


class BeyondReLU(SweepParameters):
    """Page 12: the kinks of other functions."""

    zero_dataset: DatasetName = "mnist"
    kink_networks: Number = 20
    kink_epochs: Annotated[
        AtLeastOne[Annotated[int, Field(ge=0, le=1000)]], AfterValidator(_one_trained)
    ] = [0, 5]
    norm_dataset: DatasetName = "cifar10"
    pool_precisions: Precisions = ["fp32", "bf16"]
    pool_images: Number = 1000
    relu6_hidden_sizes: HiddenSizes = [512, 512, 512]

    def grids(self) -> Grids:
        """Sweeps `counts` of kinks, ties in `pools`, and trainings with `relu6`."""
        counts = [
            KinksConfig(
                dataset=self.zero_dataset,
                precision=precision,
                epochs=epochs,
                n_networks=self.kink_networks,
            )
            for precision in ("fp64", "fp32", "bf16")
            for epochs in self.kink_epochs
        ]
        pools = [
            PoolTiesConfig(dataset=self.norm_dataset, precision=p, n_images=self.pool_images)
            for p in self.pool_precisions
        ]
        trainings = [
            TrainingConfig(
                dataset=self.zero_dataset,
                hidden_sizes=self.relu6_hidden_sizes,
                activation="relu6",
                epochs=max(self.kink_epochs),
                precision=precision,
            )
            for precision in ("fp32", "bf16")
        ]
        return {
            "counts": (kinks.count, counts),
            "pools": (kinks.pool_ties, pools),
            "relu6": (fit, trainings),
        }
