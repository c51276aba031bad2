"""Intervals, tests and tables, on numbers that can be checked by hand."""

import math

import numpy as np
import pandas as pd
import pytest

from reluprime.bifurcation import tables
from reluprime.evidence import intervals, tests
from reluprime.volume import shares as volume_shares
from reluprime.volume import table_1

# One cell of three networks and 4 mini-batches: networks 10 and 12 are in the zone.
CELL = {
    "dataset": "mnist",
    "hidden_sizes": (256, 256, 256),
    "precision": "fp32",
    "batch_size": 256,
    "initialisation": "torch",
    "relu_after_first": True,
    "stop_at_first": False,
    "architecture": "mlp",
    "width": 1.0,
    "batch_norm": False,
    "max_batches": None,
    "seed": 10,
    "n_networks": 3,
    "n_batches": 4,
    "nonfinite_chain": 0,
    "nonfinite_injected": 1,
    **{f"affected_{r}": [2, 0, 1] for r in ("chain", "injected")},
    **{f"first_affected_{r}": [0, None, 3] for r in ("chain", "injected")},
    "relative_difference_chain": [0.1, 0.2, 0.3],
    "relative_difference_first_layer_chain": [0.4, 0.5, 0.6],
    "relative_difference_injected": [10.0, 20.0, 30.0],
    "relative_difference_first_layer_injected": [40.0, 50.0, 60.0],
}


def networks(rule="chain", cells=(CELL,)):
    return volume_shares.by_network(pd.DataFrame(cells), rule)


def test_margins_of_the_paper():
    assert intervals.hoeffding_margin(1000) == pytest.approx(0.04295, abs=5e-6)
    expected = math.sqrt((1 / 1000 + 1 / 118) * math.log(40) / 2)
    assert intervals.mcdiarmid_margin(1000, 118) == pytest.approx(expected)
    assert round(intervals.mcdiarmid_margin(1000, 118), 2) == 0.13  # as B21 prints it


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [(0, 10, 0, 0.3085), (10, 10, 0.6915, 1), (5, 10, 0.1871, 0.8129), (400, 1000, 0.3695, 0.4311)],
)
def test_clopper_pearson_known_values(k, n, low, high):
    assert intervals.clopper_pearson(k, n) == pytest.approx((low, high), abs=1e-4)


def test_clopper_pearson_covers_at_least_95_percent():
    """2,000 draws: a true coverage of 95 % falls below 93.5 % with probability below 0.002."""
    random = np.random.RandomState(0)
    hits = [
        low <= 0.4 <= high
        for low, high in (
            intervals.clopper_pearson(int(k), 50) for k in random.binomial(50, 0.4, 2000)
        )
    ]
    assert np.mean(hits) >= 0.935


def test_bootstrap_of_the_mean_is_near_the_normal_interval():
    values = np.random.RandomState(0).normal(3, 1, 400)
    low, high = intervals.bootstrap_mean(values)
    half = 1.96 * values.std(ddof=1) / 20
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.01)
    assert intervals.bootstrap_mean([2, 2, 2]) == (2, 2)


def test_networks_get_their_own_differences():
    table = networks()
    assert table["network"].tolist() == [10, 11, 12]
    assert table["relative_difference"].tolist() == [[0.1, 0.2], [], [0.3]]
    assert table["relative_difference_first_layer"].tolist() == [[0.4, 0.5], [], [0.6]]
    assert networks("injected")["relative_difference"].tolist() == [[10.0, 20.0], [], [30.0]]


def test_a_network_of_two_cells_counts_once():
    overlapping = CELL | {"seed": 12}
    assert networks(cells=(CELL, overlapping))["network"].tolist() == [10, 11, 12, 13, 14]
    other = CELL | {"precision": "fp16"}
    assert len(networks(cells=(CELL, other))) == 6


def test_zone_and_pair_shares():
    zone = volume_shares.zone_shares(networks(), ["precision"]).iloc[0]
    assert (zone["networks"], zone["in_zone"]) == (3, 2)
    assert zone["share"] == pytest.approx(2 / 3)
    pairs = volume_shares.pair_share(networks())
    assert (pairs["pairs"], pairs["affected"], pairs["share"]) == (12, 3, 0.25)
    assert 0 <= pairs["low"] < 0.25 < pairs["high"] <= 0.5


