"""Make the notebooks' tables readable on a page: words, alignment, folding, a file to download.

A table comes as pandas wrote it into the notebook. Here its cells get the page's words, numbers
are set to the right, each cell knows its column's name (for the cards on a phone, see custom.css),
a long table is folded, and every table can be downloaded as CSV. tables.js makes it sortable.
"""

import csv
import re
from pathlib import Path

from bs4 import BeautifulSoup, Tag
from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform

LONGEST = 4  # rows of a table that is shown at once; a longer one is folded
FOLDER = "tables"  # of the CSV files, beside the pages
NAMED = 4  # columns that the line of a folded table names
SIGN, DIGITS = r"[-+−±]?", r"\d[\d,]*(?:\.\d+)?(?: × 10[⁻⁰¹²³⁴-⁹]+)?"
NUMBER = re.compile(
    rf"(?:about |over |[<>≈] ?)?{SIGN}{DIGITS}(?: ?(?:%|s|h|ms|pp|points))?"
    rf"(?: ?[±(\[].*| (?:of|to|in) {DIGITS}.*)?"
)
NOTHING = {"", "–", "-"}
RULES = {"chain": "derivative", "injected": "constant"}  # as the pages call them
CELLS = RULES | {"NaN": "–", "nan": "–", "None": "–", "NaT": "–", "True": "yes", "False": "no"}
SCIENTIFIC = re.compile(r"(?<![\w.])(-?\d(?:\.\d+)?)e([-+]\d{1,3})(?!\w|\.\d)")
LEAST_PLAIN = -5  # powers of ten below are written as such
SPACE = "\N{NO-BREAK SPACE}"  # a number stays on one line
PERCENT = re.compile(r"(?<=\d) ?%(?!\w)")
TEXT = re.compile(r"(?<=>)[^<]+")  # between the tags of a fragment
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def readable(text: str) -> str:
    """`text` with 8.4e-06 as 8.4 × 10⁻⁶, 6.3e-04 as 0.00063, 2.5e+03 as 2,500, 5% as 5 %."""
    return PERCENT.sub(f"{SPACE}%", SCIENTIFIC.sub(_plain, text))


def _plain(found: re.Match) -> str:
    digits, power = found.group(1), int(found.group(2))
    after_point = len(digits.partition(".")[2])
    if LEAST_PLAIN <= power <= 6:
        return f"{float(found.group()):,.{max(0, after_point - power)}f}"
    return f"{digits}{SPACE}×{SPACE}10{str(power).translate(RAISED)}"


def card(text: str) -> str:
    """A text of a claim's card, or about a page's scale, as words: yes, no and plain numbers."""
    return re.sub("(?<=: )(True|False)\\b", lambda found: CELLS[found[1]], readable(text))


def heading(name: str) -> str:
    """A column's name as words."""
    return " ".join(RULES.get(word, word) for word in name.replace("_", " ").split(" "))


def cell(text: str) -> str:
    """A cell as words: what pandas writes for nothing, yes, no and a gradient rule is none."""
    start, comma, last = text.rpartition(", ")
    if comma and last in RULES:  # "searched, chain"
        return f"{start}, {RULES[last]}"
    return CELLS.get(text, readable(text))


def is_number(texts: list[str]) -> bool:
    """Whether these cells of a column are numbers, but for those that say nothing."""
    said = [text for text in texts if text not in NOTHING]
    return bool(said) and all(NUMBER.fullmatch(text) for text in said)


def _texts(row: Tag) -> list[str]:
    for line_break in row.find_all("br"):
        line_break.insert_after(" ")
    return [" ".join(found.get_text().split()) for found in row.find_all(["th", "td"])]


def _reword(soup: BeautifulSoup) -> None:
    for found in soup.find_all(["th", "td"]):
        words = heading if found.name == "th" else cell
        for text in list(found.find_all(string=True)):
            text.replace_with(words(str(text)))


def dress(table: Tag) -> list[list[str]]:
    """Set a table of pandas for the page, in place; its rows of text, the names first."""
    _reword(table)
    head, body = table.thead.find("tr"), table.tbody.find_all("tr")
    del head["style"]
    names, rows = _texts(head), [_texts(row) for row in body]
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(names)
    numbers = [is_number(list(column)) for column in columns]
    for name in head.find_all("th"):
        name["scope"] = "col"
    for row in (head, *body):
        for place, found in enumerate(row.find_all(["th", "td"])):
            if found.name == "td":
                found["data-label"] = names[place]
            if numbers[place]:
                found["class"] = "number"
    return [names, *rows]


