import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from reluprime import records
from reluprime.evidence.intervals import bootstrap_mean, poisson_interval
from reluprime.instruments.activations import GRADIENT_RULES
from reluprime.search import tables as search_tables
from reluprime.training import figures as learning_figures
from reluprime.training import tables as learning
from reluprime.training.study import TrainingConfig
from reluprime.training.zero_tables import zero_rate_table, zero_rates, zeros_by_layer
from reluprime.training.zeros import ZeroCountConfig
from reluprime.volume import figures as volume_figures
from reluprime.volume.convolutional import (
    conv_shares,
    conv_shares_by_rule,
    conv_table,
    published_conv_shares,
)
from reluprime.volume.study import VolumeConfig

PROVENANCE = {"device_name": "made up", "threads": 1}
# ---- synthetic records of training ----


def cell(config, accuracy, diverged=None):
    """A row as `records.table` gives it, with made-up curves that end at `accuracy`."""
    epochs = config.epochs if diverged is None else diverged + 1
    result = {
        "train_loss": [[2.0 / (e + 1) for e in range(epochs)]],
        "train_accuracy": [[accuracy] * epochs],
        "test_accuracy": [[accuracy] * epochs],
        "affected_steps": [[1] * epochs],
        "exact_zeros": {"activation1": [[2] * epochs], "activation2": [[1] * epochs]},
        "relu_calls": {"activation1": 100, "activation2": 50},
        "n_batches": 391,
        "seconds": [1.0] * epochs,
        "diverged_epoch": [diverged],
    }
    row = json.loads(json.dumps(config.model_dump() | result))
    return row | {"hidden_sizes": config.hidden_sizes, "key": "", "provenance": PROVENANCE}


RESNET = {"architecture": "resnet18", "dataset": "cifar10", "epochs": 20}
MLP = {"architecture": "mlp", "dataset": "mnist", "epochs": 20, "hidden_sizes": (2048,) * 3}
NOISE = (-0.0005, 0.0, 0.0004, 0.0001)  # of four seeds


def experiment(base, accuracies, rule="injected"):
    """Four seeds at each s: {s: mean accuracy}; noise common to the arms, and a little apart."""
    rows = []
    for s, accuracy in accuracies.items():
        for seed, noise in enumerate(NOISE):
            config = TrainingConfig(**base, s=s, gradient_rule=rule if s else "chain", seed=seed)
            rows.append(cell(config, accuracy + noise * (1 + 0.1 * s)))
    return rows


def frames(*experiments):
    rows = [row for rows in experiments for row in rows]
    return {"training.fit": pd.DataFrame(rows)}


# ---- tables ----


def test_a_run_is_a_row_and_an_ensemble_one_a_member():
    config = TrainingConfig(**MLP | {"epochs": 2}, n_networks=2, seed=5)
    row = cell(config, 0.9)
    row |= {name: row[name] * 2 for name in ("train_loss", "test_accuracy", "affected_steps")}
    row |= {"diverged_epoch": [None, 1], "exact_zeros": {"a": [[1, 2], [3, 4]]}}
    table = learning.runs(pd.DataFrame([row]))
    assert table["seed"].tolist() == [5, 6]
    assert table["exact_zeros"].tolist() == [3, 7]
    assert table["relu_calls"].tolist() == [300, 300]
    assert table["diverged_epoch"].isna().tolist() == [True, False]


def test_runs_on_the_validation_split_are_not_test_runs():
    row = cell(TrainingConfig(**MLP, evaluate_on="validation"), 0.9)
    assert learning.runs(pd.DataFrame([row])).empty


def test_differences_are_paired_by_seed():
    rows = experiment(MLP, {0.0: 0.9, 1.0: 0.8})
    del rows[0]  # seed 0 has no run at s=0
    table = learning.under(learning.runs(pd.DataFrame(rows)), "injected")
    values = learning.differences(table, 1.0)
    assert [seed for seed, _ in values.index] == [1, 2, 3]
    assert values.tolist() == pytest.approx([-0.1 + 0.1 * n for n in NOISE[1:]])


