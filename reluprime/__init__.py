"""Does the value of ReLU'(0) matter? The replication's instruments, for any model.

Importing this needs torch, numpy, pandas and pydantic alone; the report's modules need the rest.
"""

__version__ = "0.1.0"

from reluprime import testing

# The name reluprime.check is the function from here on; the package is there by `import from`.
from reluprime.check import Report, check
from reluprime.check.watch import kinks
from reluprime.instruments.activations import LeakyReLU, ReLU, ReLU6, leaky_relu, relu, relu6
from reluprime.instruments.watch import count_kinks

__all__ = [
    "LeakyReLU",
    "ReLU",
    "ReLU6",
    "Report",
    "check",
    "count_kinks",
    "kinks",
    "leaky_relu",
    "relu",
    "relu6",
    "testing",
]
