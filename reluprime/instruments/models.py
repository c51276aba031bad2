"""Which network a study is about: the table of architectures, the config, and what builds it.

To add an architecture: write its builder, and its row of ARCHITECTURES.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from pydantic import PositiveFloat, PositiveInt, model_validator
from torch import nn

from reluprime.config import Config, added_field
from reluprime.instruments.arithmetic import Arithmetic, emulate, require
from reluprime.instruments.convolutional import (
    mobilenet_v3_small,
    resnet18,
    resnet20,
    resnet50,
    vgg11,
)
from reluprime.instruments.data import Dataset, as_rgb_32
from reluprime.instruments.fully_connected import Initialisation, mlp_of_images


class Traits(NamedTuple):
    """A row of the table of architectures: all that the package knows of one."""

    builder: Callable[..., nn.Module]  # (n_classes, activation, *, seed, and the options)
    options: tuple[str, ...]  # fields of a study's config, and image_shape
    chain: bool = False  # each layer takes the output of the one before it alone: no branches
    any_size: bool = False  # takes images of three channels and any size, not of 32x32 alone
    own_batch_norm: bool = False  # always has it
    own_dropout: bool = False  # always has it: two passes differ by chance

    @property
    def fully_connected(self) -> bool:
        """Takes images of any shape, flattened, and has hidden_sizes in the place of a width."""
        return "hidden_sizes" in self.options


_OF_MLP = ("hidden_sizes", "batch_norm", "dropout", "initialisation", "relu_after_first")
ARCHITECTURES = {
    "mlp": Traits(mlp_of_images, ("image_shape", *_OF_MLP), chain=True),
    "vgg11": Traits(vgg11, ("width", "batch_norm", "initialisation"), chain=True),
    "resnet18": Traits(resnet18, ("width", "batch_norm"), any_size=True),
    "resnet20": Traits(resnet20, ("width",), any_size=True, own_batch_norm=True),
    "resnet50": Traits(resnet50, ("width", "batch_norm"), any_size=True),
    "mobilenet_v3_small": Traits(
        mobilenet_v3_small, ("width",), any_size=True, own_batch_norm=True, own_dropout=True
    ),
}
Architecture = Literal[*ARCHITECTURES]


class NetworkConfig(Config):
    """Which network a study is about."""

    architecture: Architecture = "mlp"
    hidden_sizes: tuple[PositiveInt, ...] = ()  # of an mlp; the others have none
    width: PositiveFloat = 1.0  # multiplies the channels of the others; 1 is the papers'
    batch_norm: bool = False  # some architectures always have it
    initialisation: Initialisation = "torch"  # see mlp; others than mlp and vgg11 have their own
    arithmetic: Arithmetic = added_field("native")  # how the layers round: see `arithmetic`

    @property
    def traits(self) -> Traits:
        """What the table says of its architecture."""
        return ARCHITECTURES[self.architecture]

    @model_validator(mode="before")
    @classmethod
    def _network_defaults(cls, values):
        """Where a study has default hidden sizes, they are the mlp's; some have batch norm."""
        name = values.get("architecture", "mlp") if isinstance(values, dict) else None
        if name not in [*ARCHITECTURES] or ARCHITECTURES[name].fully_connected:
            return values
        norm = {"batch_norm": True} if ARCHITECTURES[name].own_batch_norm else {}
        return {"hidden_sizes": ()} | norm | values

    @model_validator(mode="after")
    def _fits_the_architecture(self):
        traits, name = self.traits, self.architecture
        if bool(self.hidden_sizes) != traits.fully_connected:
            raise ValueError(
                f"hidden_sizes={self.hidden_sizes} with architecture={name!r}: "
                "an mlp needs at least one, the others have none"
            )
        if traits.own_batch_norm and not self.batch_norm:
            raise ValueError(f"batch_norm=False: {name} always has it")
        defaults = {"width": 1.0, "initialisation": "torch", "batch_norm": traits.own_batch_norm}
        for option, default in defaults.items():
            if option not in traits.options and getattr(self, option) != default:
                raise ValueError(f"{option}={getattr(self, option)!r}: {name} has its own")
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
) -> nn.Module:
    """The network of `config` for images of (channels, height, width), fp32 on the CPU.

    Its builder gets those of its options that the config has. `activation` is called for each of
    its places. Its layers have the config's arithmetic, in every dtype that it is moved to.
    """
    given = dict(config) | {"image_shape": image_shape}
    options = {name: given[name] for name in config.traits.options if name in given}
    network = config.traits.builder(n_classes, activation, seed=seed, **options)
    return emulate(network, config.arithmetic)


def as_input(dataset: Dataset, config: NetworkConfig) -> Dataset:
    """The data set as the network of `config` takes it.

    A fully connected one takes it as it is, the others three channels of at least 32x32.
    """
    return dataset if config.traits.fully_connected else as_rgb_32(dataset)
