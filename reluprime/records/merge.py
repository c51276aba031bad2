"""Bringing back the records that another machine computed."""

from reluprime.records.keys import digest
from reluprime.records.store import Store


def merge(source: Store, target: Store) -> dict[str, list[dict]]:
    """Append to `target` the records of `source` that it lacks; lines alone are added.

    Returns the records of `source` as "new" (`target` had none with that key), "same" (it has that
    result, which is not added again) and "different" (it has the key with another result: both are
    in `target` then, and the newer one counts). A line that is no record is left out with a
    UserWarning, as in reading. Raises RecordsError if a store cannot be read or written.
    """
    found = {"new": [], "same": [], "different": []}
    for name in source.studies():
        known: dict[str, set[str]] = {}  # digests of results by key
        for record in target.since(name, 0)[0]:
            known.setdefault(record["key"], set()).add(digest(record["result"]))
        for record in source.since(name, 0)[0]:
            results, own = known.setdefault(record["key"], set()), digest(record["result"])
            kind = "same" if own in results else "different" if results else "new"
            found[kind].append(record)
            if kind != "same":
                target.append(record)
                results.add(own)
    return found
