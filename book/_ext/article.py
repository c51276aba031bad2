"""Prose pages show figures of the notebooks as they are stored: no figure is drawn twice.

```{cell-figure} 02_relative_volume table-1
A caption of the article's own.
```
"""

import os
from pathlib import Path

import nbformat
import phone
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

FOLDER = "article"  # of the copies, in the build's own folder beside the doctrees


def stored_figure(notebook: nbformat.NotebookNode, name: str) -> tuple[str, str | None, str]:
    """The picture of the cell whose figure has this name, its form for a phone, and its words."""
    for cell in notebook.cells:
        shown = cell.metadata.get("mystnb", {})
        if shown.get("figure", {}).get("name") == name:
            for output in cell.outputs:
                if "image/svg+xml" in output.get("data", {}):
                    own = output["data"]["image/svg+xml"]
                    return own, phone.narrow_form(output), shown["image"]["alt"]
    raise ValueError(f"no figure is called {name}")


class CellFigure(SphinxDirective):
    """A figure of a notebook, by the notebook's and the figure's name; the content: a caption."""

    has_content = True
    required_arguments = 2

    def run(self):
        page, name = self.arguments
        path = Path(self.env.srcdir, "notebooks", f"{page}.ipynb")
        self.env.note_dependency(str(path))
        picture, narrow, alt = stored_figure(nbformat.read(path, 4), name)
        box = nodes.container(classes=["article-figure"])
        box += nodes.image(uri=self.copied(f"{page}-{name}.svg", picture), alt=alt)
        if narrow:
            phone.add_narrow(box[0], self.copied(f"{page}-{name}-narrow.svg", narrow))
        caption = nodes.paragraph(classes=["caption"])
        children, messages = self.state.inline_text("\n".join(self.content), self.lineno)
        caption += children
        box += caption
        return [box, *messages]

    def copied(self, name: str, picture: str) -> str:
        """Write a file; where it is from the folder of sources, as Sphinx asks."""
        copy = Path(self.env.doctreedir, FOLDER, name)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(picture, encoding="utf-8")
        return "/" + os.path.relpath(copy, self.env.srcdir)


def setup(app):
    app.add_directive("cell-figure", CellFigure)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
