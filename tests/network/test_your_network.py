import pandas as pd
import pytest
import torch
from pydantic import ValidationError

import reluprime
from reluprime.network import study as your_network
from reluprime.network import tables as network_tables
from reluprime.network.grids import YourNetwork
from reluprime.network.study import NetworkCheckConfig, check_network
from reluprime.records import Store, sweep
from reluprime.training import study as training
from reluprime.training.config import TrainingConfig

SMALL = {"image_size": 32, "batch_size": 2, "n_batches": 2}
TRAINING = {
    "architecture": "resnet18",
    "dataset": "mnist-5k",
    "width": 0.0625,
    "batch_norm": True,
    "n_train": 300,
    "epochs": 2,
}


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("RELUPRIME_CHECKPOINTS", str(tmp_path))


def test_a_grid_asks_for_no_emulation_under_autocast():
    page = YourNetwork(
        your_networks=["resnet18"],
        smooth_networks=["vit_b_16"],
        your_precisions=["fp32", "bf16-autocast"],
    )
    found = {name: grid for name, (_, grid) in page.grids().items()}
    conditions = [("fp32", False, "native"), ("fp32", False, "epilogue"), ("bf16", True, "native")]
    for name, number in (("initialised", 2), ("trained", 1)):
        own = [(c.precision, c.autocast, c.arithmetic) for c in found[name]]
        assert own == conditions * number
    assert {c.trained.architecture for c in found["trained"]} == {"resnet18"}


def test_an_unknown_network_is_refused_before_anything_is_built():
    with pytest.raises(ValidationError, match="'resnet_18' is no builder"):
        NetworkCheckConfig(network="resnet_18")
    with pytest.raises(ValidationError, match="n_networks must be 1"):
        NetworkCheckConfig(trained=TrainingConfig(n_networks=2))


def test_the_study_says_what_the_check_says():
    config = NetworkCheckConfig(network="mobilenet_v3_small", precision="bf16", **SMALL)
    found = check_network(config, torch.device("cpu"))
    network, batches = your_network.initialised(config, torch.device("cpu"))
    report = reluprime.check(network.train(), batches, precision="bf16", arithmetic="native")
    assert found["answer"] == report.answer
    assert found["summary"]["affected"] == report.summary["affected"].item()
    assert found["summary"]["relative_l2"] == report.summary["relative_l2"].item()
    assert [site["hits"] for site in found["sites"]] == report.sites["hits"].tolist()
    assert sum(site["hits"] for site in found["sites"]) > 0


def test_the_same_seed_is_the_same_network_and_another_another():
    def weights(seed):
        config = NetworkCheckConfig(network="resnet18", seed=seed, **SMALL)
        return your_network.initialised(config, torch.device("cpu"))[0].fc.weight

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_a_network_without_kinks_says_so(tmp_path):
    config = NetworkCheckConfig(network="vit_b_16", **SMALL)
    cells = sweep(check_network, [config], Store(tmp_path), device="cpu")
    (row,) = network_tables.answers(cells).to_dict("records")
    assert row["answer"].startswith("No: the model calls no function with a kink")
    (row,) = network_tables.table(cells).to_dict("records")
    assert (row["mini-batches that depend on s"], row["calls"]) == ("0 of 2", "0")


def test_a_trained_network_is_the_one_that_fit_leaves():
    config = TrainingConfig(**TRAINING)
    network, images, labels = training.trained(config, "cpu")
    with torch.no_grad():
        right = (network(images).argmax(1) == labels).double().mean()
    assert not network.training
    assert float(right) == training.fit(config, "cpu")["test_accuracy"][0][-1]


def test_a_trained_network_sees_its_test_images(tmp_path):
    config = NetworkCheckConfig(trained=TrainingConfig(**TRAINING), **SMALL)
    cells = sweep(check_network, [config], Store(tmp_path), device="cpu")
    for _ in range(2):  # computed, then read
        (row,) = network_tables.table(cells).to_dict("records")
        assert row["network"] == "resnet18 trained on mnist-5k, 2 epochs"
        cells = sweep(check_network, [config], Store(tmp_path), "never")
    sites = network_tables.sites(cells)
    assert sites["module"].tolist()[:3] == ["relu", "maxpool", "layer1.0.relu"]
    _, images, _ = training.trained(config.trained, "cpu")
    (_, batches) = your_network._trained(config, torch.device("cpu"))
    assert torch.equal(torch.cat([x for x, _ in batches]), images[:4])


def test_the_released_rule_is_caught_and_pytorch_s_passes():
    said = network_tables.tried_rules().set_index("function")["it says"]
    assert said["torch.relu"] == said["reluprime.relu, s=0.5"] == "passes"
    for name in ("the released rule, s=1", "reluprime.relu with the released rule, s=1"):
        assert "does not depend on the upstream gradient" in said[name]


@pytest.mark.parametrize(
    ("value", "words"), [(None, "–"), (0.0, "0.00%"), (2e-6, "less than 0.01%"), (0.1234, "12.34%")]
)
def test_shares_in_words(value, words):
    assert network_tables.share_in_words(value) == words


def test_the_prose_counts_networks_once():
    found = [("a", "fp32", 0, 9), ("a", "bf16", 1, 9), ("a", "bf16", 2, 9), ("b", "fp32", 0, 0)]
    cells = pd.DataFrame(
        {"network": name, "precision": precision, "summary": {"affected": n, "calls": calls}}
        for name, precision, n, calls in found
    )
    assert network_tables.in_prose(cells) == {
        "networks": 2,
        "smooth": 1,
        "depend_fp32": 0,
        "depend_bf16": 1,
    }


def test_a_site_without_a_count_has_a_dash():
    site = {"module": "a", "function": "relu", "calls": 3, "hits": 1, "by_rounding": None}
    site |= {"dead_units": 2.0, "structural": float("nan"), "units": None}
    table = network_tables.sites(pd.DataFrame([{"sites": [site]}]))
    assert table.iloc[0].tolist() == ["a", "relu", "3", "1", "–", "2", "–", "–"]
