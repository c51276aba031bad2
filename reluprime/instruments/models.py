"""The networks of the papers, with the activation passed in."""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Literal

import torch
from pydantic import PositiveFloat, PositiveInt, model_validator
from torch import nn
from torchvision import models as torchvision_models
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet, conv1x1
from torchvision.models.vgg import make_layers

from reluprime.config import Config, later
from reluprime.instruments.activations import ACTIVATIONS, watched
from reluprime.instruments.arithmetic import Arithmetic, emulate, require

Architecture = Literal["mlp", "vgg11", "resnet18", "resnet20", "resnet50", "mobilenet_v3_small"]
NORMALISED = ("resnet20", "mobilenet_v3_small")  # always with batch norm
Initialisation = Literal["torch", "kaiming-uniform"]


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Initial weights from `seed`; the global random state is put back."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # the CPU's alone; manual_seed is CUDA's too
        yield


def _kaiming_uniform(module: nn.Module, random: torch.Generator | None = None) -> None:
    if isinstance(module, (nn.Linear, nn.Conv2d)):
        nn.init.kaiming_uniform_(module.weight, nonlinearity="relu", generator=random)
        nn.init.zeros_(module.bias)


def _linear(sizes: tuple[int, int], random: torch.Generator) -> nn.Linear:
    """PyTorch's own initial weights, from a generator: threads draw networks at once."""
    layer = nn.utils.skip_init(nn.Linear, *sizes)
    nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5), generator=random)
    bound = 1 / math.sqrt(sizes[0])
    nn.init.uniform_(layer.bias, -bound, bound, generator=random)
    return layer


def _hidden_block(
    index: int,
    linear: nn.Linear,
    activation: Callable[[], nn.Module] | None,
    batch_norm: bool,
    dropout: float,
) -> Iterable[tuple[str, nn.Module]]:
    yield f"linear{index}", linear
    if batch_norm:
        yield f"norm{index}", nn.BatchNorm1d(linear.out_features)
    if activation is not None:
        yield f"activation{index}", activation()
    if dropout:
        yield f"dropout{index}", nn.Dropout(dropout)


def mlp(
    sizes: Sequence[int],
    activation: Callable[[], nn.Module],
    *,
    seed: int,
    batch_norm: bool = False,
    dropout: float = 0.0,
    initialisation: Initialisation = "torch",
    relu_after_first: bool = True,
) -> nn.Sequential:
    """A fully connected network, fp32 on the CPU, the same for a seed on every device.

    sizes: input, hidden and output widths, e.g. (784, 256, 256, 256, 10); inputs are
    (batch, sizes[0]). `activation` is called once for each hidden layer. Layers are named
    linear1, norm1, activation1, dropout1, linear2, ... The global random state is not touched.

    initialisation: ``torch`` draws weights and biases from U(+-1/sqrt(m)), m inputs, PyTorch's
    default; ``kaiming-uniform`` draws weights from U(+-sqrt(6/m)), as B21 3.2 writes it, and
    sets biases to 0. relu_after_first=False leaves out the first layer's activation, as the
    Monte Carlo notebook released with B21 builds its network.
    """
    sizes = tuple(sizes)
    if len(sizes) < 2:
        raise ValueError(f"sizes={sizes} needs at least an input and an output width")
    if initialisation not in ("torch", "kaiming-uniform"):
        raise ValueError(
            f"initialisation={initialisation!r}; choose one of ('torch', 'kaiming-uniform')"
        )
    hidden = list(pairwise(sizes[:-1]))
    random = torch.Generator().manual_seed(seed)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for index, shape in enumerate(hidden, start=1):
        active = activation if relu_after_first or index > 1 else None
        linear = _linear(shape, random)
        layers.update(_hidden_block(index, linear, active, batch_norm, dropout))
    layers["output"] = _linear(sizes[-2:], random)
    network = nn.Sequential(layers)
    if initialisation == "kaiming-uniform":
        for layer in network:
            _kaiming_uniform(layer, random)
    _check_sites(network.children(), len(hidden) - (not relu_after_first and bool(hidden)))
    return network


