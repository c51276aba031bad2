"""The instruments on networks that are not the papers': the study of the page "Your network"."""

import time
from functools import lru_cache
from typing import Annotated, Any

import pandas as pd
import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn
from torchvision import models as torchvision_models

from reluprime.check import check
from reluprime.config import Config, Seed, added_field, study
from reluprime.instruments.arithmetic import Arithmetic
from reluprime.instruments.precision import Precision, best_device
from reluprime.training.config import TrainingConfig
from reluprime.training.study import trained

BATCH = ["affected", "low", "high", "relative_l2", "largest", "next_batch"]
COUNTS = ["calls", "hits", "structural", "by_rounding", "units", "dead_units"]


class NetworkCheckConfig(Config):
    """One network under one precision and arithmetic, as `reluprime.check` looks at it."""

    network: str = "resnet18"  # a builder of torchvision.models, at initialisation
    trained: TrainingConfig | None = added_field(None)  # in its place: the network of this training
    precision: Precision = "fp32"  # of weights and activations, or of autocast
    autocast: bool = added_field(False)  # fp32 weights under torch.autocast
    arithmetic: Arithmetic = added_field("native")
    image_size: PositiveInt = 64  # pixels a side of random images; a trained network has its own
    batch_size: PositiveInt = 16
    n_batches: Annotated[int, Field(ge=2)] = 4
    seed: Seed = 0  # of initial weights and random images

    @model_validator(mode="after")
    def _can_be_built(self):
        known = torchvision_models.list_models(module=torchvision_models)
        if self.trained is None and self.network not in known:
            raise ValueError(f"network={self.network!r} is no builder of torchvision.models")
        if self.trained is not None and self.trained.n_networks != 1:
            raise ValueError("trained.n_networks must be 1")
        return self


@study("network.check", version=2)
def check_network(config: NetworkCheckConfig, device: torch.device | None = None) -> dict:
    """Whether the gradient of a network depends on the derivative at its kinks, and where.

    Returns answer (the sentence of `reluprime.check`), summary (a row of `Report.summary`), sites
    (rows of `Report.sites`) and check_seconds, without the time of a training. Labels are drawn
    among the classes; a trained network sees the first images of its test set.
    """
    device = best_device() if device is None else device
    network, batches = _trained(config, device) if config.trained else initialised(config, device)
    precision = f"{config.precision}-autocast" if config.autocast else config.precision
    began = time.perf_counter()
    report = check(network.train(), batches, precision=precision, arithmetic=config.arithmetic)
    seconds = time.perf_counter() - began
    (summary,) = _plain(report.summary[[*BATCH, *COUNTS]])
    sites = report.sites.drop(columns=["precision", "arithmetic", "reduced_precision"])
    return {
        "answer": report.answer,
        "summary": summary,
        "sites": _plain(sites),
        "check_seconds": round(seconds, 2),
    }


def _plain(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of numbers and strings; None where there is no number."""
    whole = table.astype(object)
    return whole.where(whole.notna(), None).to_dict("records")


def initialised(
    config: NetworkCheckConfig, device: torch.device
) -> tuple[nn.Module, list[tuple[Tensor, Tensor]]]:
    """A network of torchvision with weights from the seed, and random mini-batches."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)
        sized = {"image_size": config.image_size} if config.network.startswith("vit") else {}
        network = torchvision_models.get_model(config.network, weights=None, **sized)
    random = torch.Generator().manual_seed(config.seed)
    shape = (config.n_batches, config.batch_size, 3, config.image_size, config.image_size)
    images = torch.randn(shape, generator=random)
    labels = torch.randint(1000, shape[:2], generator=random)
    return network.to(device), _pairs(images.to(device), labels.to(device))


@lru_cache(1)
def _network_of(config: TrainingConfig, device: torch.device) -> tuple[nn.Module, Tensor, Tensor]:
    """Trained once for all conditions of a sweep; a check copies what it is given."""
    return trained(config, device)


def _trained(config: NetworkCheckConfig, device: torch.device) -> tuple[nn.Module, list]:
    network, images, labels = _network_of(config.trained, device)
    n = config.n_batches * config.batch_size
    shape = (config.n_batches, config.batch_size)
    return network, _pairs(images[:n].reshape(*shape, *images.shape[1:]), labels[:n].reshape(shape))


def _pairs(images: Tensor, labels: Tensor) -> list[tuple[Tensor, Tensor]]:
    return list(zip(images, labels, strict=True))