def around(table: str, rows: list[list[str]], file: str, fold: bool) -> str:
    """A dressed table with the link to its file, folded or not."""
    names, count = rows[0], len(rows) - 1
    link = f'<a class="csv" href="{file}" download>CSV</a>'
    inside = f'<div class="table-window" tabindex="0" role="region" aria-label="{_named(names)}">'
    inside += f"{table}</div>{link}"
    if not fold:
        return f'<div class="table-shown">{inside}</div>'
    summary = f"Table of {count} rows: {_named(names)}"
    return f'<details class="table-folded"><summary>{summary}</summary>{inside}</details>'


def _named(names: list[str]) -> str:
    said = [name for name in names if name]
    more = " and more" if len(said) > NAMED else ""
    return ", ".join(said[:NAMED]) + more


class Tables(SphinxPostTransform):
    """Runs after the outputs are chosen (priority 4), on every table of pandas of a page."""

    default_priority = 180
    formats = ("html",)

    def run(self, **kwargs):
        page, count = self.env.docname, 0
        for node in self.document.findall(nodes.raw):
            if node.get("format") != "html":
                continue
            if re.search('class="(claim|scale)"', node.astext()):
                _replace(node, TEXT.sub(lambda text: card(text.group()), node.astext()))
            if "dataframe" not in node.astext():
                continue
            soup = BeautifulSoup(node.astext(), "html.parser")
            table = soup.find("table", class_="dataframe")
            if table is None or table.thead is None:
                continue
            count += 1
            rows = dress(table)
            name = f"{Path(page).name}-{count}.csv"
            self._write(name, rows)
            up = "../" * page.count("/")
            fold = _folds(node, len(rows) - 1)
            html = around(str(table), rows, f"{up}{FOLDER}/{name}", fold)
            _replace(node, html)

    def _write(self, name: str, rows: list[list[str]]) -> None:
        path = Path(self.app.outdir, FOLDER, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(rows)


def _replace(node: nodes.raw, html: str) -> None:
    node.children[:] = [nodes.Text(html)]
    node.rawsource = html


def _folds(node: nodes.Node, n_rows: int) -> bool:
    """Whether a table is folded: a long one, unless the cell of its output has the tag open-table,
    as of a table that the page is about; and any whose cell has the tag fold-table."""
    tags: set[str] = set()
    while node is not None:
        tags |= set(node.get("classes", ()))
        node = node.parent
    return "tag_fold-table" in tags or (n_rows > LONGEST and "tag_open-table" not in tags)


class PlainNumbers(SphinxPostTransform):
    """Numbers in running text that a format wrote as 6.3e-04 or 5%, as tables have them."""

    default_priority = 181
    formats = ("html",)

    def run(self, **kwargs):
        for text in list(self.document.findall(nodes.Text)):
            if _is_prose(text) and (plain := readable(str(text))) != str(text):
                text.parent.replace(text, nodes.Text(plain))


def _is_prose(text: nodes.Text) -> bool:
    code = (nodes.literal, nodes.literal_block, nodes.raw, nodes.math, nodes.math_block)
    node = text.parent
    while node is not None:
        if isinstance(node, code):
            return False
        node = node.parent
    return True


WRITTEN = re.compile(r'<table class="table">.*?</table>', re.DOTALL)  # in Markdown


def label_cells(table: str) -> str:
    """A table that was written in Markdown, whose cells know their column's name."""
    soup = BeautifulSoup(table, "html.parser")
    if soup.thead is None:
        return table
    names = _texts(soup.thead.find("tr"))
    for row in soup.tbody.find_all("tr"):
        for name, found in zip(names, row.find_all(["th", "td"]), strict=True):
            found["data-label"] = name
    return str(soup)


def label_written_tables(app, pagename, templatename, context, doctree):
    """For the cards on a phone; the tables of notebooks are labelled where they are dressed."""
    if "body" in context:
        context["body"] = WRITTEN.sub(lambda found: label_cells(found[0]), context["body"])


def setup(app):
    app.connect("html-page-context", label_written_tables)
    app.add_post_transform(Tables)
    app.add_post_transform(PlainNumbers)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
