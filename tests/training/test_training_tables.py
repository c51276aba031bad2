import json
import re

import pandas as pd
import pytest

from reluprime.evidence import made_up
from reluprime.evidence.claim import Evidence
from reluprime.evidence.style import RULE_NAMES
from reluprime.instruments.activations import GRADIENT_RULES
from reluprime.search import tables as search_tables
from reluprime.training import figures as learning_figures
from reluprime.training import prose
from reluprime.training import tables as learning
from reluprime.training.claims import P9, P10, P12, P13, R2, R4
from reluprime.training.config import TrainingConfig

PROVENANCE = {"device_name": "made up", "threads": 1}


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
NOISE = (-0.0005, 0.0, 0.0004, 0.0001, 0.0002)  # of five seeds


def experiment(base, accuracies, rule="injected"):
    """Five seeds at each s: {s: mean accuracy}; noise common to the arms, and a little apart."""
    rows = []
    for s, accuracy in accuracies.items():
        for seed, noise in enumerate(NOISE):
            config = TrainingConfig(**base, s=s, gradient_rule=rule if s else "chain", seed=seed)
            rows.append(cell(config, accuracy + noise * (1 + 0.1 * s)))
    return rows


def frames(*experiments):
    rows = [row for rows in experiments for row in rows]
    return {"training.fit": pd.DataFrame(rows)}


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
    assert [seed for seed, _ in values.index] == [1, 2, 3, 4]
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
    assert last["outcome"] == "no result"
    assert last["test accuracy"] == "9.80%"


def test_curves_end_where_a_run_ended():
    rows = [cell(TrainingConfig(**MLP), 0.1, diverged=2)]
    assert learning.curves(learning.runs(pd.DataFrame(rows)))["epoch"].tolist() == [1, 2, 3]


def test_the_margin_is_two_points_on_cifar10_alone():
    for dataset, says in (("mnist", "differs"), ("cifar10", "within two points, differs")):
        own = MLP | {"dataset": dataset}
        configs = [TrainingConfig(**own, s=s, gradient_rule="injected", seed=seed)
                   for s in (0.0, 1.0) for seed in range(5)]  # fmt: skip
        rows = [cell(c, 0.9 - 0.01 * c.s - 0.0001 * c.seed * c.s) for c in configs]
        table = learning.effect_table(learning.runs(pd.DataFrame(rows)))
        assert table.iloc[-1]["outcome"] == says
        assert table.iloc[-1]["points against s=0"] == "-1.02 ± 0.02"


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
    assert "diverged" not in table  # no run did


def test_one_run_has_no_interval():
    rows = [row for row in experiment(MLP, {0.0: 0.9, 1.0: 0.8}) if row["seed"] == 1]
    last = learning.effect_table(learning.runs(pd.DataFrame(rows))).iloc[-1]
    assert (last["points against s=0"], last["outcome"]) == ("-10.00", "too few pairs")


def marks(axes, label):
    """The points that a panel draws under a label."""
    return [
        tuple(map(float, point))
        for line in axes.get_lines()
        if line.get_label() == label
        for point in zip(*line.get_data(), strict=True)
    ]


def test_the_accuracy_panel_has_a_mark_for_every_run_that_has_one_at_s_0():
    rows = experiment(RESNET, {0.0: 0.9, 1.0: 0.1}) + experiment(RESNET, {1.0: 0.9}, "chain")
    runs = learning.runs(pd.DataFrame(rows))
    released = learning.published_accuracy(**RELEASED), learning.published_loss(**RELEASED)
    figure = learning_figures.training_figure(runs, *released)
    panel = figure.axes[0]
    for rule in GRADIENT_RULES:
        own = 100 * learning.differences(learning.under(runs, rule), 1.0)
        assert sorted(y for _, y in marks(panel, RULE_NAMES[rule])) == pytest.approx(sorted(own))
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


def test_the_prose_about_real_zeros_has_each_width_and_rule():
    """Losses and zeros that name their condition."""

    def loss(config):
        return (0.01 if config.gradient_rule == "chain" else 0.2) + 0.1 * config.width

    def zeros(config):
        return config.epochs + config.seed + (100 if config.width == 0.5 else 0)

    cells = [*P9.cells(), *P10.cells()]
    found = made_up.evidence(made_up.trainings(loss, zeros), cells)
    words = prose.of_real_zeros(found)
    for name, own in (("VGG11", words["vgg11_words"]), ("ResNet-18", words["resnet18_words"])):
        assert own.startswith(f"At a quarter of its width {name} without batch norm meets 20 to 36")
        assert "At half of its width it meets 420 to 428, and" in own
        lost = [round(float(n)) for n in re.findall(r"(-[\d.]+) points \(", own)]
        assert lost == [-4, -22, -6, -25]
        assert re.findall(r"\((\d) runs", own) == ["5", "5", "3", "3"]


def test_the_prose_about_real_zeros_waits_for_all_runs():
    cells = P10.cells()
    found = made_up.evidence(P10.examples["stuck at chance"], cells)
    words = prose.of_real_zeros(found)
    assert words["vgg11_words"] == "P9's runs are not complete yet."
    assert "under the constant. At half of its width it meets 36 to 36" in words["resnet18_words"]
    assert "(5 runs, 5 at chance)" in words["resnet18_words"]
    lost = cells[0].config
    kept = Evidence([r for c in cells if c.config != lost for r in found.of(c.study, c.config)])
    waiting = "P10's runs are not complete yet."
    assert prose.of_real_zeros(kept)["resnet18_words"] == waiting


