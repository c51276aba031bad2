import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from reluprime import (
    claims,
    learning,
    learning_claims,
    learning_figures,
    records,
    training,
    volume,
    zeros,
)
from reluprime.activations import GRADIENT_RULES
from reluprime.findings import all_of
from reluprime.statistics import (
    bootstrap_mean,
    conv_shares,
    conv_shares_by_rule,
    conv_table,
    poisson_interval,
    published_conv_shares,
    zero_rate_table,
    zero_rates,
    zeros_by_layer,
)
from reluprime.training import TrainingConfig
from reluprime.volume import VolumeConfig
from reluprime.zeros import ZeroCountConfig

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


VGG = {"architecture": "vgg11", "dataset": "cifar10", "epochs": 20}
RESNET = {"architecture": "resnet18", "dataset": "cifar10", "epochs": 20}
MLP = {"architecture": "mlp", "dataset": "mnist", "epochs": 20, "hidden_sizes": (2048,) * 3}
ADAM = {"optimizer": "adam", "momentum": 0.0}
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


EMPTY = {name: pd.DataFrame() for name in ("training.fit", "zeros.count", "volume.estimate")}


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


# ---- the equivalence test ----


def test_equivalence_by_hand():
    values = [0.001, 0.002, 0.003, 0.002]
    mean, error = np.mean(values), np.std(values, ddof=1) / 2
    expected = stats.t.sf((mean + 0.005) / error, 3), stats.t.cdf((mean - 0.005) / error, 3)
    assert learning.equivalence(values) == pytest.approx(max(expected))


@pytest.mark.parametrize(("value", "p"), [(0.0, 0), (0.0049, 0), (0.005, 1), (-0.02, 1)])
def test_equal_differences_are_inside_or_outside(value, p):
    assert learning.equivalence([value] * 3) == p


def test_one_difference_shows_nothing():
    assert math.isnan(learning.equivalence([0.0]))


def test_equivalence_keeps_its_risk_at_the_margin():
    """At a true difference of exactly the margin, 5 % of tests say equal (2,000 draws, +-1.5)."""
    random = np.random.RandomState(0)
    draws = random.normal(0.005, 0.002, (2000, 5))
    share = np.mean([learning.equivalence(d) < 0.05 for d in draws])
    assert 0.035 < share < 0.065


def test_equivalence_finds_equality():
    random = np.random.RandomState(1)
    draws = random.normal(0.0, 0.002, (500, 5))
    assert np.mean([learning.equivalence(d) < 0.05 for d in draws]) > 0.9


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


# ---- three-valued claims ----


@pytest.mark.parametrize(
    ("values", "above", "same"),
    [
        ([0.02, 0.021, 0.019], True, False),
        ([-0.02, -0.021, -0.019], False, False),
        ([0.001, 0.0012, -0.0011], False, True),
        ([0.001, 0.0011, 0.0009], True, True),  # there, and small
        ([0.02, -0.02, 0.01], None, None),  # too far apart to say anything
        ([0.0, 0.0, 0.0], False, True),
        ([0.02], None, None),
    ],
)
def test_tests_that_say_nothing_leave_it_open(values, above, same):
    assert learning_claims.above(pd.Series(values)) is above
    assert learning_claims.same(pd.Series(values)) is same


def test_an_open_test_leaves_the_claim_open():
    rows = experiment(VGG, FALLS)
    for row in rows:
        if row["s"] == 1:
            row["test_accuracy"] = [[0.9 + 0.1 * (row["seed"] - 2)] * 20]
    assert learning_claims.vgg11_prefers_zero(frames(rows), "injected").holds is None


@pytest.mark.parametrize(
    ("parts", "holds"),
    [([True, True], True), ([True, None], None), ([None, False], False), ([True, False], False)],
)
def test_one_part_that_fails_decides(parts, holds):
    assert all_of(parts) is holds
    assert all_of(np.bool_(p) if p is not None else None for p in parts) is holds


RULES = [
    learning_claims.vgg11_prefers_zero,
    learning_claims.resnet18_fails_mlp_resists,
    learning_claims.imagenet_drops,
    learning_claims.batch_norm_removes_effect,
    learning_claims.adam_reduces_effect,
    learning_claims.precision_decides,
    learning_claims.dropout_has_no_joint_effect,
    claims.conv_networks_meet_the_zone,
    claims.zeros_are_proportional,
]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("gradient_rule", GRADIENT_RULES)
def test_no_records_no_verdict(rule, gradient_rule):
    assert rule(EMPTY, gradient_rule).holds is None


