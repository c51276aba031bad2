"""Records as data frames, and where the rows are from."""

from collections.abc import Callable, Collection, Iterable

import pandas as pd

from reluprime.records.keys import key_of, study_name
from reluprime.records.store import REPOSITORY, Store, made, newest_by_cell


def table(study: Callable, store: Store) -> pd.DataFrame:
    """All cells of a study's present version, one row each, with the columns of :func:`sweep`."""
    records = newest_by_cell(store.read(study_name(study)).values())
    return frame(study, (r for r in records.values() if r["version"] == study.version))


def frame(study: Callable, records: Iterable[dict]) -> pd.DataFrame:
    """Records of a study, one row each, with the columns of :func:`sweep`."""
    rows = [
        {name: hashable(value) for name, value in record["config"].items()}
        | record["result"]
        | {"key": record["key"], "provenance": record["provenance"]}
        for record in records
    ]
    found = pd.DataFrame(rows)
    found.attrs["study"] = study_name(study)
    return found


def one_a_cell(found: Iterable[dict], keys: Collection[str]) -> dict[str, dict]:
    """One record a cell, by its key on the CPU, for those of `keys` that have any.

    Cells of one precision and arithmetic are compared with each other, and another machine gives
    other bits: they are all from the machine that has most of them (of two, the newer), and from
    another only where that one has none.
    """
    groups: dict[tuple, dict[str, dict[str, dict]]] = {}  # by precision and arithmetic, machine
    for record in found:
        config = record["config"]
        key = key_of(record["study"], record["version"], config, "cpu")
        if key in keys:
            group = config.get("precision"), config.get("arithmetic", "native")
            where = record["provenance"].get("device_name")
            groups.setdefault(group, {}).setdefault(where, {})[key] = record
    taken = {}
    for machines in groups.values():
        # The last that is put in counts: the machine that has most.
        for own in sorted(machines.values(), key=_size_and_age):
            taken |= own
    return taken


def _size_and_age(own: dict[str, dict]) -> tuple[int, str]:
    return len(own), max(map(made, own.values()))


def machine(provenance: dict) -> str:
    """What must be the same for two runs of a config to have the same bits, but for versions.

    Runs are paired within one machine alone.
    """
    threads = provenance["threads"]
    return f"{provenance['device_name']}, {threads} thread{'s' * (threads != 1)}"


def published(file: str) -> pd.DataFrame:
    """A table of the two papers' figures; `records/published/README.md` says where it is from."""
    return pd.read_csv(REPOSITORY / "records" / "published" / file)


def origin(frame: pd.DataFrame) -> dict[str, str]:
    """How the rows of a sweep or table, one at least, came about, in words.

    Keys: study, records (their number), device, versions, date (UTC), time (of computing), keys.
    """
    how = pd.DataFrame(frame["provenance"].tolist())

    def each(name: str) -> str:
        return " and ".join(sorted(set(how[name].astype(str))))

    days = sorted({utc[:10] for utc in how["utc"]})
    packages = [f"{name} {each(name)}" for name in ("torch", "torchvision", "numpy", "python")]
    return {
        "study": f"{frame.attrs['study']}",
        "records": f"{len(frame)}",
        "device": each("device_name"),
        "versions": f"{', '.join(packages)}, reluprime {each('reluprime')} ({each('commit')})",
        "date": days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}",
        "time": f"{how['wall_seconds'].sum() / 3600:.2f} hours",
        "keys": " ".join(frame["key"]),
    }


def hashable(value):
    """Lists and tuples as tuples at every depth, so that a column can be grouped by."""
    return tuple(map(hashable, value)) if isinstance(value, (list, tuple)) else value