def test_runs_of_two_machines_are_not_paired():
    """A run at s=0 on one device is no control of a run at s=1 on another."""
    rows = experiment(MLP, {0.0: 0.9, 1.0: 0.8})
    for row in rows:
        if row["s"]:
            row["provenance"] = PROVENANCE | {"device_name": "a GPU"}
    table = learning.under(learning.runs(pd.DataFrame(rows)), "injected")
    assert learning.differences(table, 1.0).empty


def test_runs_at_zero_serve_both_rules():
    rows = experiment(MLP, {0.0: 0.9, 1.0: 0.8}) + experiment(MLP, {1.0: 0.9}, "chain")
    table = learning.effects(learning.runs(pd.DataFrame(rows)))
    found = table.set_index(["gradient_rule", "s"])["difference"]
    assert found["injected", 1.0] == pytest.approx(-0.1, abs=1e-4)
    assert found["chain", 1.0] == pytest.approx(0.0, abs=1e-4)
    assert found["chain", 0.0] == found["injected", 0.0] == 0


def test_diverged_runs_stay_in_the_table():
    rows = experiment(MLP, {0.0: 0.9})
    config = TrainingConfig(**MLP, s=1.0, gradient_rule="injected")
    rows.append(cell(config, 0.098, diverged=3))
    table = learning.effect_table(learning.runs(pd.DataFrame(rows)))
    last = table.iloc[-1]
    assert last["diverged"].startswith("1 ")
    assert last["test accuracy"] == "9.80%"


def test_curves_end_where_a_run_ended():
    rows = [cell(TrainingConfig(**MLP), 0.1, diverged=2)]
    assert learning.curves(learning.runs(pd.DataFrame(rows)))["epoch"].tolist() == [1, 2, 3]


def test_difference_by_hand():
    values = [0.001, 0.002, 0.003, 0.002]
    t = np.mean(values) / (np.std(values, ddof=1) / 2)
    assert learning.difference_test(values) == pytest.approx(2 * stats.t.sf(t, 3))
    assert learning.difference_test([0.0] * 3) == 1
    assert learning.difference_test([0.1] * 3) == 0
    assert math.isnan(learning.difference_test([0.1]))


def test_difference_test_keeps_its_risk():
    """Where there is no difference, 5 % of tests of 3 runs find one (2,000 draws, +-1.5)."""
    draws = np.random.RandomState(2).normal(0, 1, (2000, 3))
    assert 0.035 < np.mean([learning.difference_test(d) < 0.05 for d in draws]) < 0.065


def test_bootstrap_coverage():
    """How often the 95 % bootstrap interval of the mean of n normal differences holds 0: it
    falls short for a few runs, so the rules use t-tests, and the page says so."""
    random = np.random.RandomState(3)
    for n, least, most in ((3, 0.65, 0.85), (5, 0.78, 0.9), (30, 0.9, 0.97)):
        inside = []
        for _ in range(200):
            low, high = bootstrap_mean(random.normal(0, 1, n))
            inside.append(low <= 0 <= high)
        assert least < np.mean(inside) < most, n


# rule -> (records where the claim holds, records where it does not)


# ---- convolutional networks ----


def conv_cell(first, **condition):
    """A Monte Carlo cell of 100 networks; first: {first affected mini-batch: networks}."""
    found = [b for b, n in first.items() for _ in range(n)]
    config = VolumeConfig(
        **{"dataset": "cifar10", "batch_size": 100, "n_networks": len(found), "max_batches": 60}
        | condition,
        stop_at_first=True,
    )
    lists = {
        f"{name}_{rule}": value
        for rule in GRADIENT_RULES
        for name, value in {
            "affected": [int(b is not None) for b in found],
            "first_affected": found,
            "relative_difference": [1.0] * sum(b is not None for b in found),
            "relative_difference_first_layer": [1.0] * sum(b is not None for b in found),
            "nonfinite": 0,
        }.items()
    }
    row = config.model_dump() | {"n_batches": config.max_batches} | lists
    return row | {"hidden_sizes": (), "key": "", "provenance": PROVENANCE}


