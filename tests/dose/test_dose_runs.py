"""Tables of runs with a widened kink: what a run is, what it is paired with, and thresholds."""

import itertools
import json
import math

import pandas as pd
import pytest

from reluprime.dose import runs as dose_runs
from reluprime.dose import thresholds
from reluprime.evidence import made_up
from reluprime.evidence.claim import Cell
from reluprime.training import arms
from reluprime.training.config import TrainingConfig
from reluprime.training.study import fit

MACHINE = {"device_name": "made up", "threads": 1}


def row(accuracy=0.9, kinks=None, dead=None, diverged=None, machine=MACHINE, **changes):
    """A row as `records.table` gives it, of two layers and epochs.

    kinks: {layer: one count an epoch}, with a band alone; dead: the same of dead units.
    """
    config = TrainingConfig(dataset="mnist", hidden_sizes=(8, 8), epochs=2, **changes)
    result = {
        "train_loss": [[0.3, 0.2]],
        "test_accuracy": [[0.5, accuracy]],
        "affected_steps": [[1, 1]],
        "exact_zeros": {"a": [[1, 2]], "b": [[3, 4]]},
        "relu_calls": {"a": 400, "b": 600},
        "n_batches": 5,
        "diverged_epoch": [diverged],
    }
    if kinks:
        result["kinks"] = {name: [counts] for name, counts in kinks.items()}
    if dead:
        result["dead_units"] = {name: [counts] for name, counts in dead.items()}
        result["always_on_units"] = {name: [[0, 1]] for name in dead}
        result["units"] = dict.fromkeys(dead, 8)
    found = json.loads(json.dumps(config.model_dump() | result))
    return found | {"hidden_sizes": config.hidden_sizes, "key": "", "provenance": machine}


def runs(*rows):
    return dose_runs.runs(pd.DataFrame(rows))


BAND = {"kink_width": 1e-3, "kinks": {"a": [10, 20], "b": [30, 40]}}


# ---- runs ----


def test_kinks_are_those_of_the_band_or_exact_zeros_without_one():
    """In one table, in which pandas has NaN where a run has no band."""
    table = runs(row(), row(**BAND), row(kink_width=1e-3, kink_layer=2, kinks={"b": [30, 40]}))
    assert table["kinks"].tolist() == [10, 100, 70]
    assert table["kinks_by_epoch"].tolist() == [(4, 6), (40, 60), (30, 40)]
    assert table["exact_zeros"].tolist() == [10, 10, 10]


@pytest.mark.parametrize(
    ("accuracy", "diverged", "counts_as"),
    [
        (0.9, None, 0.9),
        (0.119, None, 0.1),
        (0.081, None, 0.1),
        (0.13, None, 0.13),
        (0.05, None, 0.05),
        (0.9, 1, 0.1),
        (math.nan, 1, 0.1),
    ],
)
def test_a_run_at_chance_or_diverged_counts_as_chance(accuracy, diverged, counts_as):
    (found,) = runs(row(accuracy, diverged=diverged)).to_dict("records")
    assert arms.CHANCE == 0.1
    assert found["counts_as"] == counts_as
    assert found["stuck"] == (counts_as == 0.1)


def test_dead_units_are_those_after_the_last_epoch():
    counted, not_counted = runs(
        row(count_units=True, dead={"a": [7, 2], "b": [0, 3]}), row(seed=1)
    ).to_dict("records")
    assert counted["dead_units"] == 5
    assert counted["dead_by_layer"] == (2, 3)
    assert counted["always_on_units"] == 2
    assert math.isnan(not_counted["dead_units"])
    assert math.isnan(not_counted["always_on_units"])
    assert not_counted["dead_by_layer"] == ()


def test_no_dead_unit_is_not_uncounted():
    (found,) = runs(row(count_units=True, dead={"a": [0, 0], "b": [0, 0]})).to_dict("records")
    assert found["dead_units"] == 0


def test_runs_that_are_evaluated_on_validation_are_left_out():
    other = row(0.7, seed=1, evaluate_on="validation")
    other["validation_accuracy"] = other.pop("test_accuracy")
    found = runs(other, row(**BAND), row(seed=3))
    assert found[["seed", "kinks"]].values.tolist() == [[0, 100], [3, 10]]


# ---- pairs ----

ZERO = row(0.9, count_units=True, dead={"a": [9, 1], "b": [9, 2]}, **BAND)


def changed(accuracy=0.8, **changes):
    arm = {"s": 1.0, "gradient_rule": "injected"}
    base = BAND | {"count_units": True, "dead": {"a": [0, 40], "b": [0, 5]}}
    return row(accuracy, **(base | arm | changes))


