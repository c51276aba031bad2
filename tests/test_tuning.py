import math

import optuna
import pytest

from reluprime import tuning
from reluprime.training import TrainingConfig
from reluprime.tuning import SearchConfig, search

TRAINING = TrainingConfig(
    dataset="mnist-5k", hidden_sizes=(16,), epochs=1, n_train=500, evaluate_on="validation"
)


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("RELUPRIME_CHECKPOINTS", str(tmp_path))


@pytest.fixture
def known_optimum(monkeypatch):
    """Training whose accuracy is known: best at lr = 0.01."""
    calls = []

    def fit(config, device=None):
        calls.append(config)
        accuracy = 1 - abs(math.log10(config.lr) + 2) / 10
        return {"validation_accuracy": [[0.0, accuracy]], "diverged_epoch": [None]}

    fit.version = 1
    monkeypatch.setattr(tuning, "fit", fit)
    return calls


def test_trials_differ_in_lr_alone_and_the_best_is_found(known_optimum):
    result = search(SearchConfig(training=TRAINING, n_trials=25))
    assert [config.lr for config in known_optimum] == result["lr"]
    assert all(c.model_copy(update={"lr": TRAINING.lr}) == TRAINING for c in known_optimum)
    assert all(1e-4 <= lr <= 1e-1 for lr in result["lr"])
    best = max(range(25), key=lambda i: result["validation_accuracy"][i])
    assert result["best_lr"] == result["lr"][best]
    assert abs(math.log10(result["best_lr"]) + 2) < 0.2
    # The sampler learns: its later proposals are nearer than its random ones.
    far = [abs(math.log10(lr) + 2) for lr in result["lr"]]
    assert sum(far[15:]) / 10 < sum(far[:4]) / 4


def test_a_seed_is_a_search(known_optimum):
    results = [search(SearchConfig(training=TRAINING, n_trials=6, seed=s)) for s in (0, 0, 1)]
    assert results[0] == results[1] != results[2]


@pytest.mark.parametrize("killed_at", [0, 3, 6])
def test_a_killed_search_goes_on_as_an_unbroken_one(
    known_optimum, monkeypatch, killed_at, tmp_path
):
    config = SearchConfig(training=TRAINING, n_trials=8)
    unbroken, good_fit = search(config), tuning.fit
    del known_optimum[:]

    def dies(config, device=None):
        if len(known_optimum) == killed_at:
            raise KeyboardInterrupt
        return good_fit(config, device)

    dies.version = 1
    monkeypatch.setattr(tuning, "fit", dies)
    with pytest.raises(KeyboardInterrupt):
        search(config)
    monkeypatch.setattr(tuning, "fit", good_fit)
    assert search(config) == unbroken
    assert len(known_optimum) == 8  # nothing finished was computed again
    assert not list(tmp_path.glob("*.journal"))


def test_it_trains_networks_on_the_validation_split():
    result = search(SearchConfig(training=TRAINING, n_trials=2))
    assert len(result["lr"]) == 2
    assert result["validation_accuracy"][0] * 100 == pytest.approx(
        round(result["validation_accuracy"][0] * 100)
    )  # of 100 images: the last fifth of 500
    assert result["diverged"] == [False, False]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training": TRAINING.model_copy(update={"evaluate_on": "test"})}, "evaluate_on"),
        ({"lr_low": 0.2}, "lr_low=0.2"),
        ({"training": TRAINING.model_copy(update={"n_networks": 2})}, "n_networks=2"),
    ],
)
def test_misuse_names_the_value(changes, message):
    with pytest.raises(ValueError, match=message):
        SearchConfig(**{"training": TRAINING} | changes)


def test_verbosity_is_quiet():
    search(SearchConfig(training=TRAINING, n_trials=1))
    assert optuna.logging.get_verbosity() == optuna.logging.WARNING
