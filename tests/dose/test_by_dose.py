"""The sentences that ask for the papers' claims at the papers' own dose."""

import math

import numpy as np
import pandas as pd
import pytest

from reluprime.dose import experiments, papers
from reluprime.dose.claims import BY_DOSE, paper_dose
from reluprime.dose.claims.examples import BY_DOSE_EXAMPLES
from reluprime.evidence import made_up
from reluprime.evidence.claim import Evidence
from reluprime.evidence.finding import FAILS, HOLDS, NO_OCCASION, OPEN
from reluprime.report import cards, scorecard
from reluprime.training.claims import P9

INJECTED, CHAIN = ("injected", "native"), ("chain", "native")


def outcome(claim, condition, example):
    own = BY_DOSE[claim]
    found = made_up.evidence(BY_DOSE_EXAMPLES[example], own.grid(*condition))
    return own.finding(found, condition).outcome


@pytest.mark.parametrize(
    ("claim", "example", "injected", "chain"),
    [
        ("P9", "three points at any dose", HOLDS, OPEN),
        ("P9", "no loss at any dose", FAILS, FAILS),
        ("P9", "untrainable beyond the paper's dose alone", OPEN, OPEN),
        ("P9", "three points within the paper's dose alone", OPEN, FAILS),
        ("P9", "no band within the paper's dose", OPEN, OPEN),
        ("P10", "untrainable at any dose", HOLDS, OPEN),
        ("P10", "three points at any dose", FAILS, FAILS),
        ("P10", "half of the seeds untrainable", OPEN, OPEN),
        ("P12", "none with batch norm or Adam", HOLDS, OPEN),
        ("P12", "three points at any dose", FAILS, OPEN),
        ("P12", "no loss at any dose", FAILS, FAILS),
        ("P13", "none with batch norm or Adam", HOLDS, OPEN),
        ("P13", "three points at any dose", OPEN, OPEN),
        ("P13", "more with batch norm or Adam", FAILS, OPEN),
        ("P14", "untrainable at any dose", HOLDS, OPEN),
        ("P14", "no loss at any dose", FAILS, FAILS),
        ("P15", "three points at any dose", HOLDS, HOLDS),
        ("P15", "with dropout alone", FAILS, OPEN),
        *((claim, "no kink met", NO_OCCASION, NO_OCCASION) for claim in BY_DOSE),
        *((claim, "at chance", OPEN, OPEN) for claim in BY_DOSE),
        *((claim, "no records", None, None) for claim in BY_DOSE),
    ],
)
def test_what_each_rule_says_of_made_up_trainings(claim, example, injected, chain):
    """Under the derivative bands lie beyond the papers' doses alone: there a loss decides nothing,
    and none decides against it."""
    assert outcome(claim, INJECTED, example) == injected
    assert outcome(claim, CHAIN, example) == chain


@pytest.mark.parametrize("network", list(experiments.NETWORKS))
def test_our_networks_have_the_papers_inputs_a_unit_and_steps_an_epoch(network):
    """So that at one rate kinks a unit and step are the paper's, and in all differ by epochs."""
    base, _ = experiments.NETWORKS[network]
    calls, units = papers.size(base)
    at_full_width = papers.size(papers.at_full_width(network))
    assert calls / units == at_full_width[0] / at_full_width[1]
    assert base.batch_size == papers.PAPER_BATCH
    assert base.n_train is None  # all images of its data set


@pytest.mark.parametrize(
    ("zeros", "most"),
    [
        ([0] * 5, -math.log(0.025) / 5),  # Poisson's bound of none in five runs
        ([4] * 5, 30.888 / 5),
        ([1, 2, 3, 4, 990], 200 + 2.776 * 441.6 / math.sqrt(5)),  # seeds lie further apart
    ],
)
def test_the_papers_dose_is_the_upper_end_of_the_wider_interval(zeros, most):
    assert paper_dose.most_met(pd.Series(zeros)) == pytest.approx(most, rel=1e-3)


def trained(dose, loss, zeros=4):
    """Trainings of VGG11 by dose(width), that lose loss(width) at s=1."""

    def example(cell):
        config = cell.config
        met = dose(config.kink_width) if config.kink_width else zeros
        none = made_up.trainings(lambda c: loss(c.kink_width), lambda c: 0)
        result = none(cell)
        counted = {"a": [[0, 0, 0, met]]}
        if config.kink_width:
            return result | {"kinks": counted}
        return result | {"exact_zeros": counted}

    return example


