"""Tables and the figure of distances between paired runs."""

import math

import pandas as pd

from reluprime.bifurcation import figures as bifurcation_figures
from reluprime.bifurcation import tables
from reluprime.bifurcation import tables as bifurcation_tables


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
    assert first["run"] == "relu fp32 native seed 3"
    assert (first["step"], first["where"]) == (2, "activation1, neuron 7")
    assert first["chain s=1 jump"] == "0.5"
    assert (first["chain s=1 gradient"], first["chain s=1 end"]) == ("0.002", "0.75")
    assert table.iloc[1][["step", "where"]].tolist() == ["–", "–"]
    (event,) = tables.events(pd.DataFrame([run, run | {"event": None}])).to_dict("records")
    assert event == {
        "run": "relu fp32, seed 3",
        "gradient_rule": "chain",
        "gradient": 0.002,
        "jump": 0.5,
    }


def test_runs_by_arithmetic_count_zeros_and_those_that_never_meet_one():
    run = {"precision": "fp16", "arithmetic": "separate", "exact_zeros": {"a": [0, 3], "b": [1, 0]}}
    event = {"step": 0, "relative_gradient_difference": {"chain s=1": 0.25}}
    met = run | {"event": event, "distance": {"control": [0.0, 0.0], "chain s=1": [1.0, 2.0]}}
    never = run | {"arithmetic": "epilogue", "event": None, "exact_zeros": {"a": [0, 0]}}
    lost = met | {"precision": "bf16", "distance": {"control": [0.0], "chain s=1": [math.nan]}}
    late = met | {"event": event | {"step": 2}}
    apart = {"control": [0.0], "chain s=1": [0.0]}
    first, second, third = tables.by_arithmetic(
        pd.DataFrame([met, late, never | {"distance": apart}, lost])
    ).to_dict("records")
    assert (first["runs"], first["with a zero"], first["first step"]) == (2, 2, 2)
    assert (first["zeros a step"], first["chain gradient"], first["chain end"]) == (
        "2",
        "0.25",
        "2",
    )
    assert (second["with a zero"], second["first step"], second["zeros a step"]) == (0, "–", "0")
    assert (second["chain gradient"], second["chain end"]) == ("–", "0")
    assert (third["precision"], third["chain end"]) == ("bf16", "not finite")
    unnamed = pd.DataFrame([met, late | {"arithmetic": math.nan}])  # as records of native are
    assert tables.by_arithmetic(unnamed)["arithmetic"].tolist() == ["separate", "native"]


def paired(precision, seed, apart, **changes):
    return {
        "dataset": "mnist",
        "hidden_sizes": (2000,),
        "optimizer": "adam",
        "lr": 1e-3,
        "precision": precision,
        "seed": seed,
        "distance": {
            "control": [0.0, 0.0],
            "chain s=1": [0.0, 0.0],
            "injected s=1": [9.0, apart + seed],
        },
        "sum_difference": {
            "control": [0.0, 0.0],
            "chain s=1": [0.0, 0.0],
            "injected s=1": [0.0, 0.1],
        },
    } | changes


def test_distances_beside_the_sums_of_weights():
    table = bifurcation_tables.distances(pd.DataFrame([paired("bf16", 0, 2.0)]))
    assert set(table["gradient_rule"]) == {"chain", "injected"}
    own = table[(table["gradient_rule"] == "injected") & (table["step"] == 2)]
    assert own.set_index("quantity")["value"].to_dict() == {"L1 distance": 2.0, "sums": 0.1}
    last = bifurcation_tables.distance_table(table).set_index("gradient_rule")
    shown = last.loc["injected", ["L1 distance", "sums", "runs", "apart"]].tolist()
    assert shown == ["2", "0.1", 1, 1]
    assert last.loc["chain", "apart"] == 0


def test_a_distance_that_is_not_a_number_is_counted():
    table = bifurcation_tables.distances(pd.DataFrame([paired("fp16", 0, math.nan)]))
    last = bifurcation_tables.distance_table(table).set_index("gradient_rule")
    assert last["not finite"].to_dict() == {"chain": 0, "injected": 1}


def test_the_distance_figure_says_where_nothing_parts_and_where_nothing_is_finite():
    cells = [paired("fp32", 0, 2.0), paired("fp16", 0, math.nan), paired("fp64", 0, 0.0)]
    for broken, value in ((cells[1], math.nan), (cells[2], 0.0)):
        for quantity in ("distance", "sum_difference"):
            broken[quantity] = {label: [value] * 2 for label in broken[quantity]}
    figure = bifurcation_figures.distance_figure(bifurcation_tables.distances(pd.DataFrame(cells)))
    texts = {axes.get_title(): [t.get_text() for t in axes.texts] for axes in figure.axes}
    assert texts == {"fp32": [], "fp16": ["not finite"], "fp64": ["never apart"]}
