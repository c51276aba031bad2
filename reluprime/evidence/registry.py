"""Rules registered before their records: what each says, and what it answers on known data.

The registry is a file of the repository, one JSON line a registration. A rule is registered for
each gradient rule and arithmetic with its words, thresholds, grid of configs, and its outcomes on
made-up records and on the papers' released data; a hash goes over all of these. The code is no
part of it: moved or written anew with the same outcomes, a rule stays registered.
"""

import hashlib
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from reluprime import records
from reluprime.evidence import made_up
from reluprime.evidence.claim import Cell, Claim, Evidence
from reluprime.evidence.finding import Condition

FILE = records.REPOSITORY / "records" / "registry" / "rules.jsonl"

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
        "grid": [_cell(cell) for cell in claim.grid(*condition)],
    }
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return content | {"hash": hashlib.sha256(canonical.encode()).hexdigest()[:16]}


def _cell(cell: Cell) -> dict:
    """A cell without the device: its study, its version and what of the config is not default."""
    config = cell.config.model_dump(mode="json", exclude_defaults=True)
    key = records.cell_key(cell.study, cell.config)
    return {"key": key, "study": records.study_name(cell.study), "config": config}


def read(path: Path = FILE) -> list[dict]:
    """All registrations, oldest first; none if there is no file."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]


def of_condition(entries: Iterable[dict], claim: str, condition: Condition) -> list[dict]:
    """The registrations of one rule, oldest first."""
    wanted = (claim, *condition)
    return [e for e in entries if (e["claim"], e["gradient_rule"], e["arithmetic"]) == wanted]


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
    entries, lines, names = read(path), [], []
    for claim, condition in unregistered(claims, entries):
        if of_condition(entries, claim.id, condition) and not reason:
            raise ValueError(f"{claim.id} is registered with another rule: give the reason")
        now = datetime.now(UTC).isoformat(timespec="seconds")
        lines.append(entry(claim, condition) | {"utc": now, "reason": reason})
        names.append(" ".join([claim.id, *condition]))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.writelines(f"{json.dumps(line)}\n" for line in lines)
    return names


def status(claim: Claim, evidence: Evidence, entries: list[dict]) -> str:
    """Whether a claim's rules are older than the records that they read."""
    early = late = 0
    for condition in claim.conditions():
        known = of_condition(entries, claim.id, condition)
        if not known:
            return NOT_REGISTERED
        for cell in claim.grid(*condition):
            for record in evidence.of(cell.study, cell.config):
                is_early = record["provenance"]["utc"] < known[-1]["utc"]
                early, late = early + is_early, late + (not is_early)
    if not early:
        return BEFORE if late else NO_RECORDS
    return IN_PART if late else AFTER