def test_the_prose_about_batch_norm_has_each_arithmetic_and_rule():
    """Losses and zeros that name their condition."""

    def condition(config):
        if not config.batch_norm:
            return 1
        return 2 + (config.architecture == "resnet18") * 2 + (config.arithmetic == "epilogue")

    def loss(config):
        return condition(config) / 100 + (0.2 if config.gradient_rule == "injected" else 0)

    found = made_up.evidence(made_up.trainings(loss, condition), P12.cells())
    zeros, chain, injected = prose.of_norm(found)["norm_words"].split(" Under the ")
    met = re.findall(r"(?<![-=\w])\d+", zeros)  # not those of names
    assert [int(n) for n in met] == [4, 8, 12, 16, 20]
    for rule, words, more in (("derivative", chain, 0), ("constant", injected, 20)):
        lost = [round(float(number)) for number in re.findall(r"[-+]\d+\.\d+", words)]
        assert words.startswith(rule)
        assert lost == [-1 - more, -2 - more, -3 - more, -4 - more, -5 - more]


def test_the_prose_about_adam_has_each_optimizer_scale_and_rule():
    """Losses and zeros that name their condition."""

    def loss(config):
        names = (config.optimizer == "adam", config.s == 10, config.epochs == 10)
        number = sum(2**i for i, name in enumerate(names) if name)
        return (1 + number + 8 * (config.gradient_rule == "injected")) / 100

    def zeros(config):
        return 7 if config.optimizer == "adam" else 3

    def diverges(config):
        return config.optimizer == "sgd" and config.s == 10 and config.epochs == 10

    runs = made_up.trainings(loss, zeros, diverges=diverges)
    words = prose.of_adam(made_up.evidence(runs, P13.cells()))
    assert (words["sgd_diverged"], words["adam_diverged"]) == ("3 of 16", "0 of 16")
    met, *changes = words["adam_words"].split(" Under the ")
    zeros_a_run = [int(n) for n in re.findall(r"meets (\d+) and (\d+) exact", met)[0]]
    assert zeros_a_run == [12, 28]
    lost = [[round(float(n)) for n in re.findall(r"(-[\d.]+) points", own)] for own in changes]
    assert lost == [[-1, -2, -5, -6], [-9, -10, -13, -14]]
    assert [re.findall(r"\((\d) runs", own) for own in changes] == [["5", "5", "3", "3"]] * 2
    starts = ["derivative s=50", "constant s=50"]
    assert [own[: len(start)] for own, start in zip(changes, starts, strict=True)] == starts


@pytest.mark.parametrize(
    ("claim", "of", "lost", "others"),
    [
        (P12, prose.of_norm, {"arithmetic": "epilogue"}, {}),
        (
            *(P13, prose.of_adam, {"optimizer": "adam"}),
            {"adam_published": "8.6", "sgd_diverged": "–", "adam_diverged": "–"},
        ),
        (R4, prose.of_resnet20, {"gradient_rule": "injected"}, {}),
    ],
    ids=["P12", "P13", "R4"],
)
def test_prose_waits_for_all_runs_of_a_claim(claim, of, lost, others):
    cells = claim.cells()
    found = made_up.evidence(next(iter(claim.examples.values())), cells)
    gone = next(
        c for c in cells if c.config.s and all(getattr(c.config, n) == v for n, v in lost.items())
    )
    kept = Evidence([r for c in cells if c != gone for r in found.of(c.study, c.config)])
    for less in (kept, Evidence([])):
        words = of(less)
        assert others.items() <= words.items()
        assert f"{claim.id}'s runs are not complete yet." in words.values()
        assert len(words) == len(others) + 1


def test_the_prose_about_the_resnet_of_m23_has_each_scale_and_rule():
    def loss(config):
        return (1 + (config.epochs == 10) + 4 * (config.gradient_rule == "injected")) / 100

    found = made_up.evidence(made_up.trainings(loss, lambda c: c.epochs + c.seed), R4.cells())
    words = prose.of_resnet20(found)["r4_words"]
    assert words.startswith("At s=0 the network meets 20 to 36 exact zeros a run. ")
    assert [round(float(n)) for n in re.findall(r"(-[\d.]+) points", words)] == [-1, -5, -2, -6]
    assert re.findall(r"\((\d) runs", words) == ["5", "5", "3", "3"]


def test_the_prose_about_r2_has_a_number_an_arithmetic_and_rule():
    """At bf16 and s=1 alone: runs at fp32 or another s lose more here."""

    def loss(config):
        if config.precision != "bf16" or config.s != 1:
            return 0.5
        return {"native": 0.01, "epilogue": 0.02, "separate": 0.03}[config.arithmetic] * (
            config.gradient_rule == "injected"
        )

    found = prose.of_r2(made_up.evidence(made_up.trainings(loss), R2.cells()))
    assert {name: round(float(v)) for name, v in found.items()} == {
        "r2_chain_native": 0, "r2_chain_epilogue": 0, "r2_chain_separate": 0,
        "r2_injected_native": -1, "r2_injected_epilogue": -2, "r2_injected_separate": -3,
    }  # fmt: skip
    assert set(prose.of_r2(Evidence([])).values()) == {"–"}
