"""Make the built book load nothing from other hosts.

The stock build fetches MathJax from a CDN and names a thebe server on every page. This extension
copies MathJax out of the package sphinx-mathjax-offline (`mathjax_path` points to the copy), takes
sphinx-thebe out of the pages, and drops script tags that a page already has.
"""

import shutil
from importlib.metadata import distribution
from pathlib import Path

MATHJAX = "sphinx-mathjax-offline/static/mathjax/tex-svg.js"


def copy_mathjax(app, exception):
    if exception is None and app.builder.format == "html":
        source = Path(distribution("sphinx-mathjax-offline").locate_file(MATHJAX))
        target = Path(app.outdir, "_static", app.config.mathjax_path)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def disconnect_thebe(app, config):
    for listeners in app.events.listeners.values():
        for listener in list(listeners):
            if listener.handler.__module__ == "sphinx_thebe":
                app.disconnect(listener.id)


def clean_assets(app, pagename, templatename, context, doctree):
    for kind in ("script_files", "css_files"):
        kept, seen = [], set()
        for asset in context.get(kind, []):
            source = str(getattr(asset, "filename", asset) or asset.attributes.get("body"))
            if "sphinx-thebe" not in source and source not in seen:
                seen.add(source)
                kept.append(asset)
        context[kind] = kept


def setup(app):
    app.connect("config-inited", disconnect_thebe)
    app.connect("html-page-context", clean_assets, priority=900)
    app.connect("build-finished", copy_mathjax)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
