"""A device's statistics against a CPU's: a right one agrees, and a planted wrong one is found."""

import math
import re

import numpy as np
import pandas as pd
import pytest

from reluprime import records
from reluprime.cli import main
from reluprime.evidence.intervals import clopper_pearson
from reluprime.records.verify import problems
from reluprime.report import devices
from reluprime.report.studies import STUDIES

REFERENCE = records.Store(devices.REFERENCE)
TINY = {
    "in the zone, fp32 epilogue": devices._zone(
        20, False, **devices.SMALL, precision="fp32", arithmetic="epilogue"
    ),
    "in the zone, bf16 separate": devices._zone(
        60, **devices.SMALL, precision="bf16", arithmetic="separate", batch_size=16
    ),
    "accuracy, fp32 epilogue": devices._accuracy(
        3, precision="fp32", arithmetic="epilogue", hidden_sizes=(16,), n_train=500
    ),
}


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """The store of a small reference, which this CPU has computed."""
    monkeypatch.setattr(devices, "STATISTICS", TINY)
    monkeypatch.setattr(devices, "REFERENCE", str(tmp_path / "reference"))
    monkeypatch.setenv("RELUPRIME_CHECKPOINTS", str(tmp_path / "checkpoints"))
    store = records.Store(tmp_path / "reference")
    devices.compute(store, "cpu")
    return store


def plant(store, name, change):
    """In each record of a statistic another result."""
    for record in store.read(records.study_name(TINY[name].study)).values():
        if record["config"]["precision"] == TINY[name].configs[0].precision:
            result = dict(record["result"])
            change(result)
            store.append(record | {"result": result})  # of two made at once the later one counts


def none_in_the_zone(result):
    for rule in ("chain", "injected"):
        result[f"affected_{rule}"] = [0 for _ in result[f"affected_{rule}"]]
        result[f"first_affected_{rule}"] = [None for _ in result[f"first_affected_{rule}"]]
        result[f"relative_difference_{rule}"] = []


def all_in_the_zone(result):
    none_in_the_zone(result)
    networks = len(result["affected_chain"])
    result["screened"] = [1] * networks
    for rule in ("chain", "injected"):
        result[f"affected_{rule}"] = [1] * networks
        result[f"first_affected_{rule}"] = [0] * networks
        result[f"relative_difference_{rule}"] = [1.0] * networks


def worse(result):
    result["test_accuracy"] = [
        [value - 0.2 for value in curve] for curve in result["test_accuracy"]
    ]


def test_the_command_agrees_on_the_device_of_the_reference(tiny, tmp_path, capsys):
    assert main(["bench", "sweep", "--store", str(tmp_path / "own")]) == 0
    said = capsys.readouterr().out
    assert said.count("agrees") == 2
    assert said.count("as the order of summation has it") == 1
    assert all(name in said for name in TINY)
    assert len(records.Store(tmp_path / "own").read("zone.first_affected")) == 3


@pytest.mark.parametrize(
    ("name", "change", "verdict"),
    [
        ("in the zone, bf16 separate", none_in_the_zone, "differs"),
        ("in the zone, bf16 separate", all_in_the_zone, "differs"),
        ("accuracy, fp32 epilogue", worse, "differs"),
        ("in the zone, fp32 epilogue", all_in_the_zone, "as the order of summation has it"),
    ],
)
def test_a_wrong_statistic_is_found(name, change, verdict, tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(devices, "compute", lambda store, device: plant_all(store))
    own = tmp_path / "own"

    def plant_all(store):
        for file in tiny.path.glob("*.jsonl"):
            store.path.mkdir(exist_ok=True)
            (store.path / file.name).write_bytes(file.read_bytes())
        plant(store, name, change)

    assert main(["bench", "sweep", "--store", str(own)]) == (verdict == "differs")
    found = devices.compare(records.Store(own), tiny).set_index("statistic")["verdict"]
    assert found[name] == verdict
    assert (found.drop(name) != "differs").all()
    capsys.readouterr()


def test_what_a_store_lacks_is_said(tiny, tmp_path):
    with (
        pytest.warns(UserWarning, match="missing"),
        pytest.raises(ValueError, match="lacks cells; `reluprime bench sweep` makes them"),
    ):
        devices.compare(records.Store(tmp_path / "nothing"), tiny)


def test_shares_that_agree_are_called_so_and_others_are_found():
    """400 draws of equal shares, 100 of a half and a third: alarms and misses, with intervals."""
    random = np.random.RandomState(4)
    least = devices.RISK / sum(one.decides for one in devices.STATISTICS.values())

    def p(shares, networks=500):
        here, there = (
            pd.DataFrame(
                {
                    "affected_injected": [[int(hit)] for hit in random.uniform(size=networks) < q],
                    "n_networks": [1] * networks,
                }
            )
            for q in shares
        )
        return devices._shares(here, there)["p"]

    alarms = sum(p((0.3, 0.3)) < least for _ in range(400))
    found = sum(p((0.5, 0.33)) < least for _ in range(100))
    assert clopper_pearson(alarms, 400, risk=0.001)[0] <= devices.RISK
    assert found >= 95


def test_the_ratio_of_zeros_holds_the_true_one():
    """300 draws with 0.8 times the zeros: 95 % of the intervals, by their own interval."""
    random, held = np.random.RandomState(7), 0
    for _ in range(300):
        counts = (random.binomial(500, 1 - np.exp(-rate)) for rate in (0.8 * 0.1, 0.1))
        k, k2 = map(int, counts)
        low, high = map(
            float, re.search(r"\[(.*), (.*)\]", devices._ratio(k, 500, k2, 500)).groups()
        )
        held += low <= 0.8 <= high
    low, high = clopper_pearson(held, 300, risk=0.001)
    assert low <= 0.95 <= high


def test_the_same_shares_have_no_p():
    frame = pd.DataFrame({"affected_injected": [[1, 0]], "n_networks": [2]})
    assert math.isnan(devices._shares(frame, frame)["p"])


def test_the_committed_reference_is_whole_and_a_cpus():
    found = devices.compare(REFERENCE, REFERENCE)
    assert [*found["statistic"]] == [*devices.STATISTICS]
    assert not (found["verdict"] == "differs").any()
    shares = found[found["between"].str.contains("times")]
    assert len(shares) == 5  # neither none nor all: a difference would show
    assert problems(REFERENCE, STUDIES) == []
