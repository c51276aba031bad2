"""No result is typed: a number in prose is glued from a record, or marked {known}`235`.

Known is what is no result of ours: what the papers published, parameters, definitions, counts of
things.
"""

import pkgutil
import re

import nbformat
import pytest

from reluprime.records import REPOSITORY
from reluprime.report.pages import NOTEBOOKS

# What is no prose: code, roles such as glue, known and citations, formulas, targets of links.
NO_PROSE = re.compile(
    r"\A---$.*?^---$"  # front matter
    r"|^(`{3,}|~{3,}).*?^\1 *$"  # fenced code and directives
    r"|^:{3,}.*?$|^:\w+:.*?$"  # lines of directives with colons
    r"|\{[\w:]+\}`[^`]*`|`[^`]*`|\$\$.*?\$\$|\$[^$]*\$|\]\([^)]*\)|^\([\w-]+\)=$",
    re.MULTILINE | re.DOTALL,
)
LIST = r"[\d.]+(?:(?:, | and | to | or )[\d.]+)*"
# Names that have digits, parameters by their name, and the kink itself: results in no sentence.
NAMES = re.compile(
    r"\b(?:(?:fp|bf|tf|float|bfloat)(?:16|32|64)|TF32|ReLU6|VGG11|ResNet-(?:18|50)|MobileNetV3"
    r"|CIFAR-10|B21|M23|[PR]\d+|L[12]|(?:16|32|64)(?:-bit\b| bits?\b))"
    rf"|\b(?:Figures?|Fig\.|Sections?|Tables?|Appendix|Theorems?|Definitions?|page) [A-D]?{LIST}"
    r"|\bs ?= ?-?[\d.]*\d|'?\([06]\)|\b\d+(?:-\d+)+(?:x\d+)?(?:-\d+)*\b|\b\d+x\d+\b"
    r"|\((?:commit )?[0-9a-f]{7}\)|commit [0-9a-f]{7}\b"
    r"|\b(?:layers of|batches of|learning rate(?: of)?|momentum|weight decay|Adam at|footnote"
    r"|equation|version|level|width|depth) \d[\de.-]*"
    r"|\b(?:exactly|at|around|near|than|above|not|to|both|all|never|be) 0\b(?! ?%|\.\d)"
)


def prose(text: str) -> str:
    """`text` without code, roles, formulas and names that have digits, on one line."""
    return " ".join(NAMES.sub(" ", NO_PROSE.sub(" ", text)).split())


def pages() -> dict[str, str]:
    """The prose of every page by its name: book pages, and the markdown of the notebooks."""
    prose_pages = [REPOSITORY / "index.md", *(REPOSITORY / "book").glob("*.md")]
    found = {path.stem: path.read_text() for path in prose_pages}
    for path in NOTEBOOKS.glob("*.ipynb"):
        cells = nbformat.read(path, 4).cells
        found[path.stem] = "\n\n".join(c.source for c in cells if c.cell_type == "markdown")
    return found


def typed_numbers(text: str) -> list[str]:
    """Numbers in prose, each with what stands around it."""
    text = prose(text)
    return [text[max(0, m.start() - 30) : m.end() + 30] for m in re.finditer(r"\d[\d.,]*", text)]


@pytest.mark.parametrize("name", sorted(pages()))
def test_every_number_in_prose_is_glued_or_known(name):
    assert typed_numbers(pages()[name]) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("accuracy falls to 11 % at s=50", True),
        ("accuracy falls by {glue:text}`mlp_points:s` at s=50", False),
        ("in fp32 and 64 bits, B21 (Section 3.2, Figures 1 and 7)", False),
        ("about 40 % of networks", True),
        ("about {known}`40` % is published", False),
        ("a median of `0.002`", False),
        ("ResNet-18 reaches 0.9", True),
    ],
)
def test_a_typed_result_is_found(text, found):
    assert bool(typed_numbers(text)) is found


@pytest.mark.parametrize("name", sorted(pages()))
def test_every_name_of_the_package_in_prose_exists(name):
    """So that no page names a module that has moved."""
    for dotted in set(re.findall(r"`(reluprime(?:\.\w+)+)", pages()[name])):
        pkgutil.resolve_name(dotted)
