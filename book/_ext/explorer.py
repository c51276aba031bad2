"""The interactive figures of one page: their script, and the records that the explorer shows.

The records are written as a script, not fetched, so that the page also works from a folder.
"""

import json
from pathlib import Path

from reluprime import records
from reluprime.report import explorer

PAGE = "book/try"
DATA = "recorded-runs.js"


def add_scripts(app, pagename, templatename, context, doctree):
    if pagename == PAGE:
        for script in (DATA, "rule-figure.js", "explorer.js"):
            app.add_js_file(script, defer="defer")


def write_data(app, exception):
    if exception is None and app.builder.format == "html":
        curves = explorer.data(records.Store("records"))
        text = json.dumps(curves, separators=(",", ":"), ensure_ascii=False)
        Path(app.outdir, "_static", DATA).write_text(f"const RUNS={text};\n", encoding="utf-8")


def setup(app):
    app.connect("html-page-context", add_scripts)
    app.connect("build-finished", write_data)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
