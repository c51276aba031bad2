"""What a page of the report can be asked: the base of each topic's `grids`."""

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import pandas as pd
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from reluprime.config import Config
from reluprime.instruments.precision import Precision

T = TypeVar("T")


def _distinct(values: list) -> list:
    """No cell is computed twice."""
    if twice := [value for n, value in enumerate(values) if value in values[:n]]:
        raise ValueError(f"{' and '.join(map(str, dict.fromkeys(twice)))} must be there only once")
    return values


# Bounds are far beyond what a page could compute, and keep a slip from filling the memory.
Distinct = Annotated[list[T], Field(max_length=200), AfterValidator(_distinct)]
AtLeastOne = Annotated[list[T], Field(min_length=1, max_length=200), AfterValidator(_distinct)]
Number = Annotated[int, Field(ge=1, le=2_000_000)]
Repeats = Annotated[int, Field(ge=1, le=1_000)]  # of a whole grid: seeds, epochs, trials
Size = Annotated[int, Field(ge=1, le=100_000)]
Sizes = AtLeastOne[Size]  # each with cells of its own
HiddenSizes = Annotated[list[Size], Field(min_length=1, max_length=200)]  # of one network
Precisions = AtLeastOne[Precision]
ByPrecision = dict[Precision, Number]
Width = Annotated[float, Field(gt=0, le=64)]
# What fp16 can hold.
Derivative = Annotated[float, Field(ge=-10_000, le=10_000)]
KinkWidth = Annotated[float, Field(ge=0, le=10_000)]

# What to compute by the name of a sweep: a study, and the configs to call it with.
Grids = dict[str, tuple[Callable, list[BaseModel]]]


def including(*needed: Any) -> AfterValidator:
    """A check that some values are in a list (or are keys), as comparisons need them."""

    def check(values: Any) -> Any:
        if missing := [value for value in needed if value not in values]:
            raise ValueError(f"{' and '.join(map(str, missing))} must be among them")
        return values

    return AfterValidator(check)


DerivativesAtZero = Annotated[AtLeastOne[Derivative], including(0)]  # each s is compared with s=0


class Parameters(Config):
    """The parameters of a page, validated; the cell of parameters in its notebook says the same.

    Types are strict: a text that reads as a number is none.
    """

    model_config = ConfigDict(strict=True)  # with what a Config has

    needed_first: ClassVar[tuple[str, ...]] = ()  # sweeps that `grids_after` depends on

    store: str = ""  # folder of the records; empty: see `report.page.Page`

    def grids(self) -> Grids:
        """The page's sweeps, by name."""
        return {}

    def grids_after(self, found: dict[str, pd.DataFrame]) -> Grids:
        """Sweeps whose configs depend on the results of :meth:`grids`, by name.

        found: the frames of those sweeps, without the rows of cells that are missing; at least of
        those that :attr:`needed_first` names.
        """
        return {}


class SweepParameters(Parameters):
    """The parameters of a page that computes."""

    compute: Literal["missing", "never", "always"] = "missing"
    max_seconds: Annotated[int, Field(ge=0, le=100_000_000)] = (
        86400  # start no new cell after this many seconds
    )
