"""Shares of networks in the zone from cells of the Monte Carlo."""

import pandas as pd
import pytest

from reluprime.evidence import intervals
from reluprime.volume import figures, table_1
from reluprime.volume import shares as volume_shares

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


def test_the_marks_of_table_1_are_its_numbers():
    marks = table_1.marks(pd.DataFrame([CELL])).set_index(["row", "rule"])
    share, pairs, change = table_1.ROWS
    found = networks()
    zone = volume_shares.zone_shares(found, ["precision"]).iloc[0]
    assert marks.loc[(share, "chain"), ["value", "low", "high"]].tolist() == [
        zone["share"],
        zone["low"],
        zone["high"],
    ]
    assert marks.loc[(pairs, "chain"), "value"] == volume_shares.pair_share(found)["share"]
    values = found["relative_difference_first_layer"].sum()
    low, median, high = intervals.quartiles(values)
    assert marks.loc[(change, "chain"), ["value", "low", "high"]].tolist() == [median, low, high]
    assert marks.loc[(share, "published"), "value"] == 0.4


def test_table_1_is_drawn_where_no_mini_batch_is_affected():
    marks = table_1.marks(pd.DataFrame([CELL]))
    without = marks[marks["row"] != table_1.ROWS[2]]
    figure = figures.table_1_figure(without)
    figure.canvas.draw()
    assert [axes.get_title() for axes in figure.axes] == list(table_1.ROWS)


def test_relative_differences_are_long():
    table = table_1.relative_differences(pd.DataFrame([CELL]))
    assert table.groupby("gradient_rule")["relative_difference"].sum().round(6).to_dict() == {
        "chain": 0.6,
        "injected": 60.0,
    }
