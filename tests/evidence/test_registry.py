"""Rules are registered before their records, and cannot change without a word."""

import dataclasses
import json
from datetime import datetime, timedelta

import pytest

from reluprime import records
from reluprime.bifurcation.claims import runs
from reluprime.cli import main
from reluprime.evidence import made_up, registry
from reluprime.evidence.claim import Evidence
from reluprime.report import scorecard as claims
from reluprime.training import arms

R4 = claims.BY_ID["R4"]
CONDITION = ("chain", "native")


def test_every_rule_is_registered_as_it_stands():
    """Fails when words, thresholds, grid or outcomes changed: register them, with a reason."""
    changed = registry.unregistered((*claims.CLAIMS, *claims.OURS), registry.read())
    assert [(claim.id, *condition) for claim, condition in changed] == []


def test_no_registered_rule_vanishes_without_a_word():
    found = registry.dropped((*claims.CLAIMS, *claims.OURS), registry.read())
    assert {(claim, arithmetic) for claim, _, arithmetic in found} == claims.WITHDRAWN.keys()


def test_constants_of_a_rule_are_among_its_thresholds():
    p9, r1 = claims.BY_ID["P9"].thresholds, claims.BY_ID["R1"].thresholds
    assert p9["counts as chance"] == arms.AT_CHANCE
    assert p9["least seeds that met a zero"] == arms.MIN_SEEDS
    assert r1["least seeds with an event"] == runs.MIN_EVENTS


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "rules.jsonl"
    registry.register([R4], "", path)
    return path


def test_a_rule_is_registered_once(path):
    assert len(registry.read(path)) == 2
    assert registry.register([R4], "", path) == []
    assert len(registry.read(path)) == 2


def otherwise(evidence, *condition):
    found = R4.judge(evidence, *condition)
    return dataclasses.replace(found, outcome="holds")


CHANGES = {
    "words": {"rule": "Otherwise."},
    "threshold": {"thresholds": {"risk": 0.05, "margin": 0.01}},
    "grid": {"grid": lambda *condition: R4.grid(*condition)[:-1]},
    "outcome on an example": {"judge": otherwise},
    "another example": {"examples": dict(list(R4.examples.items())[:-1])},
    "scale": {"reduced": False},
    "inferred arithmetic": {"inferred": "native"},
    "flaw": {"flaw": lambda: "impossible as published"},
    "what a cell waits for": {
        "grid": lambda *condition: [cell._replace(after=None) for cell in R4.grid(*condition)]
    },
}


