"""The report's notebooks: their parameters, what they show and where it is from, papermill."""

import ast
import html
import math
import shlex
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import papermill
import yaml
from IPython.display import HTML, display
from papermill.exceptions import PapermillExecutionError
from pydantic import ConfigDict, ValidationError, create_model
from tqdm import TqdmWarning

from reluprime import records
from reluprime.report import page as parameters

# Optuna asks tqdm for a widget, and a report has none.
warnings.filterwarnings("ignore", "IProgress not found", TqdmWarning)

NOTEBOOKS = records.REPOSITORY / "notebooks"
PROFILES = NOTEBOOKS / "profiles"

# What IPython itself puts into a notebook's namespace.
_IPYTHON = {"In", "Out", "exit", "quit", "get_ipython", "open"}


def check_parameters(namespace: dict[str, Any], declared: dict[str, Any]) -> None:
    """Check the names and values of a notebook's parameters before anything is computed.

    declared: {name: type}. Raises ValueError naming an unknown parameter, or the value, the
    parameter and what it should be. A name of another notebook is accepted if the value is the
    profile's: one profile file serves all notebooks. Where the namespace has a Page already, its
    cell is run once more: other names are then the page's own, and values alone are checked.
    """
    given = {
        name: value
        for name, value in namespace.items()
        if not name.startswith("_") and name not in _IPYTHON and name != "Page"
    }
    shared = _read_profile(given.get("profile"))
    foreign = {n for n in given.keys() - declared.keys() if n in shared and shared[n] == given[n]}
    again = any(isinstance(value, Page) for value in given.values())
    if not again and (unknown := sorted(given.keys() - declared.keys() - foreign)):
        raise ValueError(
            f"unknown parameter{'s' * (len(unknown) > 1)} {', '.join(unknown)}; "
            f"choose from {', '.join(sorted(declared))}"
        )
    model = create_model(
        "Parameters",
        __config__=ConfigDict(strict=True, allow_inf_nan=False),
        **{name: (parameters.NARROWER.get(name, kind), ...) for name, kind in declared.items()},
    )
    try:
        model(**{name: given[name] for name in declared})
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


def as_html(frame: pd.DataFrame, notebooks: str = "") -> HTML:
    """A table for the page: no index, whole texts, and the same bytes each time.

    A column `figure` of "notebook#heading" becomes links; `notebooks` is the way to their folder.
    """

    def link(place: str) -> str:
        notebook, _, heading = html.escape(place).partition("#")
        return f'<a href="{notebooks}{notebook}.html#{heading}">figure</a>'

    def cell(value: Any) -> Any:
        return html.escape(value) if isinstance(value, str) else value

    texts = frame.select_dtypes(exclude="number").columns
    shown = frame.assign(**{n: frame[n].map(link if n == "figure" else cell) for n in texts})
    with pd.option_context("display.max_colwidth", None):
        return HTML(shown.to_html(index=False, border=0, escape=False))


class Page:
    """A notebook as its reader meets it: parameters checked, each result with its origin.

    Made first after the parameters: ``page = Page("02_relative_volume", globals())``; raises
    ValueError as :func:`check_parameters`. What parameters there are, the notebook's file says.
    """

    def __init__(self, name: str, namespace: dict[str, Any]):
        declared = parameters.declared(NOTEBOOKS / f"{name}.ipynb")
        check_parameters(namespace, declared)
        self.command = _command(name, {n: namespace[n] for n in declared})

    def show(self, table: pd.DataFrame, *cells: pd.DataFrame) -> None:
        """Display a table, and its :meth:`source` below."""
        display(as_html(table), self.source(*cells))

    def source(self, *cells: pd.DataFrame) -> HTML:
        """A foldable line: the records in `cells`, and the command that makes them again.

        cells: what `records.sweep` or `records.table` returned, or rows of it; none for what the
        page itself has computed. A figure's is a code cell of its own: the cell of a figure has a
        caption, which each of its outputs would get.
        """
        return HTML(_source(self.command, [records.origin(frame) for frame in cells]))


