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
    """The book as one page, in which links between its pages, as code wrote them, lead within it.

    Such a link is `14_how_many_kinks.html#dose`, without a place for the head of a page.
    """
    anchors = set(re.findall(r'\bid="([^"]+)"', page))
    documents = {name.rpartition("/")[2]: name for name in _documents(anchors)}

    def inner(link: re.Match) -> str:
        name, _, place = link[1].partition(".html")
        document = documents.get(name.rpartition("/")[2])
        place = place.removeprefix("#")
        target = place if place in anchors else f"document-{document}"
        return f'href="#{target}"' if document or place in anchors else link[0]

    return re.sub(r'href="([\w./-]+\.html(?:#[^"]*)?)"', inner, page)


def _documents(anchors: set[str]) -> set[str]:
    return {name.removeprefix("document-") for name in anchors if name.startswith("document-")}


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
