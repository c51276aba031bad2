"""Mistreat the package on purpose, in one way many times, and count what becomes of it."""

import json
import os
import subprocess
import sys
import tempfile
from typing import Literal

from pydantic import PositiveInt

from reluprime.config import Config, Seed, study
from reluprime.records import REPOSITORY

Family = Literal[
    "sweep killed",
    "training killed",
    "search killed",
    "append killed",
    "save killed",
    "merge killed",
    "page killed",
    "record cut",
    "disk full",
    "read-only",
    "no home",
    "processes",
    "records",
    "parameters",
    "commands",
    "plans",
    "data",
    "images",
    "pickles",
]
CAMPAIGN = REPOSITORY / "tests" / "trust" / "campaign.py"  # with the tests, not in the wheel


class TrustConfig(Config):
    """Tries of one kind."""

    family: Family
    tries: PositiveInt
    seed: Seed = 0
    precision: Literal["fp32"] = "fp32"


@study("trust.campaign", version=1)
def campaign(config: TrustConfig, device=None) -> dict:
    """Run the tries of a family in a process of its own, in a folder that goes afterwards.

    Returns tried; harmless (taken, and rightly so); refused (by a sentence that names the culprit,
    within 10 s); unnamed (by one that does not, or by a traceback); late (after more than 10 s);
    lost (finished work that was gone); silent (a wrong result without a word); outside (writing
    where it should not); slowest_seconds (of a refusal); and failures, the first few in words.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, CAMPAIGN, config.family, config.seed, config.tries, folder]
        done = subprocess.run(
            [str(word) for word in command],
            cwd=REPOSITORY,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
        )
    if done.returncode:
        raise RuntimeError(f"the campaign itself failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])
