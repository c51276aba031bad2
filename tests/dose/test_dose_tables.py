"""Tables and figures of the page about doses, on the made-up trainings of its rules."""

import functools
import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from reluprime import records
from reluprime.dose import claims as dose_claims
from reluprime.dose import experiments, papers
from reluprime.dose import figures as dose_figures
from reluprime.dose import tables as dose_tables
from reluprime.dose.grids import Doses
from reluprime.evidence import made_up
from reluprime.evidence.claim import Cell, Evidence
from reluprime.records import Store
from reluprime.training import study as training
from reluprime.training.config import TrainingConfig

EXAMPLES = dose_claims.D1.examples
NONE = Evidence([])


@functools.cache
def evidence(name="mitigated"):
    cells = {c.config.model_dump_json(): c for claim in dose_claims.CLAIMS for c in claim.cells()}
    return made_up.evidence(EXAMPLES[name], cells.values())


def test_a_curve_has_a_point_a_rule_s_and_width():
    curve = dose_tables.by_width(dose_tables.of_network(evidence(), "mlp"))
    own = curve[(curve["gradient_rule"] == "injected") & (curve["s"] == 1)]
    assert own["kink_width"].tolist() == list(experiments.WIDTHS)
    assert own["dose"].tolist() == pytest.approx([2e8 * w for w in experiments.WIDTHS], abs=4)
    assert set(own["runs"]) == {5}
    at_200 = own[own["dose"] == 200].iloc[0]
    assert at_200["difference"] == pytest.approx(-0.02)
    assert at_200["dead_units"] == 200
    assert (own["least"] < own["difference"]).all()
    assert (own["difference"] < own["most"]).all()


def test_a_curve_in_words_names_what_was_met():
    table = dose_tables.curve_table(dose_tables.of_network(evidence(), "mlp"))
    row = table[(table["s"] == "1") & (table["dose"] == "200") & (table["rule"] == "injected")]
    assert row["points against s=0"].tolist() == ["-2.00"]
    assert row["kinks met (median)"].tolist() == ["200"]
    assert row["units that died"].tolist() == ["200"]
    assert table[table["dose"] == "2,000,000"]["of all inputs"].unique().tolist() == ["0.8%"]


def test_thresholds_have_intervals_over_seeds_and_a_product():
    pairs = dose_tables.of_network(evidence(), "mlp")
    own = pairs[(pairs["gradient_rule"] == "injected") & (pairs["s"] == 0.1)]
    (row,) = dose_tables.threshold_table(own, ["s"]).to_dict("records")
    middle, ends = row["dose that costs a point"].split(" ", 1)
    low, high = (float(end.replace(",", "")) for end in ends.strip("[]").split(", "))
    assert low < float(middle.replace(",", "")) < high
    assert 600 < low < 1000 < high * 2  # a point at 1,000 kinks, between 600 and 2,000
    assert row["lr × s × dose"] == f"{0.01 * 0.1 * float(middle.replace(',', '')):.2g}"


def test_a_threshold_that_no_seed_reached_says_how_far_was_tried():
    pairs = dose_tables.of_network(evidence("no loss at any dose"), "mlp")
    own = pairs[(pairs["gradient_rule"] == "injected") & (pairs["s"] == 1)]
    (row,) = dose_tables.threshold_table(own, ["s"]).to_dict("records")
    assert row["dose that costs a point"] == "more than 20,000 in 5 of 5"
    assert row["lr × s × dose"] == ""


@pytest.mark.parametrize(
    ("values", "expected"),
    [([8.0], (8, math.nan, math.nan)), ([2.0, 2.0], (2, 2, 2)), ([], (math.nan,) * 3)],
)
def test_a_geometric_mean_of_few(values, expected):
    assert dose_tables.geometric(values) == pytest.approx(expected, nan_ok=True)


