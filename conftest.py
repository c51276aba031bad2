"""What nbval compares: text, tables and glued values, byte for byte, but not pictures."""

from nbval.plugin import IPyNbFile


def pytest_collectstart(collector):
    if isinstance(collector, IPyNbFile):
        # A glued figure is a picture under another name; fonts and versions move its pixels.
        pictures = ("image/png", "image/svg+xml")
        collector.skip_compare += pictures
        collector.skip_compare += tuple(f"application/papermill.record/{p}" for p in pictures)
