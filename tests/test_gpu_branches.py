"""The list of what a GPU does otherwise, in CONTRIBUTING.md, names every such file."""

import re

from reluprime.records import REPOSITORY

BRANCH = re.compile(
    r'is_cuda|\.type (?:==|!=) "cuda"|\["device"\] == "cuda" and|captures\(|"cuda"(?:\])? if '
)
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
