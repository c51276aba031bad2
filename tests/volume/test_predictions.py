"""Published shares against predicted ones: each test, and what is left out."""

import numpy as np
import pandas as pd
import pytest

from reluprime import records
from reluprime.evidence import made_up
from reluprime.evidence.claim import Evidence
from reluprime.evidence.finding import matches
from reluprime.volume import agreement, figures, machines, predictions
from reluprime.volume import tables as volume_tables
from reluprime.volume.claims import A1, P5, P6, P7
from reluprime.volume.claims.quartiles import PUBLISHED_QUARTILES

EPILOGUE = ("injected", "epilogue")


@pytest.fixture(scope="module")
def as_published():
    return made_up.evidence(A1.examples["as published"], A1.grid(*EPILOGUE))


def test_every_released_point_has_a_row(as_published):
    """15 sizes of B21 and 15 of M23 at two precisions; the curves at two precisions each."""
    table = predictions.points(as_published, *EPILOGUE)
    assert table.groupby(["work", "precision"]).size().to_dict() == {
        (work, precision): 15 for work in ("B21", "M23") for precision in ("fp16", "fp32")
    }
    assert (table["published"] - table["ours"]).abs().max() < 0.01
    panels = predictions.curve_points(as_published, *EPILOGUE)[["panel", "precision"]]
    assert len(panels.drop_duplicates()) == 10


def test_a_point_without_all_its_networks_is_left_out(as_published):
    grid = A1.grid(*EPILOGUE)
    lost = next(c for c in grid if c.config.hidden_sizes == (4, 4, 4, 4))
    kept = [r for c in grid if c is not lost for r in as_published.of(c.study, c.config)]
    table = predictions.points(Evidence(kept), *EPILOGUE)
    assert len(table) == 59
    assert predictions.points(Evidence([]), *EPILOGUE).empty


def test_points_that_are_all_or_none_in_both_say_nothing(as_published):
    found = agreement.all_tests(as_published, *EPILOGUE)
    nothing = found[found["p"].isna()]
    assert nothing["met"].isna().all()
    assert {"depth", "width"} <= set(nothing["panel"])  # 1000 of 1000 at fp16


def test_fisher_by_hand():
    row = {"k": 1, "n": 2, "published_k": 0, "published_n": 3}
    # One of two against none of three: 2 of the 5 places of the one give as much.
    assert agreement.fisher(row) == pytest.approx(0.4)


def test_a_panel_is_one_test():
    row = {"work": "B21", "panel": "batch_size", "precision": "fp32", "n": 1000}
    row |= {"published_n": 1000, "size": 1}
    rows = pd.DataFrame([row | {"k": 300, "published_k": 300 + d} for d in (40, 40, 40)])
    (found,) = agreement._panel_tests(rows)
    (single,) = agreement._panel_tests(rows.iloc[:1])
    assert found["p"] < single["p"]


def test_a_curve_may_be_off_by_its_reading():
    table = pd.DataFrame(
        {
            "panel": ["sample size"] * 2,
            "precision": ["fp16"] * 2,
            "published": [0.5, 0.7],
            "ours": [0.504, 0.697],
            "n": [1000] * 2,
            "reading": [0.004] * 2,
        }
    )
    (found,) = agreement._curve_tests(table)
    assert found["p"] == pytest.approx(1.0)
    (far,) = agreement._curve_tests(table.assign(ours=[0.6, 0.7]))
    assert far["p"] < 0.001


def test_curves_keep_their_risk():
    """Two samples of the same curve differ at 5 % in at most 5 % of 300 draws (discrete: fewer)."""
    random, found = np.random.RandomState(0), []
    share = np.array([0.1, 0.2, 0.3, 0.5, 0.7, 0.9])
    bins = np.diff(share, prepend=0, append=1)
    for _ in range(300):
        ours, theirs = (random.multinomial(1000, bins).cumsum()[:-1] / 1000 for _ in range(2))
        table = pd.DataFrame({"published": theirs, "ours": ours})
        table = table.assign(panel="x", precision="fp16", n=1000, reading=0.0)
        (row,) = agreement._curve_tests(table)
        found.append(row["p"] < 0.05)
    assert np.mean(found) < 0.07


def test_a_panel_without_all_its_sizes_is_no_test(as_published):
    grid = A1.grid(*EPILOGUE)
    lost = [c for c in grid if c.config.hidden_sizes == (32,) * 3 and c.config.batch_size == 64]
    kept = [c for c in grid if c not in lost]
    some = Evidence([r for c in kept for r in as_published.of(c.study, c.config)])
    panels = [
        set(found.loc[found["panel"] == "batch_size", "work"])
        for found in (agreement.all_tests(e, *EPILOGUE) for e in (as_published, some))
    ]
    assert lost
    assert panels == [{"B21", "M23"}, {"B21"}]


