"""The paired runs that the report's pages ask for."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from reluprime.bifurcation import (
    PairedRunConfig,
    WeightPlaneConfig,
    paired_run,
    weight_plane,
)
from reluprime.config import DatasetName
from reluprime.parameters import (
    AtLeastOne,
    Grids,
    HiddenSizes,
    Precisions,
    Repeats,
    SweepParameters,
)


def _with_half(points: int) -> int:
    """Refuse a grid of which every second point does not have the event in its middle too."""
    if points % 4 != 1:
        raise ValueError("it must be 1 more than a multiple of 4: half the grid has the event too")
    return points


RELU6 = {"activation": "relu6", "hidden_sizes": (4000, 256)}  # B21 Fig. 8


class BifurcationEvent(SweepParameters):
    """Page 01: the first step in which two runs part, and the zone around it (B21 Fig. 1, 7, 8)."""

    dataset: DatasetName = "mnist"
    precisions: Precisions = ["fp32", "fp64"]
    seeds: Repeats = 5
    relu6_seeds: Repeats = 3
    event_arithmetics: AtLeastOne[Literal["epilogue", "separate"]] = ["epilogue", "separate"]
    event_precisions: Precisions = ["bf16", "fp16"]
    epochs: Repeats = 1
    planes: Repeats = 3
    plane_directions: Annotated[int, Field(ge=0, le=1000)] = 2
    resolution: Annotated[int, Field(ge=5, le=10_000), AfterValidator(_with_half)] = 81

    def grids(self) -> Grids:
        """The `runs`, those `at_16_bits`, and `planes` through the events of the first."""
        relu, relu6 = {"seeds": self.seeds}, {"seeds": self.relu6_seeds, **RELU6}
        return {
            "runs": (
                paired_run,
                self._runs(self.precisions, **relu) + self._runs(self.precisions, **relu6),
            ),
            "at_16_bits": (
                paired_run,
                [
                    config
                    for arithmetic in self.event_arithmetics
                    for config in self._runs(self.event_precisions, **relu, arithmetic=arithmetic)
                ],
            ),
            "planes": (weight_plane, self._planes()),
        }

    def _runs(self, precisions: list[str], seeds: int, **changes) -> list[PairedRunConfig]:
        return [
            self._run(precision=precision, seed=seed, **changes)
            for precision in precisions
            for seed in range(seeds)
        ]

    def _run(self, **changes) -> PairedRunConfig:
        return PairedRunConfig(dataset=self.dataset, epochs=self.epochs, **changes)

    def _planes(self) -> list[WeightPlaneConfig]:
        """The planes that are drawn, and further ones, each on two grids of points."""
        drawn = [
            WeightPlaneConfig(run=self._run(seed=seed), resolution=self.resolution)
            for seed in range(self.planes)
        ]
        return drawn + [
            plane.replace(seed=direction, resolution=resolution)
            for plane in drawn
            for direction in range(1, self.plane_directions + 1)
            for resolution in ((self.resolution + 1) // 2, self.resolution)
        ]


class Distances(SweepParameters):
    """Page 08, first part: paired runs with Adam (M23 Fig. 1)."""

    distance_dataset: DatasetName = "mnist"
    distance_hidden_sizes: HiddenSizes = [2000]
    distance_precisions: Precisions = ["fp32", "bf16", "fp16"]
    distance_seeds: Repeats = 3

    def grids(self) -> Grids:
        """One sweep, `pairs`."""
        grid = [
            PairedRunConfig(
                dataset=self.distance_dataset,
                hidden_sizes=self.distance_hidden_sizes,
                optimizer="adam",
                lr=1e-3,
                precision=precision,
                seed=seed,
            )
            for precision in self.distance_precisions
            for seed in range(self.distance_seeds)
        ]
        return {"pairs": (paired_run, grid)}
