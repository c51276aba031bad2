"""The page of functions for one's own code names what `import reluprime` gives."""

import re
from functools import reduce

import pytest

import reluprime
from reluprime.records import REPOSITORY

PAGE = (REPOSITORY / "book" / "api.md").read_text()
NAMES = re.findall(r"^\.\. auto\w+:: reluprime\.([\w.]+)$", PAGE, re.MULTILINE)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_on_the_page_is_there_after_the_import(name):
    assert reduce(getattr, name.split("."), reluprime).__doc__


def test_the_page_has_every_public_name():
    assert {name.partition(".")[0] for name in NAMES} == set(reluprime.__all__)
