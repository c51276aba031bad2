"""Tables and figures of the exact zeros that trainings meet."""

import re

import pandas as pd
from test_training_tables import PROVENANCE, cell, experiment, marks

from reluprime.records import published
from reluprime.training import figures as learning_figures
from reluprime.training import figures as training_figures
from reluprime.training import tables as learning
from reluprime.training import zero_tables
from reluprime.training.config import TrainingConfig
from reluprime.training.zero_tables import (
    beside_released,
    in_prose,
    zero_rate_table,
    zero_rates,
    zeros_by_layer,
)
from reluprime.training.zeros import ZeroCountConfig

FC = {
    "dataset": "mnist",
    "hidden_sizes": (200, 200, 200),
    "optimizer": "adam",
    "momentum": 0.0,
    "epochs": 50,
}


def zeros(rows, first, last):
    """Exact zeros of the first and of the last half of the epochs, the seed more in both."""
    for row in rows:
        half = row["epochs"] // 2
        n = [first + row["seed"]] * half + [last + 1.5 * row["seed"]] * half
        row["exact_zeros"] = {"activation1": [n]}
    return rows


def test_the_trend_leaves_out_a_middle_epoch():
    row = cell(TrainingConfig(**FC | {"epochs": 5}), 0.9)
    row["exact_zeros"] = {"a": [[1, 2, 90, 3, 4]], "b": [[0, 0, 0, 10, 0]]}
    runs = learning.runs(pd.DataFrame([row]))
    assert runs["zeros_by_epoch"].tolist() == [(1, 2, 90, 13, 4)]
    assert zero_tables.trend(runs).tolist() == [14.0]


def test_zeros_by_epoch():
    row = cell(TrainingConfig(**FC | {"epochs": 2}), 0.9)  # 2 and 1 zeros an epoch in two layers
    table = zero_tables.zeros_by_epoch(learning.runs(pd.DataFrame([row])))
    assert table["zeros"].tolist() == [3, 3]
    assert table["epoch"].tolist() == [1, 2]


def test_the_zeros_figure_adds_up():
    rows = zeros(experiment(FC | {"precision": "bf16", "epochs": 4}, {0.0: 0.9, 1.0: 0.9}), 2, 4)
    runs = learning.both_rules(learning.runs(pd.DataFrame(rows)))
    panel = training_figures.zeros_figure(zero_tables.zeros_by_epoch(runs)).axes[1]
    # Seeds 0 to 4: means of 2 + 2 in the first half and 4 + 3 in the last.
    assert list(panel.get_lines()[0].get_ydata()) == [4.0, 8.0, 15.0, 22.0]


