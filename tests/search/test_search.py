import math

import optuna
import pytest

from reluprime.records.scratch import kept_until_written
from reluprime.search import study as tuning
from reluprime.search.study import SearchConfig, Space, search
from reluprime.training.config import TrainingConfig

TRAINING = TrainingConfig(
    dataset="mnist-5k", hidden_sizes=(16,), epochs=1, n_train=500, evaluate_on="validation"
)


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("RELUPRIME_CHECKPOINTS", str(tmp_path))


@pytest.fixture
def known_optimum(monkeypatch):
    """Training whose accuracy is known: best at lr = 0.01, from the first epoch on."""
    calls = []

    def fit(config, device=None, stop=None):
        calls.append(config)
        accuracy = 1 - abs(math.log10(config.lr) + 2) / 10
        history = {"validation_accuracy": [[]], "diverged_epoch": [None]}
        for _ in range(config.epochs):
            history["validation_accuracy"][0].append(accuracy)
            if stop(history):
                break
        return history

    fit.version = 1
    monkeypatch.setattr(tuning, "fit", fit)
    return calls


def drawn(result, name):
    return [trial[name] for trial in result["trials"]]


def test_trials_differ_in_lr_alone_and_the_best_is_found(known_optimum):
    result = search(SearchConfig(training=TRAINING, n_trials=25))
    rates = drawn(result, "lr")
    assert [config.lr for config in known_optimum] == rates
    assert all(c.model_copy(update={"lr": TRAINING.lr}) == TRAINING for c in known_optimum)
    assert all(1e-4 <= lr <= 1e-1 for lr in rates)
    best = result["trials"][result["best"]]
    assert best["validation_accuracy"] == max(drawn(result, "validation_accuracy"))
    assert abs(math.log10(best["lr"]) + 2) < 0.2
    # The sampler learns: its later proposals are nearer than its random ones.
    far = [abs(math.log10(lr) + 2) for lr in rates]
    assert sum(far[15:]) / 10 < sum(far[:4]) / 4


SPACE = Space(lr=(1e-3, 1e-2), batch_size=(32, 64), s=(0, 1), s_upper=(-2, -1))
RELU6 = TRAINING.model_copy(update={"activation": "relu6"})


def test_every_parameter_of_the_space_is_drawn_and_reaches_the_training(known_optimum):
    result = search(SearchConfig(training=RELU6, space=SPACE, n_trials=100, sampler="random"))
    for name in ("lr", "batch_size", "s", "s_upper"):
        assert [getattr(config, name) for config in known_optimum] == drawn(result, name)
    assert set(drawn(result, "batch_size")) == {32, 64}
    for name in ("s", "s_upper"):
        low, high = getattr(SPACE, name)
        values = drawn(result, name)
        assert low <= min(values) < low + 0.2
        assert high - 0.2 < max(values) <= high
    # Uniform on a logarithmic scale: half of the rates lie below the geometric mean (+-3 sd).
    assert 35 <= sum(lr < 10**-2.5 for lr in drawn(result, "lr")) <= 65
    assert len(set(drawn(result, "lr"))) == 100


def test_s_in_the_space_does_not_change_the_other_draws(known_optimum):
    fixed = SPACE.model_copy(update={"s": None, "s_upper": None})
    with_s, without = (
        search(SearchConfig(training=RELU6, space=space, sampler="random"))
        for space in (SPACE, fixed)
    )
    assert drawn(with_s, "lr") == drawn(without, "lr")
    assert drawn(with_s, "batch_size") == drawn(without, "batch_size")
    assert "s" not in without["trials"][0]


def test_asha_stops_the_worse_half_at_its_rungs(known_optimum):
    training = TRAINING.model_copy(update={"epochs": 8})
    config = SearchConfig(training=training, sampler="random", n_trials=30, grace_epochs=2)
    result = search(config)
    epochs, accuracies = drawn(result, "epochs"), drawn(result, "validation_accuracy")
    assert set(epochs) == {2, 4, 8}
    assert epochs[0] == 8  # nothing to compare it with
    for i, (done, accuracy) in enumerate(zip(epochs, accuracies, strict=True)):
        before = sorted(accuracies[:i], reverse=True)
        if done == 2:  # a better half came before it
            assert sum(a > accuracy for a in before) >= (i + 1) // 2
    assert result["best"] == max(range(30), key=lambda i: accuracies[i])
    assert epochs[result["best"]] == 8
    unstopped = search(config.model_copy(update={"grace_epochs": None}))
    assert set(drawn(unstopped, "epochs")) == {8}


def test_a_seed_is_a_search(known_optimum):
    results = [search(SearchConfig(training=TRAINING, n_trials=6, seed=s)) for s in (0, 0, 1)]
    assert results[0] == results[1] != results[2]


@pytest.mark.parametrize("killed_at", [0, 3, 6])
def test_a_killed_search_goes_on_as_an_unbroken_one(
    known_optimum, monkeypatch, killed_at, tmp_path
):
    config = SearchConfig(
        training=TRAINING.model_copy(update={"epochs": 4}), n_trials=8, grace_epochs=1
    )
    unbroken, good_fit = search(config), tuning.fit
    del known_optimum[:]

    def dies(config, device=None, stop=None):
        if len(known_optimum) == killed_at:
            raise KeyboardInterrupt
        return good_fit(config, device, stop)

    dies.version = 1
    monkeypatch.setattr(tuning, "fit", dies)
    with pytest.raises(KeyboardInterrupt):
        search(config)
    monkeypatch.setattr(tuning, "fit", good_fit)
    assert search(config) == unbroken
    assert len(known_optimum) == 8  # nothing finished was computed again
    assert not list(tmp_path.glob("*.search"))


