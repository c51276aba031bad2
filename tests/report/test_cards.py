"""The verdicts as HTML, of claims and rows made up for it."""

import re
from dataclasses import replace

from reluprime.evidence.finding import FAILS, HOLDS, OPEN
from reluprime.report import cards
from reluprime.report.scorecard import BY_ID


def row(verdict, **outcomes):
    """outcomes: chain_native="holds", ...; None where records are missing."""
    by = []
    for condition, outcome in outcomes.items():
        rule, arithmetic = condition.split("_")
        by.append({"gradient_rule": rule, "arithmetic": arithmetic, "outcome": outcome})
        by[-1]["value"] = "1 < 2" if outcome else ""
    return {"verdict": verdict, "by": by, "made_on": "a GPU", "registered": "before its records"}


def texts(html):
    return " ".join(re.sub("<[^>]+>", " ", html).split())


SEVERAL = BY_ID["P7"]  # judged in three arithmetics


def test_arithmetics_that_answer_differently_are_named():
    found = {"chain_native": OPEN, "chain_epilogue": HOLDS, "chain_separate": HOLDS}
    found |= {f"injected_{a}": FAILS for a in SEVERAL.arithmetics}
    line = texts(cards.matrix([SEVERAL], [row("mixed", **found)]).data)
    assert line.endswith("? open native ✓ holds epilogue, separate ✕ fails")


def test_missing_records_are_not_tested():
    line = texts(cards.matrix([BY_ID["P1"]], [row("not tested", chain_native=None,
                                                  injected_native=None)]).data)  # fmt: skip
    assert line.endswith("– not tested – not tested")


def test_a_card_has_its_anchor_its_figure_and_escaped_values():
    claim = BY_ID["P1"]
    html = cards.cards([claim], [row("mixed", chain_native=FAILS, injected_native=OPEN)]).data
    assert '<details class="claim" id="p1">' in html
    assert "01_bifurcation_event.html#" in html
    assert "✕</span> fails</span> derivative: 1 &lt; 2" in html
    assert claim.published.split()[0] in texts(html)


def test_a_card_says_on_which_network_a_sentence_by_dose_was_tried():
    found = row("mixed", chain_native=FAILS, injected_native=OPEN)
    at_dose = found | {"id": "D14", "scale": "MLP 3x256", "by_dose": None}
    html = cards.cards([BY_ID["P13"]], [found | {"by_dose": at_dose}]).data
    assert "MLP 3x256; registered before its records" in texts(html)


def test_counts_of_zeros_are_not_said_to_hold_twice():
    claim = BY_ID["P4"]
    found = row("reproduced", chain_native=HOLDS, injected_native=HOLDS)
    assert cards.cards([claim], [found]).data.count("cannot differ") == 1
    assert "cannot differ" not in cards.cards([BY_ID["P9"]], [found]).data


def test_a_line_names_an_arithmetic_that_is_not_pytorchs_own():
    for name, arithmetic in (("P14", "epilogue"), ("P9", "native")):
        found = {f"{rule}_{arithmetic}": HOLDS for rule in ("chain", "injected")}
        line = cards.matrix([BY_ID[name]], [row("mixed", **found)]).data
        assert (f"({arithmetic})" in line) == (name == "P14")


def test_a_link_names_the_arithmetics_that_its_verdict_rests_on():
    found = {"chain_native": OPEN, "chain_epilogue": HOLDS, "chain_separate": HOLDS}
    found |= {"injected_native": HOLDS, "injected_epilogue": FAILS, "injected_separate": OPEN}
    wanted = {
        "reproduced, so far": "(epilogue, separate)",
        "reproduced as released": "(native)",
        "depends on the arithmetic": "",
    }
    for verdict, names in wanted.items():
        line = texts(cards.links([SEVERAL], [row(verdict, **found)]).data)
        assert line == f"Claims: P7 {verdict} {names}".strip()
    everywhere = {f"chain_{a}": HOLDS for a in SEVERAL.arithmetics}
    line = texts(cards.links([SEVERAL], [row("reproduced", **everywhere)]).data)
    assert line == "Claims: P7 reproduced"
    one = texts(cards.links([BY_ID["P14"]], [row("mixed", chain_epilogue=FAILS)]).data)
    assert one == "Claims: P14 mixed (epilogue)"
    one = texts(cards.links([BY_ID["P14"]], [row("supported", chain_epilogue=HOLDS)]).data)
    assert one == "Claims: P14 supported (epilogue)"


def test_a_sentence_of_ours_has_no_verdict():
    claim = replace(BY_ID["P1"], source=cards.OURS)
    html = cards.cards([claim], [row("reproduced", chain_native=HOLDS, injected_native=FAILS)]).data
    assert "reproduced" not in texts(html)
    assert "derivative ✓ holds constant ✕ fails" in texts(html)


def test_a_link_from_another_page_leads_to_the_card():
    line = cards.matrix([BY_ID["P1"]], [row("mixed", chain_native=HOLDS, injected_native=OPEN)],
                        "notebooks/00_scorecard.html").data  # fmt: skip
    assert 'href="notebooks/00_scorecard.html#p1"' in line
