"""The report's pages, each with its parameters, and the profiles: at which scale they are run."""

import reprlib
from typing import Any

from pydantic import ValidationError

from reluprime import records
from reluprime.bifurcation.grids import BifurcationEvent, Distances
from reluprime.dose.grids import Doses, PublishedDoses
from reluprime.mechanism.grids import BeyondReLU, WhereZerosComeFrom
from reluprime.network.grids import YourNetwork
from reluprime.parameters import Grids, Parameters, SweepParameters
from reluprime.report import profile_file
from reluprime.report.profile_file import AS_REPORT, EVERY_PAGE
from reluprime.search.grids import MobileNet, SmallSearches, TrainingCurves
from reluprime.training.grids import ImageNet, Mitigation, ZeroCalls
from reluprime.trust.grids import Trust
from reluprime.volume.grids import ConvolutionalVolume, RelativeVolume

NOTEBOOKS = records.REPOSITORY / "notebooks"
PROFILES = NOTEBOOKS / "profiles"
SCORECARD = "00_scorecard"  # reads what all others compute
REPORT = "report"  # the profile that the notebooks' own values are
COMMITTED, MINE = "records", "_build/mine"  # stores
MOST_ERRORS = 20  # of a page's parameters, in one message
_SHORT = reprlib.Repr()  # of what may be a whole file
_SHORT.maxstring = _SHORT.maxother = 100
RUN = {"store", "compute", "max_seconds", "registered_store"}  # parameters that change no cell


class Replication(Distances, SmallSearches):
    """Page 08: what M23 repeats of B21, but MobileNet."""

    def grids(self) -> Grids:
        """Sweep `pairs`, and those of the trainings and searches."""
        return Distances.grids(self) | SmallSearches.grids(self)


class SpeedAndCost(Parameters):
    """Page 13: what is missing at the scale of a profile, and what that costs."""

    planned: str = "paper"


PAGES: dict[str, type[Parameters]] = {
    SCORECARD: Parameters,
    "01_bifurcation_event": BifurcationEvent,
    "02_relative_volume": RelativeVolume,
    "03_training_curves": TrainingCurves,
    "04_mitigation": Mitigation,
    "05_zero_calls": ZeroCalls,
    "06_conv_volume": ConvolutionalVolume,
    "07_imagenet": ImageNet,
    "08_replication_fc": Replication,
    "09_mobilenet_tuning": MobileNet,
    "10_where_zeros_come_from": WhereZerosComeFrom,
    "11_audit": Parameters,
    "12_beyond_relu": BeyondReLU,
    "13_speed_and_cost": SpeedAndCost,
    "14_how_many_kinks": Doses,
    "15_your_network": YourNetwork,
    "16_trust": Trust,
    "17_audit_details": Parameters,
    "18_audit_m23": Parameters,
    "19_published_doses": PublishedDoses,
    "20_published_zeros": Parameters,
}


def profiles() -> list[str]:
    """The names of the profiles."""
    return sorted({REPORT, *(path.stem for path in PROFILES.glob("*.yaml"))})


def chosen(only: tuple[str, ...]) -> list[str]:
    """The pages whose names start with one of `only`; raises ValueError where there is none."""
    if found := [name for name in PAGES if name.startswith(only)]:
        return found
    raise ValueError(f"no page's name starts with {' or '.join(only)}")


def checked(page: str, values: dict[str, Any]) -> Parameters:
    """A page's parameters; raises ValueError naming each that is unknown or wrong."""
    kind = PAGES[page]
    if unknown := sorted(values.keys() - kind.model_fields.keys()):
        raise ValueError(
            f"unknown parameter{'s' * (len(unknown) > 1)} {', '.join(unknown)}; "
            f"choose from {', '.join(sorted(kind.model_fields))}"
        )
    try:
        return kind(**values)
    except ValidationError as error:
        wrong = [
            f"{'.'.join(map(str, e['loc']))}={_SHORT.repr(e['input'])}: {e['msg']}"
            for e in error.errors()[:MOST_ERRORS]
        ]
        raise ValueError(f"wrong parameters of {page}: {'; '.join(wrong)}") from None


def changed(parameters: Parameters) -> dict[str, Any]:
    """The parameters that are not the report's, but for where and when to compute."""
    usual = type(parameters)()
    return {
        name: value
        for name, value in parameters
        if name not in RUN and value != getattr(usual, name)
    }


def folder(parameters: Parameters) -> str:
    """Where a page's records are: in `store`, if it is named.

    Else in the committed store, if the parameters are the report's or the page computes nothing,
    and in one of the reader's own if they are not.
    """
    own = isinstance(parameters, SweepParameters) and changed(parameters)
    return parameters.store or (MINE if own else COMMITTED)


def section(page: str, profile: str) -> dict[str, Any]:
    """What a profile says of a page's parameters; {} for the report's, whose values are usual.

    Raises ValueError for an unknown profile, and for a file that is none.
    """
    if profile not in profiles():
        raise ValueError(f"profile={profile!r}; choose one of {profiles()}")
    if profile == REPORT:
        return {}
    fields = {name: {*kind.model_fields} for name, kind in PAGES.items()}
    said = profile_file.read(PROFILES / f"{profile}.yaml", fields, checked)
    every_page = said.get(EVERY_PAGE, {})
    own = {n: v for n, v in every_page.items() if n in PAGES[page].model_fields}
    return own | {n: v for n, v in said.get(page, {}).items() if n != AS_REPORT}


def values(
    profile: str, changes: dict[str, Any], only: tuple[str, ...] = ("",)
) -> dict[str, dict[str, Any]]:
    """The parameters in which pages differ from their usual values, by page.

    changes: values in the place of the profile's, on each of the pages that has such a parameter.
    Raises ValueError for an unknown profile or page, and for a change that no page has or that a
    page does not take.
    """
    names = chosen(only)
    known = set().union(*(PAGES[name].model_fields for name in names))
    if unknown := sorted(changes.keys() - known):
        raise ValueError(
            f"unknown parameter {', '.join(unknown)}; choose from {', '.join(sorted(known))}"
        )
    found = {
        name: section(name, profile)
        | {n: v for n, v in changes.items() if n in PAGES[name].model_fields}
        for name in names
    }
    for name, own in found.items():
        checked(name, own)
    return found
