"""What the papers' scale costs: cells that the store lacks, their arithmetic, and hours.

    python benchmarks/cost.py [--store records] [--tflops 30]

Arithmetic is that of matrix products and convolutions (torch's flop counter on one image), times
images, epochs and networks; a training step counts as three forward passes, a search as if no
trial were stopped, a Monte Carlo as if no network were left early. `measured rate` is what this
repository's own records of the same study and architecture reached on their device (median);
`at --tflops` divides by a rate that you expect of yours. Both leave out what is not arithmetic.
"""

import argparse
import math
from collections.abc import Iterable
from itertools import product
from statistics import median

import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

from reluprime import bifurcation, models, records, training, tuning, volume
from reluprime.activations import GRADIENT_RULES, ReLU
from reluprime.bifurcation import PairedRunConfig
from reluprime.config import cells
from reluprime.training import TrainingConfig, conditions
from reluprime.tuning import SearchConfig, Space
from reluprime.volume import VolumeConfig

PRECISIONS = ("fp64", "fp32", "tf32", "bf16", "fp16")
IMAGES = {"mnist": 60_000, "cifar10": 50_000, "svhn": 531_131}
WIDEST_S = [0, 0.1, 0.2, 0.5, 1]
ADAM = {"optimizer": "adam", "momentum": 0.0, "weight_decay": 0.0, "lr": 1e-3}


def monte_carlo(networks: int, **condition) -> list[VolumeConfig]:
    return [
        cell
        for precision in PRECISIONS
        for cell in cells(VolumeConfig(precision=precision, n_networks=networks, **condition), 50)
    ]


def sizes() -> Iterable[VolumeConfig]:
    """B21 Fig. 2: depth, width and batch size around three layers of 256."""
    shapes = {(256,) * d for d in range(1, 7)} | {(w,) * 3 for w in (16, 64, 512, 1024)}
    for shape in sorted(shapes):
        yield from monte_carlo(1000, hidden_sizes=shape, stop_at_first=True)
    for batch_size in (16, 64, 512, 1024):
        yield from monte_carlo(1000, batch_size=batch_size, stop_at_first=True)


def conv_zones() -> Iterable[VolumeConfig]:
    """B21 Fig. 5 and 16."""
    for architecture, norm, precision in product(
        ("vgg11", "resnet18"), (False, True), ("fp32", "fp16")
    ):
        whole = VolumeConfig(
            dataset="cifar10",
            architecture=architecture,
            batch_norm=norm,
            precision=precision,
            batch_size=100,
            stop_at_first=True,
            max_batches=401,
            n_networks=1000,
        )
        yield from cells(whole, 10)


def trainings(s: list[float], seeds: int = 10, **changes) -> list[TrainingConfig]:
    return conditions(TrainingConfig(**changes), s, GRADIENT_RULES, seeds)


def convolutional(**changes) -> list[TrainingConfig]:
    settings = {"dataset": "cifar10", "augment": True, "batch_norm": False} | changes
    return [
        config
        for architecture in ("vgg11", "resnet18")
        for config in trainings(WIDEST_S, architecture=architecture, **settings)
    ]


def searches() -> list[SearchConfig]:
    """M23 Fig. 6, 20 searches of each arm."""
    network = TrainingConfig(
        architecture="mobilenet_v3_small",
        activation="relu6",
        epochs=6,
        schedule="constant",
        evaluate_on="validation",
        **ADAM,
    )
    space = Space(lr=(1e-4, 1e-2), batch_size=(32, 64, 128))
    search = SearchConfig(
        training=network, space=space, n_trials=10, sampler="random", grace_epochs=3
    )
    return tuning.arms(search, GRADIENT_RULES, 20)


def experiments() -> dict[str, tuple]:
    """{experiment: (study, configs)} at the papers' scale."""
    resnet20 = {"architecture": "resnet20", "epochs": 20, "schedule": "constant"} | ADAM
    small = {"hidden_sizes": (200, 200, 200), "epochs": 50, "schedule": "constant"} | ADAM
    m23 = [0, -0.5, 0.5, 0.8, 1]
    return {
        "B21 Table 1, M = 10,000": (volume.estimate, monte_carlo(10_000)),
        "B21 Fig. 2, M = 1000": (volume.estimate, list(sizes())),
        "B21 Fig. 5, 16, M = 1000": (volume.estimate, list(conv_zones())),
        "B21 Fig. 1, 7: event runs": (
            bifurcation.paired_run,
            [PairedRunConfig(precision=p, seed=seed) for p in PRECISIONS for seed in range(10)],
        ),
        "B21 Fig. 3, 15: SGD": (training.fit, convolutional()),
        "B21 Fig. 12: SGD, batch norm": (training.fit, convolutional(batch_norm=True)),
        "B21 Fig. 4: Adam": (training.fit, convolutional(**ADAM)),
        "B21 Fig. 13: Adam, SVHN": (
            training.fit,
            trainings(WIDEST_S, architecture="vgg11", dataset="svhn", **ADAM),
        ),
        "B21 Fig. 9: 2048 x 3": (training.fit, trainings(WIDEST_S)),
        "B21 Fig. 14: precisions": (
            training.fit,
            [
                config
                for precision in ("fp64", "tf32", "bf16", "fp16")
                for config in trainings(
                    [0, 1], dataset="cifar10", architecture="vgg11", precision=precision
                )
            ],
        ),
        "M23 Fig. 2, 3: 200 x 3": (
            training.fit,
            [c for p in ("fp32", "bf16", "fp16") for c in trainings(m23, precision=p, **small)],
        ),
        "M23 Fig. 5: ResNet": (
            training.fit,
            [
                c
                for sites in ("all", "first")
                for c in trainings(m23, 5, activation_sites=sites, **resnet20)
            ],
        ),
        "M23 Fig. 6: MobileNet searches": (tuning.search, searches()),
    }