def test_a_geometric_interval_is_a_t_interval_of_logarithms():
    values = np.array([10.0, 20.0, 40.0])
    mean, low, high = dose_tables.geometric(values)
    half = 4.3027 * np.log(values).std(ddof=1) / math.sqrt(3)
    assert mean == pytest.approx(20)
    assert (low, high) == pytest.approx((20 / math.exp(half), 20 * math.exp(half)), rel=1e-4)
    assert dose_tables.geometric([1.0, math.inf]) == (math.inf,) * 3


def test_each_change_is_told_from_the_others():
    table = dose_tables.one_change(evidence(), experiments.VARIANTS | experiments.MITIGATIONS)
    of = table[(table["gradient_rule"] == "injected") & (table["s"] == 1)].groupby("condition")
    assert set(of.groups) == {
        dose_tables.RELEASED,
        *experiments.VARIANTS,
        *experiments.MITIGATIONS,
    }
    assert of["kink_layer"].get_group("kinks in layer 2").tolist() == [2] * len(
        of.get_group("kinks in layer 2")
    )
    assert of.get_group(dose_tables.RELEASED)["kink_layer"].isna().all()
    assert of.get_group(dose_tables.RELEASED)["clip_norm"].isna().all()
    assert set(of.get_group("clipped gradients")["clip_norm"]) == {1.0}


def test_zeros_that_are_left_are_counted_a_run():
    table = dose_tables.zeros_left(evidence()).set_index("condition")
    assert len(table) == 1 + len(experiments.MITIGATIONS)
    value = table.loc["Adam", "exact zeros a run, epilogue"]
    assert value.startswith("200.0 [")
    assert dose_tables.zeros_left(NONE).iloc[0, 1] == "no run"


def test_real_zeros_stand_beside_the_band():
    table = dose_tables.stand_in_table(evidence("real zeros cost five points more"))
    row = table[
        (table["precision"] == "fp16") & (table["s"] == "1") & (table["rule"] == "injected")
    ]
    assert row["points against s=0"].tolist() == ["-7.00"]
    assert row["band at that dose"].tolist() == ["-2.00"]
    assert row["apart, by run"].item().split(", ") == ["-5.00"] * 5


def test_what_a_band_costs_by_itself():
    table = dose_tables.band_table(evidence())
    assert set(table["points against plain s=0"]) == {"+0.00"}
    assert set(table["network"]) == {"mlp", "vgg11", "resnet18"}
    assert dose_tables.band_table(NONE).empty


def test_progress_counts_each_cell_once():
    everything = dose_tables.progress(evidence())
    assert (everything["runs computed"] == everything["of"]).all()
    assert (dose_tables.progress(NONE)["runs computed"] == 0).all()


# ---- the papers' doses ----


