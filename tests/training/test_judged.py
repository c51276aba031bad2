"""The tables of every run that claims are judged on."""

import pytest

from reluprime.evidence import made_up
from reluprime.evidence.claim import Evidence
from reluprime.training import judged
from reluprime.training.claims import P12, P15, R2, R7

EACH = "test accuracy of each run, %"


def evidence_of(claim, example):
    return made_up.evidence(claim.examples[example], claim.cells())


def test_every_run_of_a_claim_is_shown():
    table = judged.runs_table(evidence_of(P15, "worse with dropout"), [P15])
    shown = table[EACH].str.split(", ").map(len).sum()
    assert shown == len({cell.config for cell in P15.cells()})
    dropped = table["training"].str.contains("dropout") & (table["s"] != "0")
    assert (table.loc[dropped, "points"].astype(float) < -7).all()
    assert (table.loc[~dropped & (table["s"] != "0"), "points"].astype(float).abs() < 1).all()
    assert (table.loc[table["s"] == "0", ["rule", "points"]] == ["both", "–"]).all(axis=None)


def test_runs_that_two_claims_read_come_once_and_name_both():
    found = evidence_of(R2, "16 bits suffer")
    table = judged.runs_table(found, [R2, R7])
    assert not table.duplicated(["training", "precision", "s", "rule"]).any()
    assert set(table.loc[table["precision"].str.startswith("bf16"), "claims"]) == {"R2, R7"}
    assert set(table.loc[table["precision"].str.startswith("fp32"), "claims"]) == {"R2"}


def test_a_scale_that_no_seed_asked_for_has_no_row():
    """P12 trains the larger MLP with batch norm only if the smaller one met a zero."""
    found = evidence_of(P12, "no zeros of the MLP with batch norm")
    due = [r for c in found.due(P12.cells()) for r in found.of(c.study, c.config)]
    table = judged.runs_table(Evidence(due), [P12])
    normed = table[table["training"].str.contains("MLP.*batch norm")]
    assert set(normed["training"].str.extract(r"3x(\d+)")[0]) == {"1024"}
    assert set(table.loc[table["s"] != "0", "points"].map(float) == 0) == {True, False}


def test_an_incomplete_condition_is_left_out():
    cells = P12.cells()
    found = evidence_of(P12, "batch norm helps")
    lost = next(c for c in cells if c.config.arithmetic == "epilogue" and c.config.s)
    kept = [r for c in cells if c != lost for r in found.of(c.study, c.config)]
    with_all, without = (judged.runs_table(e, [P12]) for e in (found, Evidence(kept)))
    rule = {"chain": "derivative", "injected": "constant"}[lost.config.gradient_rule]
    at = with_all["precision"].eq("fp32 epilogue") & with_all["rule"].eq(rule)
    assert len(without) == len(with_all) - at.sum() < len(with_all)
    assert judged.runs_table(Evidence([]), [P12]).empty


def test_runs_of_two_machines_are_not_put_together():
    """As for a verdict, one machine must have all runs."""
    cells = P15.cells()
    found = evidence_of(P15, "worse with dropout")
    there = [r for c in cells for r in found.of(c.study, c.config)]
    moved = [
        r | {"provenance": r["provenance"] | {"device_name": "another"}} if r["config"]["s"] else r
        for r in there
    ]
    assert len(judged.runs_table(Evidence(there), [P15])) > 0
    assert judged.runs_table(Evidence(moved), [P15]).empty
    assert judged.records_of(Evidence(moved), [P15]).empty


@pytest.mark.parametrize(("example", "mean"), [("rarer", "-8.0"), ("more often", "+8.0")])
def test_the_trend_of_each_seed(example, mean):
    table = judged.trend_table(evidence_of(R7, example))
    changed = table[table["s"] != "0"]
    assert len(changed) == 6  # rules and arithmetics
    assert set(changed["mean"]) == {mean}
    assert set(changed["each seed"]) == {", ".join([mean] * 10)}
    assert judged.trend_table(Evidence([])).empty
