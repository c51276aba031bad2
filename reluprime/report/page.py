"""A notebook of the report as its reader meets it: parameters checked, each result with its origin.

A page computes what its parameters ask for, and shows tables and figures with their records.
"""

import html
import math
import shlex
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd
import yaml
from IPython import get_ipython
from IPython.display import HTML, display
from myst_nb import glue

from reluprime import records
from reluprime.evidence import style
from reluprime.evidence.claim import Claim
from reluprime.parameters import Grids, Parameters, SweepParameters
from reluprime.report import cards, pages, scale, scorecard

# What IPython itself puts into a notebook's namespace, and what makes a page.
_NO_PARAMETERS = {"In", "Out", "exit", "quit", "get_ipython", "open", "Page"}


class MissingCells(ValueError):
    """A page cannot be shown without cells that its store lacks."""


class Link(NamedTuple):
    """A cell of a table that leads to an address, such as ``01_page.html#heading``."""

    text: str
    address: str


class Page:
    """The page of one notebook, made first after the parameters.

    ``page = Page("02_relative_volume", globals())`` raises ValueError naming each parameter that
    is unknown or wrong, before anything is computed; see `report.pages` for what there are. Its
    cell can be run again: names that are no parameters are then the page's own.

    store: the :class:`records.Store` of its results, as :func:`pages.folder` says.
    """

    def __init__(self, name: str, namespace: dict[str, Any]):
        self.name = name
        self.parameters = _parameters(name, namespace)
        self.store = records.Store(pages.folder(self.parameters))
        self._grids = self.parameters.grids()  # values that do not fit together raise here
        self._command = _command(name, self.parameters)
        self._missing: dict[str, str] = {}  # by sweep, in words
        if shell := get_ipython():
            shell.set_custom_exc((Exception,), self._explained)
        style.use_style()

    def sweep(self) -> dict[str, pd.DataFrame]:
        """Compute what the store lacks of the page's sweeps; their frames by name.

        See `records.sweep`, and the page's `grids` for the names. Raises ValueError before
        anything is computed, where a cell that is to be computed cannot be on this device.
        """
        end = time.monotonic() + self.parameters.max_seconds
        found = self._swept(self._grids, end)
        return found | self._swept(self.parameters.grids_after(found), end)

    def _swept(self, grids: Grids, end: float) -> dict[str, pd.DataFrame]:
        """All grids of a study are computed in one sweep, and then read by name."""
        compute, by_study = self.parameters.compute, {}
        for study, grid in grids.values():
            by_study.setdefault(study, []).extend(grid)
        for study, configs in by_study.items():  # all before the first is computed
            records.check_sweep(study, configs, self.store, compute)
        for study, configs in by_study.items():
            left = max(0.0, end - time.monotonic())
            records.sweep(study, configs, self.store, compute, left)
        found = {}
        for name, (study, grid) in grids.items():
            found[name] = records.sweep(study, grid, self.store, "never")
            missing = found[name].attrs.pop("missing")  # so that frames of a study can be joined
            if missing:
                self._missing[name] = f"{missing} of {len(grid)} cells of {name}"
        return found

    def _explained(self, shell, kind: type, error: Exception, trace, tb_offset=None) -> None:
        """Show an error of a page's cell, and where cells are missing, that this may be why."""
        if self._missing and kind is not MissingCells:
            lacks, self._missing = ", ".join(self._missing.values()), {}
            error = MissingCells(
                f"{lacks} are missing in {self.store.path}, and this page cannot be shown without "
                f"them ({kind.__name__}: {error}). Run it again with compute='missing'; "
                "`reluprime plan` says what that costs"
            ).with_traceback(trace)
            kind = MissingCells
        shell.showtraceback((kind, error, trace), tb_offset=tb_offset)

    def show(self, table: pd.DataFrame, *cells: pd.DataFrame) -> None:
        """Display a table, or that it has no rows, and its :meth:`source` below."""
        shown = as_html(table) if len(table) else HTML("<p>There is none.</p>")
        display(shown, self.source(*cells))

    def source(self, *cells: pd.DataFrame) -> HTML:
        """A foldable line: the records in `cells`, and the command that makes them again.

        cells: what `sweep` or `records.table` returned, or rows of it; a record that is in several
        counts once. None for what the page itself has computed. A figure's is a code cell of its
        own: the cell of a figure has a caption, which each of its outputs would get.
        """
        origins = [records.origin(frame) for frame in _by_study(cells)]
        nothing = "no records" if cells else "computed as this page is executed"
        return HTML(_source(self._command, origins, nothing))

    def show_claims(self) -> None:
        """Display a card for each claim whose figure is on this page: verdict, numbers, rule."""
        self.show_sentences(self._claims(), self.store)

    def _claims(self) -> list[Claim]:
        return [c for c in scorecard.CLAIMS if c.figure.partition("#")[0] == self.name]

    def show_verdicts(self, *ids: str) -> None:
        """Display one line: these claims with their verdicts, each a link to its card.

        ids: of the claims; none for those whose figure is on this page.
        """
        chosen = [scorecard.BY_ID[name] for name in ids] or self._claims()
        found = cards.links(chosen, scorecard.all_judged(self.store, chosen))
        display(found, self._source_of(chosen, self.store))

    def _source_of(self, claims: Sequence[Claim], store: records.Store) -> HTML:
        """The :meth:`source` of what is said of claims, or that there are no records."""
        return self.source(*scorecard.judged_on(store, claims), pd.DataFrame())

    def show_scale(self, *cells: pd.DataFrame) -> None:
        """Display what the page does not do at the papers' scale, and what its records cost.

        cells: the records that it shows, as of :meth:`source`.
        """
        display(HTML(scale.line(self.name, self.parameters, cells)))

    def show_cost(self, *cells: pd.DataFrame) -> None:
        """Display what computing these records took, which no parameters of the page ask for."""
        words = f"Cost: computing the records above took {scale.cost(cells)}."
        display(HTML(f'<p class="scale">{words}</p>'))

    def show_sentences(self, sentences: Sequence[Claim], store: records.Store) -> None:
        """Display a card for each claim or sentence of ours: what each rule gives, and why.

        store: of the records that they are judged on.
        """
        found = cards.cards(sentences, scorecard.all_judged(store, sentences))
        display(found, self._source_of(sentences, store))

    def glue(self, values: dict[str, Any]) -> None:
        """Make values available to the prose of the book under their names."""
        for name, value in values.items():
            glue(name, value, display=False)


