"""Whether a store holds what it says."""

from collections.abc import Callable

from reluprime.records.keys import config_class
from reluprime.records.store import Store


def problems(store: Store, studies: dict[str, Callable]) -> list[str]:
    """What is wrong with a store, a sentence each; none if nothing is.

    studies: those that there are, by name. A file that is of none of them; a line that holds no
    record, or one whose key or digest does not match; a config that its study does not take; a
    record that is there twice. Raises RecordsError if the store cannot be read.
    """
    found = []
    for name in store.studies():
        if name not in studies:
            found.append(f"{store.file(name)}: there is no study {name}")
            continue
        seen: dict[str, int] = {}
        for number, line in store.lines(name)[0]:
            what = _problem(line, studies[name], seen, number)
            if what:
                found.append(f"{store.file(name)}, line {number}: {what}")
    return found


def _problem(line: dict | ValueError, study: Callable, seen: dict[str, int], number: int) -> str:
    """What is wrong with a line, "" if nothing is; `seen`: line numbers of records before it."""
    if isinstance(line, ValueError):
        return str(line)
    text = repr(line)
    first = seen.setdefault(text, number)
    if first != number:
        return f"the same record as in line {first}"
    try:
        config = config_class(study).model_validate(line["config"]).model_dump(mode="json")
    except ValueError as error:
        return f"its study does not take its config: {error}"
    return "" if config == line["config"] else "its config is not written as its study writes it"
