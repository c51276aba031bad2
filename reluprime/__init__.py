"""Does the value of ReLU'(0) matter? The replication's instruments, for any model.

Importing this needs torch, numpy, pandas and pydantic alone; the report's modules need the rest.
"""

__version__ = "0.1.0"

from reluprime.check import check  # the function from here on, and the package by `import from`
from reluprime.check.watch import kinks
from reluprime.instruments.activations import LeakyReLU, ReLU, ReLU6, leaky_relu, relu, relu6
from reluprime.instruments.watch import count_kinks

__all__ = [
    "LeakyReLU",
    "ReLU",
    "ReLU6",
    "check",
    "count_kinks",
    "kinks",
    "leaky_relu",
    "relu",
    "relu6",
]
