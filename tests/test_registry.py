"""Rules are registered before their records, and cannot change without a word."""

import dataclasses
import json

import pytest

from reluprime import claims, records
from reluprime.evidence import made_up, registry
from reluprime.evidence.claim import Evidence

R4 = claims.BY_ID["R4"]
CONDITION = ("chain", "native")


def test_every_rule_is_registered_as_it_stands():
    """Fails when words, thresholds, grid or outcomes changed: register them, with a reason."""
    changed = registry.unregistered((*claims.CLAIMS, *claims.OURS), registry.read())
    assert [(claim.id, *condition) for claim, condition in changed] == []


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
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_rule_needs_a_new_registration_with_a_reason(path, change):
    changed = dataclasses.replace(R4, **CHANGES[change])
    assert len(registry.unregistered([changed], registry.read(path))) == 2
    with pytest.raises(ValueError, match="R4 is registered with another rule: give the reason"):
        registry.register([changed], "", path)
    registry.register([changed], "it was wrong", path)
    found = registry.of_condition(registry.read(path), "R4", CONDITION)
    assert [entry["reason"] for entry in found] == ["", "it was wrong"]


def test_code_and_device_are_no_part_of_a_rule(path):
    same = dataclasses.replace(R4, judge=lambda *args: R4.judge(*args))
    assert registry.unregistered([same], registry.read(path)) == []
    assert "device" not in json.dumps(registry.entry(R4, CONDITION))


@pytest.mark.parametrize(
    ("times", "status"),
    [
        (["2000-01-01"], registry.AFTER),
        (["2999-01-01"], registry.BEFORE),
        (["2000-01-01", "2999-01-01"], registry.IN_PART),
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


def test_without_a_registration_that_is_said():
    assert registry.status(R4, Evidence([]), []) == registry.NOT_REGISTERED


# ---- the scorecard ----


def test_an_empty_store_leaves_every_claim_in_the_table(tmp_path):
    card = claims.scorecard(records.Store(tmp_path)).set_index("id")
    assert len(card) == 24
    published = {"P6": "impossible as published", "R6": "insufficient as published"}
    assert card["verdict"].to_dict() == dict.fromkeys(card.index, "not tested") | published


def test_the_command_prints_table_and_json(tmp_path, capsys):
    assert claims.main(["scorecard", "--store", str(tmp_path)]) == 0
    assert "P17" in capsys.readouterr().out
    assert claims.main(["scorecard", "--store", str(tmp_path), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["id"] for row in rows][:2] == ["P1", "P2"]
    assert set(rows[0]["by"][0]) == {"gradient_rule", "arithmetic", "outcome", "value"}


def test_the_command_fails_where_the_store_cannot_be_read(tmp_path, capsys):
    (tmp_path / "volume.estimate.jsonl").mkdir()
    assert claims.main(["scorecard", "--store", str(tmp_path)]) == 1
    assert "volume.estimate.jsonl" in capsys.readouterr().err
