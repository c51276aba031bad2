import pytest

from reluprime.training import zeros
from reluprime.training.config import TrainingConfig
from reluprime.training.study import fit
from reluprime.training.zeros import ZeroCountConfig, count

SMALL = {"dataset": "mnist-5k", "hidden_sizes": (16, 8), "epochs": 3, "n_train": 300}


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("RELUPRIME_CHECKPOINTS", str(tmp_path))


def test_calls_are_neurons_times_images_times_epochs():
    result = count(ZeroCountConfig(**SMALL))
    assert result["cumulative_calls"] == [[(16 + 8) * 300 * epoch for epoch in (1, 2, 3)]]


def test_it_counts_the_run_that_fit_makes():
    config = ZeroCountConfig(**SMALL, batch_norm=True, precision="bf16", n_networks=2)
    history = fit(TrainingConfig(**config.model_dump()))
    result = count(config)
    assert result["final_accuracy"] == [a[-1] for a in history["test_accuracy"]]
    for member in range(2):
        by_epoch = [
            sum(n) for n in zip(*(v[member] for v in history["exact_zeros"].values()), strict=True)
        ]
        assert [by_epoch[0], sum(by_epoch[:2]), sum(by_epoch)] == result["cumulative_zeros"][member]
    assert sum(n[0] for n in result["zeros_by_layer"].values()) == result["cumulative_zeros"][0][-1]


def test_planted_zeros_are_counted(monkeypatch):
    planted = {
        "train_loss": [[1.0, 1.0]],
        "test_accuracy": [[0.1, 0.2]],
        "exact_zeros": {"activation1": [[1, 4]], "activation2": [[2, 0]]},
        "relu_calls": {"activation1": 10, "activation2": 5},
        "diverged_epoch": [None],
    }
    monkeypatch.setattr(zeros, "fit", lambda config, device: planted)
    result = count(ZeroCountConfig(**SMALL))
    assert result["cumulative_zeros"] == [[3, 7]]
    assert result["cumulative_calls"] == [[15, 30]]
    assert result["zeros_by_layer"] == {"activation1": [5], "activation2": [2]}


def test_it_counts_on_the_test_images_alone():
    with pytest.raises(ValueError, match="evaluate_on"):
        ZeroCountConfig(**SMALL, evaluate_on="validation")
