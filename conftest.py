"""What nbval compares: text, tables and glued values, byte for byte, but not pictures."""

from nbval.plugin import IPyNbFile


def pytest_collectstart(collector):
    if isinstance(collector, IPyNbFile):
        # A glued figure is a picture under another name; fonts and versions move its pixels.
        collector.skip_compare += ("application/papermill.record/image/png",)
