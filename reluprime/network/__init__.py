"""Does it matter for your network: `reluprime.check` on networks that are not the papers'."""

from reluprime.network.study import NetworkCheckConfig, check_network

__all__ = ["NetworkCheckConfig", "check_network"]