def _parameters(name: str, namespace: dict[str, Any]) -> Parameters:
    """Those among the variables of a notebook, which has no others before its page is made."""
    given = {n: v for n, v in namespace.items() if n not in _NO_PARAMETERS and n[0] != "_"}
    if any(isinstance(value, Page) for value in given.values()):
        given = {n: given[n] for n in pages.PAGES[name].model_fields}
    return pages.checked(name, given)


def as_html(frame: pd.DataFrame) -> HTML:
    """A table for the page: no index, whole texts, and the same bytes each time.

    A column `figure` of "notebook#heading" becomes links, and so does a :class:`Link`, or several.
    """

    def link(place: str) -> str:
        notebook, _, heading = place.partition("#")
        return _anchor(Link("figure", f"{notebook}.html#{heading}"))

    def cell(value: Any) -> Any:
        if isinstance(value, Link):
            return _anchor(value)
        if isinstance(value, tuple) and all(isinstance(part, Link) for part in value):
            return " ".join(map(_anchor, value))
        if isinstance(value, (tuple, list, dict)):
            return html.escape(str(value), quote=False)
        return html.escape(value) if isinstance(value, str) else value

    texts = frame.select_dtypes(exclude="number").columns
    shown = frame.assign(**{n: frame[n].map(link if n == "figure" else cell) for n in texts})
    shown.columns = [html.escape(str(name), quote=False) for name in shown.columns]
    with pd.option_context("display.max_colwidth", None):
        return HTML(shown.to_html(index=False, border=0, escape=False))


def _anchor(link: Link) -> str:
    return f'<a href="{html.escape(link.address)}">{html.escape(link.text)}</a>'


def _command(name: str, parameters: Parameters) -> str:
    """The papermill command that makes a notebook with these parameters again.

    Cells are computed into a new store; a page that computes none reads the records that it read.
    """
    words = ["papermill", f"notebooks/{name}.ipynb", "out.ipynb"]
    for parameter, value in sorted(pages.changed(parameters).items()):
        words += ["-y", _flow({parameter: value})]
    store = "_build/again" if isinstance(parameters, SweepParameters) else parameters.store
    return shlex.join([*words, "-p", "store", store] if store else words)


def _flow(value: dict[str, Any]) -> str:
    """YAML on one line."""
    return yaml.safe_dump(value, width=math.inf, default_flow_style=True).strip()


def _by_study(frames: Sequence[pd.DataFrame]) -> list[pd.DataFrame]:
    """What the source of frames is made from: a frame a study, with each record once."""
    studies: dict[str, list[pd.DataFrame]] = {}
    for frame in frames:
        if len(frame):
            own = frame.loc[:, ["key", "provenance"]]
            studies.setdefault(frame.attrs["study"], []).append(own)
    joined = {name: pd.concat(own).drop_duplicates("key") for name, own in studies.items()}
    for name, frame in joined.items():
        frame.attrs["study"] = name
    return [*joined.values()]


def _source(command: str, origins: list[dict[str, str]], nothing: str) -> str:
    """nothing: what stands there without any origin."""
    summary = " and ".join(f"{o['records']} records of {o['study']}" for o in origins) or nothing
    rows = "".join(
        f"<dt>{name}</dt><dd>{value}</dd>"
        for origin in origins
        for name, value in ((n, html.escape(v)) for n, v in origin.items())
    )
    again = f"<dt>again</dt><dd><code>{html.escape(command)}</code></dd>"
    inside = f"<summary>Source: {summary}</summary><dl>{rows}{again}</dl>"
    return f'<details class="source">{inside}</details>'
