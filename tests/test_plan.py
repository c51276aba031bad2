"""What is missing is what the notebooks ask for, and computing it fills the store."""

import json
import math

import pytest
import torch
from pydantic import Field

from reluprime import bifurcation, records, volume
from reluprime.cli import main
from reluprime.evidence import compute
from reluprime.instruments import precision
from reluprime.mechanism.study import LinearZerosConfig, linear_zeros
from reluprime.parameters import Parameters, SweepParameters
from reluprime.records import Store
from reluprime.records.keys import key_of
from reluprime.report import pages, plan
from reluprime.report.plan import Arithmetic
from reluprime.report.studies import STUDIES
from reluprime.search import study as tuning
from reluprime.training import TrainingConfig, conditions, fit
from reluprime.volume import VolumeConfig

SMALL = {"dataset": "mnist-5k", "hidden_sizes": (8,), "max_batches": 2, "n_networks": 2}


class Ask(SweepParameters):
    """A page for these tests."""

    seeds: list[int] = Field(default=[7])

    def grids(self):
        return {"found": (volume.estimate, [VolumeConfig(**SMALL, seed=s) for s in self.seeds])}


class AskSearches(SweepParameters):
    """A page whose second sweep depends on the results of its first."""

    needed_first = ("found",)

    def grids(self):
        return {"found": (volume.estimate, [VolumeConfig(**SMALL)])}

    def grids_after(self, found):
        seeds = 10 + found["found"]["seed"]
        return {"later": (volume.estimate, [VolumeConfig(**SMALL, seed=s) for s in seeds])}


class AskTrainings(SweepParameters):
    """A page of three arms and two seeds."""

    def grids(self):
        arms = conditions(TrainingConfig(epochs=1), [0.2, 1, 0], ["chain"], 2)
        return {"found": (fit, arms)}


@pytest.fixture
def write_page(tmp_path, monkeypatch):
    """A report of the pages that a test adds; its profile `paper` asks for two seeds."""
    (tmp_path / "paper.yaml").write_text("{}")
    monkeypatch.setattr(pages, "PROFILES", tmp_path)
    monkeypatch.setattr(pages, "PAGES", {})

    def write(name, kind):
        pages.PAGES[name] = kind
        asking = [page for page, kind in pages.PAGES.items() if "seeds" in kind.model_fields]
        text = "".join(f"{page}: {{seeds: [2, 0]}}\n" for page in asking)
        (tmp_path / "paper.yaml").write_text(text or "{}")

    return write


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def planned(store, only=("",), **changes):
    return plan.cells("paper", store, changes, only)


def test_cells_are_those_of_the_profile(write_page, store):
    write_page("01_a", Ask)
    found = planned(store)
    assert [(c.page, c.study, c.config.seed, c.known) for c in found] == [
        ("01_a", volume.estimate, 0, False),
        ("01_a", volume.estimate, 2, False),
    ]
    assert [c.config.seed for c in planned(store, seeds=[5])] == [5]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_cell_is_known_from_either_device(device, write_page, store):
    write_page("01_a", Ask)
    records.sweep(volume.estimate, [VolumeConfig(**SMALL)], store, device="cpu")
    (record,) = store.read("volume.estimate").values()
    store.file("volume.estimate").unlink()
    record["provenance"]["device"] = device
    record["key"] = records.cell_key(volume.estimate, VolumeConfig(**SMALL), device)
    store.append(record)
    assert [(c.config.seed, c.known) for c in planned(store)] == [(0, True), (2, False)]


def test_a_cell_that_two_pages_ask_for_is_planned_once(write_page, store):
    write_page("01_a", Ask)
    write_page("02_b", Ask)
    assert [c.page for c in planned(store)] == ["01_a", "01_a"]
    assert [c.page for c in planned(store, only=("02",))] == ["02_b", "02_b"]


def test_nothing_is_computed(write_page, store):
    write_page("01_a", Ask)
    planned(store)
    assert not store.path.exists()


def test_the_widest_contrast_of_the_first_seed_comes_first(write_page, store):
    write_page("01_a", AskTrainings)
    assert [(c.config.seed, c.config.s) for c in plan.cells("report", store, {})] == [
        (0, 0.0), (0, 1.0), (0, 0.2), (1, 0.0), (1, 1.0), (1, 0.2),
    ]  # fmt: skip


def test_a_sweep_that_depends_on_results_is_asked_for_once_they_are_there(write_page, store):
    write_page("01_a", AskSearches)
    assert [c.config.seed for c in plan.cells("report", store, {})] == [0]
    records.sweep(volume.estimate, [VolumeConfig(**SMALL)], store, device="cpu")
    found = plan.cells("report", store, {})
    assert [(c.config.seed, c.known) for c in found] == [(0, True), (10, False)]


def test_a_page_that_only_reads_asks_for_nothing(write_page, store):
    write_page("01_a", Parameters)
    assert plan.cells("report", store, {}) == []


