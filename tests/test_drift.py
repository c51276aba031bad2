"""One altered record: the stored pages, the scorecard and `verify` each notice."""

import json
import os
import shutil
import subprocess
import sys
import warnings

import pytest

from reluprime import records
from reluprime.records.store import record_digest
from reluprime.records.verify import problems
from reluprime.report import scorecard
from reluprime.report.studies import STUDIES

LEFT_OUT = shutil.ignore_patterns(".*", "_build", "build", "__pycache__", "*.egg-info", "tests")
PAGE, CLAIM = "05_zero_calls", "P17"
STUDY = "zeros.count"


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the report in which one count of zeros is another, and its digest fits it."""
    folder = tmp_path_factory.mktemp("copy") / "reluprime"
    shutil.copytree(records.REPOSITORY, folder, ignore=LEFT_OUT)
    shutil.copy(records.REPOSITORY / "conftest.py", folder)
    return folder


def altered(copy, seal):
    """The store of the copy with one number changed in the line of one record."""
    store = records.Store(copy / "records")
    original = records.Store("records").file(STUDY).read_text().splitlines()
    record = json.loads(original[0])
    zeros = record["result"]["cumulative_zeros"][0]
    zeros[-1] += 5_000
    changed = record | ({"digest": record_digest(record)} if seal else {})
    store.file(STUDY).write_text("\n".join([json.dumps(changed), *original[1:]]) + "\n")
    return store


def test_verify_notices_a_changed_number(copy):
    (found,) = problems(altered(copy, seal=False), STUDIES)
    assert "line 1: its digest does not match" in found


@pytest.mark.parametrize("seal", [False, True])
def test_the_scorecard_notices_a_changed_number_and_a_record_that_is_left_out(seal, copy):
    claims = [
        claim
        for claim in scorecard.CLAIMS
        if any(c.study.study_name == STUDY for c in claim.cells())
    ]
    expected = scorecard.all_judged(records.Store("records"), claims)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert scorecard.all_judged(altered(copy, seal), claims) != expected
    left_out = [w for w in caught if "line 1 is left out: its digest" in str(w.message)]
    assert bool(left_out) != seal


def test_a_stored_page_notices_a_number_whose_digest_was_made_to_fit(copy):
    altered(copy, seal=True)
    notebook = f"notebooks/{PAGE}.ipynb"
    command = ["-m", "pytest", "-q", "--nbval", "--nbval-current-env", notebook, "-W", "default"]
    environment = os.environ | {"PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *command], cwd=copy, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "mismatch" in done.stdout