def _check_sites(modules: Iterable[nn.Module], expected: int) -> None:
    sites = sum(isinstance(module, ACTIVATIONS) for module in modules)
    if sites != expected:
        raise ValueError(
            f"activation built {sites} of the {expected} activations; it must return one of "
            f"{[a.__name__ for a in ACTIVATIONS]}"
        )


def _replace_relus(network: nn.Module, activation: Callable[[], nn.Module]) -> None:
    """Put a new activation in the place of each of torchvision's ReLU modules."""
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.ReLU):
                setattr(parent, name, activation())


def _scaled(channels: int, width: float) -> int:
    return max(1, round(channels * width))


VGG11 = (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M")  # "M": max-pool


def vgg11(
    n_classes: int,
    activation: Callable[[], nn.Module],
    *,
    seed: int,
    width: float = 1.0,
    batch_norm: bool = False,
    initialisation: Initialisation = "torch",
) -> nn.Sequential:
    """VGG11 for 32x32 images, fp32 on the CPU: torchvision's convolutions and one linear layer.

    Inputs are (batch, 3, 32, 32). Eight convolutions with biases, each followed by batch norm if
    `batch_norm` and by an activation of its own; then Linear(512, n_classes). `width` multiplies
    the number of channels. `initialisation` as in :func:`mlp`. Source: B21 D.1.
    """
    layers = [n if n == "M" else _scaled(n, width) for n in VGG11]
    with _seeded(seed):
        features = make_layers(layers, batch_norm)
        output = nn.Linear(layers[-2], n_classes)
        parts = {"features": features, "flatten": nn.Flatten(), "output": output}
        network = nn.Sequential(OrderedDict(parts))
        if initialisation == "kaiming-uniform":
            network.apply(_kaiming_uniform)
        _replace_relus(network, activation)
    _check_sites(network.modules(), 8)
    return network


class _ResNet(ResNet):
    """torchvision's ResNet with the number of channels multiplied."""

    def __init__(self, block: type, layers: list[int], n_classes: int, width: float, norm):
        self.width = width
        super().__init__(block, layers, n_classes, norm_layer=norm)
        stem = _scaled(64, width)
        self.conv1 = nn.Conv2d(3, stem, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = norm(stem)
        self.fc = nn.Linear(self.inplanes, n_classes)
        _torchvision_start(self.conv1)

    # torchvision's own hook. From its public blocks alone we would have to draw, and throw away,
    # the weights that it draws at full width, to have those that the records were made with.
    def _make_layer(
        self, block: type, planes: int, blocks: int, stride: int = 1, dilate: bool = False
    ) -> nn.Sequential:
        if planes == 64:
            self.inplanes = _scaled(64, self.width)
        return super()._make_layer(block, _scaled(planes, self.width), blocks, stride, dilate)


def _torchvision_start(convolution: nn.Conv2d) -> None:
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")


def _no_norm(_: int) -> nn.Module:
    return nn.Identity()


def resnet18(
    n_classes: int,
    activation: Callable[[], nn.Module],
    *,
    seed: int,
    width: float = 1.0,
    batch_norm: bool = True,
) -> ResNet:
    """torchvision's ResNet-18 with a first convolution of 3x3, stride 1; fp32 on the CPU.

    Inputs are (batch, 3, height, width). One activation for the stem and one for each of the
    eight blocks, which calls it twice: 17 calls a pass. batch_norm=False puts the identity in
    the place of each batch norm; then nothing but the last layer has a bias. `width` multiplies
    the number of channels. Source: B21 D.1.
    """
    with _seeded(seed):
        norm = nn.BatchNorm2d if batch_norm else _no_norm
        network = _ResNet(BasicBlock, [2, 2, 2, 2], n_classes, width, norm)
        network.conv1 = nn.Conv2d(3, network.conv1.out_channels, 3, padding=1, bias=False)
        _torchvision_start(network.conv1)
        _replace_relus(network, activation)
    _check_sites(network.modules(), 9)
    return network


def resnet50(
    n_classes: int,
    activation: Callable[[], nn.Module],
    *,
    seed: int,
    width: float = 1.0,
    batch_norm: bool = True,
) -> ResNet:
    """torchvision's ResNet-50, fp32 on the CPU, for ImageNet (B21 4.2, Fig. 17).

    Inputs are (batch, 3, height, width). One activation for the stem and one for each of the 16
    blocks, which calls it three times: 49 calls a pass. Otherwise like :func:`resnet18`.
    """
    with _seeded(seed):
        norm = nn.BatchNorm2d if batch_norm else _no_norm
        network = _ResNet(Bottleneck, [3, 4, 6, 3], n_classes, width, norm)
        _replace_relus(network, activation)
    _check_sites(network.modules(), 17)
    return network


def resnet20(
    n_classes: int, activation: Callable[[], nn.Module], *, seed: int, width: float = 1.0
) -> nn.Sequential:
    """A ResNet after the one that M23's release trains, fp32 on the CPU; its text says ResNet-18.

    Inputs are (batch, 3, height, width). A 3x3 convolution with batch norm and an activation,
    three stages of three of torchvision's basic blocks with 16, 32 and 64 channels times `width`
    and a 1x1 convolution with batch norm on every skip, the mean over the image, and one linear
    layer. Ten activations, the stem's first; each block calls its own twice: 19 calls a pass.
    The release hands its activation to the stem alone: that is `activation_sites="first"` of
    `training.TrainingConfig`. Depth, widths and the places of the activations are the release's;
    its convolutions have biases, those on the skips are 3x3, and it takes one channel. Source:
    M23 4.4 and ristretto/models/convolutional.py of its release.
    """
    channels = [_scaled(n, width) for n in (16, 16, 16, 16, 32, 32, 32, 64, 64, 64)]
    with _seeded(seed):
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        layers["conv"] = nn.Conv2d(3, channels[0], 3, padding=1, bias=False)
        layers["norm"] = nn.BatchNorm2d(channels[0])
        layers["relu"] = activation()
        for index, (before, after) in enumerate(pairwise(channels), start=1):
            stride = 2 if index in (4, 7) else 1
            skip = nn.Sequential(conv1x1(before, after, stride), nn.BatchNorm2d(after))
            layers[f"block{index}"] = BasicBlock(before, after, stride, skip)
        layers |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
        layers["output"] = nn.Linear(channels[-1], n_classes)
        network = nn.Sequential(layers)
        _replace_relus(network, activation)
    _check_sites(network.modules(), 10)
    return network


def mobilenet_v3_small(
    n_classes: int, activation: Callable[[], nn.Module], *, seed: int, width: float = 1.0
) -> nn.Module:
    """torchvision's MobileNetV3-small, fp32 on the CPU.

    Inputs are (batch, 3, height, width). `width` multiplies the channels (torchvision's
    width_mult). `activation` takes the place of every ReLU, one call each: five in the first
    three blocks, and one in each of nine squeeze layers; the other blocks have hard-swish. Its
    dropout of 0.2 before the last layer stays. Source: M23 4.5.
    """
    with _seeded(seed):
        network = torchvision_models.mobilenet_v3_small(num_classes=n_classes, width_mult=width)
        _replace_relus(network, activation)
    _check_sites(network.modules(), 14)
    return network


def plain_row(network: nn.Module) -> list[nn.Module] | None:
    """The layers in the order of a pass, each taking the output of the one before it.

    None for a network that is no nn.Sequential, or where a layer has activations inside: a block
    may have branches. An nn.Sequential within counts as its layers.
    """
    if not isinstance(network, nn.Sequential):
        return None
    row: list[nn.Module] = []
    for layer in network:
        own = plain_row(layer) if isinstance(layer, nn.Sequential) else [layer]
        if own is None:
            return None
        row += own
    inside = (part for layer in row for part in layer.modules() if part is not layer)
    return None if any(isinstance(part, ACTIVATIONS) for part in inside) else row


class NetworkConfig(Config):
    """Which network a study is about."""

    architecture: Architecture = "mlp"
    hidden_sizes: tuple[PositiveInt, ...] = ()  # of an mlp; the others have none
    width: PositiveFloat = 1.0  # multiplies the channels of the others; 1 is the papers'
    batch_norm: bool = False  # resnet20 and mobilenet_v3_small always have it
    initialisation: Initialisation = "torch"  # see mlp; others than mlp and vgg11 have their own
    arithmetic: Arithmetic = later("native")  # how the layers round; the table in `arithmetic`

    @model_validator(mode="before")
    @classmethod
    def _network_defaults(cls, values):
        """Where a study has default hidden sizes, they are the mlp's; some have batch norm."""
        if not isinstance(values, dict) or values.get("architecture", "mlp") == "mlp":
            return values
        norm = {"batch_norm": True} if values["architecture"] in NORMALISED else {}
        return {"hidden_sizes": ()} | norm | values

    @model_validator(mode="after")
    def _fits_the_architecture(self):
        if bool(self.hidden_sizes) != (self.architecture == "mlp"):
            raise ValueError(
                f"hidden_sizes={self.hidden_sizes} with architecture={self.architecture!r}: "
                "an mlp needs at least one, the others have none"
            )
        if self.architecture == "mlp" and self.width != 1:
            raise ValueError(f"width={self.width}: an mlp has hidden_sizes instead")
        if self.architecture not in ("mlp", "vgg11") and self.initialisation != "torch":
            raise ValueError(
                f"initialisation={self.initialisation!r}: {self.architecture} has its own"
            )
        if self.architecture in NORMALISED and not self.batch_norm:
            raise ValueError(f"batch_norm=False: {self.architecture} always has it")
        # Without a study's precision it is the fp32 network that build returns.
        require(self.arithmetic, getattr(self, "precision", "fp32"))
        return self


def build(
    config: NetworkConfig,
    image_shape: Sequence[int],
    n_classes: int,
    activation: Callable[[], nn.Module],
    *,
    seed: int,
    dropout: float = 0.0,
    relu_after_first: bool = True,
) -> nn.Module:
    """The network of `config` for images of (channels, height, width), fp32 on the CPU.

    Its layers have the config's arithmetic, in every dtype that it is moved to. An mlp starts with
    a Flatten. `dropout` and `relu_after_first` are those of :func:`mlp`, and the other networks
    have neither.
    """
    own = {"dropout": dropout, "relu_after_first": relu_after_first}
    network = _native(config, image_shape, n_classes, activation, seed, own)
    return emulate(network, config.arithmetic)


def _native(
    config: NetworkConfig,
    image_shape: Sequence[int],
    n_classes: int,
    activation: Callable[[], nn.Module],
    seed: int,
    of_mlp: dict,
) -> nn.Module:
    if config.architecture == "mlp":
        layers = mlp(
            (math.prod(image_shape), *config.hidden_sizes, n_classes),
            activation,
            seed=seed,
            batch_norm=config.batch_norm,
            initialisation=config.initialisation,
            **of_mlp,
        )
        return nn.Sequential(OrderedDict(flatten=nn.Flatten(), **dict(layers.named_children())))
    common = {"seed": seed, "width": config.width}
    if config.architecture in NORMALISED:
        make = {"resnet20": resnet20, "mobilenet_v3_small": mobilenet_v3_small}
        return make[config.architecture](n_classes, activation, **common)
    common["batch_norm"] = config.batch_norm
    if config.architecture == "vgg11":
        return vgg11(n_classes, activation, initialisation=config.initialisation, **common)
    resnet = {"resnet18": resnet18, "resnet50": resnet50}[config.architecture]
    return resnet(n_classes, activation, **common)


@torch.no_grad()
def relu_calls(network: nn.Module, x: torch.Tensor) -> dict[str, int]:
    """Pre-activations of each activation in a pass of x, the network in evaluation mode."""
    calls: dict[str, int] = {}

    def see(name: str, _: nn.Module, z: torch.Tensor) -> None:
        calls[name] = calls.get(name, 0) + z.numel()

    training = network.training
    with watched(network, see):
        network.eval()(x)
    network.train(training)
    return calls