def _command(name: str, values: dict[str, Any]) -> str:
    """The papermill command that makes a notebook with these parameters again.

    Cells are computed into a new store; a page that computes none reads the records that it read.
    """
    usual = _defaults(NOTEBOOKS / f"{name}.ipynb")
    words = ["papermill", f"notebooks/{name}.ipynb", "out.ipynb"]
    if values["profile"] != usual["profile"]:
        words += ["-f", f"notebooks/profiles/{values['profile']}.yaml"]
        usual |= _read_profile(values["profile"])
    for parameter in sorted(values.keys() - {"profile", "store", "compute", "max_seconds"}):
        if values[parameter] != usual[parameter]:
            words += ["-y", yaml.safe_dump({parameter: values[parameter]}, width=math.inf).strip()]
    store = "_build/again" if "compute" in values else values["store"]
    if store != usual["store"]:
        words += ["-p", "store", store]
    return shlex.join(words)


def _source(command: str, origins: list[dict[str, str]]) -> str:
    found = [origin for origin in origins if origin]
    summary = " and ".join(f"{o['records']} records of {o['study']}" for o in found)
    if not summary:
        summary = "no records" if origins else "computed as this page is executed"
    rows = "".join(
        f"<dt>{name}</dt><dd>{value}</dd>"
        for origin in found
        for name, value in ((n, html.escape(v)) for n, v in origin.items())
    )
    again = f"<dt>again</dt><dd><code>{html.escape(command)}</code></dd>"
    inside = f"<summary>Source: {summary}</summary><dl>{rows}{again}</dl>"
    return f'<details class="source">{inside}</details>'


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


def _defaults(path: Path) -> dict[str, Any]:
    found = papermill.inspect_notebook(str(path))
    return {name: ast.literal_eval(parameter["default"]) for name, parameter in found.items()}


def execute(path: Path, out: Path, values: dict[str, Any]) -> float:
    """Execute one notebook into the folder `out` with the values of those parameters it has.

    Returns the seconds it took. Raises what papermill raises.
    """
    usual = _defaults(path)  # values that change nothing would add a cell that says so
    values = {n: value for n, value in values.items() if n in usual and value != usual[n]}
    out.mkdir(parents=True, exist_ok=True)
    work = out / f".{path.name}"  # a failed run leaves the last good copy where it was
    began = time.perf_counter()
    try:
        notebook = papermill.execute_notebook(
            str(path), str(work), values, kernel_name="python3", progress_bar=False
        )
        nbformat.write(_plain(notebook), out / path.name)
    finally:
        work.unlink(missing_ok=True)
    return time.perf_counter() - began


def execute_all(
    out: Path, profile: str | None, changes: dict[str, Any], only: tuple[str, ...] = ("",)
) -> Iterator[tuple[str, float]]:
    """Execute the notebooks whose names start with one of `only` into the folder `out`.

    profile: a file of notebooks/profiles, None for the notebooks' own values; changes: parameters
    in the place of these. Yields each notebook's name and the seconds that it took. Raises
    ValueError for an unknown profile, parameter or page before anything is executed, and
    RuntimeError, with what the notebook printed, where one fails.
    """
    values = (_read_profile(profile) if profile else {}) | changes
    if unknown := values.keys() - set().union(*map(_defaults, paths())):
        raise ValueError(f"no notebook has the parameter {', '.join(sorted(unknown))}")
    chosen = [path for path in paths() if path.stem.startswith(only)]
    if not chosen:
        raise ValueError(f"no page's name starts with {' or '.join(only)}")
    for path in chosen:
        try:
            yield path.stem, execute(path, out, values)
        except PapermillExecutionError as error:
            raise RuntimeError(f"{path.stem} failed\n{error}") from error