def test_a_run_beside_the_one_at_0_with_the_same_band():
    """The dose is that of the reference, whatever the run itself meets."""
    (found,) = dose_runs.pairs(runs(ZERO, changed(kinks={"a": [1, 0], "b": [0, 0]}))).to_dict(
        "records"
    )
    assert found["dose"] == 100
    assert found["kinks"] == 1
    assert found["dose_share"] == 100 / 2000
    assert found["dose_a_step"] == 100 / 10
    assert found["reference"] == 0.9
    assert found["difference"] == pytest.approx(-0.1)
    assert (found["dead_units"], found["dead_at_0"]) == (45, 3)


def test_share_and_steps_are_those_of_the_epochs_that_the_reference_did():
    """A run that diverged in its first epoch had half of the inputs and steps."""
    own = row(0.3, diverged=0, count_units=True, dead={"a": [1]}, kink_width=1e-3, kinks={"a": [8]})
    own |= {"train_loss": [[0.3]], "test_accuracy": [[0.3]], "affected_steps": [[1]]}
    own |= {"exact_zeros": {"a": [[1]]}, "always_on_units": {"a": [[1]]}}
    (found,) = dose_runs.pairs(runs(own, changed())).to_dict("records")
    assert found["dose_share"] == 8 / 1000
    assert found["dose_a_step"] == 8 / 5


def test_differences_are_of_what_counts():
    (found,) = dose_runs.pairs(runs(ZERO, changed(0.9, diverged=1))).to_dict("records")
    assert found["difference"] == pytest.approx(-0.8)


@pytest.mark.parametrize(
    "other",
    [
        {"kink_width": 1e-4},
        {"seed": 1},
        {"kink_layer": 1},
        {"clip_norm": 1.0},
        {"machine": {"device_name": "another", "threads": 1}},
        {"machine": {"device_name": "made up", "threads": 2}},
        {"lr": 0.02},
        {"batch_size": 64},
        {"weight_decay": 0.0},
        {"momentum": 0.5},
        {"dropout": 0.5},
        {"batch_norm": True},
        {"precision": "bf16"},
        {"arithmetic": "epilogue"},
        {"n_train": 500},
        {"schedule": "constant"},
    ],
    ids=str,
)
def test_runs_that_differ_in_anything_else_are_no_pair(other):
    assert dose_runs.pairs(runs(ZERO, changed(**other))).empty
    # Both there: each is paired with its own, and not with the other's.
    of_other = ZERO["dead_units"], BAND | {"count_units": True} | other
    second = row(0.7, dead={"a": of_other[0]["a"][0], "b": of_other[0]["b"][0]}, **of_other[1])
    found = dose_runs.pairs(runs(ZERO, second, changed(0.6), changed(0.6, **other)))
    assert sorted(found["difference"].round(9)) == [-0.3, -0.1]


def test_every_s_and_rule_has_the_same_reference():
    arms_of = itertools.product((1.0, 0.1, -1.0), ("injected", "chain"))
    found = dose_runs.pairs(runs(ZERO, *(changed(s=s, gradient_rule=rule) for s, rule in arms_of)))
    assert len(found) == 6
    assert (found["reference"] == 0.9).all()
    assert not (found["s"] == 0).any()


def test_the_records_of_a_grid_count_once():
    """Grids name the reference of a band once for each list of s."""
    base = TrainingConfig(dataset="mnist", hidden_sizes=(8, 8), epochs=4, kink_width=1e-3)
    zero = Cell(fit, base)
    one = Cell(fit, base.model_copy(update={"s": 1.0, "gradient_rule": "injected"}))
    zeros = made_up.trainings(lambda _: 0.1)

    def example(cell):
        return zeros(cell) | {"kinks": {"activation": [[5] * 4]}}

    found = dose_runs.measured(made_up.evidence(example, [zero, one]), [zero, one, zero, one])
    assert found["dose"].tolist() == [20]


# ---- thresholds ----


