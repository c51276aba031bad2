"""What the configs of all studies have in common."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

# The sets that data.load finds by name alone.
DatasetName = Literal["mnist-5k", "mnist", "fashion-mnist", "cifar10", "svhn"]


class Config(BaseModel):
    """A frozen, validated set of parameters: unknown names and wrong values raise before work."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
