"""How fast: this package against the released code, and one of its conditions against another."""

from reluprime.speed.config import SpeedConfig
from reluprime.speed.study import measure

__all__ = ["SpeedConfig", "measure"]