@pytest.mark.parametrize(
    "changes",
    [
        {"arms.is_loss": lambda small, medians, margin: arms.sign_flip(-small) < 0.05},
        {"arms.is_equal": lambda small, medians, margin: arms.equivalence(small, margin) < 0.05},
        {"arms.MIN_SEEDS": 1},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_code_that_answers_otherwise_is_noticed(monkeypatch, changes):
    """Each of these went unnoticed while every example was alike at both scales."""
    for name, value in changes.items():
        monkeypatch.setattr(f"reluprime.training.{name}", value)
    wanted = [claims.BY_ID[i] for i in ("P9", "R4")]
    assert registry.unregistered(wanted, registry.read())


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_rule_needs_a_new_registration_with_a_reason(path, change):
    changed = dataclasses.replace(R4, **CHANGES[change])
    assert len(registry.unregistered([changed], registry.read(path))) == 2
    with pytest.raises(ValueError, match="R4 is registered with another rule: give the reason"):
        registry.register([changed], "", path)
    registry.register([changed], "it was wrong", path)
    found = registry.of_condition(registry.read(path), "R4", CONDITION)
    assert [entry["reason"] for entry in found] == ["", "it was wrong"]


def test_a_registration_that_only_adds_leaves_a_rule_its_age(path):
    fewer = dataclasses.replace(R4, examples=dict(list(R4.examples.items())[:2]))
    before, after = registry.entry(fewer, CONDITION), registry.entry(R4, CONDITION)
    assert registry.adds_to(before, after)
    assert not registry.adds_to(after, before)
    assert not registry.adds_to(before, after | {"rule": "Otherwise."})
    assert not registry.adds_to(before, after | {"cells": after["cells"][1:]})
    at_once = [{n: v for n, v in cell.items() if n != "after"} for cell in after["cells"]]
    for change in (
        {"flaw": "impossible as published"},
        {"inferred": "epilogue"},
        {"reduced": not after["reduced"]},
        {"cells": at_once},
    ):
        assert not registry.adds_to(before, after | change)
        first = {n: v for n, v in before.items() if n not in ("flaw", "inferred", "reduced")}
        assert registry.adds_to(first, after | change)  # which did not say it


def test_code_and_device_are_no_part_of_a_rule(path):
    same = dataclasses.replace(R4, judge=lambda *args: R4.judge(*args))
    assert registry.unregistered([same], registry.read(path)) == []
    assert "device" not in json.dumps(registry.entry(R4, CONDITION))


@pytest.mark.parametrize(
    ("times", "status"),
    [
        (["2000-01-01T00:00:00+00:00"], registry.AFTER),
        (["2999-01-01T00:00:00+00:00"], registry.BEFORE),
        (["2000-01-01T00:00:00+00:00", "2999-01-01T00:00:00+00:00"], registry.IN_PART),
    ],
)
def test_the_records_own_times_are_compared(path, times, status):
    grid = R4.grid(*CONDITION)
    found = []
    for index, cell in enumerate(grid):
        (record,) = made_up.evidence(R4.examples["a loss"], [cell]).of(cell.study, cell.config)
        how = record["provenance"] | {"utc": times[index % len(times)]}
        found.append(record | {"provenance": how})
    assert registry.status(R4, Evidence(found), registry.read(path)) == status


def test_a_rule_without_records_is_not_called_older_than_them(path):
    assert registry.status(R4, Evidence([]), registry.read(path)) == registry.NO_RECORDS


def test_a_record_is_as_old_as_the_start_of_its_computation(path):
    """One that was running when its rule was registered is older than the rule."""
    (known,) = registry.of_condition(registry.read(path), "R4", CONDITION)[-1:]
    ended = datetime.fromisoformat(known["utc"]) + timedelta(minutes=1)
    cell = R4.grid(*CONDITION)[0]
    (record,) = made_up.evidence(R4.examples["a loss"], [cell]).of(cell.study, cell.config)
    how = record["provenance"] | {"utc": ended.isoformat(), "wall_seconds": 3600.0}
    found = Evidence([record | {"provenance": how}])
    assert registry.status(R4, found, registry.read(path)) == registry.AFTER


def test_without_a_registration_that_is_said():
    assert registry.status(R4, Evidence([]), []) == registry.NOT_REGISTERED


# ---- the scorecard ----


def test_a_verdict_without_all_arithmetics_is_one_so_far():
    """Of R1 the native cells alone: the others may change the verdict."""
    claim = claims.BY_ID["R1"]
    found = made_up.evidence(claim.examples["16 bits part first"], claim.grid("chain", "native"))
    row = claims.judged(claim, found, [])
    assert row["verdict"] == "reproduced, so far"


def test_an_empty_store_leaves_every_claim_in_the_table(tmp_path):
    card = claims.scorecard(claims.all_judged(records.Store(tmp_path))).set_index("id")
    assert len(card) == len(claims.CLAIMS)
    published = {"P6": "impossible as published", "R6": "insufficient as published"}
    assert card["verdict"].to_dict() == dict.fromkeys(card.index, "not tested") | published


def test_the_command_prints_table_and_json(tmp_path, capsys):
    assert main(["scorecard", "--store", str(tmp_path)]) == 0
    assert "P17" in capsys.readouterr().out
    assert main(["scorecard", "--store", str(tmp_path), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["id"] for row in rows][:2] == ["P1", "P2"]
    assert set(rows[0]["by"][0]) == {"gradient_rule", "arithmetic", "outcome", "value"}


def test_the_command_fails_where_the_store_cannot_be_read(tmp_path, capsys):
    (tmp_path / "volume.estimate.jsonl").mkdir()
    assert main(["scorecard", "--store", str(tmp_path)]) == 2
    assert "volume.estimate.jsonl" in capsys.readouterr().err
