"""Gradients, steps and distances: what a rule at 0 does, and what a comparison can miss."""

from collections.abc import Callable
from functools import partial

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reluprime.instruments import data
from reluprime.instruments.activations import GRADIENT_RULES, ReLU, emulated_relu, relu
from reluprime.instruments.fully_connected import mlp


def gradient_at_one_zero(s: float, upstream: float) -> pd.DataFrame:
    """The gradient at an input of exactly 0, for one upstream gradient (B21 Definition 1)."""
    ways: dict[str, Callable[[Tensor], Tensor]] = {
        rule: partial(relu, s=s, gradient_rule=rule) for rule in GRADIENT_RULES
    }
    ways["f_s of B21's footnote 1, PyTorch's own ReLU"] = partial(emulated_relu, s=s)
    rows = []
    for name, function in ways.items():
        x = torch.zeros(1, dtype=torch.float64, requires_grad=True)
        function(x).backward(torch.tensor([upstream], dtype=torch.float64))
        rows.append({"rule": name, "s": s, "upstream": upstream, "gradient": float(x.grad)})
    return pd.DataFrame(rows)


def _planted() -> tuple[nn.Sequential, Tensor, Tensor]:
    """A random 784-256-256-256-10 network and 256 images, one pre-activation made exactly 0.

    Inputs are multiples of 2**-8 and the weights of the first two layers of 2**-10 and 2**-6, so
    that no sum of theirs needs more than fp32's 24 bits: the zero is there in any order of
    summation, on every machine.
    """
    dataset = data.load("mnist-5k", device="cpu")
    x = dataset.train_images[:256].flatten(1).float() / 256
    network = mlp((784, 256, 256, 256, 10), ReLU, seed=2)  # no other exact zero
    with torch.no_grad():
        for layer, steps in ((network.linear1, 2**10), (network.linear2, 2**6)):
            for parameter in layer.parameters():
                parameter.copy_((parameter * steps).round() / steps)
        z = network.linear2(torch.relu(network.linear1(x)))[0]
        network.linear2.bias[z.argmax()] -= z.max()
    return network, x, dataset.train_labels[:256]


def one_planted_zero(s: float = 1.0) -> pd.DataFrame:
    """Relative L2 change of a gradient by one exact zero in the second layer (B21 Table 1, row 3).

    Of the mean loss of one mini-batch of MNIST, over all parameters and over the first layer's
    weights, which are what the release compared.
    """
    network, x, y = _planted()

    def gradients(s: float, rule: str) -> list[Tensor]:
        for module in network:
            if isinstance(module, ReLU):
                module.s, module.gradient_rule = s, rule
        return torch.autograd.grad(F.cross_entropy(network(x), y), list(network.parameters()))

    def change(part: slice) -> str:
        old, new = (torch.cat([g.double().flatten() for g in gs[part]]) for gs in (before, after))
        return f"{(new - old).norm() / old.norm():.2g}"

    before, rows = gradients(0.0, "chain"), []
    for rule in GRADIENT_RULES:
        after = gradients(s, rule)
        rows.append(
            {
                "rule": rule,
                "all parameters": change(slice(None)),
                "first layer's weights": change(slice(1)),
            }
        )
    return pd.DataFrame(rows)


def sums_of_a_permutation() -> pd.DataFrame:
    """Two weight tensors of the same numbers in another order, by two distances."""
    a = torch.arange(5.0)
    b = a.flip(0)
    sums = float((a.sum() - b.sum()).abs())
    return pd.DataFrame([{"L1 distance": float((a - b).abs().sum()), "|sum - sum|": sums}])


def displacement_by_one_gradient(momentum: float) -> float:
    """How far SGD moves a weight, in units of lr times gradient, that has a gradient once."""
    weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = torch.optim.SGD([weight], lr=1.0, momentum=momentum)
    for step in range(100):  # until the momentum is spent
        weight.grad = torch.full_like(weight, float(step == 0))
        optimizer.step()
    return -float(weight.detach())


def momentum() -> pd.DataFrame:
    """Plain SGD, as B21 writes it, and with the release's momentum."""
    return pd.DataFrame(
        {"momentum": m, "displacement / (lr * gradient)": round(displacement_by_one_gradient(m), 3)}
        for m in (0.0, 0.9)
    )


def angle_of_directions() -> pd.DataFrame:
    """The cosine between two random directions in weight space, by how they are drawn."""
    size = 100_000
    generator = torch.Generator().manual_seed(0)
    draws = {
        "uniform on [0, 1]": partial(torch.rand, 2, size, generator=generator),
        "normal (uniform on the sphere)": partial(torch.randn, 2, size, generator=generator),
    }
    return pd.DataFrame(
        {"directions": name, "cosine": round(float(F.cosine_similarity(*draw(), dim=0)), 2)}
        for name, draw in draws.items()
    )


def not_a_number() -> pd.DataFrame:
    """Two gradients that are equal, both not a number, by the comparison "any entry differs"."""
    gradient = torch.tensor([float("nan"), 1.0])
    return pd.DataFrame(
        [
            {
                "any entry differs": bool((gradient != gradient.clone()).any()),
                "equal, by torch.equal": torch.equal(gradient, gradient.clone()),
            }
        ]
    )
