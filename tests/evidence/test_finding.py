"""The verdict on a claim, over all tables of outcomes."""

import dataclasses
from itertools import product

import pytest

from reluprime import records
from reluprime.evidence.claim import Cell, Evidence
from reluprime.evidence.finding import Finding, all_must_hold, decided, of_parts, verdict
from reluprime.training.claims import R4
from reluprime.training.config import TrainingConfig
from reluprime.training.study import fit

WORDS = ("holds", "fails", "open", "no occasion", None)
ARITHMETICS = ("native", "epilogue", "separate")
CONDITIONS = [(rule, a) for rule in ("chain", "injected") for a in ARITHMETICS]
VERDICTS = {
    "impossible as published",
    "insufficient as published",
    "reproduced",
    "reproduced as released",
    "depends on the arithmetic",
    "not reproduced",
    "open",
    "no occasion",
    "not tested",
    "mixed",
}


def by_hand(outcomes, inferred):
    """The rows of the table in the order in which they are written, each in full."""
    chain = [outcomes["chain", a] for a in ARITHMETICS if outcomes["chain", a] in WORDS[:2]]
    injected = {a: outcomes["injected", a] for a in ARITHMETICS}
    injected = {a: word for a, word in injected.items() if word in WORDS[:2]}
    if chain and "fails" not in chain:
        return "reproduced"
    if inferred and injected.get(inferred) == "holds":
        return "reproduced as released"
    if not inferred and injected and "fails" not in injected.values():
        return "reproduced as released"
    if not inferred and len(set(injected.values())) == 2:
        return "depends on the arithmetic"
    if chain and injected and "holds" not in [*chain, *injected.values()]:
        return "not reproduced"
    if not chain and not injected:
        words = set(outcomes.values())
        return next((w for w in ("open", "no occasion") if w in words), "not tested")
    return "mixed"


@pytest.mark.parametrize("inferred", [None, "epilogue"])
def test_every_table_of_outcomes_has_the_verdict_of_the_first_row_that_applies(inferred):
    seen = set()
    for words in product(WORDS, repeat=len(CONDITIONS)):
        outcomes = dict(zip(CONDITIONS, words, strict=True))
        found = verdict(outcomes, inferred)
        assert found == by_hand(outcomes, inferred), outcomes
        seen.add(found)
    with_one = {"depends on the arithmetic"} if inferred else set()
    assert seen == VERDICTS - with_one - {"impossible as published", "insufficient as published"}


def test_what_the_published_numbers_show_comes_first():
    outcomes = {("chain", "native"): "holds", ("injected", "native"): "holds"}
    assert verdict(outcomes, flaw="impossible as published") == "impossible as published"


@pytest.mark.parametrize(
    ("chain", "injected", "word"),
    [
        ("holds", "fails", "supported at reduced scale"),
        ("fails", "holds", "supported as released at reduced scale"),
        ("fails", "fails", "contradicted at reduced scale"),
        ("fails", "open", "mixed at reduced scale"),
        ("open", "no occasion", "open"),
        (None, None, "not tested"),
    ],
)
def test_reduced_scale_is_said(chain, injected, word):
    outcomes = {("chain", "native"): chain, ("injected", "native"): injected}
    assert verdict(outcomes, reduced=True) == word


@pytest.mark.parametrize(
    ("parts", "outcome"),
    [
        (["holds", "holds"], "holds"),
        (["holds", "open", "fails"], "fails"),
        (["no occasion", "open"], "open"),
        (["no occasion", "holds"], "no occasion"),
        ([], "holds"),
    ],
)
def test_a_rule_holds_if_all_its_parts_do(parts, outcome):
    assert all_must_hold(parts) == outcome


def test_a_finding_names_the_parts_that_do_not_hold():
    parts = {"a": "holds", "b": "open", "c": "fails", "d": "fails"}
    assert of_parts(parts, "1 %") == Finding("fails", "1 %; fails: c, d; open: b")
    assert of_parts({"a": "holds"}, "1 %") == Finding("holds", "1 %")


def test_nothing_is_shown_and_refuted_at_once():
    with pytest.raises(ValueError, match="cannot hold and fail"):
        decided(True, True)


def test_a_machine_that_catches_up_moves_no_number():
    """Where two have all cells, that which had them first comes first."""

    def made(device, day):
        how = {"device_name": device, "threads": 1, "utc": f"2026-01-{day:02d}T10:00:00+00:00"}
        kind = "cuda" if device == "a GPU" else "cpu"
        key = records.cell_key(fit, config, kind)
        return {"key": key, "provenance": how, "config": {}, "result": {}}

    config = TrainingConfig(dataset="mnist-5k")
    both = Evidence([made("a CPU", 2), made("a GPU", 1)])
    assert list(both.by_machine([Cell(fit, config)])) == ["a GPU, 1 thread", "a CPU, 1 thread"]


@pytest.mark.parametrize(
    ("accuracies", "outcome"), [((0.9, 0.9), "holds"), ((0.9, 0.1), "open"), ((0.1, 0.1), "fails")]
)
def test_a_claim_holds_on_each_machine_that_has_its_records(accuracies, outcome):
    config = TrainingConfig(dataset="mnist-5k")
    found = []
    for device, accuracy in zip(("cpu", "cuda"), accuracies, strict=True):
        how = {"device_name": f"a {device}", "threads": 1, "utc": "2026-01-01T10:00:00+00:00"}
        key = records.cell_key(fit, config, device)
        result = {"accuracy": accuracy}
        found.append({"key": key, "provenance": how, "config": {}, "result": result})

    def judge(evidence, *_):
        (record,) = evidence.of(fit, config)
        accuracy = record["result"]["accuracy"]
        return Finding("holds" if accuracy > 0.5 else "fails", f"{accuracy}")

    claim = dataclasses.replace(R4, grid=lambda *_: [Cell(fit, config)], judge=judge)
    finding = claim.finding(Evidence(found), ("chain", "native"))
    assert finding.outcome == outcome
    assert ("a cuda, 1 thread: fails (0.1)" in finding.value) == (outcome == "open")


def test_runs_of_different_threads_or_devices_are_not_paired():
    """The rule sees one machine's records: neither pairs nor pools are made across two."""

    def made(seed, s, **where):
        config = TrainingConfig(dataset="mnist-5k", seed=seed, s=s)
        how = {"device_name": "made up", "threads": 1} | where
        key = records.cell_key(fit, config)
        return Cell(fit, config), {"key": key, "provenance": how, "config": {}, "result": {}}

    for elsewhere in ({"threads": 2}, {"device_name": "another"}):
        pairs = [made(0, 0.0), made(0, 1.0), made(1, 0.0), made(1, 1.0, **elsewhere)]
        cells = [cell for cell, _ in pairs]
        own = Evidence(record for _, record in pairs).on_one_machine(cells)
        assert [len(own.of(cell.study, cell.config)) for cell in cells] == [1, 1, 1, 0]
        assert own.missing(cells) == cells[3:]  # so the rule gives no verdict yet
