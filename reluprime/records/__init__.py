"""What was measured: results on disk, with how they came about."""

from reluprime.records.keys import cell_key, config_class, study_name
from reluprime.records.store import REPOSITORY, RecordsError, Store, made
from reluprime.records.sweep import check_sweep, measure, sweep
from reluprime.records.tables import frame, machine, origin, published, table

__all__ = [
    "REPOSITORY",
    "RecordsError",
    "Store",
    "cell_key",
    "check_sweep",
    "config_class",
    "frame",
    "machine",
    "made",
    "measure",
    "origin",
    "published",
    "study_name",
    "sweep",
    "table",
]
