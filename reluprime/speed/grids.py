"""The comparisons that are measured, in sizes that fit a device."""

import torch

from reluprime.speed.config import SpeedConfig
from reluprime.speed.tasks import TASKS


def grid(device: torch.device) -> list[SpeedConfig]:
    """Every task in the sizes that fill the device and take minutes."""
    if device.type == "cuda":
        own = {"monte-carlo-fp16": {"n_networks": 20}}  # an arithmetic but native has no stacks
        return [SpeedConfig(task=task, **own.get(task, {})) for task in TASKS]
    small = {"repeats": 3, "n_networks": 20, "n_released": 4, "epochs": 3}
    images = small | {"width": 0.25, "n_train": 5000, "epochs": 1}
    own = dict.fromkeys(("vgg11", "resnet18", "vgg11-bf16"), images)
    own["mlp-2048"] = small | {"epochs": 1}
    return [SpeedConfig(task=task, **own.get(task, small)) for task in TASKS]