def test_conv_shares_count_networks_that_saw_enough_mini_batches():
    cells = pd.DataFrame(
        [
            conv_cell({0: 10, 3: 30, None: 60}, architecture="vgg11"),
            conv_cell({0: 5, None: 5}, architecture="vgg11", seed=100, max_batches=2),
        ]
    )
    shares = conv_shares(cells, "chain", [1, 3, 4, 60]).set_index("batches")
    assert shares["networks"].tolist() == [110, 100, 100, 100]
    assert shares["in_zone"].tolist() == [15, 10, 40, 40]


# ---- P17 ----


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


def test_poisson_interval_against_known_values():
    """Exact 95 % intervals for 0 and 10 events (Garwood 1936)."""
    low, high = poisson_interval(np.array([0.0, 10.0]))
    assert low == pytest.approx([0, 4.795], abs=1e-3)
    assert high == pytest.approx([3.689, 18.39], abs=1e-2)


# ---- what the pages show ----


RELEASED = {"network": "resnet18", "optimizer": "sgd", "batch_norm": False}


def test_published_accuracies_are_those_of_the_file():
    table = learning.published_accuracy(**RELEASED).set_index("s")
    assert table.loc[0.0, "mean"] == 0.90136
    assert table.loc[1.0, "difference"] == pytest.approx(0.1 - 0.90136)
    assert table.loc[0.0, "difference"] == 0


def test_what_was_not_released_is_an_empty_table():
    assert learning.published_accuracy(network="none").empty
    assert learning.published_loss(network="none").empty


def test_published_losses_count_epochs_from_one():
    table = learning.published_loss(**RELEASED)
    first = table[(table["s"] == 0) & (table["epoch"] == 1)]
    assert first["train_loss"].tolist() == [1.81204]
    assert table["epoch"].min() == 1


SEARCHES = pd.DataFrame(
    {
        "training": {"s": s, "gradient_rule": rule},
        "trials": [{"lr": lr, "validation_accuracy": v, "epochs": 1} for lr, v in trials],
        "best": best,
    }
    for s, rule, trials, best in [
        (0.0, "chain", [(0.1, 0.5), (0.2, 0.6)], 1),
        (1.0, "injected", [(0.3, 0.6), (0.4, 0.5)], 0),
    ]
)


def test_a_search_at_zero_stands_under_both_rules():
    trials = search_tables.search_trials(SEARCHES)
    found = trials.groupby(["gradient_rule", "s"])["lr"].apply(list).to_dict()
    assert found == {
        ("chain", 0.0): [0.1, 0.2],
        ("injected", 0.0): [0.1, 0.2],
        ("injected", 1.0): [0.3, 0.4],
    }


def test_each_arm_has_the_rate_of_its_best_trial():
    assert search_tables.best_rates(SEARCHES) == {(0.0, "chain"): 0.2, (1.0, "injected"): 0.3}


def test_the_table_of_effects_in_words():
    rows = experiment(MLP, {0.0: 0.9, 1.0: 0.8, 50.0: 0.9})
    table = learning.effect_table(learning.runs(pd.DataFrame(rows)))
    by_s = table.set_index(["rule", "s"])
    assert by_s.loc[("both", "0"), "points against s=0"] == "–"
    assert by_s.loc[("injected", "1"), "points against s=0"].startswith("-10.0")
    assert by_s.loc[("injected", "1"), "outcome"] == "differs"
    assert by_s.loc[("injected", "50"), "outcome"] == "within half a point"
    assert by_s.loc[("injected", "1"), "exact zeros a run"] == "60"
    assert len(table) == 3  # s=0 once, although it serves both rules


def test_one_run_has_no_interval():
    rows = [row for row in experiment(MLP, {0.0: 0.9, 1.0: 0.8}) if row["seed"] == 1]
    last = learning.effect_table(learning.runs(pd.DataFrame(rows))).iloc[-1]
    assert (last["points against s=0"], last["outcome"]) == ("-10.00", "open")


