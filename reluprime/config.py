"""What the configs of all studies have in common."""

from collections.abc import Callable
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

# The sets that data.load finds by name alone.
DatasetName = Literal["mnist-5k", "mnist", "fashion-mnist", "cifar10", "svhn"]
# Generators take 32 bits (numpy) or 64 (torch), and each epoch of a seed has its own.
MOST_EPOCHS = 100_000
Epochs = Annotated[int, Field(ge=1, le=MOST_EPOCHS)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]

_STUDIES: dict[str, Callable] = {}  # by name


class Config(BaseModel):
    """A frozen, validated set of parameters: unknown names and wrong values raise before work."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def replace(self, **changes: Any) -> Self:
        """This config with some fields changed, validated as a whole.

        Raises pydantic.ValidationError as a new config would: for an unknown field, a wrong value
        or one that does not fit the others. pydantic's own copying with changes checks nothing.
        """
        return type(self).model_validate(dict(self) | changes)


def study(name: str, version: int) -> Callable[[Callable], Callable]:
    """Make a function of one config a study: what records call it, and the version of its results.

    Its argument `config` has a type, by which its records are checked. The name stays when the
    code moves, so that its records are found again. The version is raised when the same config
    gives another result.
    """

    def named(function: Callable) -> Callable:
        if "config" not in function.__annotations__:
            raise TypeError(f"{name}: the argument `config` of a study needs a type")
        function.study_name, function.version = name, version
        _STUDIES[name] = function
        return function

    return named


def known_study(name: str) -> Callable | None:
    """The study called so, if the module that has it was imported."""
    return _STUDIES.get(name)


def added_field(default: Any) -> Any:
    """A field that a config got when there were records of its study already.

    A config with the default is written without the field, so that it keeps the key that it had
    before there was one. So the default must be what the study did then.
    """
    return Field(default=default, exclude_if=lambda value: value == default)


def cells(config: Config, size: int) -> list[Config]:
    """Split a config of many networks into cells of at most `size`; the networks stay.

    config: with `n_networks`, drawn with seeds seed, seed + 1, ...
    """
    return [
        config.replace(seed=config.seed + start, n_networks=min(size, config.n_networks - start))
        for start in range(0, config.n_networks, size)
    ]
