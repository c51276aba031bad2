"""The registered trainings with widened kinks: networks, widths of the band, and grids."""

from collections.abc import Iterable, Sequence

from reluprime.evidence.claim import Cell
from reluprime.evidence.paired import CIFAR_MARGIN, MLP_MARGIN
from reluprime.training import experiments
from reluprime.training.config import TrainingConfig
from reluprime.training.study import fit

SEEDS = range(5)
MLP = TrainingConfig(
    dataset="mnist", hidden_sizes=(256, 256, 256), epochs=5, lr=0.01, count_units=True
)

VGG = experiments.VGG.small.config.replace(count_units=True)
RESNET = experiments.RESNET.small.config.replace(count_units=True)
FASHION = MLP.replace(dataset="fashion-mnist")
WIDTHS = (1e-8, 3e-8, 1e-7, 3e-7, 1e-6, 3e-6, 1e-5, 3e-5, 1e-4)
MIDDLE = WIDTHS[2:7]
WIDE = (1e-6, 1e-4, 3e-3, 1e-2, 1e-1)  # for the derivative


# What else may move the dose that a network bears, one change at a time.
VARIANTS: dict[str, dict] = {
    "learning rate 0.003": {"lr": 0.003},
    "learning rate 0.03": {"lr": 0.03},
    "batch size 32": {"batch_size": 32},
    "batch size 512": {"batch_size": 512},
    "1 hidden layer": {"hidden_sizes": (256,)},
    "5 hidden layers": {"hidden_sizes": (256,) * 5},
    "kinks in layer 1": {"kink_layer": 1},
    "kinks in layer 2": {"kink_layer": 2},
    "kinks in layer 3": {"kink_layer": 3},
}


MITIGATIONS: dict[str, dict] = {
    "no momentum": {"momentum": 0.0, "lr": 0.1},  # the same step once momentum has built up
    "Adam": experiments.ADAM | {"lr": 1e-3},
    "batch norm": {"batch_norm": True},
    "dropout": {"dropout": 0.5},
    "clipped gradients": {"clip_norm": 1.0},
    "no weight decay": {"weight_decay": 0.0},
}


MITIGATED = WIDTHS[2:8]


def bands(
    base: TrainingConfig,
    widths: Iterable[float],
    s_values: Sequence[float],
    gradient_rule: str,
    seeds: Iterable[int] = SEEDS,
    **changes,
) -> list[Cell]:
    """For each width and seed the reference at s=0 and the runs at each s, all with `changes`."""
    found = []
    for width in widths:
        for seed in seeds:
            own = base.replace(kink_width=width, seed=seed, **changes)
            found.append(Cell(fit, own))
            found += [Cell(fit, own.replace(s=s, gradient_rule=gradient_rule)) for s in s_values]
    return found


NETWORKS = {
    "mlp": (MLP, MLP_MARGIN),
    "vgg11": (VGG, CIFAR_MARGIN),
    "resnet18": (RESNET, CIFAR_MARGIN),
}


def plain(base: TrainingConfig) -> list[Cell]:
    """The runs at s=0 without a band."""
    return bands(base, (0.0,), (), "chain")


def mlp_grid(gradient_rule: str) -> list[Cell]:
    """Widths, s and rule on the fully connected network."""
    if gradient_rule == "chain":
        return bands(MLP, WIDE, (0.5, 1.0, -1.0, 2.0, 10.0, 50.0), "chain") + plain(MLP)
    return [
        *bands(MLP, WIDTHS, (1.0,), "injected"),
        *bands(MLP, (*WIDTHS[2:], 3e-4), (0.1,), "injected"),
        *bands(MLP, WIDTHS[4:], (0.01,), "injected"),
        *bands(MLP, WIDTHS[1:], (0.3,), "injected"),
        *bands(MLP, WIDTHS[1:7], (-1.0,), "injected"),
        *bands(MLP, (1e-9, 3e-9, *WIDTHS[:5]), (10.0, 50.0), "injected"),
        *plain(MLP),
    ]


