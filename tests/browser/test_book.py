"""The built book in a browser (Debian's Chromium), served from this machine: `make browser`.

Pages must work without errors and without other hosts, on a phone, and for a screen reader.
"""

import functools
import gzip
import http.server
import re
import shutil
import threading
from pathlib import Path
from urllib.parse import unquote, urljoin, urlparse

import pytest
from bs4 import BeautifulSoup

from reluprime.records import REPOSITORY

sync_api = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")

BOOK = REPOSITORY / "_build" / "html"
CHROMIUM = shutil.which("chromium")
PAGES = sorted(
    path.relative_to(BOOK).as_posix()
    for path in BOOK.rglob("*.html")
    if path.name not in ("genindex.html", "prf-prf.html", "search.html")
    and "_static" not in path.parts
)
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
    pytest.mark.skipif(not PAGES, reason="the book is not built: make book"),
]
OFFLINE = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage")
QUIET = ("--no-first-run", "--disable-background-networking", "--disable-component-update")
LONGEST = 9_000  # pixels of a page on a desk
PHONE, DESK = {"width": 375, "height": 800}, {"width": 1280, "height": 900}
LOAD_PICTURES = "for (const picture of document.images) picture.loading = 'eager'"
LANDING_RAW, LANDING_COMPRESSED = 700_000, 400_000  # bytes, with its pictures


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def address():
    handler = functools.partial(_Quiet, directory=BOOK)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=[*OFFLINE, *QUIET])
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser, address):
    """Open a page; what went wrong on it is in `page.wrong`, what it loaded in `page.loaded`."""
    contexts = []

    def open_page(name, viewport, scheme="light"):
        contexts.append(browser.new_context(viewport=viewport, color_scheme=scheme))
        page = contexts[-1].new_page()
        page.wrong, page.loaded = [], {}
        page.on("console", lambda m: m.type == "error" and page.wrong.append(m.text))
        page.on("pageerror", lambda error: page.wrong.append(str(error)))

        def route(request):
            if request.request.url.startswith((address, "data:", "blob:")):
                return request.continue_()
            page.wrong.append(f"asks another host: {request.request.url}")
            return request.abort()

        def loaded(response):
            page.loaded[response.url] = response.status
            if response.status >= 400:
                page.wrong.append(f"{response.status} {response.url}")

        page.route("**/*", route)
        page.on("response", loaded)
        page.goto(urljoin(address, name), wait_until="load")
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_works_on_a_phone(visit, name):
    page = visit(name, PHONE)
    for picture in page.locator("main img:visible").all():
        picture.scroll_into_view_if_needed()
    shown = "[...document.images].filter(i => i.checkVisibility())"
    page.wait_for_function(f"{shown}.every(i => i.complete)")
    assert page.evaluate(f"{shown}.filter(i => !i.naturalWidth).map(i => i.src)") == []
    figures = f"{shown}.filter(i => i.closest('figure, .article-figure'))"
    assert page.evaluate(f"{figures}.filter(i => !i.matches('.narrow')).map(i => i.src)") == []
    cells = "[...document.querySelectorAll('td')].filter(c => c.scrollWidth > c.clientWidth + 1)"
    assert page.evaluate(f"{cells}.map(c => c.innerText)") == []
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert page.wrong == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_accessible(visit, name, scheme):
    page = visit(name, DESK, scheme)
    found = axe.Axe().run(page).response["violations"]
    serious = [
        (violation["id"], [node["html"][:200] for node in violation["nodes"][:3]])
        for violation in found
        if violation["impact"] in ("serious", "critical")
    ]
    assert serious == []


def _links(name):
    text = (BOOK / name).read_text(encoding="utf-8")
    for link in re.findall(r'<a [^>]*?href="([^"]+)"', text):
        parts = urlparse(link.replace("&amp;", "&"))
        if not parts.scheme and not parts.netloc:
            yield parts.path, unquote(parts.fragment)


@pytest.mark.parametrize("name", PAGES)
def test_every_link_within_the_book_lands(name):
    lost = []
    for path, fragment in _links(name):
        target = (BOOK / name).parent / unquote(path) if path else BOOK / name
        if not target.is_file():
            lost.append(path)
        elif fragment and target.suffix == ".html":
            anchors = _anchors(target.resolve())
            if fragment not in anchors:
                lost.append(f"{path}#{fragment}")
    assert lost == []


@functools.cache
def _anchors(path: Path) -> set[str]:
    return set(re.findall(r'\bid="([^"]+)"', path.read_text(encoding="utf-8")))


# What a program prints and no page says; commands, code and its signatures aside.
MACHINE_WORDS = re.compile(r"\b(?:nan|NaN|None|True|False)\b(?! of| seen)|\b\d+(?:\.\d+)?e[-+]\d+")
NO_WORDS = "details.source, details.hide, details.page-code, code, pre, script, .math, dl.py"


@pytest.mark.parametrize("name", [name for name in PAGES if name != "genindex.html"])
def test_a_page_speaks_no_machine_language(name):
    article = BeautifulSoup((BOOK / name).read_text(encoding="utf-8"), "html.parser").article
    for part in article.select(NO_WORDS):
        part.decompose()
    assert MACHINE_WORDS.findall(article.get_text(" ")) == []


@pytest.mark.parametrize("name", PAGES)
def test_no_table_that_is_shown_at_once_is_cut_on_a_desk(visit, name):
    page = visit(name, DESK)
    tables = "[...document.querySelectorAll('.table-shown .table-window, table.table')]"
    cut = f"{tables}.filter(t => t.scrollWidth > t.clientWidth + 1).map(t => t.innerText)"
    assert page.evaluate(cut) == []


