"""Tables and figures of searches, on made-up records."""

import json

import numpy as np
import pandas as pd
import pytest

from reluprime.evidence.paired import TOO_FEW
from reluprime.search import figures as search_figures
from reluprime.search import tables as search_tables
from reluprime.search.study import SearchConfig, Space, arms
from reluprime.training.config import TrainingConfig

PROVENANCE = {"device_name": "made up", "threads": 1}


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
    gained = search_tables.gains(found, "searched, injected")
    assert len(gained) == 12
    assert gained.mean() == pytest.approx(-0.02, abs=0.001)
    row = (
        search_tables.gain_table(found).set_index(search_tables.COMPARED).loc["searched, injected"]
    )
    assert row["points of best accuracy"].startswith("-2.0")
    assert row[search_tables.SAYS] == "differs"
    luck = search_tables.luck(found)
    assert len(luck) == 6
    assert luck.mean() == pytest.approx(0.01, abs=0.002)  # the next seed, as made up
    # Four levels 0.01 apart, three searches each: a standard deviation of 0.0117.
    assert search_tables.luck_spread(found) == pytest.approx(0.0117 * 2**0.5, rel=0.1)


def test_the_published_difference():
    assert search_tables.published_gain("mobilenet_v3_small") == pytest.approx(-0.004416)


def test_trials_stand_beside_the_published_ones():
    rows = search_rows("mobilenet_v3_small", best(), repeats=1)
    table = search_tables.trials(rows, "mobilenet_v3_small")
    counts = table["arm"].value_counts()
    assert counts["published, searched"] == counts["published, fixed"] == 10
    assert counts[search_tables.IGNORED] == 3


def test_searches_in_which_no_kink_mattered_show_nothing():
    rows = search_rows("mlp", best(injected=0.95), luck=0.0)
    table = search_tables.gain_table(search_tables.searches(rows))
    says = dict(zip(table[search_tables.COMPARED], table[search_tables.SAYS], strict=True))
    assert list(says.values()) == [
        search_tables.NO_KINK_MATTERED,
        "differs",
        search_tables.NOT_REACHED,
        "within half a point",  # of two searches at 0: seeds of equal luck
    ]
    assert table["trials that differ"].tolist() == ["0 of 36", "36 of 36", "0 of 36", "–"]
    assert (table["points of best accuracy"] == "–").tolist() == [True, False, True, False]


def test_searches_with_the_same_best_trials_say_so():
    rows = search_rows("mlp", best(), luck=0.0)
    other = rows["training"].map(lambda training: training["gradient_rule"] == "injected")
    for trials in rows.loc[other, "trials"]:
        trials[0]["validation_accuracy"] -= 0.01
    table = search_tables.gain_table(search_tables.searches(rows))
    assert table[search_tables.SAYS].tolist()[:2] == [
        search_tables.NO_KINK_MATTERED,
        search_tables.BEST_ALIKE,
    ]
    assert table["trials that differ"].tolist()[1] == "12 of 36"


def test_a_single_search_has_no_result():
    rows = search_rows("mlp", best(injected=0.95), repeats=1)
    table = search_tables.gain_table(search_tables.searches(rows))
    assert table[search_tables.SAYS].tolist()[3] == TOO_FEW


def test_the_gain_figure_shows_points():
    found = search_tables.searches(search_rows("mlp", best(injected=0.95)))
    right = search_figures.gain_figure(found, -0.0044).axes[1]
    shown = [line.get_xdata() for line in right.get_lines()]
    labels = [label.get_text() for label in right.get_yticklabels()]
    assert labels[1] == "searched,\nconstant"
    assert list(shown[2]) == list(100 * search_tables.gains(found, "searched, injected"))
    assert any(list(x) == [pytest.approx(-0.44)] * 2 for x in shown if len(x) == 2)
