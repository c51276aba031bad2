"""CONTRIBUTING.md's first three paths, walked on a copy as a newcomer would walk them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from reluprime.records import REPOSITORY

STEP = re.compile(
    r"(?:^(?P<where>New file|At the end of|In) `(?P<file>[^`]+)`"
    r"(?:, after `(?P<line>[^`]+)`)?:\n\n)?"
    r"^```(?P<language>\w+)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
LEFT_OUT = shutil.ignore_patterns(".*", "_build", "build", "__pycache__", "*.egg-info")


def sections():
    """{title: its steps} of CONTRIBUTING.md."""
    _, *parts = re.split(r"^## ", (REPOSITORY / "CONTRIBUTING.md").read_text(), flags=re.MULTILINE)
    return {part.partition("\n")[0]: list(STEP.finditer(part)) for part in parts}


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("copy") / "reluprime"
    shutil.copytree(REPOSITORY, folder, ignore=LEFT_OUT)
    return folder


def write(copy: Path, where: str, file: str, line: str | None, text: str) -> None:
    path = copy / file
    if where == "New file":
        assert not path.exists()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    elif line is None:
        path.write_text(f"{path.read_text().rstrip()}\n\n\n{text}")
    else:
        assert path.read_text().splitlines().count(line) == 1, line
        path.write_text(path.read_text().replace(f"{line}\n", f"{line}\n{text}"))


def run(copy: Path, commands: str) -> str:
    """What commands print that all end well, with the copy in the place of the package."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    changed = {"PATH": path, "PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["bash", "-ec", commands],
        cwd=copy,
        env=os.environ | changed,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{commands}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def walk(copy: Path, title: str) -> str:
    """Do what a section says; what its last commands print."""
    printed = ""
    for step in sections()[title]:
        if step["language"] == "bash":
            printed = run(copy, step["text"])
        else:
            write(copy, step["where"], step["file"], step["line"], step["text"])
    return printed


def test_an_architecture(copy):
    assert "1 passed" in walk(copy, "An architecture")


def test_a_study_with_its_page(copy):
    assert "21_dead_neurons: " in walk(copy, "A study with its page")
    assert len((copy / "records" / "dead.share.jsonl").read_text().splitlines()) == 4


def test_a_claim_on_that_study(copy):
    if not (copy / "reluprime" / "dead").exists():  # the test above ran in another process
        walk(copy, "A study with its page")
    printed = walk(copy, "A claim")
    (row,) = (line for line in printed.splitlines() if " X1 " in line)
    assert "reproduced" in row
    assert "before its records" in row


def test_the_other_paths_name_commands_that_exist():
    for title in ("Own parameters", "A GPU's records"):
        for step in sections()[title]:
            for command in re.findall(r"^reluprime (\w+)", step["text"], re.MULTILINE):
                run(REPOSITORY, f"reluprime {command} --help")