def norm(base):
    return base | {"batch_norm": True}


FALLS = {0.0: 0.9, 0.1: 0.8995, 1.0: 0.8}
FLAT = {0.0: 0.9, 0.1: 0.9, 1.0: 0.9}
FAILS = {0.0: 0.9, 1.0: 0.1}
P14 = [
    experiment(VGG, FALLS),
    experiment(VGG | {"precision": "fp64"}, FLAT),
    experiment(VGG | {"precision": "fp16"}, FAILS),
]
# rule -> (records where the claim holds, records where it does not)
CASES = {
    learning_claims.vgg11_prefers_zero: (
        [experiment(VGG, FALLS)],
        [experiment(VGG, FLAT)],
    ),
    learning_claims.resnet18_fails_mlp_resists: (
        [experiment(RESNET, FAILS), experiment(MLP, {0.0: 0.98, 1.0: 0.97})],
        [experiment(RESNET, FALLS), experiment(MLP, {0.0: 0.98, 1.0: 0.97})],
    ),
    learning_claims.batch_norm_removes_effect: (
        [
            experiment(VGG, FALLS),
            experiment(MLP, FALLS),
            experiment(norm(VGG), FLAT),
            experiment(norm(MLP), FLAT),
            experiment(norm(RESNET), {0.0: 0.92, 1.0: 0.9}),
        ],
        [
            experiment(VGG, FALLS),
            experiment(MLP, FALLS),
            experiment(norm(VGG), FALLS),
            experiment(norm(MLP), FLAT),
            experiment(norm(RESNET), {0.0: 0.92, 1.0: 0.9}),
        ],
    ),
    learning_claims.adam_reduces_effect: (
        [experiment(VGG, FALLS), experiment(VGG | ADAM, {0.0: 0.85, 1.0: 0.84})],
        [experiment(VGG, FALLS), experiment(VGG | ADAM, {0.0: 0.85, 1.0: 0.7})],
    ),
    learning_claims.precision_decides: (
        P14,
        [*P14[:2], experiment(VGG | {"precision": "fp16"}, FLAT)],
    ),
    learning_claims.dropout_has_no_joint_effect: (
        [experiment(MLP, FALLS), experiment(MLP | {"dropout": 0.5}, FALLS)],
        [experiment(MLP, FALLS), experiment(MLP | {"dropout": 0.5}, FLAT)],
    ),
}


@pytest.mark.parametrize("rule", CASES)
def test_rules_of_training_hold_and_fail(rule):
    holds, fails = CASES[rule]
    assert rule(frames(*holds), "injected").holds is True
    assert rule(frames(*fails), "injected").holds is False


@pytest.mark.parametrize("rule", CASES)
def test_runs_under_one_rule_say_nothing_of_the_other(rule):
    assert rule(frames(*CASES[rule][0]), "chain").holds is None


@pytest.mark.parametrize(
    "change", [{"epochs": 19}, {"width": 0.5}, {"n_train": None, "seed": 0, "epochs": 5}]
)
def test_small_experiments_give_a_value_and_no_verdict(change):
    base = VGG | {k: v for k, v in change.items() if k != "seed"}
    finding = learning_claims.vgg11_prefers_zero(frames(experiment(base, FALLS)), "injected")
    assert finding.holds is None
    assert "s=1: +10.00" in finding.value
    assert "small scale" in finding.value


def test_two_seeds_are_too_few():
    rows = [row for row in experiment(VGG, FALLS) if row["seed"] < 2]
    assert learning_claims.vgg11_prefers_zero(frames(rows), "injected").holds is None


def test_the_largest_experiment_counts():
    small, large = experiment(VGG | {"width": 0.25}, FLAT), experiment(VGG, FALLS)
    for order in ((small, large), (large, small)):
        assert learning_claims.vgg11_prefers_zero(frames(*order), "injected").holds is True


def test_an_s_that_does_better_than_zero_refutes_the_maximum():
    rows = experiment(VGG, FALLS | {0.05: 0.93})
    assert learning_claims.vgg11_prefers_zero(frames(rows), "injected").holds is False