def test_no_hit_still_has_an_upper_bound():
    nothing = networks().assign(affected=0)
    pairs = volume_shares.pair_share(nothing)
    assert (pairs["low"], pairs["share"]) == (0, 0)
    assert pairs["high"] == pytest.approx(intervals.clopper_pearson(0, 3)[1])


def test_sample_sizes_count_whole_mini_batches():
    shares = volume_shares.sample_size_shares(networks(), [255, 256, 768, 1023, 1024])
    assert shares["in_zone"].tolist() == [0, 1, 1, 2, 2]
    assert shares["networks"].tolist() == [3] * 5


def test_sizes_come_from_even_networks():
    uneven = CELL | {"hidden_sizes": (2000, 128)}
    table = volume_shares.with_sizes(networks(cells=(CELL, uneven)))
    assert table[["depth", "width"]].drop_duplicates().values.tolist() == [[3, 256]]
    by_rule = volume_shares.shares_by_rule(pd.DataFrame([CELL]), "depth")
    assert by_rule["gradient_rule"].tolist() == ["chain", "injected"]


def test_published_shares_name_precisions_as_ours():
    table = pd.DataFrame(
        [("nb_layers", 3, 32, 1000, 463), ("batch_size", 16, 16, 1000, 1000)],
        columns=["factor", "value", "precision", "networks", "in_zone"],
    )
    assert volume_shares.published_shares(table, "depth").values.tolist() == [[3, "fp32", 0.463]]
    assert volume_shares.published_shares(table, "batch_size")["precision"].tolist() == ["fp16"]


def test_table_1_states_both_rules_and_the_published_row():
    table = table_1.with_published(table_1.table_1(pd.DataFrame([CELL])))
    assert table["rule"].tolist() == ["published", "chain", "injected"]
    assert table["relative difference"].tolist() == ["–", "(0.15, 0.2, 0.25)", "(15, 20, 25)"]
    assert table["first layer only"].tolist()[0] == "(19, 25, 47)"
    assert table["not finite"].tolist() == ["–", 0, 1]
    assert table["in the zone"].iloc[1].startswith("66.7% [9.4, 99.2]")


def test_relative_differences_are_long():
    table = table_1.relative_differences(pd.DataFrame([CELL]))
    assert table.groupby("gradient_rule")["relative_difference"].sum().round(6).to_dict() == {
        "chain": 0.6,
        "injected": 60.0,
    }


def test_run_table_reads_the_event_or_says_that_there_is_none():
    run = {
        "activation": "relu",
        "precision": "fp32",
        "seed": 3,
        "event": {
            "step": 1,
            "layer": "activation1",
            "neuron": 7,
            "relative_gradient_difference": {"control": 0.0, "chain s=1": 0.002},
        },
        "distance": {"control": [0.0, 0.0, 0.0], "chain s=1": [0.0, 0.5, 0.75]},
    }
    table = tables.run_table(pd.DataFrame([run, run | {"event": None}]))
    first = table.iloc[0].to_dict()
    assert (first["step"], first["where"]) == (1, "activation1, neuron 7")
    assert first["chain s=1 jump"] == "0.5"
    assert (first["chain s=1 gradient"], first["chain s=1 end"]) == ("0.002", "0.75")
    assert table.iloc[1][["step", "where"]].tolist() == ["–", "–"]


def test_quartiles_of_nothing():
    assert all(math.isnan(q) for q in intervals.quartiles([]))
    assert intervals.quartiles([1, 2, 3, 4, 5]) == (2, 3, 4)


def test_is_larger_keeps_its_error_rate():
    """400 comparisons of equal distributions: 5 % false alarms, below 9 % but for 1 in 1,000."""
    random = np.random.RandomState(0)
    alarms = [tests.is_larger(*random.normal(size=(2, 30))) for _ in range(400)]
    assert np.mean(alarms) < 0.09
    assert tests.is_larger([5, 6, 7, 8], [1, 2, 3, 4])
    assert not tests.is_larger([1, 2, 3, 4], [5, 6, 7, 8])
    assert not tests.is_larger([], [1])


def test_differ():
    assert tests.differ([10, 90], [100, 100], 0.01)
    assert not tests.differ([50, 52], [100, 100], 0.01)
    assert not tests.differ([0, 0], [100, 100], 0.01)