def test_the_table_of_points(as_published):
    table = agreement.points_table(as_published).set_index(agreement.POINT).sort_index()
    assert len(table) == 60
    at = table.loc["B21", "depth", 3, "fp32"]
    assert at["published"] == "46.3% [43.2, 49.4]"
    assert at["epilogue"] == "46.3% [43.2, 49.4] met"
    assert at["native"] == ""
    of_batch_sizes = table.xs("batch size", level="panel")["epilogue"]
    assert not of_batch_sizes.str.contains("met|missed").any()
    half = made_up.evidence(A1.examples["half of the zeros at fp32"], A1.grid(*EPILOGUE))
    table = agreement.points_table(half).set_index(agreement.POINT).sort_index()
    assert table.loc["B21", "depth", 3, "fp32"]["epilogue"].endswith(" missed")


def test_the_ratio_of_zeros():
    points = pd.DataFrame({"published": [0.3, 0.6], "published_n": 1000, "n": 1000})
    points["ours"] = 1 - np.sqrt(1 - points["published"])  # half of the zeros a network
    ratio, low, high = machines.zeros_ratio(points)
    assert ratio == pytest.approx(2)
    assert low < 2 < high < 2.5


def test_the_figures_show_points_and_curves(as_published):
    points = {"epilogue": predictions.points(as_published, *EPILOGUE)}
    empty = predictions.points(Evidence([]), "injected", "separate")
    figure = figures.prediction_figure(points | {"separate": empty})
    assert [t.get_text() for t in figure.axes[1].texts] == ["no point is complete"]
    table = predictions.curve_points(as_published, *EPILOGUE)
    at_one = (table[["ours", "published"]] == 1).all(axis=1)
    throughout = at_one.groupby([table["panel"], table["precision"]]).all()
    assert throughout.sum() == 3
    titles = [axes.get_title() for axes in figures.curve_figure(table).axes]
    assert len(titles) == len(set(titles)) == len(throughout) - 3
    (nothing,) = figures.curve_figure(table[:0]).axes
    assert [text.get_text() for text in nothing.texts] == ["no curve to show"]


# ---- Table 1 by arithmetic ----


def test_rows_that_meet_the_published_quartiles():
    condition = ("injected", "separate")
    cells = P7.grid(*condition)
    found = made_up.evidence(P7.examples["as published"], cells)
    table = volume_tables.table_1_by_arithmetic(found)
    assert set(table["arithmetic"]) == {"epilogue", "separate"}  # at fp32 it is epilogue's
    assert table["meets"].all()
    at_16 = table[table["precision"] == "fp16"].iloc[0]
    assert [at_16[f"q{k}"] for k in (1, 2, 3)] == list(PUBLISHED_QUARTILES["fp16"])
    far = made_up.evidence(P7.examples["a thousandth"], cells)
    assert not volume_tables.table_1_by_arithmetic(far)["meets"].any()


def test_quartiles_in_prose_are_those_of_the_released_network_and_norm():
    cells = P7.grid("injected", "separate")
    found = made_up.evidence(P7.examples["as published"], cells)
    table = volume_tables.table_1_by_arithmetic(found)
    own = matches(table, {"network": "release", "norm": "first layer", "rule": "injected"})
    words = volume_tables.in_prose(table.assign(q1=table["q1"].where(own, 0.0)))
    assert words["quartiles_fp16_separate"] == "98, 117, 137"
    assert words["quartiles_fp32_epilogue"] == "19, 25, 47"
    assert words["quartiles_fp16_native"] == ""
    nothing = volume_tables.in_prose(volume_tables.table_1_by_arithmetic(Evidence([])))
    assert set(nothing.values()) == {""}
    assert nothing.keys() == words.keys()


def test_conditions_with_missing_networks_are_left_out():
    cells = P7.grid("injected", "epilogue")
    found = made_up.evidence(P7.examples["as published"], cells)
    kept = [r for cell in cells[1:] for r in found.of(cell.study, cell.config)]
    table = volume_tables.table_1_by_arithmetic(Evidence(kept))
    assert len(table) == 3 * 2 * 2  # conditions, rules, norms
    words = volume_tables.table_1_words(table)
    assert (words["meets"] == "published").sum() == table["precision"].nunique()


def test_the_first_two_rows_of_table_1():
    """Of P5 as published; of P6 a thousand times as many pairs as the table says, as is meant."""
    examples = [(P5, "as published"), (P6, "1000 times as many")]
    found = [
        record
        for claim, name in examples
        for cells in [claim.grid("injected", "epilogue")]
        for own in [made_up.evidence(claim.examples[name], cells)]
        for cell in cells
        for record in own.of(cell.study, cell.config)
    ]
    table = volume_tables.first_rows(Evidence(found))
    own = table[(table["network"] == "release") & (table["rule"] == "injected")]
    own = own.set_index(["arithmetic", "precision"]).sort_index()
    row = own.loc[("epilogue", "fp32")]
    assert row["in the zone"].startswith("40.")
    assert row["in the zone"].endswith(" of 1000")
    assert row["affected pairs"].startswith("0.20% ")
    assert row["affected pairs"].endswith(" of 300 networks x 235")
    assert (row["as row 1"], row["as row 2"]) == ("holds", "holds")
    assert own.loc[("separate", "fp16")][["in the zone", "as row 1", "as row 2"]].eq("").all()
    of_paper = table[(table["network"] == "paper") & (table["arithmetic"] == "epilogue")]
    assert set(of_paper["as row 1"]) == {"holds"}  # at fp32 the released 47.6 %
    few = made_up.evidence(P5.examples["half as many at fp32"], P5.grid("injected", "epilogue"))
    table = volume_tables.first_rows(few)
    own = table[(table["precision"] == "fp32") & (table["arithmetic"] == "epilogue")]
    assert set(own["as row 1"]) == {"fails"}