def imagenet(accuracies, n_batches):
    base = {
        "architecture": "resnet50",
        "dataset": "image-folder",
        "image_folder": "images",
        "fingerprint": "0" * 16,
        "batch_norm": True,
        "epochs": 20,
    }
    rows = experiment(base, accuracies)
    return [row | {"n_batches": n_batches} for row in rows]


def test_imagenet_needs_a_million_images():
    accuracies = {0.0: 0.75, 1.0: 0.6}
    rule = learning_claims.imagenet_drops
    assert rule(frames(imagenet(accuracies, 10_000)), "injected").holds is True
    assert rule(frames(imagenet(accuracies, 100)), "injected").holds is None
    assert rule(frames(imagenet({0.0: 0.75, 1.0: 0.7}, 10_000)), "injected").holds is False


# ---- P16 ----


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


def conv_frames(norm_first):
    rows = []
    for network in ("vgg11", "resnet18"):
        at = {"architecture": network}
        rows.append(conv_cell({0: 10, 3: 30, 40: 60}, **at))
        rows.append(conv_cell({0: 30, 3: 60, None: 10}, **at, batch_norm=True, max_batches=10))
        rows.append(conv_cell({0: 100}, **at, precision="fp16", max_batches=1))
    first = {"architecture": "vgg11", "precision": "fp16", "max_batches": 1}
    rows.append(conv_cell(norm_first, **first, batch_norm=True))
    return {"volume.estimate": pd.DataFrame(rows)}


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


def test_conv_rule_holds_and_fails():
    rule = claims.conv_networks_meet_the_zone
    assert rule(conv_frames({0: 20, None: 80}), "injected").holds is True
    assert rule(conv_frames({0: 100}), "injected").holds is False


def test_conv_rule_is_open_without_fp16_and_decided_by_a_part_that_fails():
    found = conv_frames({0: 20, None: 80})["volume.estimate"]
    at_fp32 = found[found["precision"] == "fp32"]
    rule = claims.conv_networks_meet_the_zone
    assert rule({"volume.estimate": at_fp32}, "chain").holds is None
    no_zeros = pd.DataFrame(
        [
            conv_cell({None: 100}, architecture=n, batch_norm=True, max_batches=10)
            for n in ("vgg11", "resnet18")
        ]
    )
    mixed = pd.concat([at_fp32[~at_fp32["batch_norm"]], no_zeros])
    assert rule({"volume.estimate": mixed}, "chain").holds is False


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


def test_proportional_zeros_hold_and_fail():
    rule = claims.zeros_are_proportional
    assert rule(zero_frames(3.9), "chain").holds is True
    assert rule(zero_frames(4.5), "chain").holds is False
    assert rule(zero_frames(3.9), "injected").holds is None


def test_every_study_of_the_scorecard_is_read(tmp_path):
    found = claims.load(records.Store(tmp_path))
    studies = (training.fit, zeros.count, volume.estimate)
    assert {records.study_name(s) for s in studies} <= found.keys()


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
    trials = learning.search_trials(SEARCHES)
    found = trials.groupby(["gradient_rule", "s"])["lr"].apply(list).to_dict()
    assert found == {
        ("chain", 0.0): [0.1, 0.2],
        ("injected", 0.0): [0.1, 0.2],
        ("injected", 1.0): [0.3, 0.4],
    }


def test_each_arm_has_the_rate_of_its_best_trial():
    assert learning.best_rates(SEARCHES) == {(0.0, "chain"): 0.2, (1.0, "injected"): 0.3}


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
    figure = learning_figures.conv_volume_figure(conv_shares_by_rule(cells, [1, 6]), released)
    without = figure.axes[0]
    assert marks(without, "fp32, published")[0] == (1.0, 0.104)
    assert {line.get_ydata()[0] for line in without.get_lines()} >= {0.1, 0.104}


def test_the_zero_panels_show_counts():
    rates = zero_rates(zero_frames(3.0)["zeros.count"])
    released = pd.DataFrame({"precision": ["fp32"], "zeros": [64], "calls": [18432000000]})
    figure = learning_figures.zero_calls_figure(rates, released)
    assert marks(figure.axes[1], "fp32, published") == [(18432000000.0, 64 / 18432000000)]
