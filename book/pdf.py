"""Print the book and its article with a headless Chromium: `make pdf`.

The book is built as one page (Sphinx's `singlehtml`), so that links within it are links within the
PDF; the article is a page of the published book.
"""

import re
import shutil
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

ARTICLE_PAGES = 10  # at most
QUIET = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
MARGINS = {"top": "18mm", "bottom": "18mm", "left": "17mm", "right": "17mm"}
FOOTER = (
    '<div style="font-size:8px;width:100%;text-align:center">'
    '<span class="pageNumber"></span> / <span class="totalPages"></span></div>'
)
# What is folded on a screen is open on paper, but for code; all pictures are there; a link that
# leads to another file is none.
OPEN = """
const folded = 'details.table-folded, details.claim, details.sd-dropdown';
for (const part of document.querySelectorAll(folded)) part.open = true;
for (const picture of document.images) picture.loading = 'eager';
for (const link of document.querySelectorAll('a[href]')) {
  if (!/^(#|https?:)/.test(link.getAttribute('href'))) link.removeAttribute('href');
}
"""
LOADED = "[...document.images].every((picture) => picture.complete && picture.naturalWidth)"
TYPESET = "!window.MathJax?.startup?.promise || window.MathJax.startup.promise.then(() => true)"


def with_inner_links(page: str) -> str:
    """The book as one page, in which every link between its pages, and within one, leads home.

    A link that code wrote is `14_how_many_kinks.html#dose`. Pages share anchors, such as that of
    the heading "Claims": only the first page keeps it, and others have it under their own name.
    """
    head, *parts = re.split(r'(?=<span id="document-)', page)
    documents = {re.match(r'<span id="document-([^"]+)"', part)[1]: part for part in parts}
    own, taken = {}, _anchors(head)
    for document, part in documents.items():
        own[document] = {a: f"{document}-{a}" if a in taken else a for a in _anchors(part)}
        taken |= _anchors(part)
    by_file = {document.rpartition("/")[2]: document for document in documents}

    def between(link: re.Match) -> str:
        document = by_file.get(link[1].rpartition("/")[2])
        if document is None:
            return link[0]
        return f'href="#{own[document].get(link[2], f"document-{document}")}"'

    def within(found: re.Match, names: dict[str, str]) -> str:
        return f'{found[1]}"{found[2]}{names.get(found[3], found[3])}"'

    whole = head
    for document, part in documents.items():
        names = own[document]
        whole += re.sub(r'\b(id=|href=)"(#?)([^"#]+)"', lambda m, n=names: within(m, n), part)
    return re.sub(r'href="([\w./-]+)\.html(?:#([^"]*))?"', between, whole)


def _anchors(part: str) -> set[str]:
    return set(re.findall(r'\bid="([^"]+)"', part))


def print_page(page: Page, source: Path, target: Path) -> None:
    """Print a built page as A4."""
    page.emulate_media(media="print", color_scheme="light")
    page.goto(source.resolve().as_uri(), wait_until="load")
    page.evaluate(OPEN)
    page.wait_for_function(LOADED, timeout=120_000)
    page.evaluate(TYPESET)
    page.pdf(
        path=target,
        format="A4",
        margin=MARGINS,
        print_background=True,
        display_header_footer=True,
        header_template="<span></span>",
        footer_template=FOOTER,
        outline=True,
        tagged=True,
    )


def main(single: Path, book: Path, out: Path) -> int:
    """Print `single` (the folder of the one page) and the article of `book` into `out`."""
    whole = single / "index.html"
    whole.write_text(with_inner_links(whole.read_text(encoding="utf-8")), encoding="utf-8")
    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=shutil.which("chromium"), args=QUIET)
        page = chromium.new_page()
        print_page(page, whole, out / "reluprime-book.pdf")
        print_page(page, book / "book" / "article.html", out / "reluprime-article.pdf")
        chromium.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