@pytest.mark.parametrize(
    ("architecture", "calls", "units"),
    [
        ("mlp", 3 * 2048, 3 * 2048),
        ("vgg11", (64 * 4 + 128 + 2 * 256 // 4 + 2 * 512 // 16 + 2 * 512 // 64) * 256, 2752),
        # The stem and a max-pool, then four stages of two blocks with two ReLUs each.
        ("resnet18", 64 * 1024 + 4 * (64 * 256 + 128 * 64 + 256 * 16 + 512 * 4), 64 + 4 * 960),
    ],
)
def test_the_papers_networks_have_these_sizes(architecture, calls, units):
    assert papers.size(papers.at_full_width(architecture)) == (calls, units)


def trained(store, zeros, **changes):
    config = TrainingConfig(hidden_sizes=(8,), epochs=2, **changes)
    result = made_up.trainings(lambda c: 0.0, lambda c: zeros, epochs=2)(Cell(training.fit, config))
    result["relu_calls"] = {"activation": 10**6}
    store.append(made_up._record(Cell(training.fit, config), result))


def test_rates_are_of_plain_runs_at_s_0_alone(tmp_path):
    store = Store(tmp_path)
    trained(store, 3, seed=0)
    trained(store, 5, seed=1)
    for other in ({"s": 1.0}, {"precision": "bf16"}, {"batch_norm": True}, {"kink_width": 1e-3}):
        trained(store, 100, **other)
    (row,) = papers.rates(store).to_dict("records")
    assert (row["zeros"], row["calls"], row["runs"]) == (16, 4e6, 2)
    assert row["rate"] == 16 / 4e6
    assert row["low"] < row["rate"] < row["high"]


def test_a_paper_s_dose_is_its_rate_times_its_inputs():
    rate = {"architecture": "mlp", "optimizer": "sgd", "runs": 2, "zeros": 8, "calls": 1e9}
    rate |= {"rate": 8e-9, "low": 3e-9, "high": 2e-8}
    (row,) = papers.paper_doses(pd.DataFrame([rate])).to_dict("records")
    assert row["dose"] == pytest.approx(8e-9 * 6144 * 60_000 * 200)
    assert row["a_step"] == pytest.approx(row["dose"] / (469 * 200))
    assert row["a_unit"] == pytest.approx(row["dose"] / 6144)


def test_published_drops_stand_beside_the_doses():
    found = pd.DataFrame(
        [
            {"architecture": a, "optimizer": "sgd", "runs": 1, "zeros": 9, "calls": 1e9}
            | {"rate": 9e-9, "low": 4e-9, "high": 2e-8}
            for a in ("mlp", "resnet18")
        ]
    )
    pairs = {name: dose_tables.of_network(evidence(), name) for name in ("mlp", "resnet18")}
    table = papers.paper_table(papers.paper_doses(found), found, pairs)
    by = table.set_index("training")["published at s=1"]
    assert by["MLP 3x2048, MNIST, SGD"] == "not released"
    assert float(by["ResNet-18, CIFAR-10, SGD"]) < -75


# ---- figures ----

DRAWN = {
    "dose": lambda of: dose_figures.dose_figure(
        {n: dose_tables.of_network(of, n) for n in experiments.NETWORKS}
    ),
    "answer": lambda of: dose_figures.answer_figure(
        {n: dose_tables.of_network(of, n) for n in experiments.NETWORKS}
    ),
    "s": lambda of: dose_figures.s_figure(dose_tables.of_network(of, "mlp")),
    "dead": lambda of: dose_figures.dead_figure(dose_tables.of_network(of, "mlp")),
    "mitigation": lambda of: dose_figures.mitigation_figure(
        dose_tables.one_change(of, experiments.MITIGATIONS)
    ),
    "paper": lambda of: dose_figures.paper_figure(
        dose_tables.of_network(of, "mlp"),
        papers.paper_doses(papers.rates(Store("records"))),
        768,
    ),
}


@pytest.mark.parametrize("of", [evidence, lambda: NONE], ids=["all", "none"])
@pytest.mark.parametrize("name", DRAWN)
def test_figures_are_drawn_with_and_without_records(name, of, tmp_path):
    plt.close("all")
    figure = DRAWN[name](of())
    figure.savefig(tmp_path / "figure.png")
    assert figure.axes
    assert not plt.get_fignums()


def test_every_figure_of_the_page_is_drawn_here():
    figures = {n for n in vars(dose_figures) if n.endswith("_figure")}
    assert figures == {f"{name}_figure" for name in DRAWN}


@pytest.mark.parametrize(
    ("value", "words"), [(1, "1"), (1000, "1,000"), (10_000, "10k"), (1e6, "1M"), (2.5e7, "25M")]
)
def test_counts_on_an_axis(value, words):
    assert dose_figures._count(value, None) == words


def test_a_reader_s_own_grid_is_of_the_registered_cells():
    """So that the page computes nothing that the store has."""
    _, own = Doses().grids()["mine"]
    registered = {records.cell_key(training.fit, c.config) for c in dose_tables.grids("mlp")}
    assert {records.cell_key(training.fit, c) for c in own} <= registered
    assert len(own) == 3 * 5 * 2
    for wrong in ({"dose_network": "lenet"}, {"dose_optimizer": "lion"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Doses(**wrong)