# ---- cost ----


def test_arithmetic_by_hand():
    one = 2 * (784 * 8 + 8 * 10)  # a multiplication and an addition a weight
    of = Arithmetic().of
    estimate = VolumeConfig(dataset="mnist", hidden_sizes=(8,), n_networks=3)
    assert of(estimate) == 3 * 60_000 * one
    part = estimate.model_copy(update={"batch_size": 100, "max_batches": 7})
    assert of(part) == 3 * 700 * one
    fit = TrainingConfig(hidden_sizes=(8,), epochs=5, n_networks=2)
    assert of(fit) == 2 * 5 * 60_000 * 3 * one
    assert of(fit.model_copy(update={"n_train": 100})) == 2 * 5 * 100 * 3 * one
    pair = bifurcation.PairedRunConfig(hidden_sizes=(8,), epochs=2)
    assert of(pair) == (2 + len(pair.variants)) * 2 * 60_000 * 3 * one
    trial = TrainingConfig(hidden_sizes=(8,), epochs=5, evaluate_on="validation")
    assert of(tuning.SearchConfig(training=trial, n_trials=4)) == 4 * 0.8 * of(trial)
    assert math.isnan(of(bifurcation.WeightPlaneConfig(run=pair)))


def test_convolutions_are_counted():
    vgg = TrainingConfig(
        dataset="cifar10", architecture="vgg11", hidden_sizes=(), epochs=1, n_train=1
    )
    channels = [(3, 64, 32), (64, 128, 16), (128, 256, 8), (256, 256, 8)]
    channels += [(256, 512, 4), (512, 512, 4), (512, 512, 2), (512, 512, 2)]
    products = sum(9 * a * b * side**2 for a, b, side in channels) + 512 * 10
    assert Arithmetic().of(vgg) == 3 * 2 * products


def test_cost_is_that_of_what_is_missing(write_page, store):
    write_page("01_a", Ask)
    records.sweep(volume.estimate, [VolumeConfig(**SMALL)], store, device="cpu")
    (record,) = store.read("volume.estimate").values()
    store.file("volume.estimate").unlink()
    record["provenance"]["wall_seconds"] = 36.0
    store.append(record)
    operations = Arithmetic().of(VolumeConfig(**SMALL))
    (row,) = plan.cost(planned(store), store, tflops=operations / 3600 / 1e12).to_dict("records")
    assert (row["page"], row["missing"]) == ("01", "1 of 2")
    assert row["experiment"] == "volume.estimate: mlp, mnist-5k"
    assert row["hours, CPU"] == "0.01"
    assert row.popitem()[1] == "1.00"
    assert "hours, GPU" not in row


def test_rates_are_of_a_precision_and_a_present_version(store):
    small = VolumeConfig(**SMALL)
    one = Arithmetic().of(small)
    records.sweep(volume.estimate, [small], store, device="cpu")
    (record,) = store.read("volume.estimate").values()
    store.file("volume.estimate").unlink()

    def put(seconds, version=volume.estimate.version, **changes):
        config = small.model_copy(update=changes).model_dump(mode="json")
        key = key_of("volume.estimate", version, config, "cpu")
        how = record["provenance"] | {"wall_seconds": seconds}
        changed = {"key": key, "version": version, "config": config, "provenance": how}
        store.append(record | changed)

    for seed, seconds in enumerate([1.0, 2.0, 9.0]):
        put(seconds, seed=seed)
    put(100.0, precision="fp16")
    put(0.01, stop_at_first=True)  # left early
    put(0.001, version=volume.estimate.version + 1)
    found = plan.rates(store, Arithmetic())
    kinds = [("cpu", "volume.estimate", "mlp", p, "native", False) for p in ("fp32", "fp16")]
    assert [found[kind] for kind in kinds] == [pytest.approx(one / n) for n in (2, 100)]
    asked = [small.model_copy(update={"seed": 5, "precision": p}) for p in ("fp32", "fp16", "fp64")]
    missing = [plan.Cell("01_a", volume.estimate, config, False) for config in asked]
    hours = [plan.cost(missing[:n], store, 1.0)["hours, CPU"].item() for n in (1, 2, 3)]
    assert hours == ["0.00", "0.03", "over 0.03"]
    assert plan.cost(missing[2:], store, 1.0)["hours, CPU"].item() == ""


def test_the_last_row_of_the_cost_is_the_sum(store):
    small = VolumeConfig(**SMALL)
    plane = bifurcation.WeightPlaneConfig(run=bifurcation.PairedRunConfig(hidden_sizes=(8,)))
    operations = Arithmetic().of(small)
    asked = [(volume.estimate, small, False), (volume.estimate, small, True)]
    cells = [plan.Cell(page, *cell) for page in ("01_a", "02_b") for cell in asked]
    cells += [plan.Cell("03_c", volume.estimate, small, True)]  # a row that lacks nothing
    rate = operations / 3600 / 1e12
    table = plan.cost(cells, store, rate)
    assert table.iloc[:, [0, 2, -1]].to_numpy().tolist() == [
        ["01", "1 of 2", "1.00"], ["02", "1 of 2", "1.00"], ["all", "2 of 4", "2.00"],
    ]  # fmt: skip
    unknown = plan.Cell("01_a", bifurcation.weight_plane, plane, False)
    found = plan.cost([*cells, unknown], store, rate).iloc[:, -1].tolist()
    assert found == ["1.00", "1.00", "", "over 2.00"]


