"""Make the built pages light and readable by machines: what follows the stock build.

- The theme draws a dozen icons with a script of 1.5 MB, and fonts, that hold two thousand. The
  icons that the pages use are written as CSS masks instead, and the others go.
- MathJax (2 MB) stays on pages with mathematics alone, and sphinx-design on those that fold text.
- Pictures say their size, so that a page has its height before they are there, and are loaded when
  they come into view; the first of a page that has one form alone is loaded at once.
- A term of the glossary says its meaning when the pointer rests on it or it has the focus.
- Lists of references have the roles that screen readers expect.
"""

import re
import struct
from pathlib import Path
from urllib.parse import unquote

from docutils import nodes

GLOSSARY = "book/glossary"
POINTS_AN_INCH, PIXELS_AN_INCH = 72, 110  # of an SVG; of our PNGs, as evidence.style says
ICON_SCRIPT = re.compile(r"\s*<(?:script|link)[^>]*scripts/fontawesome\.js[^>]*>(?:</script>)?")
VIEWPORT = re.compile(r'<meta name="viewport"[^>]*>')  # each theme below the book's adds one
MATH_SCRIPT = re.compile(r"\s*<script[^>]*mathjax/tex-svg\.js[^>]*></script>")
# Of sphinx-design: what draws the folded parts of a few pages.
DESIGN = re.compile(
    r"\s*<(?:script|link)[^>]*(?:sphinx-design\.min\.css|design-tabs\.js)[^>]*>(?:</script>)?"
)
TWICE = re.compile(r"<title>(.*?) &#8212; \1</title>")  # a page that is called like the book
# The theme's own icon fonts: their rules, and the files that these name.
FONT_RULES = re.compile(
    r"(?<=[}\n])(?:\.fa[\w-]*(?:::?before|::?after)?(?:,\s*)?)+\{[^{}]*\}"
    r"|@font-face\{[^}]*Font Awesome[^}]*\}"
)
UNSIZED = re.compile(r'<img (?![^>]* height=)[^>]*?src="(?P<source>[^":]+\.(?:png|svg))"')
# What unfolds the pages below a page, in the theme's list.
UNNAMED_FOLD = '<summary><span class="toctree-toggle"'
NAMED_FOLD = '<summary aria-label="Pages below this one"><span class="toctree-toggle"'
ICON_NAME = re.compile(r"\bfa-([a-z-]+)")
ADDED_BY_SCRIPTS = {"xmark"}  # icons that the theme's own scripts put on a page
ICON = (
    ".fa-{name}::before{{content:'';display:inline-block;width:{width:.3f}em;height:1em;"
    'vertical-align:-.125em;background:currentColor;mask:url("data:image/svg+xml,'
    "%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {w} {h}'%3E%3Cpath d='{path}'/%3E"
    '%3C/svg%3E") center/contain no-repeat}}\n'
)


def icons_css(script: str, names: set[str]) -> str:
    """CSS that draws the icons of these names, from the theme's script; others are left out."""
    css = ".fa-lg{font-size:1.25em;line-height:.05em;vertical-align:-.075em}\n"
    for name in sorted(names):
        found = re.search(rf'[{{,]"?{name}"?:\[(\d+),(\d+),\[[^\]]*\],"[^"]*","([^"]+)"', script)
        if found:
            w, h, path = found.groups()
            css += ICON.format(name=name, w=w, h=h, width=int(w) / int(h), path=path)
    return css


def lighter(page: str, to_static: str) -> str:
    """A built page without what it does not need; `to_static` is its way to the folder _static."""
    page = ICON_SCRIPT.sub("", page)
    while len(VIEWPORT.findall(page)) > 1:
        page = VIEWPORT.sub("", page, count=1)
    icons = f'<link rel="stylesheet" href="{to_static}/icons.css" />'
    if icons not in page:
        page = page.replace("</head>", f"{icons}\n</head>", 1)
    if 'class="math' not in page and "math notranslate" not in page:
        page = MATH_SCRIPT.sub("", page)
    if not re.search(r'class="[^"]*\bsd-', page):
        page = DESIGN.sub("", page)
    page = TWICE.sub(r"<title>\1</title>", page)
    page = page.replace(UNNAMED_FOLD, NAMED_FOLD)
    first, *others = re.split(r"(?=<img )", page)
    later = 0 if 'class="narrow"' in page else 1  # one of two forms is not shown, and not loaded
    lazy = [re.sub(r"<img (?!loading)", '<img loading="lazy" ', o) for o in others[later:]]
    page = first + "".join(others[:later] + lazy)
    return page.replace('<div role="list" class="citation-list">', '<div class="citation-list">')


def sized(page: str, folder: Path) -> str:
    """A built page of this folder whose pictures say their width and height in pixels."""

    def with_size(match: re.Match) -> str:
        width, height = size(folder / unquote(match["source"]))
        return f'{match[0]} width="{width:g}" height="{height:g}"'

    return UNSIZED.sub(with_size, page)


def size(picture: Path) -> tuple[float, float]:
    """Width and height of a PNG, or of an SVG of matplotlib at the resolution of our PNGs."""
    content = picture.read_bytes()
    if picture.suffix == ".png":
        return struct.unpack(">II", content[16:24])
    found = re.search(rb'<svg[^>]* width="([\d.]+)pt" height="([\d.]+)pt"', content)
    return tuple(float(points) / POINTS_AN_INCH * PIXELS_AN_INCH for points in found.groups())


def lighten(app, exception):
    if exception is not None or app.builder.format != "html":
        return
    out, names = Path(app.outdir), set(ADDED_BY_SCRIPTS)
    for path in sorted(out.rglob("*.html")):
        page = path.read_text(encoding="utf-8")
        names |= set(ICON_NAME.findall(page))
        depth = len(path.relative_to(out).parts) - 1
        page = sized(lighter(page, "../" * depth + "_static"), path.parent)
        path.write_text(page, encoding="utf-8")
    theme = out / "_static/styles/pydata-sphinx-theme.css"
    theme.write_text(FONT_RULES.sub("", theme.read_text(encoding="utf-8")), encoding="utf-8")
    script = (out / "_static/scripts/fontawesome.js").read_text(encoding="utf-8")
    (out / "_static/icons.css").write_text(icons_css(script, names), encoding="utf-8")


def say_meanings(app, doctree, docname):
    """Give each link to the glossary the term's meaning as its title."""
    links = [r for r in doctree.findall(nodes.reference) if _target(r).startswith("term-")]
    if not links:
        return
    glossary = app.env.get_doctree(GLOSSARY)
    meanings = {
        place: term.parent[-1].astext().replace("\n", " ")
        for term in glossary.findall(nodes.term)
        for place in term["ids"]
    }
    for link in links:
        link["reftitle"] = meanings[_target(link)]


def _target(reference: nodes.reference) -> str:
    return reference.get("refid") or reference.get("refuri", "").partition("#")[2]


def setup(app):
    app.connect("doctree-resolved", say_meanings)
    app.connect("build-finished", lighten, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
