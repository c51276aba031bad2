"""A figure of a notebook has two forms: the second, for a phone, is in its output's metadata.

Both stand on the page, and custom.css shows the one or the other (`reluprime.evidence.panels` draws
them).
"""

import os
from pathlib import Path

import nbformat
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

SVG = "image/svg+xml"
FOLDER = "phone"  # of the second forms, in the build's own folder beside the doctrees


def narrow_form(output: nbformat.NotebookNode) -> str | None:
    """The SVG for a phone of a notebook's output."""
    return output.get("metadata", {}).get(SVG, {}).get("narrow")


class NarrowForms(SphinxTransform):
    """Puts each figure's second form behind the first."""

    default_priority = 800  # before Sphinx collects the pictures (880)

    def apply(self, **kwargs):
        path = Path(self.env.doc2path(self.env.docname))
        if path.suffix != ".ipynb":
            return
        outputs = (o for c in nbformat.read(path, 4).cells for o in c.get("outputs", []))
        shown = [o for o in outputs if SVG in o.get("data", {})]
        forms = {_lines(o["data"][SVG]): narrow_form(o) for o in shown}
        folder = Path(self.env.doctreedir, FOLDER)
        folder.mkdir(exist_ok=True)
        for picture in tuple(self.document.findall(nodes.image)):
            file = Path(self.env.relfn2path(picture["uri"], self.env.docname)[1])
            if file.suffix != ".svg" or not file.is_file():
                continue
            form = forms.get(_lines(file.read_text(encoding="utf-8")))
            if form:
                own = folder / file.name
                own.write_text(form, encoding="utf-8")
                add_narrow(picture, f"/{os.path.relpath(own, self.env.srcdir)}")


def add_narrow(picture: nodes.image, uri: str) -> None:
    """Put the picture at this path behind another, which is then shown on wide screens alone."""
    other = picture.deepcopy()
    other["uri"] = uri
    picture["classes"].append("wide")
    other["classes"].append("narrow")
    picture.parent.insert(picture.parent.index(picture) + 1, other)


def _lines(text: str) -> tuple[str, ...]:
    """What two copies of a text have in common, whatever their ends of lines."""
    return tuple(text.splitlines())


def setup(app: Sphinx):
    app.add_transform(NarrowForms)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
