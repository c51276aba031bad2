"""The printed book and article, as `make pdf` made them: whole, with links that lead somewhere."""

import importlib.util
import re
import shutil
from collections import Counter

import pytest
import yaml

from reluprime.records import REPOSITORY

pypdf = pytest.importorskip("pypdf")
sync_api = pytest.importorskip("playwright.sync_api")

BUILD = REPOSITORY / "_build"
SINGLE = BUILD / "print" / "_build" / "singlehtml" / "index.html"
FILES = {name: BUILD / f"reluprime-{name}.pdf" for name in ("book", "article")}
CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
    pytest.mark.skipif(
        not all(path.exists() for path in FILES.values()), reason="nothing is printed: make pdf"
    ),
]
WIDTH, HEIGHT = 665, 986  # pixels of A4 within the margins of book/pdf.py


def _module():
    spec = importlib.util.spec_from_file_location("pdf", REPOSITORY / "book" / "pdf.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


pdf = _module()


@pytest.fixture(scope="module", params=FILES)
def printed(request):
    return request.param, pypdf.PdfReader(FILES[request.param])


def _links(reader):
    for page in reader.pages:
        for annotation in page.get("/Annots") or []:
            link = annotation.get_object()
            if link.get("/Subtype") == "/Link":
                yield link


def test_every_link_leads_into_the_file_or_to_the_web(printed):
    name, reader = printed
    places, inner = reader.named_destinations, 0
    for link in _links(reader):
        if "/Dest" in link:
            inner += 1
            place = str(link["/Dest"])
            assert place in places or place.lstrip("/") in places
        else:
            assert str(link["/A"]["/URI"]).startswith(("https://", "http://"))
            assert "127.0.0.1" not in str(link["/A"]["/URI"])
    assert inner >= {"book": 200, "article": 4}[name]


def test_the_article_is_short():
    assert 3 <= len(pypdf.PdfReader(FILES["article"]).pages) <= pdf.ARTICLE_PAGES


def test_the_book_has_every_page():
    toc = yaml.safe_load((REPOSITORY / "_toc.yml").read_text())
    pages = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    text = SINGLE.read_text(encoding="utf-8")
    assert not [page for page in pages if f'id="document-{page}"' not in text]
    reader = pypdf.PdfReader(FILES["book"])
    words = " ".join("".join(page.extract_text() for page in reader.pages).split())
    for title in ("Which claims hold? The scorecard", "How many kinks does it take?", "Glossary"):
        assert title in words


@pytest.mark.parametrize("source", [SINGLE, BUILD / "html" / "book" / "article.html"])
def test_no_figure_is_cut(source):
    """On a sheet no picture is wider than the text or higher than a page, and none is missing."""
    with sync_api.sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=pdf.QUIET)
        page = chromium.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.emulate_media(media="print", color_scheme="light")
        page.goto(source.as_uri(), wait_until="load")
        page.evaluate(pdf.OPEN)
        page.wait_for_function(pdf.LOADED, timeout=120_000)
        boxes = page.evaluate(
            "[...document.querySelectorAll('main img:not(.narrow)')]"
            ".map((i) => i.getBoundingClientRect())"
            ".map((box) => [box.left, box.right, box.height])"
        )
        tables = page.evaluate("document.documentElement.scrollWidth")
        chromium.close()
    assert len(boxes) >= 4
    for left, right, height in boxes:
        assert 0 <= left < right <= WIDTH
        assert 20 < height <= HEIGHT
    assert tables <= WIDTH


def test_links_between_pages_lead_within_the_one_page():
    page = (
        '<h1 id="claims"></h1><a href="14_kinks.html#gone"></a>'
        '<span id="document-notebooks/14_kinks"></span><h2 id="dose"></h2><h2 id="claims"></h2>'
        '<a href="14_kinks.html#dose"></a><a href="#claims"></a><a href="#dose"></a>'
        '<span id="document-notebooks/15_more"></span><h2 id="claims"></h2><a href="#claims"></a>'
        '<a href="notebooks/14_kinks.html"></a><a href="14_kinks.html#claims"></a>'
        '<a href="#elsewhere"></a><a href="https://x.org/a.html"></a>'
    )
    found = pdf.with_inner_links(page)
    anchors = re.findall(r' id="([^"]+)"', found)
    assert len(set(anchors)) == len(anchors) == 6
    assert re.findall(r'href="([^"]+)"', found) == [
        "#document-notebooks/14_kinks",
        *("#dose", "#notebooks/14_kinks-claims", "#dose", "#notebooks/15_more-claims"),
        *("#document-notebooks/14_kinks", "#notebooks/14_kinks-claims"),
        *("#elsewhere", "https://x.org/a.html"),
    ]


def test_every_link_of_the_one_page_has_one_place_to_lead_to():
    page = SINGLE.read_text(encoding="utf-8")
    places = Counter(re.findall(r'\bid="([^"]+)"', page))
    links = re.findall(r'href="#([^"]+)"', page)
    assert len(links) > 500
    assert [link for link in set(links) if places[link] != 1] == []
