"""The book's own extensions: tables as a reader meets them, and the recorded runs to explore."""

import importlib.util
from types import SimpleNamespace

import nbformat
import pytest
from bs4 import BeautifulSoup
from docutils import nodes
from docutils.core import publish_doctree

from reluprime import records
from reluprime.report import audit, explorer
from reluprime.report.page import as_html
from reluprime.report.pages import NOTEBOOKS


def extension(name):
    """A module of book/_ext, which Sphinx alone has on its path."""
    place = records.REPOSITORY / "book" / "_ext" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


phone, tables = extension("phone"), extension("tables")


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("6.3e-04", "0.00063"),
        ("8.4e-05", "0.000084"),
        ("3.5e-09 to 1e-07", "3.5\xa0×\xa010⁻⁹ to 1\xa0×\xa010⁻⁷"),
        ("2.5e+03", "2,500"),
        ("24% of 5 %, 100%", "24\xa0% of 5\xa0%, 100\xa0%"),
        ("a%20b, f%d", "a%20b, f%d"),
        ("decay 5e-4.", "decay 0.0005."),
        ("-7.25e-02", "-0.0725"),
        ("commit 1e10abc, fp16, 0.5", "commit 1e10abc, fp16, 0.5"),
    ],
)
def test_numbers_are_written_out(text, plain):
    assert tables.readable(text) == plain


@pytest.mark.parametrize(
    ("texts", "number"),
    [
        (["1,234", "–", "0.5 %"], True),
        (["3 [1, 5]", "0.1 ± 0.2"], True),
        (["7.2 × 10⁻⁵", "12"], True),
        (["fp16", "2"], False),
        (["–", ""], False),
        (["784 inputs"], False),
    ],
)
def test_a_column_of_numbers_is_known(texts, number):
    assert tables.is_number(texts) is number


HTML = (
    '<table class="dataframe"><thead><tr style="text-align: right;"><th>activation_sites</th>'
    "<th>share</th></tr></thead><tbody><tr><td>True</td><td>NaN</td></tr>"
    '<tr><td><a href="x.html">all</a></td><td>1e-04</td></tr></tbody></table>'
)


def test_a_table_speaks_the_words_of_the_page():
    table = BeautifulSoup(HTML, "html.parser").table
    rows = tables.dress(table)
    assert rows == [["activation sites", "share"], ["yes", "–"], ["all", "0.0001"]]
    cells = table.find_all("td")
    assert [cell.get("class") for cell in cells] == [None, "number"] * 2
    assert cells[3]["data-label"] == "share"
    assert table.a["href"] == "x.html"


def test_a_table_of_markdown_knows_its_columns():
    table = (
        '<table class="table"><thead><tr><th>layer</th><th><code>epilogue</code></th></tr></thead>'
        "<tbody><tr><td>linear</td><td>once</td></tr></tbody></table>"
    )
    context = {"body": f"<p>before</p>{table}<p>after</p>"}
    tables.label_written_tables(None, "page", "page.html", context, None)
    cells = BeautifulSoup(context["body"], "html.parser").find_all("td")
    assert [cell["data-label"] for cell in cells] == ["layer", "epilogue"]
    headless = '<table class="table"><tbody><tr><th>a</th><td>b</td></tr></tbody></table>'
    assert tables.label_cells(headless) == headless
    stub = table.replace("<td>linear</td>", "<th>linear</th>")
    assert 'data-label="epilogue"' in tables.label_cells(stub)
    assert context["body"].startswith("<p>before</p><table")
    assert context["body"].endswith("</table><p>after</p>")


def test_a_picture_has_its_form_for_a_phone_behind_it():
    document = publish_doctree(".. image:: wide.svg\n   :alt: words\n\nafter")
    (wide,) = document.findall(nodes.image)
    phone.add_narrow(wide, "narrow.svg")
    first, second = document.findall(nodes.image)
    assert (first["uri"], first["classes"]) == ("wide.svg", ["wide"])
    assert (second["uri"], second["classes"], second["alt"]) == ("narrow.svg", ["narrow"], "words")


def test_a_card_speaks_plainly():
    assert tables.card("flat: True; median 3.5e-05") == "flat: yes; median 0.000035"
    assert tables.card("True kinks") == "True kinks"


def test_a_long_table_is_folded_and_leads_to_its_file():
    rows = [["a", "b"], *([["1", "2"]] * 3)]
    assert "<details" not in tables.around("<table></table>", rows, "../tables/x-1.csv", False)
    folded = tables.around("<table></table>", rows, "../tables/x-1.csv", True)
    assert folded.startswith('<details class="table-folded"><summary>Table of 3 rows: a, b<')
    assert '<a class="csv" href="../tables/x-1.csv" download>' in folded


