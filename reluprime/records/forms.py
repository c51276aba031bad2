"""What a record must look like, so that an impossible one is left out wherever records are read."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveInt, ValidationError

from reluprime.records.results import FORMS, Form


class Provenance(Form):
    """How a record of any study of the package came about."""

    device: Literal["cpu", "cuda"]
    device_name: str
    threads: PositiveInt
    wall_seconds: NonNegativeFloat
    utc: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00$")]
    reluprime: str
    commit: str
    python: str
    torch: str
    torchvision: str
    numpy: str


def problem(name: str, version: int, config: dict, result: dict, provenance: dict) -> str:
    """What is impossible in a record of a study, in words; "" if nothing is, or it has no form."""
    form = FORMS.get((name, version))
    if form is None:
        return ""
    for what, kind, content in (("result", form, result), ("provenance", Provenance, provenance)):
        try:
            kind.model_validate(content, context=config)
        except ValidationError as error:
            return f"an impossible {what}: {words(error)}"
        except (KeyError, TypeError) as error:
            return f"a {what} that does not fit its config: {error!r}"
    return ""


def words(error: ValidationError) -> str:
    """A validation's first error on one line."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg']}" if place else first["msg"]
