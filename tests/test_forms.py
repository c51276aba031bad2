"""No record with an impossible config, result or provenance is read, whatever its digest says."""

import functools
import json
import os

import pytest

from reluprime import records
from reluprime.records.keys import key_of
from reluprime.records.results import FORMS
from reluprime.records.store import record_digest
from reluprime.report import plan, scorecard
from reluprime.report.studies import STUDIES

COMMITTED = records.Store("records")
TEXTS_AND_ROWS = {"event", "answer", "unit", "summary"}  # of which a form knows little


@functools.cache
def first_record(name):
    return next(r for _, r in COMMITTED.lines(name)[0] if r["result"].get("event", 1))


def resealed(record):
    """As one who edits a record and knows the rules for keys and digests would leave it."""
    cell = (record["study"], record["version"], record["config"])
    key = key_of(*cell, record["provenance"].get("device", "cpu"))
    record = record | {"key": key}
    return record | {"digest": record_digest(record)}


def write(tmp_path, name, *lines):
    store = records.Store(tmp_path)
    store.file(name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return store


def left_out(tmp_path, record):
    """What a store says of a record between two good ones of its study."""
    name = record["study"]
    good = resealed(first_record(name))
    store = write(tmp_path, name, good, record, good)
    lines = [line for _, line in store.lines(name)[0]]
    assert [isinstance(line, dict) for line in lines] == [True, False, True]
    with pytest.warns(UserWarning, match=f"{name}.jsonl, line 2 is left out"):
        assert len(store.read(name)) == 1
    return str(lines[1])


def test_every_study_has_a_form():
    assert {(name, study.version) for name, study in STUDIES.items()} == {*FORMS}


@pytest.mark.parametrize("name", sorted({*STUDIES} & {*COMMITTED.studies()}))
def test_a_result_without_a_field_or_with_an_odd_one_is_left_out(name, tmp_path):
    record = first_record(name)
    form = FORMS[name, record["version"]]
    for field in sorted((form.model_fields.keys() & record["result"].keys()) - TEXTS_AND_ROWS):
        for odd in ({}, {field: "7"}, {field: {"a": {"b": None}}}):
            result = {n: v for n, v in record["result"].items() if n != field} | odd
            required = form.model_fields[field].is_required() or odd
            if required and result != record["result"]:
                assert "impossible result" in left_out(
                    tmp_path, resealed(record | {"result": result})
                )


@pytest.mark.parametrize(
    "wrong",
    [{"threads": 0}, {"device": "tpu"}, {"wall_seconds": -1}, {"utc": "today"}, {"torch": None},
     {"device_name": 7}],
)  # fmt: skip
def test_an_impossible_provenance_is_left_out(wrong, tmp_path):
    record = first_record("volume.estimate")
    spoilt = resealed(record | {"provenance": record["provenance"] | wrong})
    assert "impossible provenance" in left_out(tmp_path, spoilt)


IMPOSSIBLE = [
    ("training.fit", {"epochs": -1}, {}, "epochs"),
    ("training.fit", {"dropout": 1.0}, {}, "dropout"),
    ("training.fit", {"epochs": 1}, {}, "epochs of networks"),
    ("training.fit", {}, {"test_accuracy": [[1.5] * 5]}, "less than or equal to 1"),
    ("training.fit", {}, {"train_loss": [[]]}, "epochs of networks"),
    ("training.fit", {}, {"exact_zeros": {"activation1": [[10**12] * 5]}}, "more exact_zeros"),
    ("training.fit", {}, {"affected_steps": [[10**6] * 5]}, "more affected_steps"),
    ("training.fit", {}, {"affected_steps": [[0]]}, "another number of epochs"),
    ("volume.estimate", {}, {"screened": [0]}, "screened"),
    ("volume.estimate", {}, {"exact_zeros": {"activation1": 10**15}}, "more exact_zeros"),
    ("volume.estimate", {}, {"affected_chain": [0] * 50}, "first_affected_chain"),
    ("volume.estimate", {"n_networks": 7}, {}, "networks"),
    ("tuning.search", {}, {"best": 99}, "trials"),
    ("zeros.count", {}, {"cumulative_zeros": [[10**15] * 20]}, "more than the calls"),
    ("mechanism.linear_zeros", {}, {"zeros": 10**12}, "more zeros than calls"),
    ("kinks.count", {}, {"calls": {}}, "different kinks"),
    ("kinks.pool_ties", {}, {"tied_at_zero": 10**12}, "more ties"),
    ("bifurcation.paired_run", {}, {"distance": {"control": [0.0]}}, "different lengths"),
    ("bifurcation.weight_plane", {}, {"plane": [[0.0]]}, "square"),
]


@pytest.mark.parametrize(("name", "config", "result", "reason"), IMPOSSIBLE)
def test_what_cannot_be_is_left_out(name, config, result, reason, tmp_path):
    record = first_record(name)
    spoilt = {"config": record["config"] | config, "result": record["result"] | result}
    assert reason in left_out(tmp_path, resealed(record | spoilt))


def test_one_bad_line_takes_no_verdict_and_no_plan_down(tmp_path):
    for name in COMMITTED.studies():
        good = first_record(name)
        nothing = [good | {"result": None}, good | {"provenance": None}]
        spoilt = [{"config": {}}, {"result": {}}, {"provenance": {}}, {"version": 10**30}]
        bad = nothing + [resealed(good | change) for change in spoilt]
        write(tmp_path, name, resealed(good), *bad)
    (tmp_path / "no.study.jsonl").write_text("{}\n")
    store = records.Store(tmp_path)
    with pytest.warns(UserWarning, match="left out"):
        judgements = scorecard.all_judged(store)
    assert len(judgements) == len(scorecard.CLAIMS)
    planned = plan.cells("quick", records.Store(tmp_path / "nothing"), {}, ("03",))
    with pytest.warns(UserWarning, match="left out"):
        plan.cost(planned, store, plan.TFLOPS)


def test_a_record_of_an_image_folder_is_a_record(tmp_path):
    """Which says what was in the folder, not where it was."""
    config = {"architecture": "resnet18", "dataset": "image-folder", "fingerprint": "0" * 16}
    training = STUDIES["training.fit"]
    kind = records.config_class(training)
    full = kind(**config, image_folder="somewhere").model_dump(mode="json")
    record = first_record("training.fit") | {"config": full | {"epochs": 5}}
    store = write(tmp_path, "training.fit", resealed(record))
    assert len(store.read("training.fit")) == 1
    plan.cost(plan.cells("quick", store, {}, ("03",)), store, plan.TFLOPS)


@pytest.mark.parametrize(
    "line",
    [
        '{"key": ' + "[" * 100_000,
        '{"a": ' * 5_000 + "1" + "}" * 5_000,
        "null",
        "1e999",
        "\\ud800",
        "\x00" * 50,
        "1" * 10_000,
    ],
    ids=["deep list", "deep object", "null", "number", "escape", "zeros", "long number"],
)
def test_odd_json_is_a_line_that_is_left_out(line, tmp_path):
    good = resealed(first_record("kinks.count"))
    store = records.Store(tmp_path)
    text = json.dumps(good)
    store.file("kinks.count").write_text(f"{line}\n{text}\n")
    with pytest.warns(UserWarning, match="line 1 is left out: not"):
        assert len(store.read("kinks.count")) == 1


def test_half_a_surrogate_pair_is_no_text(tmp_path):
    record = first_record("network.check")
    spoilt = record | {"result": record["result"] | {"answer": "\ud800"}}
    assert "not JSON" in left_out(tmp_path, resealed(spoilt))


@pytest.mark.parametrize("kind", ["folder", "pipe", "loop"])
def test_what_is_no_file_is_named_and_not_waited_for(kind, tmp_path):
    store = records.Store(tmp_path)
    path = store.file("kinks.count")
    make = {"folder": path.mkdir, "pipe": lambda: os.mkfifo(path)}
    make.get(kind, lambda: path.symlink_to(path))()
    with pytest.raises(records.RecordsError, match=r"kinks\.count\.jsonl"):
        store.read("kinks.count")