@pytest.mark.parametrize("page", [audit.FIRST, audit.DETAILS, audit.REPLICATION])
def test_every_finding_of_the_audit_has_its_heading_on_its_page(page):
    """And every heading of a page but those that are no findings is in the table, in its order."""
    cells = nbformat.read(NOTEBOOKS / f"{page}.ipynb", 4).cells
    headings = [
        line[3:]
        for cell in cells
        if cell.cell_type == "markdown"
        for line in cell.source.splitlines()
        if line.startswith("## ")
    ]
    others = {"In short", "All findings", "What stands", "What would change our mind"}
    listed = [finding.heading for finding in audit.FINDINGS if finding.page == page]
    assert [heading for heading in headings if heading not in others] == listed


def test_the_findings_of_the_audit_are_links():
    html = as_html(audit.table()).data
    assert '<a href="11_audit.html#the-gradient-rule">The gradient rule</a>' in html
    assert "18_audit_m23.html#the-resnet-s-blocks-never-received-s" in html
    assert '<a href="00_scorecard.html#r5">R5</a> <a href="00_scorecard.html#r6">R6</a>' in html


def test_the_explorer_has_runs_to_compare_and_their_events():
    curves = explorer.data(records.Store("records"))
    networks = {curve["network"] for curve in curves}
    assert {curve["network"] for curve in curves if curve["s"]} == networks
    assert {curve["measure"] for curve in curves} == {explorer.ACCURACY, explorer.DISTANCE}
    for curve in curves:
        assert len(curve["x"]) == len(curve["y"]) > 0
        assert curve["event"] is None or curve["event"] in curve["x"]
        assert (curve["rule"] == "none") == (curve["s"] == 0)
        if curve["kinks"] is not None:
            assert (curve["event"] is None) == (curve["kinks"] == 0)


def test_the_explorer_has_the_runs_with_a_widened_kink():
    """A ruined run meets fewer kinks than the run at s=0 with the same band, or none."""
    own = [
        curve
        for curve in explorer.data(records.Store("records"))
        if curve["network"] == "fully connected 256 256 256, MNIST, SGD at 0.01, 5 epochs"
        and curve["kink"] == "widened to 0.0001"
    ]
    assert {(curve["s"], curve["rule"]) for curve in own} >= {(0, "none"), (1, "injected")}
    met = {(curve["s"], curve["rule"]): curve["kinks"] for curve in own}
    assert 10_000 < met[0, "none"] < 30_000
    assert met[1, "injected"] < met[0, "none"]
    assert all(curve["event"] == 1 for curve in own)


def test_an_explored_distance_is_that_of_its_record():
    """A curve has fewer steps than its run, but those around the event are the record's."""
    (pair,) = [
        record
        for record in records.Store("records").read("bifurcation.paired_run").values()
        if record["config"]["hidden_sizes"] == [2000, 128]
        and record["config"]["precision"] == "fp32"
        and record["config"]["seed"] == 0
        and record["config"]["epochs"] == 1
    ]
    step, distance = pair["result"]["event"]["step"], pair["result"]["distance"]["injected s=1"]
    curves = [
        curve
        for curve in explorer.data(records.Store("records"))
        if curve["network"].startswith("paired runs step by step, 2000 128")
        and (curve["precision"], curve["rule"], curve["seed"]) == ("fp32", "injected", 0)
    ]
    for curve in curves:
        values = dict(zip(curve["x"], curve["y"], strict=True))
        assert values[step - 1] == 0
        assert values[step] == pytest.approx(distance[step], rel=1e-3)
        assert len(values) < len(distance)


citing = extension("citing")


def test_the_citation_as_bibtex():
    citation = {
        "title": "Of zeros",
        "authors": [{"name": "The authors"}],
        "version": "1.2",
        "date-released": "2026-01-02",
    }
    text = citing.bibtex(citation)
    assert text.startswith(
        "@software{reluprime,\n  title = {{Of zeros}},\n  author = {{The authors}}"
    )
    assert "year = {2026}" in text
    assert "url" not in text
    assert "url = {https://example.org}" in citing.bibtex(
        citation | {"repository-code": "https://example.org"}
    )


@pytest.mark.parametrize("address", ["", "https://example.org/reluprime"])
def test_buttons_appear_where_a_repository_is_named(address):
    config = SimpleNamespace(html_theme_options={"repository_url": address})
    citing.offer_buttons(None, config)
    found = config.html_theme_options.get("use_issues_button", False)
    assert found is bool(address)
    assert ("colab_url" in config.html_theme_options.get("launch_buttons", {})) is bool(address)


def test_a_description_is_of_whole_words():
    document = publish_doctree("Short.\n\n" + "These are words. " * 20)
    text = citing.description(document)
    assert text.startswith("These are words.")
    assert text.endswith(" ...")
    assert len(text) <= citing.LONGEST + 4
