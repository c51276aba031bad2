"""The table and figure of VGG11 by precision (B21 Fig. 14)."""

from collections import Counter

import pytest

from reluprime.cli import main
from reluprime.evidence import made_up
from reluprime.evidence.claim import Evidence
from reluprime.records import cell_key
from reluprime.training import precisions
from reluprime.training.claims import P14


def _lost(config):
    return 0.8 if config.gradient_rule == "injected" and config.s == 1 else 0.0


def _zeros(config):
    """None at fp64; each seed otherwise its own number in every epoch."""
    return 0 if config.precision == "fp64" else 10 + config.seed


def _diverges(config):
    return _lost(config) > 0 and config.precision == "fp16" and config.seed == 1


@pytest.fixture
def found():
    example = made_up.trainings(_lost, _zeros, diverges=_diverges)
    return precisions.by_precision(made_up.evidence(example, precisions.grid()))


STUCK = {"precision": "fp16", "arithmetic": "epilogue", "epochs": 5, "s": "1", "rule": "constant"}


def _row(table, **wanted):
    for name, value in wanted.items():
        table = table[table[name] == value]
    (row,) = table.to_dict("records")
    return row


def test_every_run_of_p14_is_in_the_table(found):
    runs = {
        cell_key(cell.study, cell.config): cell.config.precision
        for rule in ("chain", "injected")
        for cell in P14.grid(rule, "epilogue")
    }
    own = found[found["arithmetic"] == "epilogue"]
    shown = own["arm"].map(lambda arm: len(arm.accuracies)).groupby(own["precision"]).sum()
    wanted = Counter(runs.values())
    wanted["fp64"] += 5  # without a zero the runs at s=0 stand for s=0.1 too
    assert shown.to_dict() == wanted


def test_a_row_lists_its_runs_in_the_order_of_their_seeds(found):
    row = _row(precisions.table(found), **STUCK)
    of_seeds = row["test accuracy of each run, %"].split(", ")
    assert of_seeds[1] == "diverged"
    assert [float(v) < 20 for v in of_seeds if v != "diverged"] == [True] * 4
    assert row["points against s=0, mean"].startswith("-")
    assert row["exact zeros a run at s=0"] == "48"  # four epochs of 10 to 14


def test_runs_without_a_zero_are_those_at_s_0(found):
    table = precisions.table(found)
    column = "test accuracy of each run, %"
    at_zero = _row(table, precision="fp64", s="0")[column]
    assert _row(table, precision="fp64", s="1", rule="constant")[column] == at_zero


def test_the_other_arithmetic_has_one_seed_at_16_bits(found):
    own = found[found["arithmetic"] == "separate"]
    assert set(own["precision"]) == {"fp16", "bf16"}
    assert own["arm"].map(lambda arm: len(arm.accuracies)).eq(1).all()
    configs = {cell.config for cell in precisions.separate_grid()}
    shared = {(c.seed, c.arithmetic, c.width, c.epochs) for c in configs}
    assert shared == {(0, "separate", 0.25, 5)}
    assert len(configs) == 2 * 4


def test_the_figure_draws_every_run_and_open_marks_for_the_other_arithmetic(found):
    figure = precisions.figure(found)
    lines = [line for panel in figure.axes for line in panel.lines]
    drawn = [line for line in lines if line.get_linestyle() == "None"]
    assert sum(len(line.get_xdata()) for line in drawn) == sum(
        len(arm.accuracies) for arm in found["arm"]
    )
    assert {len(line.get_xdata()) for line in drawn if line.get_markerfacecolor() == "white"} == {1}
    (stuck,) = [
        line
        for line in drawn
        if line.get_label() == "s=1, constant"
        and len(line.get_ydata()) == 5
        and round(line.get_xdata()[0]) == 2
    ]
    assert stuck.get_ydata()[1] == 10  # it diverged


def test_no_records_are_an_empty_table():
    assert precisions.table(precisions.by_precision(Evidence([]))).empty


def test_the_prose_has_the_runs_of_one_arithmetic_and_the_smaller_scale(found):
    values = precisions.in_prose(found)
    assert (values["zeros_fp64"], values["zeros_fp32"], values["zeros_bf16"]) == ("0", "48", "48")
    assert float(values["points_injected_1_bf16"]) == pytest.approx(-80, abs=0.5)
    assert float(values["points_chain_1_fp16"]) == pytest.approx(0, abs=0.5)
    assert [values[f"stuck_{n}"] for n in ("chain_1", "injected_1", "injected_0.1")] == [
        "0 of 16",
        "16 of 16",
        "0 of 16",
    ]
    empty = precisions.in_prose(precisions.by_precision(Evidence([])))
    assert empty.keys() == values.keys()
    assert set(empty.values()) == {"–"}


def test_the_other_arithmetic_can_be_computed_again(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "reluprime.evidence.compute.compute", lambda cells, *rest: asked.extend(cells)
    )
    assert main(["compute", "separate", "--store", str(tmp_path)]) == 0
    assert asked == precisions.separate_grid()
