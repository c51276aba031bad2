"""Minimal demonstrations, each of one statement of the audit page or of the mechanism page.

Nothing here is code of the releases: each function does on a small example what one of them does,
beside what its paper defines, and returns a table. Sources: the audit page names repository, file
and commit for each.
"""

from collections import Counter
from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from reluprime import records
from reluprime.evidence.intervals import clopper_pearson
from reluprime.instruments import data, kernels
from reluprime.instruments.activations import GRADIENT_RULES, ReLU, emulated_relu, relu
from reluprime.instruments.convolutional import mobilenet_v3_small
from reluprime.instruments.fully_connected import mlp
from reluprime.instruments.watch import relu_calls


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


def least_share_of_pairs(mini_batches: int) -> pd.DataFrame:
    """Row 2 of B21's Table 1 beside the least value that its row 1 allows.

    Each network in the zone has at least one affected mini-batch of its `mini_batches`.
    """
    published = {"16 bits": (1.0, 5e-4), "32 bits": (0.4, 2e-6)}
    return pd.DataFrame(
        {
            "precision": precision,
            "networks in the zone": f"{networks:.0%}",
            "affected pairs, published": f"{pairs:.4%}",
            "affected pairs, at least": f"{networks / mini_batches:.2%}",
            "published, times 1000": f"{1000 * pairs:.1%}",
        }
        for precision, (networks, pairs) in published.items()
    )


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


def sums_of_a_permutation(size: int = 5) -> pd.DataFrame:
    """Two weight tensors of the same numbers in another order, by two distances."""
    a = torch.arange(float(size))
    b = a.flip(0)
    sums = float((a.sum() - b.sum()).abs())
    return pd.DataFrame([{"L1 distance": float((a - b).abs().sum()), "|sum - sum|": sums}])


def displacement_by_one_gradient(momentum: float, steps: int = 100) -> float:
    """How far SGD moves a weight, in units of lr times gradient, that has a gradient once."""
    weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = torch.optim.SGD([weight], lr=1.0, momentum=momentum)
    for step in range(steps):
        weight.grad = torch.full_like(weight, float(step == 0))
        optimizer.step()
    return -float(weight.detach())


def momentum() -> pd.DataFrame:
    """Plain SGD, as B21 writes it, and with the release's momentum."""
    return pd.DataFrame(
        {"momentum": m, "displacement / (lr * gradient)": round(displacement_by_one_gradient(m), 3)}
        for m in (0.0, 0.9)
    )


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


def largest_initial_weights(inputs: int = 784) -> pd.DataFrame:
    """PyTorch's default initialisation of a linear layer, and the one that B21 3.2 writes."""
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


def formats() -> pd.DataFrame:
    """The two formats that are both called 16 bits."""
    names = {"fp16 (B21's Monte Carlo)": torch.float16, "bf16 (M23's training)": torch.bfloat16}
    return pd.DataFrame(
        {
            "format": name,
            "spacing at 1": torch.finfo(dtype).eps,
            "smallest number": torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps,
            "largest": torch.finfo(dtype).max,
        }
        for name, dtype in names.items()
    )


def bounds_without_a_hit() -> pd.DataFrame:
    """What n networks, none of them in the zone, say about the share (95 % Clopper-Pearson)."""
    return pd.DataFrame(
        {"networks": n, "in the zone": 0, "share at most": f"{clopper_pearson(0, n)[1]:.2%}"}
        for n in (1, 10, 1000)
    )


def runs_without_a_value() -> pd.DataFrame:
    """Released ResNet-18 runs without batch norm, SGD: epochs whose metrics are missing."""
    table = records.published("paper_test_accuracy.csv")
    own = table[(table["network"] == "resnet18") & ~table["batch_norm"].astype(bool)]
    columns = ["s", "runs", "runs_complete", "rows_missing_metric"]
    return own[columns].astype({"runs_complete": int, "rows_missing_metric": int})


def mean_without_diverged(diverged: int, runs: int = 10) -> pd.DataFrame:
    """The mean of runs that reach 80 % or diverge, with diverged runs dropped or at chance."""
    values = pd.Series([0.8] * (runs - diverged) + [float("nan")] * diverged)
    means = {"dropped": values.mean(), "at chance": values.fillna(0.1).mean()}
    return pd.DataFrame([{"runs": runs, "diverged": diverged} | means])