class Arithmetic:
    """Floating-point operations of configs; one forward pass of each network is counted."""

    def __init__(self):
        self._forward: dict[str, int] = {}

    def forward(self, config) -> int:
        """Of one image."""
        hidden = tuple(config.hidden_sizes)
        network = models.NetworkConfig(
            architecture=getattr(config, "architecture", "mlp"),
            hidden_sizes=hidden,
            width=getattr(config, "width", 1.0),
            batch_norm=getattr(config, "batch_norm", False),
        )
        shape = (1, 28, 28) if network.architecture == "mlp" else (3, 32, 32)
        key = repr(network)
        if key not in self._forward:
            built = models.build(network, shape, 10, ReLU, seed=0).eval()
            counter = FlopCounterMode(display=False)
            with counter, torch.no_grad():
                built(torch.zeros(1, *shape))
            self._forward[key] = counter.get_total_flops()
        return self._forward[key]

    def of(self, config) -> float:
        """Of a whole cell."""
        if isinstance(config, SearchConfig):
            return config.n_trials * 0.8 * self.of(config.training)
        images = IMAGES[config.dataset]
        if isinstance(config, VolumeConfig):
            seen = min(images, (config.max_batches or math.inf) * config.batch_size)
            return config.n_networks * seen * self.forward(config)
        if isinstance(config, PairedRunConfig):
            networks = 2 + len(config.variants)  # s=0, its control, and the variants
            return networks * config.epochs * images * 3 * self.forward(config)
        seen = config.n_train or images
        return config.n_networks * config.epochs * seen * 3 * self.forward(config)


CONFIGS = {
    "volume.estimate": VolumeConfig,
    "bifurcation.paired_run": PairedRunConfig,
    "training.fit": TrainingConfig,
    "tuning.search": SearchConfig,
}


def kind(study: str, config) -> tuple[str, str]:
    inner = getattr(config, "training", config)
    return study, getattr(inner, "architecture", "mlp")


def measured(store: records.Store, arithmetic: Arithmetic) -> dict[tuple[str, str], float]:
    """Operations a second of the store's records, the median of each study and architecture."""
    rates: dict[tuple[str, str], list[float]] = {}
    for study, model in CONFIGS.items():
        for record in store.read(study).values():
            values = record["config"]
            if values.get("dataset") in IMAGES or study == "tuning.search":
                config = model.model_validate(values)
                seconds = max(record["provenance"]["wall_seconds"], 1e-3)
                rate = arithmetic.of(config) / seconds
                rates.setdefault(kind(study, config), []).append(rate)
    return {which: median(values) for which, values in rates.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--store", default="records", help="folder of the records")
    parser.add_argument("--tflops", type=float, default=30.0, help="rate expected of a GPU")
    args = parser.parse_args()
    store, arithmetic = records.Store(args.store), Arithmetic()
    rates, rows = measured(store, arithmetic), []
    for name, (study, grid) in experiments().items():
        known = store.read(records.study_name(study))
        keys = {c: {records.cell_key(study, c, d) for d in ("cpu", "cuda")} for c in grid}
        missing = [c for c in grid if not keys[c] & known.keys()]
        own = [(kind(records.study_name(study), c), arithmetic.of(c)) for c in missing]
        operations = sum(n for _, n in own)
        hours = sum(n / rates[which] for which, n in own if which in rates) / 3600
        unknown = any(which not in rates for which, _ in own)
        rows.append(
            {
                "experiment": name,
                "cells": len(grid),
                "missing": len(missing),
                "PFLOP": f"{operations / 1e15:,.1f}",
                "hours, measured rate": f"{'more than ' * unknown}{hours:,.0f}",
                f"hours at {args.tflops:g} TFLOP/s": f"{operations / args.tflops / 3.6e15:,.2f}",
            }
        )
    print(pd.DataFrame(rows).to_string(index=False))


if __name__ == "__main__":
    main()