def test_a_missed_test_is_named_and_counted(as_published):
    counts = agreement.test_table(as_published)
    missed = agreement.missed_table(as_published)
    assert counts["arithmetic"].tolist() == ["epilogue"]
    assert counts["missed"].sum() == len(missed)
    assert (counts["met"] + counts["missed"] + counts["0 or all in both"]).equals(counts["tests"])


def test_what_no_arithmetic_meets():
    """Of these records one arithmetic has all, and the others none."""
    found = made_up.evidence(A1.examples["half of the zeros at fp32"], A1.grid(*EPILOGUE))
    missed = list(agreement.missed_table(found)["missed"])
    assert missed
    assert agreement.met_by_none(found, "injected") == missed


def test_the_panel_of_batch_sizes(as_published):
    table = agreement.batch_size_table(as_published, "B21")
    assert list(table.columns[-5:]) == ["16", "64", "256", "512", "1024"]
    published, ours = table[table["precision"] == "fp32"].to_dict("records")
    assert published["16"] == "43.9% [40.8, 47.0]"  # 439 of 1000
    assert float(published["p, one share"]) < 1e-9
    shares = [[float(row[n].split("%")[0]) for n in ("64", "1024")] for row in (ours, published)]
    assert shares[0] == pytest.approx(shares[1], abs=1)
    half = table[(table["precision"] == "fp16")].to_dict("records")
    assert [row["p, one share"] for row in half] == ["", ""]  # all networks are in the zone


def test_points_of_one_machine_stand_apart(as_published):
    """A second machine has the points over depth alone."""
    grid = A1.grid(*EPILOGUE)
    found = [r for c in grid for r in as_published.of(c.study, c.config)]
    sizes = {(256,) * depth for depth in predictions.B21.shapes["depth"]}
    own = [r for r in found if tuple(r["config"].get("hidden_sizes") or ()) in sizes]
    elsewhere = {"device": "cuda", "device_name": "another", "threads": 1}
    for record in own:
        cell = next(c for c in grid if c.config.model_dump(mode="json") == record["config"])
        key = records.cell_key(cell.study, cell.config, "cuda")
        how = record["provenance"] | elsewhere
        found.append(record | {"key": key, "provenance": how})
    table = machines.ratio_table(Evidence(found))
    b21 = table[table["work"] == "B21"]
    assert b21["points"].tolist() == [15, 11]  # 5 depths, of which 3 is width 256 and batches too
    assert b21["points on each"].tolist() == [11, 11]
    assert set(machines.machine_table(Evidence(found))["layers of"]) == {"256"}
    words = machines.in_prose(Evidence(found))
    assert words["release_on_cpu"] == words["release_on_gpu"] == "34.1%"  # the same counts


def test_what_another_machine_meets():
    """Of half of the zeros on one machine no point at fp32 is met, of as many on another some."""
    grid = A1.grid(*EPILOGUE)
    half = made_up.evidence(A1.examples["half of the zeros at fp32"], grid)
    found = [r for c in grid for r in half.of(c.study, c.config)]
    assert machines.met_elsewhere(Evidence(found)) == []
    as_many = made_up.evidence(A1.examples["as published"], grid)
    for cell in grid:
        if cell.config.hidden_sizes == (256,) * 5:
            (record,) = as_many.of(cell.study, cell.config)
            key = records.cell_key(cell.study, cell.config, "cuda")
            how = record["provenance"] | {"device": "cuda", "device_name": "another"}
            found.append(record | {"key": key, "provenance": how})
    assert "B21 depth 5 at fp32" in agreement.met_by_none(Evidence(found), "injected")
    assert machines.met_elsewhere(Evidence(found)) == ["B21 depth 5 at fp32"]


def test_tables_of_an_empty_store_are_empty():
    nothing = Evidence([])
    for table in (
        agreement.test_table,
        agreement.missed_table,
        machines.ratio_table,
        machines.machine_table,
    ):
        assert table(nothing).empty
    names = ("fp16_points", "fp16_met", "fp16_nearly_all", "n_met_by_none")
    counts = dict.fromkeys(names, 0)
    assert agreement.in_prose(nothing) == counts | {"met_by_none": ""}
    none = {"release_on_cpu": "none computed", "release_on_gpu": "none computed"}
    none |= {"n_met_elsewhere": 0, "met_elsewhere": "none"}
    assert machines.in_prose(nothing) == none
    assert set(agreement.batch_size_table(nothing, "B21")["networks of"]) == {"published"}
