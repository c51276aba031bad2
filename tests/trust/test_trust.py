"""The campaign of `make trust` with another seed and few tries: nothing may go wrong in it."""

import json
import os
import subprocess
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from campaign import FAMILIES
from tries import Tally, changed, child, ended, written

from reluprime.cli import main
from reluprime.records import Store
from reluprime.trust import TrustConfig, campaign, study, tables
from reluprime.trust.grids import TRIES

# The others start pages and commands as processes of their own. Of the parameters all are tried.
FEW = {
    "sweep killed": 2, "training killed": 2, "search killed": 2, "append killed": 2,
    "save killed": 2, "merge killed": 2, "record cut": 60, "disk full": 2, "read-only": 2,
    "no home": 2, "processes": 24, "records": 15, "parameters": 5000, "plans": 8, "data": 6,
    "images": 11, "pickles": 6,
}  # fmt: skip


@pytest.fixture
def folder():
    """Not in pytest's own, which others than the owner may not enter."""
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


@pytest.mark.parametrize("family", FEW)
def test_nothing_is_lost_silent_or_unnamed(family, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("RELUPRIME_CHECKPOINTS", str(folder / "checkpoints"))
    tally, out = Tally(folder), tmp_path / "counts.json"

    def run():  # in a child: it changes what it breaks
        FAMILIES[family](tally, 7, FEW[family], folder)
        out.write_text(json.dumps(tally.result()))

    assert ended(child(run, tmp_path / "error")) == 0, (tmp_path / "error").read_text()
    counts = json.loads(out.read_text())
    assert counts["failures"] == []
    assert not any(counts[kind] for kind in tables.BAD)
    assert counts["tried"] >= min(FEW[family], 8)


def test_every_family_has_its_tries():
    assert FAMILIES.keys() == TRIES.keys()
    assert sum(n for family, n in TRIES.items() if family.endswith("killed")) >= 200


@pytest.mark.parametrize("place", [".", "records", "_build/mine/deep", "folder"])
def test_what_is_written_elsewhere_is_seen(place, tmp_path, monkeypatch):
    monkeypatch.setattr("tries.REPOSITORY", tmp_path / "repository")
    monkeypatch.setattr("tries.PLACES", ("_build/mine", "records"))
    path = tmp_path / ("folder" if place == "folder" else f"repository/{place}") / "file"
    for parent in (tmp_path / "repository", path.parent):
        parent.mkdir(parents=True, exist_ok=True)
    before = written(tmp_path / "folder")
    assert changed(before, written(tmp_path / "folder")) == ""
    path.write_text("")
    once = written(tmp_path / "folder")
    assert changed(before, once) == str(path)
    os.utime(path, (0, 0))
    assert changed(once, written(tmp_path / "folder")) == str(path)


def test_the_study_counts_what_its_process_says():
    found = campaign(TrustConfig(family="pickles", tries=3))
    assert found["tried"] == found["refused"] == 3
    row = {"family": "pickles", "provenance": {"utc": "2026-01-02"}} | found
    frame = pd.DataFrame([row, row | {"lost": 1, "failures": ["lost: a cell"]}])
    table = tables.table(frame)
    assert table["tries"].tolist() == [3, 3, 6]
    assert table["went wrong"].tolist() == [0, 1, 1]
    assert tables.failures(frame).to_dict("records") == [
        {"what": "pickles", "failure": "lost: a cell"}
    ]
    assert tables.bad(frame) == 1
    assert tables.table(frame.iloc[:0]).empty


@pytest.mark.parametrize("lost", [0, 1])
def test_the_command_fails_where_anything_went_wrong(lost, tmp_path, monkeypatch, capsys):
    tally = Tally(tmp_path)
    tally.count("harmless")
    for _ in range(lost):
        tally.count("lost", "a finished cell")

    def says(*_, **__):
        return subprocess.CompletedProcess([], 0, stdout=json.dumps(tally.result()), stderr="")

    monkeypatch.setattr(study, "subprocess", SimpleNamespace(run=says))
    command = ["bench", "trust", "--store", str(tmp_path), "--only", "pickles", "record cut"]
    assert main(command) == lost
    assert len(Store(tmp_path).read("trust.campaign")) == 2
    assert ("a finished cell" in capsys.readouterr().out) == bool(lost)


def test_the_command_says_where_the_tests_are_missing(tmp_path, monkeypatch, capsys):
    """As in an installed wheel."""
    monkeypatch.setattr(study, "CAMPAIGN", tmp_path / "campaign.py")
    assert main(["bench", "trust", "--store", str(tmp_path / "store")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("reluprime bench: it is among the tests, and")
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("said", "seconds", "kind"),
    [
        ("wrong: x.jsonl", 0.1, "refused"),
        ("wrong", 0.1, "unnamed"),
        ("Traceback: KeyError: x.jsonl", 0.1, "unnamed"),
        ("wrong: x.jsonl", 11.0, "late"),
    ],
)
def test_a_refusal_counts_by_what_it_says_and_when(said, seconds, kind, tmp_path):
    tally = Tally(tmp_path)
    tally.refusal(said, ("x.jsonl",), seconds, "a try")
    assert tally.counts[kind] == tally.counts["tried"] == 1
