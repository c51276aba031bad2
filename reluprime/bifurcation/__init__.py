"""When training with another ReLU'(0) parts from training with 0: B21 3.1."""

from reluprime.bifurcation.networks import PairedRunConfig, Variant
from reluprime.bifurcation.plane import WeightPlaneConfig, weight_plane
from reluprime.bifurcation.study import paired_run

__all__ = ["PairedRunConfig", "Variant", "WeightPlaneConfig", "paired_run", "weight_plane"]
