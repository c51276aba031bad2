"""What a GPU does otherwise: CONTRIBUTING.md lists the files, and `make gpu` runs the tests."""

import re

import pytest
import torch

from reluprime.records import REPOSITORY

BRANCH = re.compile(
    r'is_cuda|\.type (?:==|!=) "cuda"|\["device"\] == "cuda" and|captures\(|"cuda"(?:\])? if '
)
SKIP = re.compile(r"skip\w*\([^)]*cuda", re.IGNORECASE)
ROW = re.compile(r"^\| `([\w/]+\.py)` \| ([^|]+) \| (?:`([\w/.]+)` )?\|$", re.MULTILINE)


def test_every_file_that_asks_for_a_gpu_is_listed():
    house = REPOSITORY / "reluprime"
    asking = {
        path.relative_to(house).as_posix()
        for path in house.rglob("*.py")
        if BRANCH.search(path.read_text())
    }
    rows = ROW.findall((REPOSITORY / "CONTRIBUTING.md").read_text())
    assert asking == {file for file, _, _ in rows}
    for _, _, test in rows:
        assert not test or (REPOSITORY / test).is_file()


def test_make_gpu_runs_what_others_skip():
    """The mark alone skips a test without a GPU, and selects it there."""
    assert "pytest tests -m cuda\n" in (REPOSITORY / "Makefile").read_text()
    tests = REPOSITORY / "tests"
    assert not [path for path in tests.rglob("test_*.py") if SKIP.search(path.read_text())]


@pytest.mark.cuda
def test_a_test_with_the_mark_has_a_gpu():
    assert torch.cuda.is_available()