@pytest.mark.parametrize("killed_at", range(1, 20, 2))
def test_a_search_killed_at_a_rung_stops_the_same_trials(known_optimum, monkeypatch, killed_at):
    """What a killed trial reported at its rungs must not be compared with: its own run comes."""
    training = TRAINING.replace(epochs=8)
    config = SearchConfig(training=training, n_trials=8, sampler="random", grace_epochs=1)
    unbroken, reports, make = search(config), 0, tuning._pruning

    def pruning(trial):
        stop = make(trial)

        def counted(history):
            nonlocal reports
            stopped = stop(history)  # what was reported, a kill does not take back
            reports += 1
            if reports == killed_at:
                raise KeyboardInterrupt
            return stopped

        return counted

    with monkeypatch.context() as patch:
        patch.setattr(tuning, "_pruning", pruning)
        with pytest.raises(KeyboardInterrupt):
            search(config)
    assert search(config) == unbroken


def test_the_finished_trials_stay_until_the_record_is_written(known_optimum, tmp_path):
    config, found = SearchConfig(training=TRAINING, n_trials=3), []

    def search_on_a_full_disk():
        with kept_until_written():
            found.append(search(config))
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        search_on_a_full_disk()
    assert len(list(tmp_path.glob("*.search"))) == 1
    with kept_until_written():
        assert search(config) == found[0]
    assert len(known_optimum) == 3
    assert not list(tmp_path.glob("*.search"))


def test_a_search_killed_within_a_training_goes_on_as_an_unbroken_one(tmp_path, monkeypatch):
    monkeypatch.setattr("reluprime.training.study.SAVE_SECONDS", 0.0)
    training = TRAINING.model_copy(update={"epochs": 4})
    config = SearchConfig(training=training, n_trials=3, sampler="random", grace_epochs=1)
    unbroken, epochs = search(config), 0

    def killed(history):
        nonlocal epochs
        epochs += 1
        if epochs == unbroken["trials"][0]["epochs"] + 1:  # the second training's first
            raise KeyboardInterrupt
        return False

    make = tuning._pruning

    def pruning(trial):
        stop = make(trial)
        return lambda history: killed(history) or stop(history)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning, "_pruning", pruning)
        with pytest.raises(KeyboardInterrupt):
            search(config)
    assert list(tmp_path.glob("*.pt"))  # the training's own checkpoint
    assert search(config) == unbroken


def test_it_trains_networks_on_the_validation_split():
    result = search(SearchConfig(training=TRAINING, n_trials=2))
    assert drawn(result, "epochs") == [1, 1]
    accuracy = result["trials"][0]["validation_accuracy"]
    assert accuracy * 100 == pytest.approx(round(accuracy * 100))  # the last fifth of 500 images
    assert drawn(result, "diverged") == [False, False]


def test_where_s_reaches_no_activation_a_search_over_it_is_the_search_without():
    """M23's own search: s and s_upper are drawn, and nothing takes them."""
    mobilenet = {"architecture": "mobilenet_v3_small", "width": 0.25, "activation": "relu6"}
    training = TrainingConfig(
        dataset="mnist-5k",
        **mobilenet,
        optimizer="adam",
        momentum=0.0,
        epochs=1,
        n_train=200,
        evaluate_on="validation",
    )
    space = Space(batch_size=(32, 64))
    drawn_s = space.model_copy(update={"s": (0, 50), "s_upper": (0, 50)})
    config = SearchConfig(training=training, space=space, n_trials=2, sampler="random")
    fixed = search(config)
    arms = {
        sites: training.model_copy(update={"activation_sites": sites, "gradient_rule": "injected"})
        for sites in ("none", "all")
    }
    null, meant = (
        search(config.model_copy(update={"space": drawn_s, "training": arms[sites]}))
        for sites in ("none", "all")
    )
    assert drawn(null, "validation_accuracy") == drawn(fixed, "validation_accuracy")
    assert all(trial["s"] for trial in null["trials"])
    assert drawn(meant, "s") == drawn(null, "s")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training": TRAINING.model_copy(update={"evaluate_on": "test"})}, "evaluate_on"),
        ({"space": {"lr": (0.2, 0.1)}}, r"lr=\(0.2, 0.1\)"),
        ({"space": {"momentum": (0, 1)}}, "momentum"),
        ({"space": SPACE}, r"s_upper=\(-2.0, -1.0\): only relu6"),
        ({"engine": "ray"}, "sampler='tpe' with engine='ray'"),
        ({"training": TRAINING.model_copy(update={"n_networks": 2})}, "n_networks=2"),
    ],
)
def test_misuse_names_the_value(changes, message):
    with pytest.raises(ValueError, match=message):
        SearchConfig(**{"training": TRAINING} | changes)


def test_verbosity_is_quiet():
    search(SearchConfig(training=TRAINING, n_trials=1))
    assert optuna.logging.get_verbosity() == optuna.logging.WARNING
