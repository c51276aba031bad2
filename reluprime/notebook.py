"""Parameters of the report's notebooks: checked inside them, and executed with papermill.

`python -m reluprime.notebook OUT [--profile quick] [-p NAME VALUE]` executes every notebook.
"""

import argparse
import sys
import time
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import papermill
import yaml
from IPython.display import HTML
from papermill.exceptions import PapermillExecutionError
from pydantic import ConfigDict, ValidationError, create_model
from tqdm import TqdmWarning

from reluprime.records import REPOSITORY

# Optuna asks tqdm for a widget, and a report has none.
warnings.filterwarnings("ignore", "IProgress not found", TqdmWarning)

NOTEBOOKS = REPOSITORY / "notebooks"
PROFILES = NOTEBOOKS / "profiles"

# What IPython itself puts into a notebook's namespace.
_IPYTHON = {"In", "Out", "exit", "quit", "get_ipython", "open"}


def check_parameters(namespace: dict[str, Any], parameters: Any) -> Any:
    """Check the names and types of a notebook's parameters before anything is computed.

    Call it first after the parameters: `check_parameters(globals(), __annotations__)`. The
    annotations of the parameters cell say what there is. Raises ValueError naming an unknown
    parameter, or the value, the parameter and the type it should have. A name of another
    notebook is accepted if the value is the profile's: one profile file serves all notebooks.
    """
    given = {
        name: value
        for name, value in namespace.items()
        if not name.startswith("_") and name not in _IPYTHON and name != "check_parameters"
    }
    shared = _read_profile(given.get("profile"))
    foreign = {n for n in given.keys() - parameters.keys() if n in shared and shared[n] == given[n]}
    if unknown := sorted(given.keys() - parameters.keys() - foreign):
        raise ValueError(
            f"unknown parameter{'s' * (len(unknown) > 1)} {', '.join(unknown)}; "
            f"choose from {', '.join(sorted(parameters))}"
        )
    model = create_model(
        "Parameters",
        __config__=ConfigDict(strict=True, allow_inf_nan=False),
        **{name: (kind, ...) for name, kind in parameters.items()},
    )
    try:
        model(**{name: given[name] for name in parameters})
    except ValidationError as error:
        wrong = [
            f"{'.'.join(map(str, e['loc']))}={e['input']!r}: {e['msg']}" for e in error.errors()
        ]
        raise ValueError("wrong parameters: " + "; ".join(wrong)) from None


def _read_profile(name: Any) -> dict[str, Any]:
    known = sorted(path.stem for path in PROFILES.glob("*.yaml"))
    if name not in known:
        raise ValueError(f"profile={name!r}; choose one of {known}")
    return yaml.safe_load((PROFILES / f"{name}.yaml").read_text())


def show(frame: pd.DataFrame) -> HTML:
    """A table for the page: no index, whole texts, and the same bytes each time."""
    with pd.option_context("display.max_colwidth", None):
        return HTML(frame.to_html(index=False, border=0))


def paths() -> list[Path]:
    """The report's notebooks in the order of execution: the scorecard reads what others wrote."""
    first, *others = sorted(NOTEBOOKS.glob("*.ipynb"))
    return [*others, first]


def _plain(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Without papermill's times and paths, so that a run that changes nothing changes no file."""
    notebook.metadata.pop("papermill", None)
    for cell in notebook.cells:
        for name in ("papermill", "execution"):
            cell.metadata.pop(name, None)
        if "tags" in cell.metadata and not cell.metadata.tags:
            del cell.metadata["tags"]
        # Progress bars and warnings: the one has times, the other paths.
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
    return notebook


def _known(path: Path) -> set[str]:
    return set(papermill.inspect_notebook(str(path)))


def execute(path: Path, out: Path, parameters: dict[str, Any]) -> float:
    """Execute one notebook into the folder `out` with those of the parameters that it has.

    Returns the seconds it took. Raises what papermill raises.
    """
    known = _known(path)
    parameters = {name: value for name, value in parameters.items() if name in known}
    out.mkdir(parents=True, exist_ok=True)
    work = out / f".{path.name}"  # a failed run leaves the last good copy where it was
    began = time.perf_counter()
    try:
        notebook = papermill.execute_notebook(
            str(path), str(work), parameters, kernel_name="python3", progress_bar=False
        )
        nbformat.write(_plain(notebook), out / path.name)
    finally:
        work.unlink(missing_ok=True)
    return time.perf_counter() - began


def _pairs(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    return {name: yaml.safe_load(value) for name, value in pairs}


def main(argv: list[str] | None = None) -> int:
    """Execute all notebooks; 1 if one fails."""
    parser = argparse.ArgumentParser(prog="python -m reluprime.notebook", description=__doc__)
    parser.add_argument("out", type=Path, help="folder of the executed notebooks")
    parser.add_argument("--profile", help="a file of notebooks/profiles; default: no parameters")
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    args = parser.parse_args(argv)
    try:
        parameters = (_read_profile(args.profile) if args.profile else {}) | _pairs(args.p)
    except ValueError as error:
        parser.error(str(error))
    if unknown := parameters.keys() - set().union(*map(_known, paths())):
        parser.error(f"no notebook has the parameter {', '.join(sorted(unknown))}")
    for path in paths():
        try:
            seconds = execute(path, args.out, parameters)
        except PapermillExecutionError as error:
            print(f"{path.stem} failed\n{error}", file=sys.stderr)
            return 1
        print(f"{path.stem}: {seconds:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
