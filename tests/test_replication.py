"""Tables and verdict rules of M23's experiments, on synthetic records."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from test_learning import PROVENANCE, cell, experiment

from reluprime.bifurcation import figures as bifurcation_figures
from reluprime.bifurcation import tables as bifurcation_tables
from reluprime.search import figures as search_figures
from reluprime.search import tables as search_tables
from reluprime.search.study import SearchConfig, Space, arms
from reluprime.training import figures as training_figures
from reluprime.training import tables as learning
from reluprime.training import zero_tables
from reluprime.training.study import TrainingConfig

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


# ---- searches ----


def search_rows(network, best, repeats=12, luck=0.002, n_train=None, width=1.0, n_trials=10):
    """`best`: {arm: accuracy}; every seed moves all arms alike by luck, and each by a little."""
    base = SearchConfig(
        training=TrainingConfig(
            **{"architecture": network, "dataset": "mnist", "activation": "relu6"}
            | ({"hidden_sizes": (2000,)} if network == "mlp" else {"width": width}),
            optimizer="adam",
            momentum=0.0,
            epochs=10 if network == "mlp" else 6,
            n_train=n_train,
            evaluate_on="validation",
        ),
        space=Space(lr=(1e-4, 1e-2), batch_size=(32, 64, 128)),
        n_trials=n_trials,
        sampler="random",
        grace_epochs=3,
    )
    random, rows = np.random.RandomState(0), []
    for config in arms(base, ["chain", "injected"], repeats):
        names = ("lr", "batch_size", *(("s", "s_upper") if config.space.s else ()))
        dump = json.loads(config.model_dump_json())
        arm = search_tables._arm(dump)
        accuracy = best[arm] + luck * (config.seed % 4) + random.normal(0, luck / 10)
        trials = [
            dict.fromkeys(names, 0.5) | {"epochs": e, "validation_accuracy": a, "diverged": False}
            for e, a in ((3, accuracy - 0.1), (6, accuracy), (3, accuracy - 0.2))
        ]
        rows.append(dump | {"trials": trials, "best": 1, "key": "", "provenance": PROVENANCE})
    return pd.DataFrame(rows)


def best(chain=0.97, injected=0.97):
    return {
        search_tables.FIXED: 0.97,
        search_tables.SEARCHED["chain"]: chain,
        search_tables.SEARCHED["injected"]: injected,
        search_tables.IGNORED: 0.97,
    }


def test_a_search_is_a_row_with_its_best_trial():
    found = search_tables.searches(search_rows("mobilenet_v3_small", best(), repeats=2))
    assert found["arm"].tolist() == 2 * list(best())
    assert found["seed"].tolist() == [0] * 4 + [1] * 4
    assert found["epochs_done"].eq(6).all()
    assert found["total_epochs"].eq(12).all()
    assert found.loc[found["arm"] == search_tables.FIXED, "s"].eq(0).all()
    assert found.loc[found["arm"] == search_tables.IGNORED, "s"].eq(0.5).all()


def test_searches_over_the_rate_alone_are_not_among_them():
    rows = search_rows("mlp", best(), repeats=1)
    for training in rows["training"]:
        del training["activation"]  # as a record of ReLU has it
    assert search_tables.searches(rows).empty


def test_gains_are_paired_by_seed_and_luck_is_not():
    found = search_tables.searches(search_rows("mlp", best(injected=0.95), luck=0.01))
    gain = search_tables.gain(search_tables.gains(found, "searched, injected"))
    assert gain["searches"] == 12
    assert gain["gain"] == pytest.approx(-0.02, abs=0.001)
    assert gain["high"] - gain["low"] < 0.003
    assert gain["p_difference"] < 1e-6
    luck = search_tables.luck(found)
    assert len(luck) == 6
    assert luck.mean() == pytest.approx(0.01, abs=0.002)  # the next seed, as made up
    # Four levels 0.01 apart, three searches each: a standard deviation of 0.0117.
    assert search_tables.luck_spread(found) == pytest.approx(0.0117 * 2**0.5, rel=0.1)


def test_a_single_search_shows_nothing():
    gain = search_tables.gain(pd.Series([0.1]))
    assert gain["searches"] == 1
    assert math.isnan(gain["gain"])


def test_two_searches_have_no_interval():
    gain = search_tables.gain(pd.Series([0.1, 0.2]))
    assert gain["gain"] == pytest.approx(0.15)
    assert math.isnan(gain["low"])


def test_the_published_difference():
    assert search_tables.published_gain("mobilenet_v3_small") == pytest.approx(-0.004416)


def test_trials_stand_beside_the_published_ones():
    rows = search_rows("mobilenet_v3_small", best(), repeats=1)
    table = search_tables.trials(rows, "mobilenet_v3_small")
    counts = table["arm"].value_counts()
    assert counts["published, searched"] == counts["published, fixed"] == 10
    assert counts[search_tables.IGNORED] == 3


# ---- runs ----


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


# ---- figures ----


def test_the_distance_figure_says_where_nothing_parts_and_where_nothing_is_finite():
    cells = [paired("fp32", 0, 2.0), paired("fp16", 0, math.nan), paired("fp64", 0, 0.0)]
    for broken, value in ((cells[1], math.nan), (cells[2], 0.0)):
        for quantity in ("distance", "sum_difference"):
            broken[quantity] = {label: [value] * 2 for label in broken[quantity]}
    figure = bifurcation_figures.distance_figure(bifurcation_tables.distances(pd.DataFrame(cells)))
    texts = {axes.get_title(): [t.get_text() for t in axes.texts] for axes in figure.axes}
    assert texts == {"fp32": [], "fp16": ["not finite"], "fp64": ["never apart"]}


def test_the_gain_figure_shows_points():
    found = search_tables.searches(search_rows("mlp", best(injected=0.95)))
    right = search_figures.gain_figure(found, -0.0044).axes[1]
    shown = [line.get_xdata() for line in right.get_lines()]
    labels = [label.get_text() for label in right.get_yticklabels()]
    assert labels[1] == "searched, injected"
    assert list(shown[2]) == list(100 * search_tables.gains(found, "searched, injected"))
    assert any(list(x) == [pytest.approx(-0.44)] * 2 for x in shown if len(x) == 2)


def test_the_zeros_figure_adds_up():
    rows = zeros(experiment(FC | {"precision": "bf16", "epochs": 4}, {0.0: 0.9, 1.0: 0.9}), 2, 4)
    runs = learning.both_rules(learning.runs(pd.DataFrame(rows)))
    panel = training_figures.zeros_figure(zero_tables.zeros_by_epoch(runs)).axes[1]
    # Seeds 0 to 3: means of 2 + 1.5 in the first half and 4 + 2.25 in the last.
    assert list(panel.get_lines()[0].get_ydata()) == [3.5, 7.0, 13.25, 19.5]
