"""Execute the report's notebooks with papermill."""

import base64
import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import nbformat
import papermill
from papermill.exceptions import PapermillExecutionError

from reluprime import records
from reluprime.report import pages
from reluprime.report.pages import NOTEBOOKS

# The pictures of the landing page and the README: glued on a page under these names, and written
# when the published page is.
PICTURES = records.REPOSITORY / "book" / "_static"
PICTURE_PAGE = "14_how_many_kinks"
PICTURE_NAMES = ("answer.svg", "answer-narrow.svg", "answer.png")


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


def execute(name: str, out: Path, values: dict[str, Any]) -> float:
    """Execute a page's notebook with these parameters into the folder `out`.

    Returns the seconds it took. Raises ValueError for a parameter that the page does not take,
    and what papermill raises.
    """
    values = _changing(name, values)
    out.mkdir(parents=True, exist_ok=True)
    work = out / f".{name}.ipynb"  # a failed run leaves the last good copy where it was
    began = time.perf_counter()
    try:
        notebook = papermill.execute_notebook(
            str(NOTEBOOKS / f"{name}.ipynb"),
            str(work),
            values,
            kernel_name="python3",
            progress_bar=False,
        )
        nbformat.write(_plain(notebook), out / f"{name}.ipynb")
        if name == PICTURE_PAGE and out.resolve() == NOTEBOOKS:
            for file in PICTURE_NAMES:
                (PICTURES / file).write_bytes(picture(notebook, file))
    finally:
        work.unlink(missing_ok=True)
    return time.perf_counter() - began


def picture(notebook: nbformat.NotebookNode, name: str) -> bytes:
    """The picture that an executed page glued under this name, which ends in svg or png."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.get("metadata", {}).get("scrapbook", {}).get("name") == name:
                found = {mime.rpartition("/")[2]: own for mime, own in output["data"].items()}
                svg = found.get("svg+xml")
                return svg.encode() if svg else base64.b64decode(found["png"])
    raise ValueError(f"the page has no {name}")


def _changing(name: str, values: dict[str, Any]) -> dict[str, Any]:
    """Without values that change nothing, for which papermill would add a cell to a notebook."""
    found = pages.checked(name, values)
    usual = type(found)()
    own = {n: value for n, value in values.items() if value != getattr(usual, n)}
    if pages.folder(found) == pages.folder(found.replace(store=usual.store)):
        own.pop("store", None)
    return own


def execute_all(
    out: Path,
    profile: str | None,
    changes: dict[str, Any],
    only: tuple[str, ...] = ("",),
    workers: int = 1,
) -> Iterator[tuple[str, float]]:
    """Execute the notebooks whose names start with one of `only` into the folder `out`.

    profile: a file of notebooks/profiles, None for the notebooks' own values; changes: parameters
    in the place of these; workers: how many notebooks are executed at a time. Yields each
    notebook's name and the seconds that it took. The scorecard, which reads what others wrote, is
    the last. Raises ValueError for an unknown profile, parameter or page, or a value that a page
    does not take, before anything is executed, and RuntimeError, with what the notebook printed,
    where one fails.
    """
    values = pages.values(profile or pages.REPORT, changes, only)
    together = sorted(values.keys() - {pages.SCORECARD})
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context)
    try:
        running = {pool.submit(_execute, name, out, values[name]): name for name in together}
        for done in as_completed(running):
            yield running[done], done.result()
    finally:
        pool.shutdown(cancel_futures=True)
    if pages.SCORECARD in values:
        yield pages.SCORECARD, _execute(pages.SCORECARD, out, values[pages.SCORECARD])


def _execute(name: str, out: Path, values: dict[str, Any]) -> float:
    """:func:`execute` with an error that goes from one process to another."""
    try:
        return execute(name, out, values)
    except PapermillExecutionError as error:
        raise RuntimeError(f"{name} failed\n{error}") from error
