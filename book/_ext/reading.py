"""Put a notebook's page into the order of reading: results first, then the code that made them.

The parameters and every cell that shows nothing (imports, tables in the making) move to one folded
part at the foot of the page. The code of a figure stays with it, folded, below the figure: the
order of the two is in custom.css.

A number out of a record is bold, a sentence with such numbers is not.
"""

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform

SHOWN = (nodes.image, nodes.raw, nodes.literal_block, nodes.math_block, nodes.paragraph)
LONGEST_NUMBER = 40  # characters, with its interval
HEAD = '<details class="page-code"><summary>Parameters and code of this page</summary>'


class ReadingOrder(SphinxPostTransform):
    """Runs after the outputs are chosen (priority 4) and before inputs are folded (199)."""

    default_priority = 190
    formats = ("html",)

    def run(self, **kwargs):
        cells = [
            node
            for node in self.document.findall(nodes.container)
            if node.get("nb_element") == "cell_code" and not _shows(node)
        ]
        if not cells:
            return
        foot = [nodes.raw("", HEAD, format="html")]
        for cell in cells:
            cell.parent.remove(cell)
            cell["hide_mode"] = None  # the whole part is folded
            foot.append(cell)
        foot.append(nodes.raw("", "</details>", format="html"))
        page = next(iter(self.document.findall(nodes.section)), self.document)
        page.extend(foot)


def _shows(cell: nodes.container) -> bool:
    outputs = cell.children[-1]
    if outputs.get("nb_element") != "cell_code_output":
        return False
    return any(True for kind in SHOWN for _ in outputs.findall(kind))


class PlainSentences(SphinxPostTransform):
    """Tells sentences from numbers, for custom.css. Runs after they are pasted (priority 5)."""

    default_priority = 190
    formats = ("html",)

    def run(self, **kwargs):
        for node in self.document.findall(nodes.inline):
            text = node.astext().rstrip()
            is_sentence = len(text) > LONGEST_NUMBER or text.endswith(".")
            if "pasted-text" in node["classes"] and is_sentence:
                node["classes"].append("sentence")


def setup(app):
    app.add_post_transform(ReadingOrder)
    app.add_post_transform(PlainSentences)
    # {known}`235`: a number in prose that is no result of ours; tests/test_prose.py asks for it.
    app.add_generic_role("known", nodes.inline)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
