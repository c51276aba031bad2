"""How fast: this package against the released code, and one of its conditions against another."""

from reluprime.speed.study import SpeedConfig, measure

__all__ = ["SpeedConfig", "measure"]