def zero_cell(hidden_sizes, precision, zeros, calls, **changes):
    config = ZeroCountConfig(
        **{"hidden_sizes": hidden_sizes, "precision": precision, "s": 1.0} | changes
    )
    result = {
        "cumulative_zeros": [[zeros // 2, zeros]],
        "cumulative_calls": [[calls // 2, calls]],
        "zeros_by_layer": {},
        "final_accuracy": [0.9],
        "diverged_epoch": [None],
    }
    return config.model_dump() | result | {"key": "", "provenance": PROVENANCE}


def zero_frames(factor):
    shapes = [(64,), (256,), (64,) * 3, (256,) * 3]
    rates = [1e-8, 1.5e-8, 2e-8, factor * 1e-8]
    return {
        "zeros.count": pd.DataFrame(
            zero_cell(shape, precision, round(rate * 1e10), 10**10)
            for precision in ("fp16", "fp32")
            for shape, rate in zip(shapes, rates, strict=True)
        )
    }


def test_zero_rates_add_up_networks_of_a_shape():
    cells = [zero_cell((64,), "fp32", 4, 100, seed=seed) for seed in range(2)]
    row = zero_rates(pd.DataFrame(cells)).iloc[0]
    assert (row["zeros"], row["calls"], row["rate"]) == (8, 200, 0.04)
    assert row["low"] < row["rate"] < row["high"]


def test_the_table_of_zero_rates():
    rates = zero_rates(zero_frames(3.0)["zeros.count"])
    row = zero_rate_table(rates).set_index(["precision", "rule"]).loc[("fp32", "chain")]
    assert row["networks"] == 4
    assert row["exact zeros"] == 100 + 150 + 200 + 300
    assert row["zeros a call"].startswith("1.87e-08 [")
    assert row["zeros a call, of networks with at least 10 zeros"] == "1.0e-08 to 3.0e-08 (4)"


def test_how_often_a_call_meets_a_zero_is_said_of_all_networks_under_the_constant():
    found = [zero_cell((n,), "fp32", 2, 10**9, gradient_rule="injected") for n in (16, 64)]
    found += [zero_cell((16,), "fp32", 500, 10**9), zero_cell((16,), "fp16", 500, 10**9)]
    none = pd.DataFrame([zero_cell((16,), "fp32", 0, 10**9, gradient_rule="injected")])
    words = in_prose({"own": pd.DataFrame(found), "none": none, "empty": none[:0]})
    own = "one in 500 million"
    assert words == {"a_zero_own": own, "a_zero_none": "none", "a_zero_empty": "none"}


def test_first_epochs_stand_beside_the_released_ones_of_the_same_networks():
    theirs = published("paper_zero_calls.csv")
    known = theirs[
        (theirs["precision"] == 16) & (theirs["nb_layers"] == 3) & (theirs["epochs"] == 2)
    ]
    k = int(known[known["nb_neurons"] == 256]["cum_zeros"].iloc[0])
    cell = zero_cell((256,) * 3, "fp16", 2 * k, 10**10)  # k in the first epoch, 2 k in two
    other = zero_cell((100,), "fp16", 7, 10**10)  # which the release lacks
    cells = pd.DataFrame([cell, other]).assign(epochs=2)
    first, second = beside_released(cells).to_dict("records")
    assert (second["epochs"], second["networks"], second["published"]) == (2, 1, k)
    assert (first["derivative"], second["derivative"]) == (k, 2 * k)
    ratio, low, high = map(float, re.findall(r"[0-9.]+", second["published / derivative"]))
    assert ratio == 0.5
    assert low < 0.5 < high < 1.5


def test_a_network_that_diverged_is_not_beside_a_released_one_that_did_not():
    """In fewer calls it meets fewer zeros; the other rule's network of its shape goes with it."""
    found = [
        zero_cell(shape, "fp16", 8, 10**10, gradient_rule=rule, epochs=2)
        for shape in ((64,) * 3, (256,) * 3)
        for rule in ("chain", "injected")
    ]
    found[1] |= {"cumulative_zeros": [[4]], "cumulative_calls": [[10**9]], "diverged_epoch": [0]}
    first, second = beside_released(pd.DataFrame(found)).to_dict("records")
    assert (first["networks"], first["derivative"], first["constant"]) == (2, 8, 8)
    assert (second["networks"], second["derivative"], second["constant"]) == (1, 8, 8)
    assert second["published"] == beside_released(pd.DataFrame(found[2:])).iloc[1]["published"]
    alone = beside_released(pd.DataFrame(found[:2]))
    assert alone["epochs"].tolist() == [1]


def test_zeros_by_layer_adds_up_widths_and_rules():
    cells = [zero_cell((w, w), "fp32", 0, 10) for w in (16, 64)]
    layers = [{"activation1": [1], "activation2": [2]}, {"activation1": [3], "activation2": [4]}]
    frame = pd.DataFrame(cells).assign(zeros_by_layer=layers)
    row = zeros_by_layer(frame).iloc[0]
    assert (row["depth"], row["layer 1"], row["layer 2"]) == (2, 4, 6)
    deeper = [{**own, "activation3": [9]} for own in layers]
    deep = frame.assign(hidden_sizes=[(16, 16, 16)] * 2, zeros_by_layer=deeper)
    both = zeros_by_layer(pd.concat([frame, deep]))
    assert both.astype(str)["layer 3"].tolist() == ["–", "18"]


def test_the_zero_panels_show_counts():
    rates = zero_rates(zero_frames(3.0)["zeros.count"])
    released = pd.DataFrame({"precision": ["fp32"], "zeros": [64], "calls": [18432000000]})
    figure = learning_figures.zero_calls_figure(rates, released)
    assert marks(figure.axes[1], "fp32, published") == [(18432000000.0, 64 / 18432000000)]
