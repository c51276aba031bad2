"""Networks: which activations they have, and how they are built and counted."""

from collections import Counter
from collections.abc import Callable
from functools import partial

import pandas as pd
import torch
import torchvision
from torch import nn

from reluprime import records
from reluprime.instruments.activations import ReLU
from reluprime.instruments.convolutional import mobilenet_v3_small
from reluprime.instruments.fully_connected import mlp
from reluprime.instruments.watch import relu_calls


def calls_of_an_epoch(hidden_sizes: tuple[int, ...], images: int) -> pd.DataFrame:
    """ReLU calls of an epoch as they are, and as B21's Fig. 6 counts them: neurons."""
    network = mlp((784, *hidden_sizes, 10), ReLU, seed=0)
    calls = images * sum(relu_calls(network, torch.zeros(1, 784)).values())
    neurons = sum(hidden_sizes)
    return pd.DataFrame([{"calls": calls, "neurons": neurons, "calls / neurons": calls // neurons}])


def swallowed_keyword() -> pd.DataFrame:
    """An unknown keyword to torchvision's MobileNetV3, which passes it on as M23's copy does."""
    given = torchvision.models.mobilenet_v3_small(activation=ReLU)
    built = mobilenet_v3_small(10, ReLU, seed=0)
    kinds = {
        "activation=ReLU, ignored": given,
        "reluprime's, which replaces every ReLU": built,
    }
    return pd.DataFrame(
        {
            "network": name,
            "ReLU with s": sum(isinstance(m, ReLU) for m in network.modules()),
            "PyTorch's ReLU": sum(isinstance(m, nn.ReLU) for m in network.modules()),
        }
        for name, network in kinds.items()
    )


def activation_of_the_stem() -> pd.DataFrame:
    """A ResNet whose stem alone gets the activation: its blocks keep their own."""
    network = torchvision.models.resnet18()
    network.relu = ReLU(s=1.0)
    kinds = Counter(type(m) for m in network.modules())
    return pd.DataFrame([{"ReLU with s": kinds[ReLU], "PyTorch's ReLU": kinds[nn.ReLU]}])


def relus_of_three_hidden_layers() -> pd.DataFrame:
    """ReLUs of a network of three hidden layers, as in B21 3.2 and as its Monte Carlo builds it."""
    sizes = (784, 256, 256, 256, 10)
    kinds = {"B21 3.2": True, "Monte Carlo notebook": False}
    return pd.DataFrame(
        {
            "network": name,
            "ReLUs": sum(
                isinstance(m, ReLU) for m in mlp(sizes, ReLU, seed=0, relu_after_first=first)
            ),
        }
        for name, first in kinds.items()
    )


def largest_initial_weights() -> pd.DataFrame:
    """PyTorch's default initialisation of a linear layer, and the one that B21 3.2 writes."""
    inputs = 784
    torch_, written = (
        mlp((inputs, 256, 10), ReLU, seed=0, initialisation=i).linear1
        for i in ("torch", "kaiming-uniform")
    )
    rows = {"PyTorch's default": (torch_, 1.0), "as written": (written, 6.0)}
    return pd.DataFrame(
        {
            "initialisation": name,
            "largest |weight|": float(layer.weight.detach().abs().max()),
            "bound": (square / inputs) ** 0.5,
        }
        for name, (layer, square) in rows.items()
    )


def _outcome(call: Callable[[], object]) -> str:
    """What a call gives or raises, in words."""
    try:
        result = call()
    except (TypeError, ValueError, RuntimeError) as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return str(result)


def dropout_of_s() -> pd.DataFrame:
    """A dropout layer that is given s as its rate: the share of values it sets to 0."""

    def share(s: float) -> float:
        return float((nn.Dropout(s)(torch.ones(100)) == 0).float().mean())

    return pd.DataFrame(
        {"s": s, "share set to 0": _outcome(partial(share, s))} for s in (0.0, 1.0, -1.0, 2.0)
    )


def class_for_a_module() -> pd.DataFrame:
    """A network that is given a class where a layer must stand."""
    words = _outcome(lambda: nn.Sequential(nn.Linear(2, 2), nn.Identity))
    return pd.DataFrame([{"nn.Sequential(..., nn.Identity)": words}])


def networks_in_released_files() -> pd.DataFrame:
    """The networks whose test accuracies B21's release contains."""
    table = records.published("paper_test_accuracy.csv")
    counts = table.groupby(["network", "dataset"], sort=False, as_index=False)["runs"].sum()
    return counts.rename(columns={"runs": "runs released"})


def activations_of_mobilenet() -> pd.DataFrame:
    """The nonlinear modules of MobileNetV3-small."""
    network = torchvision.models.mobilenet_v3_small()
    kinds = Counter(type(m).__name__ for m in network.modules())
    names = ("ReLU", "Hardswish", "Hardsigmoid")
    return pd.DataFrame({"module": name, "number": kinds[name]} for name in names)


class _OneGradientTooFew(torch.autograd.Function):
    """A function of two inputs whose backward pass returns one value."""

    @staticmethod
    def forward(ctx, x, slope):
        return torch.where(x > 0, x, slope * x)

    @staticmethod
    def backward(ctx, gradient):
        return gradient


def missing_gradient() -> pd.DataFrame:
    """What PyTorch says of a backward pass that returns too few gradients."""
    x = torch.ones(1, requires_grad=True)
    words = _outcome(lambda: _OneGradientTooFew.apply(x, 0.1).backward())
    return pd.DataFrame([{"backward": words}])