# ---- without Jupyter ----


def test_a_file_of_cells_is_computed_once_and_in_slices(write_page, store, tmp_path):
    write_page("01_a", Ask)
    file = tmp_path / "cells.jsonl"
    assert main(["plan", "--store", str(store.path), "--out", str(file)]) == 0
    assert main(["compute", str(file), "--store", str(store.path), "--max-seconds", "0"]) == 0
    assert not store.read("volume.estimate")
    assert main(["compute", str(file), "--store", str(store.path)]) == 0
    assert all(cell.known for cell in planned(store))
    text = store.file("volume.estimate").read_text()
    assert main(["compute", str(file), "--store", str(store.path)]) == 0
    assert store.file("volume.estimate").read_text() == text


def test_the_file_has_what_is_missing_alone(write_page, store, tmp_path):
    write_page("01_a", Ask)
    records.sweep(volume.estimate, [VolumeConfig(**SMALL)], store, device="cpu")
    plan.write(planned(store), tmp_path / "cells.jsonl")
    (line,) = (tmp_path / "cells.jsonl").read_text().splitlines()
    assert json.loads(line)["config"]["seed"] == 2


def test_a_precision_that_the_machine_lacks_is_left_out(store, tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "best_device", lambda: torch.device("cpu"))
    grid = [VolumeConfig(**SMALL, precision=p) for p in ("tf32", "fp32")]
    file = tmp_path / "cells.jsonl"
    plan.write([plan.Cell("01_a", volume.estimate, config, False) for config in grid], file)
    with pytest.warns(UserWarning, match="left out: precision='tf32' needs an NVIDIA GPU"):
        compute.compute(plan.read(file), store, 60.0)
    (record,) = store.read("volume.estimate").values()
    assert record["config"]["precision"] == "fp32"


def test_partial_sums_that_a_gpu_alone_rounds_are_left_out(store, tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "best_device", lambda: torch.device("cpu"))
    small = {"rows": 2, "inputs": 2, "outputs": 2, "n_matrices": 1, "n_batches": 1}
    grid = [LinearZerosConfig(**small, reduced_precision=reduced) for reduced in (True, False)]
    file = tmp_path / "cells.jsonl"
    plan.write([plan.Cell("10_a", linear_zeros, config, False) for config in grid], file)
    with pytest.warns(UserWarning, match="left out: reduced_precision=True is a GPU's"):
        compute.compute(plan.read(file), store, 60.0)
    (record,) = store.read("mechanism.linear_zeros").values()
    assert record["config"]["reduced_precision"] is False


def test_pages_and_parameters_can_be_chosen(write_page, store, tmp_path, capsys):
    write_page("01_a", Ask)
    write_page("02_b", AskTrainings)
    file = tmp_path / "cells.jsonl"
    options = ["--page", "01", "-p", "seeds", "[4]", "--store", str(store.path)]
    assert main(["plan", *options, "--out", str(file)]) == 0
    (line,) = file.read_text().splitlines()
    assert json.loads(line)["config"]["seed"] == 4
    assert "02_b" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-p", "seed", "[4]"], "unknown parameter seed; choose from compute, max_sec"),
        (["--page", "03"], "no page's name starts with 03"),
        (["slow"], "profile='slow'; choose one of ['paper', 'report']"),
    ],
)
def test_a_wrong_option_is_named(options, message, write_page, store, capsys):
    write_page("01_a", Ask)
    assert main(["plan", *options, "--store", str(store.path)]) == 2
    assert message in capsys.readouterr().err


def test_a_page_checks_its_values():
    with pytest.raises(ValueError, match=r"02_relative_volume.*n_networks='many'"):
        plan.cells("report", Store("records"), {"n_networks": "many"})


def test_every_record_of_the_store_is_found_under_its_key():
    """So that no move of code, and no field that came later, loses a result."""
    store = Store("records")
    for path in store.path.glob("*.jsonl"):
        study = STUDIES[path.stem]
        kind = records.config_class(study)
        for key, record in store.read(path.stem).items():
            config = kind.model_validate(record["config"])
            assert config.model_dump(mode="json") == record["config"]
            if record["version"] == study.version:
                device = record["provenance"].get("device", "cpu")
                assert records.cell_key(study, config, device) == key


def test_the_store_has_every_cell_of_the_published_pages():
    missing = [c for c in plan.cells("report", Store("records"), {}) if not c.known]
    assert missing == []
