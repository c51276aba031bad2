"""Grids of the mechanism studies, and the one that needs a GPU.

    python -m reluprime.mechanism.grids STORE

counts exact zeros of linear layers by shape on a GPU, into a store in the folder STORE.
"""

import argparse
import sys

import torch

from reluprime import records
from reluprime.config import cells
from reluprime.instruments import kernels
from reluprime.instruments.sums import CHUNK
from reluprime.mechanism import study as mechanism
from reluprime.mechanism.orders import SharesConfig
from reluprime.mechanism.study import LinearZerosConfig

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
# kernels.ORDERED, which take 3 to 6 times as long. 1.4 hours in all, on one core.
NETWORKS = {(64,) * 3: (1000, 600), (256,) * 3: (300, 150), (32,) * 4: (1000, 400)}
FIRST_SEED, OWN_SEEDS = 4_000_000, 10_000  # of the first size; between the first of two sizes
PER_CELL = 50  # networks


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


def main() -> None:
    parser = argparse.ArgumentParser(description="Count zeros of linear layers by shape on a GPU.")
    parser.add_argument("store", help="folder of the records")
    store = records.Store(parser.parse_args().store)
    if not torch.cuda.is_available():
        sys.exit("make gpu counts zeros of a GPU's kernels, and there is no NVIDIA GPU here.")
    records.sweep(mechanism.linear_zeros, gpu_grid(), store, device="cuda")


if __name__ == "__main__":
    main()