def vgg_grid(gradient_rule: str) -> list[Cell]:
    """Widths, s and rule on VGG11 at a quarter of the width."""
    if gradient_rule == "chain":
        return [
            *bands(VGG, (1e-4, 3e-3, 1e-2, 1e-1), (1.0,), "chain"),
            *bands(VGG, (1e-2,), (10.0,), "chain"),
            *plain(VGG),
        ]
    return bands(VGG, (1e-8, 1e-7, 1e-6), (1.0, 0.1), "injected") + plain(VGG)


def resnet_grid(gradient_rule: str) -> list[Cell]:
    """Widths, s and rule on ResNet-18 without batch norm at a quarter of the width."""
    if gradient_rule == "chain":
        return bands(RESNET, (1e-4, 3e-3, 1e-2), (1.0,), "chain") + plain(RESNET)
    return bands(RESNET, (1e-9, 1e-8, 1e-7), (1.0,), "injected") + plain(RESNET)


GRIDS = {"mlp": mlp_grid, "vgg11": vgg_grid, "resnet18": resnet_grid}
REAL = {p: MLP.replace(precision=p, arithmetic="separate") for p in ("fp16", "bf16")}
REAL_S = {"injected": (1.0, 0.3, 0.1), "chain": (1.0,)}


def real_grid(gradient_rule: str) -> list[Cell]:
    """The same network at 16 bits without a band, where zeros are real and many."""
    s_values = REAL_S[gradient_rule]
    return [c for own in REAL.values() for c in bands(own, (0.0,), s_values, gradient_rule)]


def mitigation_grid(gradient_rule: str) -> list[Cell]:
    """Each way to train at s=1, and without a band how many exact zeros it leaves."""
    cells = []
    for changes in MITIGATIONS.values():
        own = MLP.replace(**changes)
        cells += bands(own, MITIGATED, (1.0,), gradient_rule)
        cells += bands(own, (0.0,), (), gradient_rule)
        cells += bands(own.replace(arithmetic="epilogue"), (0.0,), (), gradient_rule)
    return cells + bands(MLP.replace(arithmetic="epilogue"), (0.0,), (), gradient_rule)


def variant_grid(gradient_rule: str) -> list[Cell]:
    """One change at a time, at s=1."""
    return [
        cell
        for changes in VARIANTS.values()
        for cell in bands(MLP, (3e-8, *MIDDLE), (1.0,), gradient_rule, **changes)
    ]


def fashion_grid() -> list[Cell]:
    """A second data set, three seeds: shown, and judged by no rule."""
    return [
        *bands(FASHION, (1e-7, 1e-6), (1.0,), "injected", range(3)),
        *bands(FASHION, (1e-4, 1e-2), (1.0,), "chain", range(3)),
    ]


# On both sides of the paper's dose (`claims.by_dose`): a width within it and one beyond.
BATCH_NORM, ADAM, DROPOUT = (
    MLP.replace(**MITIGATIONS[name]) for name in ("batch norm", "Adam", "dropout")
)
SIDES = {MLP: (1e-8, 1e-6), BATCH_NORM: (3e-9, 3e-7), ADAM: (1e-8, 1e-6), DROPOUT: (1e-8, 1e-6)}


def both_sides(
    networks: Iterable[TrainingConfig], s_values: Sequence[float], gradient_rule: str
) -> list[Cell]:
    """Fully connected networks on both sides; under the derivative, beyond the dose alone."""
    sides = slice(1, None) if gradient_rule == "chain" else slice(None)
    return [
        cell
        for own in networks
        for cell in bands(own, SIDES[own][sides], s_values, gradient_rule) + plain(own)
    ]


def at_one(base: TrainingConfig, gradient_rule: str) -> list[Cell]:
    """VGG11 or ResNet-18 at s=1: what `vgg_grid` and `resnet_grid` have of it up to 1 %."""
    widths = {
        ("vgg11", "injected"): (1e-8, 1e-7, 1e-6),
        ("resnet18", "injected"): (1e-9, 1e-8, 1e-7),
    }
    wide = (1e-4, 3e-3, 1e-2)
    own = widths.get((base.architecture, gradient_rule), wide)
    return bands(base, own, (1.0,), gradient_rule) + plain(base)