@pytest.mark.parametrize("name", PAGES)
def test_no_sentence_is_bold(visit, name):
    page = visit(name, DESK)
    bold = page.locator("article span.pasted-text").evaluate_all(
        "found => found.filter(e => getComputedStyle(e).fontWeight >= 600).map(e => e.innerText)"
    )
    assert [text for text in bold if text.rstrip().endswith(".") or len(text) > 40] == []


@pytest.mark.parametrize("name", [name for name in PAGES if name != "genindex.html"])
def test_a_page_is_not_endless(visit, name):
    page = visit(name, DESK)
    page.evaluate(LOAD_PICTURES)
    page.wait_for_function("[...document.images].every((i) => i.complete && i.naturalWidth)")
    assert page.evaluate("document.querySelector('article').scrollHeight") <= LONGEST


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_its_height_before_its_pictures_are_there(visit, name):
    page = visit(name, DESK)
    height = "document.querySelector('article').scrollHeight"
    before = page.evaluate(height)
    page.evaluate(LOAD_PICTURES)
    page.wait_for_function("[...document.images].every((i) => i.complete && i.naturalWidth)")
    assert page.evaluate(height) == before


def test_the_figure_of_the_rule_answers_to_the_keyboard(visit):
    page = visit("book/try.html", DESK)
    words = page.locator("#rule-words")
    assert "1,000 times as much" in words.inner_text()
    page.locator("#rule-u").focus()
    drawn = page.locator("#rule-figure").inner_html()
    page.keyboard.press("End")  # the upstream gradient is then 1
    assert "the two rules agree" in words.inner_text()
    page.locator("#rule-s").focus()
    page.keyboard.press("ArrowLeft")
    assert page.locator("output[for=rule-s]").inner_text() == "0.95"
    assert page.locator("#rule-figure").inner_html() != drawn
    assert page.wrong == []


def test_the_explorer_answers_to_the_keyboard(visit):
    page = visit("book/try.html", DESK)
    words, curves = page.locator("#explorer-words"), page.locator("#explorer svg path")
    page.locator("#explorer-network").focus()
    seen = set()
    for _ in range(page.locator("#explorer-network option").count()):
        seen.add(words.inner_text())
        assert curves.count() > 0
        page.keyboard.press("ArrowDown")
    assert len(seen) > 10
    before = curves.count()
    page.locator("#explorer input[name=chain]").focus()
    page.keyboard.press("Space")
    assert curves.count() < before
    assert "derivative" not in words.inner_text()
    assert page.wrong == []


def test_a_table_is_sorted_by_keyboard_and_its_file_has_its_rows(visit, address):
    page = visit("notebooks/11_audit.html", DESK)
    table = page.locator("#all-findings table.dataframe")
    heading = table.get_by_role("button", name="difference")
    heading.focus()
    page.keyboard.press("Enter")
    names = table.locator("tbody td:nth-child(2)").all_inner_texts()
    assert names == sorted(names, key=str.lower)
    assert table.locator("th").nth(1).get_attribute("aria-sort") == "ascending"
    number = table.locator("tbody td:nth-child(1)").all_inner_texts()
    assert number != sorted(number, key=int)
    file = page.locator("#all-findings a.csv").get_attribute("href")
    text = (BOOK / "notebooks" / file).read_text(encoding="utf-8")
    assert len(text.splitlines()) == len(names) + 1


# The ways of three readers, as CONTRIBUTING.md has them.
def test_a_researcher_with_a_minute(visit):
    page = visit("index.html", DESK)
    picture = page.locator("img.wide").first.bounding_box()
    assert picture["y"] + picture["height"] <= DESK["height"]
    page.locator("article a", has_text="One line in a test suite").click()
    page.wait_for_url("**/15_your_network.html*")
    assert page.locator("h2", has_text="One line for a test suite").count() == 1
    assert page.wrong == []


def test_a_reviewer(visit):
    page = visit("index.html", DESK)
    page.locator("table.matrix a", has_text="P7").click()
    page.locator("#p7 a", has_text="figure and numbers").click()
    page.wait_for_url("**/02_relative_volume.html#table-1")
    page.locator("details.source summary").nth(1).click()
    assert "papermill" in page.locator("details.source").nth(1).inner_text()
    page.locator("nav a", has_text="Run it again").first.click()
    page.wait_for_url("**/rerun.html")
    assert page.wrong == []


def test_a_student_on_a_phone(visit):
    page = visit("index.html", PHONE)
    picture = page.locator("img.narrow").first.bounding_box()
    assert picture["width"] <= PHONE["width"]
    assert not page.locator("img.wide").first.is_visible()
    page.locator("article a", has_text="Move s yourself").click()
    words = page.locator("#rule-words")
    sync_api.expect(words).to_contain_text("1,000 times as much")
    page.locator("article a", has_text="exact zero").first.click()
    page.wait_for_url("**/glossary.html#term-exact-zero")
    assert page.wrong == []


@pytest.mark.parametrize("words", ["bifurcation", "MobileNet"])
def test_the_search_finds(visit, words):
    page = visit(f"search.html?q={words}", DESK)
    page.wait_for_selector("ul.search li")
    assert page.locator("ul.search li").count() > 0


def test_the_landing_page_is_light(visit, address):
    page = visit("index.html", PHONE)
    page.wait_for_load_state("networkidle")
    files = [
        BOOK / urlparse(url).path.lstrip("/") for url in page.loaded if url.startswith(address)
    ]
    contents = [path.read_bytes() for path in files if path.is_file()]
    assert sum(map(len, contents)) <= LANDING_RAW
    assert sum(len(gzip.compress(content)) for content in contents) <= LANDING_COMPRESSED