def arm_of(dose, loss=lambda width: 0.0, **own):
    cells = experiments.at_one(experiments.VGG, "injected")
    found = made_up.evidence(trained(dose, loss, **own), cells)
    return paper_dose.arm(found, cells, experiments.VGG, 1.0)


def test_bands_stand_within_between_and_beyond_the_papers_doses():
    found = arm_of({1e-8: 6, 1e-7: 7, 1e-6: 248}.get)
    assert found.a_step == pytest.approx(6.18, abs=0.01)
    assert found.in_all == pytest.approx(40 * found.a_step)
    sides = [own["kink_width"].unique().tolist() for own in found[:3]]
    assert sides == [[1e-8], [1e-6], [1e-7]]


def test_the_nearest_band_on_each_side_stands_for_it():
    found = arm_of({1e-8: 1, 1e-7: 6, 1e-6: 7}.get)
    assert found.within["kink_width"].unique().tolist() == [1e-7]
    assert found.beyond.empty
    found = arm_of({1e-8: 7, 1e-7: 1000, 1e-6: 5000}.get)
    assert found.within.empty
    assert found.beyond["kink_width"].unique().tolist() == [1e-7]


def test_a_loss_between_the_papers_doses_decides_nothing():
    found = arm_of({1e-8: 2, 1e-7: 100, 1e-6: 1000}.get, lambda w: 0.3 * (w > 1e-8))
    assert paper_dose.drop(found, 0.02) == OPEN
    assert "beyond it by the first count alone: -30.00 ± 0.10 points at 100 kinks" in found.words()


def test_more_zeros_at_another_precision_move_both_doses():
    cells = experiments.at_one(experiments.VGG, "injected")
    found = made_up.evidence(trained(lambda w: 100, lambda w: 0.0), cells)
    once, ten = (paper_dose.arm(found, cells, experiments.VGG, 1.0, times) for times in (1.0, 10.0))
    assert (ten.a_step, ten.in_all) == pytest.approx((10 * once.a_step, 10 * once.in_all))


def test_seeds_of_two_networks_are_paired():
    a = pd.DataFrame({"seed": [0, 1, 2], "difference": [0.0, -0.1, -0.3]})
    b = pd.DataFrame({"seed": [2, 1, 3], "difference": [-0.1, -0.1, -0.9]})
    assert paper_dose.apart(a, b) == pytest.approx([0.0, -0.2])
    assert len(paper_dose.apart(a, b.iloc[:0])) == 0
    assert not paper_dose.is_loss(np.array([]), 0.01)


def test_the_ratio_of_the_published_zeros_at_two_precisions():
    ratio, most = papers.half_precision_factor()
    assert ratio == pytest.approx(7219 / 251)
    assert ratio < most < 1.2 * ratio


def test_a_card_says_what_its_claim_gives_by_dose():
    own = BY_DOSE["P9"]
    cells = own.grid(*INJECTED) + own.grid(*CHAIN)
    found = made_up.evidence(BY_DOSE_EXAMPLES["no loss at any dose"], cells)
    row = scorecard.judged(P9, found, [])
    assert row["verdict"] == "not tested"
    assert row["by_dose"]["verdict"] == "contradicted at reduced scale, by dose"
    html = cards.cards([P9], [row]).data
    assert 'href="19_published_doses.html#d11">D11</a>' in html
    assert "contradicted at reduced scale, by dose" in html


def test_claims_without_a_curve_have_no_line_by_dose():
    row = scorecard.judged(scorecard.BY_ID["P17"], Evidence([]), [])
    assert row["by_dose"] is None
    assert "by dose" not in cards.cards([scorecard.BY_ID["P17"]], [row]).data


def runs_that_lose(*losses):
    """Rows of five seeds for each side: within, beyond, between."""
    sides = (
        pd.DataFrame({"seed": range(5), "difference": -lost, "dose": 9, "reference": 0.9})
        for lost in losses
    )
    return paper_dose.Arm(*sides, a_step=1.0, in_all=40.0)


def test_a_loss_below_the_margin_is_none():
    assert paper_dose.is_loss(np.full(5, -0.021), 0.02)
    assert not paper_dose.is_loss(np.full(5, -0.019), 0.02)


def test_the_other_counts_as_less_only_beyond_its_own_dose():
    a, b = runs_that_lose(0.0, 0.02, 0.0), runs_that_lose(0.01, 0.3, 0.1)
    assert paper_dose.less(a, b, 0.005) == OPEN  # b within loses less than a beyond
    assert paper_dose.less(a, runs_that_lose(0.03, 0.3, 0.1), 0.005) == HOLDS