@pytest.mark.parametrize(
    ("doses", "losses", "loss", "expected"),
    [
        pytest.param([10, 1000], [0.0, 0.02], 0.01, 100, id="half way, over the logarithm"),
        pytest.param([10, 1000], [0.0, 0.04], 0.01, 10**1.5, id="a quarter of the way"),
        pytest.param([10, 1000], [-0.01, 0.01], 0.0, 100, id="from a gain"),
        pytest.param([1, 10, 100], [0.0, 0.01, 0.5], 0.01, 10, id="a dose that loses just it"),
        pytest.param([1000, 10], [0.02, 0.0], 0.01, 100, id="in no order"),
        pytest.param([1, 10, 100, 1000], [0, 0.02, 0, 0.02], 0.01, 10**0.5, id="the first of two"),
        pytest.param([1, 10, 100, 1000], [0, -0.01, 0.01, 0], 0.01, 100, id="a peak that reaches"),
        pytest.param([0, 10, 1000], [0.5, 0.0, 0.02], 0.01, 100, id="a dose of 0 is left out"),
        pytest.param([0, 10], [0.0, 0.02], 0.01, 10, id="0 is no dose below the first"),
        pytest.param([10, 1000], [0.03, 0.04], 0.01, 10, id="the first dose already"),
        pytest.param([10, 1000], [0.0, 0.009], 0.01, math.inf, id="never"),
        pytest.param([0], [0.5], 0.01, math.inf, id="no dose"),
        pytest.param([], [], 0.01, math.inf, id="nothing"),
    ],
)
def test_the_dose_that_costs_a_loss(doses, losses, loss, expected):
    assert thresholds.threshold(doses, losses, loss) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("doses", "losses", "expected"),
    [
        pytest.param([10, 100, 1000], [0.0, 0.02, 0.03], (10, 100), id="the first that loses it"),
        pytest.param([1000, 10, 100], [0.03, 0.0, 0.02], (10, 100), id="in no order"),
        pytest.param([10, 100], [0.0, 0.01], (10, 100), id="just it"),
        pytest.param([10, 100, 1000], [0.02, 0.0, 0.02], (0, 10), id="the least already"),
        pytest.param([10, 20, 30, 40], [0, 0.02, 0, 0.02], (10, 20), id="the first of two"),
        pytest.param([10, 1000], [0.0, 0.009], (1000, math.inf), id="never"),
        pytest.param([0, 10, 100], [0.5, 0.0, 0.02], (10, 100), id="a dose of 0 is left out"),
        pytest.param([0, 10], [0.0, 0.02], (0, 10), id="0 was not tried"),
        pytest.param([0], [0.5], (0, math.inf), id="no dose"),
        pytest.param([], [], (0, math.inf), id="nothing"),
    ],
)
def test_the_doses_between_which_a_loss_sets_in(doses, losses, expected):
    assert thresholds.bracket(doses, losses, 0.01) == expected


@pytest.mark.parametrize(
    ("at", "expected"),
    [(100, 0.01), (10**1.5, 0.005), (10, 0.0), (1000, 0.02), (10**3.5, 0.41), (10**4, 0.8)],
)
def test_the_loss_at_a_dose(at, expected):
    doses, losses = [10**4, 10, 0, 1000], [0.8, 0.0, 0.7, 0.02]
    assert thresholds.loss_at(doses, losses, at) == pytest.approx(expected)


def test_losses_at_a_dose_need_not_grow():
    assert thresholds.loss_at([1, 100, 10**4], [0.4, 0.1, 0.3], 10) == pytest.approx(0.25)
    assert thresholds.loss_at([1, 100, 10**4], [0.4, 0.1, 0.3], 1000) == pytest.approx(0.2)


@pytest.mark.parametrize("at", [0, 5, 9.99, 1001, 10**6])
def test_nothing_is_extrapolated(at):
    assert math.isnan(thresholds.loss_at([0, 10, 1000], [0.0, 0.0, 0.02], at))


def test_without_a_dose_no_loss_is_known():
    assert math.isnan(thresholds.loss_at([0], [0.1], 0))
    assert math.isnan(thresholds.loss_at([], [], 10))


def test_lists_of_two_lengths_are_refused():
    with pytest.raises(ValueError, match="zip"):
        thresholds.threshold([1, 2], [0.1], 0.01)
    with pytest.raises(ValueError, match="zip"):
        thresholds.bracket([1, 2], [0.0], 0.01)
    with pytest.raises(ValueError, match="zip"):
        thresholds.loss_at([1, 2], [0.1], 1)


def test_thresholds_are_of_each_seed_alone():
    table = pd.DataFrame(
        {
            "seed": [3, 3, 0, 0, 7, 7],
            "dose": [10, 1000, 1, 100, 10, 100],
            "difference": [0.0, -0.02, 0.0, -0.02, 0.3, 0.0],
        }
    )
    found = thresholds.thresholds(table, 0.01)
    assert found.to_dict() == pytest.approx({0: 10, 3: 100, 7: math.inf})
    assert thresholds.thresholds(table[:0], 0.01).empty