def test_the_table_of_convolutional_networks():
    cells = pd.DataFrame([conv_cell({0: 10, 3: 30, None: 60}, architecture="vgg11")])
    row = conv_table(cells.assign(exact_zeros=[{"features.1": 7}]), [1, 6]).iloc[0]
    assert (row["network"], row["batch norm"], row["networks"]) == ("vgg11", "no", 100)
    assert row["exact zeros"] == 7
    assert row["chain, after 1"] == "10% [5%, 18%]"
    assert row["injected, after 6"].startswith("40% [")


def test_the_table_of_zero_rates():
    rates = zero_rates(zero_frames(3.0)["zeros.count"])
    row = zero_rate_table(rates).set_index(["precision", "rule"]).loc[("fp32", "chain")]
    assert row["networks"] == 4
    assert row["exact zeros"] == 100 + 150 + 200 + 300
    assert row["zeros a call"].startswith("1.87e-08 [")
    assert row["networks with at least 10"] == "1.0e-08 to 3.0e-08 (4)"


def test_zeros_by_layer_adds_up_widths_and_rules():
    cells = [zero_cell((w, w), "fp32", 0, 10) for w in (16, 64)]
    layers = [{"activation1": [1], "activation2": [2]}, {"activation1": [3], "activation2": [4]}]
    frame = pd.DataFrame(cells).assign(zeros_by_layer=layers)
    row = zeros_by_layer(frame).iloc[0]
    assert (row["depth"], row["layer 1"], row["layer 2"]) == (2, 4, 6)


def marks(axes, label):
    """The points that a panel draws under a label."""
    return [
        tuple(map(float, point))
        for line in axes.get_lines()
        if line.get_label() == label
        for point in zip(*line.get_data(), strict=True)
    ]


def test_the_accuracy_panel_has_a_mark_for_every_run():
    rows = experiment(RESNET, {0.0: 0.9, 1.0: 0.1}) + experiment(RESNET, {1.0: 0.9}, "chain")
    runs = learning.runs(pd.DataFrame(rows))
    released = learning.published_accuracy(**RELEASED), learning.published_loss(**RELEASED)
    figure = learning_figures.training_figure(runs, *released)
    panel = figure.axes[0]
    for rule in GRADIENT_RULES:
        own = learning.under(runs, rule)["test_accuracy"]
        assert sorted(y for _, y in marks(panel, rule)) == sorted(own)
    assert [t.get_text() for t in panel.get_xticklabels()][-1] == "1"


def test_the_effect_panel_shows_points():
    rows = experiment(RESNET, {0.0: 0.9, 1.0: 0.1})
    effects = learning.effects(
        learning.runs(pd.DataFrame(rows)).assign(condition="SGD"), ["condition"]
    )
    released = learning.published_accuracy(**RELEASED).assign(condition="SGD")
    figure = learning_figures.effect_figure(effects, "condition", released)
    ((x, _),) = marks(figure.axes[0], "published")
    assert x == pytest.approx(-80.136)


def test_the_zone_panel_shows_shares():
    cells = pd.DataFrame([conv_cell({0: 10, 3: 30, None: 60}, architecture="vgg11")])
    released = published_conv_shares(records.published("paper_volume_conv.csv"))
    figure = volume_figures.conv_volume_figure(conv_shares_by_rule(cells, [1, 6]), released)
    without = figure.axes[0]
    assert marks(without, "fp32, published")[0] == (1.0, 0.104)
    assert {line.get_ydata()[0] for line in without.get_lines()} >= {0.1, 0.104}


def test_the_zero_panels_show_counts():
    rates = zero_rates(zero_frames(3.0)["zeros.count"])
    released = pd.DataFrame({"precision": ["fp32"], "zeros": [64], "calls": [18432000000]})
    figure = learning_figures.zero_calls_figure(rates, released)
    assert marks(figure.axes[1], "fp32, published") == [(18432000000.0, 64 / 18432000000)]
