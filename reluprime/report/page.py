"""The parameters of the report's notebooks: which a page declares, and what they may be."""

import ast
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt

from reluprime.instruments.precision import Precision


def annotated(code: str) -> dict[str, Any]:
    """{name: type} of the variables that a cell's code annotates, all with built-in types.

    Read from the code, as a module's own ``__annotations__`` are no global from Python 3.14 on.
    """
    found = (node for node in ast.parse(code).body if isinstance(node, ast.AnnAssign))
    return {node.target.id: eval(ast.unparse(node.annotation)) for node in found}


def declared(notebook: Path) -> dict[str, Any]:
    """{name: type} of a notebook's parameters: the names that its cell of parameters annotates."""
    (cell,) = (
        cell
        for cell in json.loads(notebook.read_text())["cells"]
        if "parameters" in cell["metadata"].get("tags", [])
    )
    return annotated("".join(cell["source"]))


def _with(*needed: Any) -> AfterValidator:
    """What must hold some values, as a comparison without them is none."""

    def check(values: Any) -> Any:
        if missing := [value for value in needed if value not in values]:
            raise ValueError(f"{' and '.join(map(str, missing))} must be among them")
        return values

    return AfterValidator(check)


def _each(names: str, kind: Any) -> dict[str, Any]:
    return dict.fromkeys(names.split(), kind)


_SOME = Field(min_length=1)
# What a parameter may be, where its type in the notebook says too little: a cell with imports
# would be no table of parameters. Without this a wrong value would do nothing, or fail after hours.
NARROWER: dict[str, Any] = {
    **_each("seeds relu6_seeds planes mlp_seeds vgg_seeds resnet_seeds plain_seeds", PositiveInt),
    **_each("tuned_seeds conv_mitigation_seeds imagenet_seeds distance_seeds", PositiveInt),
    **_each("fc_seeds resnet20_seeds mobilenet_seeds", PositiveInt),
    **_each("fc_search_repeats mobilenet_search_repeats", PositiveInt),
    "plane_directions": NonNegativeInt,
    **_each("mlp_s vgg_s resnet_s plain_s mitigation_s", Annotated[list[float], _with(0)]),
    **_each("conv_mitigation_s imagenet_s fc_s", Annotated[list[float], _with(0)]),
    **_each("resnet20_s mobilenet_s", Annotated[list[float], _with(0)]),
    "search_s": Annotated[list[float], _SOME],
    **_each("table_at_most sweep_at_most", dict[Precision, PositiveInt]),
    **_each("epochs_at_most seeds_at_most fc_epochs_at_most", dict[Precision, PositiveInt]),
    **_each("precisions distance_precisions", Annotated[list[Precision], _SOME]),
    "pool_precisions": Annotated[list[Precision], _SOME],
    "fc_precisions": Annotated[list[Precision], _with("fp32", "bf16")],
    "form_networks": Annotated[
        dict[Literal["fp64", "fp32", "fp16", "bf16"], PositiveInt], _with("fp32", "fp16", "bf16")
    ],
    "sample_sizes": Annotated[list[PositiveInt], _SOME],
    "normalised": list[Literal["vgg11", "resnet18"]],
    "trained_epochs": Annotated[list[PositiveInt], _SOME],
    "kink_epochs": Annotated[list[NonNegativeInt], _SOME],
    "structural_datasets": Annotated[list[str], _SOME],
}
