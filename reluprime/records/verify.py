"""Whether a store holds what it says."""

import random
from collections.abc import Callable, Iterator

import torch

from reluprime.records.keys import config_class, digest
from reluprime.records.provenance import describe
from reluprime.records.store import Store, newest_by_cell
from reluprime.records.sweep import measure

MEASURED = {"speed.measure", "trust.campaign"}  # studies whose results are times
TIMES = {"seconds", "check_seconds"}  # results that are never the same twice
DECISIVE = ("device_name", "cpu_capability", "cuda", "threads", "torch", "torchvision", "numpy")
LONGEST = 120.0  # seconds that a record may have taken to be computed again


def problems(store: Store, studies: dict[str, Callable]) -> list[str]:
    """What is wrong with a store, a sentence each; none if nothing is.

    studies: those that there are, by name. A file that is of none of them; a line that holds no
    record of it (see :meth:`Store.lines`), has no digest, or is there twice. Raises RecordsError
    if the store cannot be read.
    """
    found = []
    for name in store.studies():
        if name not in studies:
            found.append(f"{store.file(name)}: there is no study {name}")
            continue
        seen: dict[str, int] = {}
        for number, line in store.lines(name)[0]:
            what = _problem(line, seen, number)
            if what:
                found.append(f"{store.file(name)}, line {number}: {what}")
    return found


def _problem(line: dict | ValueError, seen: dict[str, int], number: int) -> str:
    """What is wrong with a line, "" if nothing is; `seen`: line numbers of records before it."""
    if isinstance(line, ValueError):
        return str(line)
    first = seen.setdefault(repr(line), number)
    if first != number:
        return f"the same record as in line {first}"
    return "" if "digest" in line else "it has no digest; `reluprime merge` of this store adds it"


def recomputed(store: Store, studies: dict[str, Callable], number: int) -> Iterator[tuple]:
    """Compute cells again, at random: of each its record, and whether the new bits are the same.

    At most `number`, of those that were made in at most LONGEST seconds on this device, with these
    versions and this number of threads: others may have other bits. Seconds are not compared; a
    study of MEASURED is not computed again.
    """
    found = [r for name in studies if name not in MEASURED for r in store.read(name).values()]
    found = [r for r in newest_by_cell(found).values() if _same_bits_expected(r, studies)]
    for record in random.sample(found, min(number, len(found))):
        study = studies[record["study"]]
        config = config_class(study).model_validate(record["config"])
        again = measure(study, config, record["provenance"]["device"])
        yield record, _bits(again) == _bits(record)


def _same_bits_expected(record: dict, studies: dict[str, Callable]) -> bool:
    how, study = record["provenance"], studies[record["study"]]
    if record["version"] != study.version or how["wall_seconds"] > LONGEST:
        return False
    if record["config"].get("dataset") == "image-folder":  # which is not here
        return False
    if how["device"] == "cuda" and not torch.cuda.is_available():
        return False
    config = config_class(study).model_validate(record["config"])
    here = describe(config, torch.device(how["device"]), 0)
    return all(how.get(name) == here[name] for name in DECISIVE)


def _bits(record: dict) -> str:
    return digest({name: v for name, v in record["result"].items() if name not in TIMES})
