"""Bringing back the records that another machine computed."""

import json
import os
from contextlib import suppress

from reluprime.records.keys import digest
from reluprime.records.store import RecordsError, Store, record_digest


def merge(source: Store, target: Store) -> dict[str, list[dict]]:
    """Append to `target` the records of `source` that it lacks; lines alone are added.

    Returns the records of `source` as "new" (`target` had none with that key), "same" (it has that
    result, which is not added again) and "different" (it has the key with another result: both are
    in `target` then, and the newer one counts). A line that is no record is left out with a
    UserWarning, as in reading; lines of `target` from before there was a digest get theirs.
    Raises RecordsError if a store cannot be read or written.
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
    for name in target.studies():
        _seal(target, name)
    return found


def _seal(store: Store, name: str) -> None:
    """Add the digest to records of a study that have none; every other line stays as it is."""
    if not _unsealed(store, name):
        return
    path = store.file(name)
    part = path.with_suffix(".part")  # a kill leaves the old file or the new one
    with store.locked(name):  # nothing is appended between reading and replacing
        try:
            whole = path.read_bytes().split(b"\n")  # as `lines` counts: a spoilt line may hold a \r
            for number, record in _unsealed(store, name).items():
                sealed = record | {"digest": record_digest(record)}
                whole[number - 1] = json.dumps(sealed).encode()
            part.write_bytes(b"\n".join(whole))
            os.replace(part, path)
        except OSError as error:
            with suppress(OSError):
                part.unlink()
            advice = "free some disk space or correct its permissions, and merge again"
            raise RecordsError(f"cannot write {path}: {error.strerror}; {advice}") from error


def _unsealed(store: Store, name: str) -> dict[int, dict]:
    """The records of a study that have no digest, by the numbers of their lines."""
    lines, _ = store.lines(name)
    return {n: r for n, r in lines if isinstance(r, dict) and "digest" not in r}
