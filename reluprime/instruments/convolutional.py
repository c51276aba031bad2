"""Convolutional networks of torchvision and of M23's release, with the activation passed in."""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import nn
from torchvision import models as torchvision_models
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet, conv1x1
from torchvision.models.vgg import make_layers

from reluprime.instruments.fully_connected import Initialisation, check_sites, kaiming_uniform

VGG11 = (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M")  # "M": max-pool


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Initial weights from `seed`; the global random state is put back."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # the CPU's alone; manual_seed is CUDA's too
        yield


def _replace_relus(network: nn.Module, activation: Callable[[], nn.Module]) -> None:
    """Put a new activation in the place of each of torchvision's ReLU modules."""
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.ReLU):
                setattr(parent, name, activation())


def _scaled(channels: int, width: float) -> int:
    """The number of channels times `width`, at least 1."""
    return max(1, round(channels * width))


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
    the number of channels. `initialisation` as in :func:`fully_connected.mlp`. Source: B21 D.1.
    """
    layers = [n if n == "M" else _scaled(n, width) for n in VGG11]
    with _seeded(seed):
        features = make_layers(layers, batch_norm)
        output = nn.Linear(layers[-2], n_classes)
        parts = {"features": features, "flatten": nn.Flatten(), "output": output}
        network = nn.Sequential(OrderedDict(parts))
        if initialisation == "kaiming-uniform":
            network.apply(kaiming_uniform)
        _replace_relus(network, activation)
    check_sites(network.modules(), 8)
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
    """The initial weights that torchvision gives the convolutions of its ResNets."""
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")


def _no_norm(_: int) -> nn.Module:
    """What stands in the place of a batch norm; called with its number of channels."""
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
    check_sites(network.modules(), 9)
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
    check_sites(network.modules(), 17)
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
    check_sites(network.modules(), 10)
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
    check_sites(network.modules(), 14)
    return network
