"""What readers and other sites expect around a report: how to cite it, where its code is, a card.

- The directive `cite-us` shows CITATION.cff as BibTeX, with version, date and licence.
- Every page has a description and the tags of a social card; the picture needs `html_baseurl`.
- The title of the landing page is the book's, once.
- Where `_config.yml` names a repository, buttons lead to it, its issues, Colab and Binder.
"""

import html
from pathlib import Path

import yaml
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

CITATION = Path(__file__).parents[2] / "CITATION.cff"
CARD = "_static/answer.png"  # the picture of the landing page
LONGEST = 160  # letters of a description
LAUNCH = {"colab_url": "https://colab.research.google.com", "binderhub_url": "https://mybinder.org"}


def bibtex(citation: dict) -> str:
    """A CITATION.cff as a BibTeX entry."""
    authors = " and ".join("{" + author["name"] + "}" for author in citation["authors"])
    date = str(citation["date-released"])
    fields = {
        "title": "{" + citation["title"] + "}",
        "author": authors,
        "year": date[:4],
        "version": citation["version"],
        "date": date,
    }
    fields |= {"url": citation["repository-code"]} if "repository-code" in citation else {}
    lines = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items())
    return f"@software{{reluprime,\n{lines}\n}}"


class CiteUs(SphinxDirective):
    """The box at the foot of the landing page."""

    def run(self):
        citation = yaml.safe_load(CITATION.read_text(encoding="utf-8"))
        facts = f"Version {citation['version']}, {citation['date-released']}, "
        facts += f"{citation['license']} licence."
        box = nodes.container(classes=["cite-us"])
        box += nodes.paragraph("", facts)
        text = bibtex(citation)
        box += nodes.literal_block(text, text, language="bibtex")
        return [box]


def describe(app, pagename, templatename, context, doctree):
    """Add the description and the social card of a page."""
    if pagename == app.config.root_doc:
        context["title"] = app.config.html_title  # light.py has it once
    tags = context.get("metatags", "")
    if doctree is None:
        return
    if 'name="description"' not in tags:
        tags += _tag("name", "description", description(doctree))
    tags += _tag("property", "og:title", context["title"])
    tags += _tag("property", "og:description", description(doctree))
    tags += _tag("property", "og:type", "article")
    if base := app.config.html_baseurl:
        tags += _tag("property", "og:image", f"{base.rstrip('/')}/{CARD}")
        tags += _tag("name", "twitter:card", "summary_large_image")
    context["metatags"] = tags


def _tag(kind: str, name: str, content: str) -> str:
    return f'\n<meta {kind}="{name}" content="{html.escape(content)}" />'


def description(doctree: nodes.document) -> str:
    """The first words of a page, as whole words."""
    texts = (node.astext().replace("\n", " ") for node in doctree.findall(nodes.paragraph))
    first = next((text for text in texts if len(text) > 40), "")
    if len(first) <= LONGEST:
        return first
    return first[:LONGEST].rpartition(" ")[0] + " ..."


def offer_buttons(app, config):
    """Add the buttons of the repository, where the configuration names one."""
    options = config.html_theme_options
    if options.get("repository_url"):
        options |= {"use_repository_button": True, "use_issues_button": True}
        options["launch_buttons"] = options.get("launch_buttons", {}) | LAUNCH


def setup(app):
    app.add_directive("cite-us", CiteUs)
    app.connect("config-inited", offer_buttons)
    app.connect("html-page-context", describe, priority=850)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
