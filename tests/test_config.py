"""Configs: what a changed one is, and that nothing goes round the checks."""

import json
import re

import numpy as np
import pytest
from pydantic import ValidationError

from reluprime import records
from reluprime.cli import main
from reluprime.config import MOST_EPOCHS
from reluprime.instruments.batches import generator
from reluprime.records import cell_key
from reluprime.report import scorecard as claims
from reluprime.report.pages import NOTEBOOKS
from reluprime.report.studies import STUDIES
from reluprime.search.study import MOST_TRIALS, SearchConfig, Space, arms
from reluprime.training.config import TrainingConfig, conditions
from reluprime.training.study import fit
from reluprime.volume import VolumeConfig

TRAINING = TrainingConfig(dataset="mnist-5k", hidden_sizes=(16,), epochs=1)


def test_a_replaced_field_is_what_a_new_config_would_have():
    changed = TRAINING.replace(lr=1, hidden_sizes=[8, 8], seed=3)
    assert changed == TrainingConfig(
        dataset="mnist-5k", hidden_sizes=(8, 8), epochs=1, lr=1.0, seed=3
    )
    assert (changed.lr, type(changed.lr)) == (1.0, float)
    assert TRAINING.hidden_sizes == (16,)
    assert TRAINING.replace() == TRAINING


def test_a_replaced_field_gives_the_key_of_a_new_config():
    """1 and 1.0 are one learning rate, and one cell."""
    new = TrainingConfig(dataset="mnist-5k", hidden_sizes=(16,), epochs=1, lr=1)
    assert cell_key(fit, TRAINING.replace(lr=1)) == cell_key(fit, new)


def test_what_a_record_leaves_out_stays():
    own = {"dataset": "image-folder", "image_folder": "somewhere", "fingerprint": "0" * 16}
    config = TrainingConfig(architecture="resnet18", **own)
    assert config.replace(seed=1).image_folder == "somewhere"


def test_a_config_within_a_config_stays_what_it_is():
    search = SearchConfig(training=TRAINING.replace(evaluate_on="validation"))
    assert search.replace(n_trials=3).training is search.training


@pytest.mark.parametrize(
    "wrong",
    [
        {"precision": "fp8"},
        {"dropout": 1.5},
        {"epochs": 0},
        {"learning_rate": 0.1},
        {"kink_width": 0.1, "activation": "relu6"},
        {"architecture": "vgg11"},  # an mlp's hidden sizes stay, and do not fit
    ],
)
def test_a_wrong_change_is_refused(wrong):
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        TRAINING.replace(**wrong)


@pytest.mark.parametrize(
    "changed",
    [
        lambda: conditions(TRAINING, [1.0], ["chained"], 1),
        lambda: conditions(TRAINING, [float("nan")], ["chain"], 1),
        lambda: arms(
            SearchConfig(
                training=TRAINING.replace(evaluate_on="validation"), space=Space(lr=(1e-4, 1e-2))
            ),
            ["chain"],
            1,
        ),  # s_upper of an activation without a kink at 6
    ],
    ids=["rule", "s", "s_upper"],
)
def test_grids_check_what_they_change(changed):
    with pytest.raises(ValidationError):
        changed()


def test_a_grid_of_parts_checks_them():
    with pytest.raises(ValidationError, match="n_networks"):
        VolumeConfig(n_networks=0)


def seeded(config, seed):
    """Copies of a config as JSON has it, in each of which one field that is a seed is another."""
    for name, value in config.items():
        if name == "seed":
            yield config | {name: seed}
        elif isinstance(value, dict):
            yield from (config | {name: inner} for inner in seeded(value, seed))


@pytest.mark.parametrize("seed", [-1, 2**31, 2**64, 10**30, 0.5, "one"])
def test_a_seed_that_no_generator_takes_is_refused_by_name(seed, tmp_path, capsys):
    store, asked = records.Store("records"), set()
    for name, study in STUDIES.items():
        with store.file(name).open() as lines:
            config = json.loads(next(lines))["config"]
        for wrong in seeded(config, seed):
            with pytest.raises(ValidationError, match="seed"):
                records.config_class(study).model_validate(wrong)
            cell = {"study": name, "version": study.version, "config": wrong}
            (tmp_path / "cells.jsonl").write_text(json.dumps(cell))
            assert main(["compute", str(tmp_path / "cells.jsonl"), "--store", str(tmp_path)]) == 2
            assert "seed" in capsys.readouterr().err
            asked.add(name)
    assert asked == {*STUDIES} - {"speed.measure"}  # whose networks have one seed


def test_every_generator_takes_the_largest_seed():
    generator(2**31 - 1, MOST_EPOCHS - 1)
    np.random.RandomState(2**31 - 1)
    training = TRAINING.replace(evaluate_on="validation")
    search = SearchConfig(training=training, seed=400_000, n_trials=MOST_TRIALS)
    np.random.RandomState(MOST_TRIALS * search.seed + search.n_trials - 1)
    for wrong in ({"seed": 400_001}, {"n_trials": MOST_TRIALS + 1}):
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            search.replace(**wrong)
    with pytest.raises(ValidationError, match="epochs"):
        TRAINING.replace(epochs=MOST_EPOCHS + 1)


def test_nothing_goes_round_the_checks():
    """model_copy(update=...) would: pydantic validates nothing of it."""
    package = sorted((records.REPOSITORY / "reluprime").rglob("*.py"))
    for path in [*package, *NOTEBOOKS.glob("*.ipynb")]:
        assert not re.search("model_copy|model_construct", path.read_text()), path


def test_every_config_of_a_claim_is_one_that_could_be_made_anew():
    for claim in (*claims.CLAIMS, *claims.OURS):
        for cell in claim.cells():
            for config in (cell.config, *([cell.after] if cell.after else [])):
                again = type(config).model_validate(dict(config))
                assert again.model_dump_json() == config.model_dump_json()
