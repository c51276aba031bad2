"""How often ReLU'(0) changes the gradient of a random network: Monte Carlos of B21 and M23."""

from reluprime.volume.networks import VolumeConfig
from reluprime.volume.study import estimate
from reluprime.volume.zone import ZoneConfig, first_affected

__all__ = ["VolumeConfig", "ZoneConfig", "estimate", "first_affected"]
