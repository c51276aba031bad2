"""Where exact zeros come from: layers, kernels, orders of summation, and kinks beyond ReLU's."""

from reluprime.mechanism.kinks import KinksConfig, PoolTiesConfig, pool_ties
from reluprime.mechanism.orders import SharesConfig
from reluprime.mechanism.study import (
    ForwardZerosConfig,
    LinearZerosConfig,
    forward_zeros,
    linear_zeros,
)

__all__ = [
    "ForwardZerosConfig",
    "KinksConfig",
    "LinearZerosConfig",
    "PoolTiesConfig",
    "SharesConfig",
    "forward_zeros",
    "linear_zeros",
    "pool_ties",
]