def gain_by_selection(
    accuracy: float = 0.9, images: int = 10_000, candidates: int = 20
) -> pd.DataFrame:
    """How much the best of equally good candidates gains on the images that select it.

    Mean over 10,000 draws from a fixed seed.
    """
    random = np.random.RandomState(0)
    best = random.binomial(images, accuracy, (10_000, candidates)).max(1) / images
    gain = {"accuracy of each": f"{accuracy:.0%}", "of the best": f"{best.mean():.2%}"}
    return pd.DataFrame([{"candidates": candidates, "images": images} | gain])


def mini_batch_of_sixteen() -> pd.DataFrame:
    """The accuracy of a last mini-batch of 16 images, all correct, over a batch size of 128."""
    return pd.DataFrame([{"correct": 16, "over 128": 16 / 128, "over 16": 16 / 16}])


def integer_losses() -> pd.DataFrame:
    """Losses that are written into an array of integers."""
    losses = np.array([0.93, 0.35, 1.98])
    stored = np.arange(3)
    stored[:] = losses
    return pd.DataFrame({"loss": losses, "stored": stored})


def angle_of_directions(size: int = 100_000) -> pd.DataFrame:
    """The cosine between two random directions in weight space, by how they are drawn."""
    generator = torch.Generator().manual_seed(0)
    draws = {
        "uniform on [0, 1]": partial(torch.rand, 2, size, generator=generator),
        "normal (uniform on the sphere)": partial(torch.randn, 2, size, generator=generator),
    }
    return pd.DataFrame(
        {"directions": name, "cosine": round(float(F.cosine_similarity(*draw(), dim=0)), 2)}
        for name, draw in draws.items()
    )


def zero_pixels() -> pd.DataFrame:
    """The share of inputs that are exactly 0, for raw and for normalised images of MNIST."""
    images = data.load("mnist-5k", device="cpu").train_images
    images = data.unit_images(images, torch.float32)
    inputs = {"raw, in [0, 1]": images, "normalised, (x - 0.5) / 0.5": (images - 0.5) / 0.5}
    return pd.DataFrame(
        {"images": name, "exactly 0": f"{float((x == 0).float().mean()):.1%}"}
        for name, x in inputs.items()
    )


def not_a_number() -> pd.DataFrame:
    """Two gradients that are equal, both not a number, by the comparison "any entry differs"."""
    gradient = torch.tensor([float("nan"), 1.0])
    return pd.DataFrame(
        [
            {
                "any entry differs": bool((gradient != gradient.clone()).any()),
                "torch.equal": torch.equal(gradient, gradient.clone()),
            }
        ]
    )


def structural_zero() -> pd.DataFrame:
    """A convolution without bias over a patch of zeros, in every precision."""
    layer = nn.Conv2d(1, 8, 3, bias=False)
    rows = []
    for name, dtype in {"fp64": torch.float64, "fp32": torch.float32}.items():
        z = layer.to(dtype)(torch.zeros(1, 1, 3, 3, dtype=dtype))
        rows.append({"precision": name, "outputs": z.numel(), "exactly 0": int((z == 0).sum())})
    return pd.DataFrame(rows)


def dead_channel(beta: float = 0.0) -> pd.DataFrame:
    """Outputs of batch norm, in each form, on a channel that is 0 everywhere."""
    layer = nn.BatchNorm2d(1)
    nn.init.constant_(layer.bias, beta)
    rows = []
    for form in ("native", *kernels.NORM_FORMS):
        z = kernels.BatchNorm(layer, form)(torch.zeros(4, 1, 2, 2)).detach()
        hits = int((z == layer.bias).sum())
        rows.append({"form": form, "beta": beta, "outputs": z.numel(), "equal to beta": hits})
    return pd.DataFrame(rows)


def one_or_two_roundings() -> pd.DataFrame:
    """x a - round(x a) in fp32 on 1000 random pairs: with the product rounded before the sum, 0."""
    generator = torch.Generator().manual_seed(0)
    x, a = torch.rand(2, 1000, generator=generator)
    b = -(x * a)
    twice, once = x * a + b, (x.double() * a.double() + b.double()).float()
    forms = {"product rounded, then sum": twice, "fused multiply-add": once}
    return pd.DataFrame(
        {"form": name, "of 1000 exactly 0": int((z == 0).sum())} for name, z in forms.items()
    )


def _outcome(call: Callable[[], object]) -> str:
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
    outcome = _outcome(lambda: nn.Sequential(nn.Linear(2, 2), nn.Identity))
    return pd.DataFrame([{"nn.Sequential(..., nn.Identity)": outcome}])


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
    outcome = _outcome(lambda: _OneGradientTooFew.apply(x, 0.1).backward())
    return pd.DataFrame([{"backward": outcome}])


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
