"""Rules registered before their records: what each says, and what it answers on known data.

The registry is a file of the repository, one JSON line a registration. A rule is registered for
each gradient rule and arithmetic with its words, thresholds, grid of configs, and its outcomes on
made-up records and on the papers' released data; a hash goes over all of these. The code is no
part of it: moved or written anew with the same outcomes, a rule stays registered. Grids are kept
once each in a file of their own, by their hash.
"""

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from reluprime import records
from reluprime.evidence import made_up
from reluprime.evidence.claim import Cell, Claim, Evidence
from reluprime.evidence.finding import Condition
from reluprime.records.keys import digest

FILE = records.REPOSITORY / "records" / "registry" / "rules.jsonl"
GRIDS = "grids.jsonl"  # beside it

BEFORE = "before its records"
IN_PART = "in part before its records"
AFTER = "after its records"
NO_RECORDS = "no records so far"
NOT_REGISTERED = "not registered"


def entry(claim: Claim, condition: Condition) -> dict:
    """What is registered of a rule, with its hash."""
    gradient_rule, arithmetic = condition
    content = {
        "claim": claim.id,
        "gradient_rule": gradient_rule,
        "arithmetic": arithmetic,
        "rule": claim.rule,
        "thresholds": dict(claim.thresholds),
        "examples": {n: f.outcome for n, f in made_up.findings(claim, condition).items()},
        "published": claim.on_published().outcome if claim.on_published else None,
        # What turns outcomes into a verdict.
        "flaw": claim.flaw() if claim.flaw else None,
        "inferred": claim.inferred,
        "reduced": claim.reduced,
        "cells": [_cell(cell) for cell in claim.grid(*condition)],
    }
    return content | {"hash": digest(content)}


def _cell(cell: Cell) -> dict:
    """A cell without the device: its study, what of the config is not default, and the key of the
    cell that it waits for."""
    config = cell.config.model_dump(mode="json", exclude_defaults=True)
    key, name = records.cell_key(cell.study, cell.config), records.study_name(cell.study)
    found = {"key": key, "study": name, "config": config}
    if cell.after is not None:
        found["after"] = records.cell_key(cell.study, cell.after)
    return found


def read(path: Path = FILE) -> list[dict]:
    """All registrations, oldest first, each with its cells; none if there is no file."""
    if not path.exists():
        return []
    grids = {line["grid"]: line["cells"] for line in _lines(path.with_name(GRIDS))}
    return [entry | {"cells": grids[entry.pop("grid")]} for entry in _lines(path)]


def _lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _append(path: Path, entries: Iterable[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    known = {line["grid"] for line in _lines(path.with_name(GRIDS))}
    with path.open("a") as file, path.with_name(GRIDS).open("a") as grids:
        for entry in entries:
            cells = entry.pop("cells")
            grid = digest(cells)
            if grid not in known:
                grids.write(json.dumps({"grid": grid, "cells": cells}) + "\n")
            known.add(grid)
            file.write(json.dumps(entry | {"grid": grid}) + "\n")


def adds_to(old: dict, new: dict) -> bool:
    """Whether a registration leaves the rule of an earlier one as it was, and as old.

    It may name further thresholds, and answers on further examples; words, cells, and what the
    earlier one held, must be the same. The first registrations did not yet hold what turns
    outcomes into a verdict, nor what a cell waits for.
    """
    in_full = old.keys() >= _TO_A_VERDICT
    names = {"rule", "published"} | (_TO_A_VERDICT if in_full else set())
    same = all(old[name] == new[name] for name in names)
    more = all(old[name].items() <= new[name].items() for name in ("thresholds", "examples"))
    return same and more and _keys(old, in_full) == _keys(new, in_full)


_TO_A_VERDICT = {"flaw", "inferred", "reduced"}


def _keys(entry: dict, with_after: bool) -> set[tuple]:
    return {(cell["key"], with_after and cell.get("after")) for cell in entry["cells"]}


def of_condition(entries: Iterable[dict], claim: str, condition: Condition) -> list[dict]:
    """The registrations of one rule, oldest first."""
    wanted = (claim, *condition)
    return [e for e in entries if (e["claim"], e["gradient_rule"], e["arithmetic"]) == wanted]


def dropped(claims: Iterable[Claim], entries: list[dict]) -> list[tuple[str, str, str]]:
    """Registered rules that no claim has any more; a condition that fails must not vanish."""
    known = {(claim.id, *condition) for claim in claims for condition in claim.conditions()}
    found = ((e["claim"], e["gradient_rule"], e["arithmetic"]) for e in entries)
    return sorted({*found} - known)


def unregistered(claims: Iterable[Claim], entries: list[dict]) -> list[tuple[Claim, Condition]]:
    """Rules whose latest registration is not what their code now says and answers."""
    found = []
    for claim in claims:
        for condition in claim.conditions():
            known = of_condition(entries, claim.id, condition)
            if not known or known[-1]["hash"] != entry(claim, condition)["hash"]:
                found.append((claim, condition))
    return found


def register(claims: Iterable[Claim], reason: str, path: Path = FILE) -> list[str]:
    """Append a registration for each rule that is new or changed; returns their names.

    reason: why a rule replaces its earlier registration. Raises ValueError where it is empty and
    one does.
    """
    entries, added, names = read(path), [], []
    for claim, condition in unregistered(claims, entries):
        if of_condition(entries, claim.id, condition) and not reason:
            raise ValueError(f"{claim.id} is registered with another rule: give the reason")
        now = datetime.now(UTC).isoformat(timespec="seconds")
        added.append(entry(claim, condition) | {"utc": now, "reason": reason})
        names.append(" ".join([claim.id, *condition]))
    _append(path, added)
    return names


def status(claim: Claim, evidence: Evidence, entries: list[dict]) -> str:
    """Whether a claim's rules are older than the records that they read.

    A record is as old as the start of its computation, a rule as its first registration that the
    later ones only add to.
    """
    early = late = 0
    for condition in claim.conditions():
        known = of_condition(entries, claim.id, condition)
        if not known:
            return NOT_REGISTERED
        since = datetime.fromisoformat(_first(known)["utc"])
        for cell in claim.grid(*condition):
            for record in evidence.of(cell.study, cell.config):
                is_early = _began(record) < since
                early, late = early + is_early, late + (not is_early)
    if not early:
        return BEFORE if late else NO_RECORDS
    return IN_PART if late else AFTER


def _began(record: dict) -> datetime:
    how = record["provenance"]
    return datetime.fromisoformat(how["utc"]) - timedelta(seconds=how["wall_seconds"])


def _first(known: list[dict]) -> dict:
    """The earliest registration of the rule that holds now."""
    first = known[-1]
    for old in reversed(known[:-1]):
        if not adds_to(old, first):
            break
        first = old
    return first
