"""The networks of a training: their initial weights, and where s and a band are set."""

import functools

import torch
from torch import nn

from reluprime.instruments import models
from reluprime.instruments.activations import ACTIVATIONS, ReLU, ReLU6
from reluprime.training.config import TrainingConfig, check_kink_layer


def seeds_of(config: TrainingConfig) -> list[int]:
    """The seed of each network of a run."""
    return list(range(config.seed, config.seed + config.n_networks))


def activation_of(config: TrainingConfig, has_s: bool) -> nn.Module:
    """An activation of a run, with the config's s and s_upper or with 0 in their place."""
    s, s_upper = (config.s, config.s_upper) if has_s else (0.0, 0.0)
    if config.activation == "relu6":
        return ReLU6(s, s_upper, config.gradient_rule)
    return ReLU(s, config.gradient_rule)


def activation_names(network: nn.Module) -> list[str]:
    """The names of the activations, in the order in which a forward pass comes to them."""
    return [name for name, m in network.named_modules() if isinstance(m, ACTIVATIONS)]


def set_s(network: nn.Module, config: TrainingConfig) -> None:
    """Replace activations of a network by ones with the config's s and s_upper, in place.

    A network is built with s=0 in all of them. config.activation_sites says which are replaced:
    all, the one that a forward pass meets first, or none.
    """
    sites = activation_names(network)
    for name in sites[: {"all": len(sites), "first": 1, "none": 0}[config.activation_sites]]:
        network.set_submodule(name, activation_of(config, has_s=True))


def widen_kinks(network: nn.Module, config: TrainingConfig) -> None:
    """Set the config's kink_width in the activations of a network, which is built without one.

    In the kink_layer-th alone if there is a kink_layer; raises ValueError where there is no such
    activation.
    """
    sites = activation_names(network)
    if config.kink_layer:
        check_kink_layer(config.kink_layer, len(sites))
        sites = [sites[config.kink_layer - 1]]
    for name in sites:
        network.get_submodule(name).kink_width = config.kink_width


def build_networks(config: TrainingConfig, batches, device: torch.device, dtype: torch.dtype):
    """Each network of a run, with its initial weights in `dtype` on the device.

    batches: where the shape of an image and the number of classes are known from.
    """
    for seed in seeds_of(config):
        network = models.build(
            config,
            batches.image_shape,
            batches.n_classes,
            functools.partial(activation_of, config, has_s=False),
            seed=seed,
        )
        set_s(network, config)
        if config.kink_width:
            widen_kinks(network, config)
        if config.traits.fully_connected:
            yield network.to(device, dtype)
        else:  # the faster layout for convolutions on both kinds of device
            yield network.to(device, dtype, memory_format=torch.channels_last)
