"""How a record came about."""

import functools
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import torch
from pydantic import BaseModel

from reluprime import __version__
from reluprime.instruments import precision
from reluprime.records.store import REPOSITORY

UNCOMMITTED = "-dirty"  # at the end of a commit that the package differed from


def describe(config: BaseModel, device: torch.device, wall_seconds: float) -> dict:
    """How a result came about: versions, hardware and numerics; no path and no host name."""
    reduced = getattr(config, "reduced_precision", False)
    return {
        "reluprime": __version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "torchvision": metadata.version("torchvision"),
        "numpy": metadata.version("numpy"),
        "cuda": torch.version.cuda,
        "device": device.type,
        "device_name": _device_name(device),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "precision": precision.describe(config.precision, device, reduced),
        "wall_seconds": round(wall_seconds, 3),
        "utc": datetime.now(UTC).isoformat(timespec="seconds"),
    }


@functools.cache
def _commit() -> str:
    """Short hash of HEAD, with "-dirty" if the package differs; "unknown" outside a clone.

    In what `git archive` wrote it is the hash that git put into the file COMMIT.
    """
    if not (REPOSITORY / ".git").exists():  # an installed copy may lie in some other clone
        return _archived_commit()
    git = functools.partial(subprocess.run, cwd=REPOSITORY, check=True, capture_output=True)
    try:
        head = git(["git", "rev-parse", "--short", "HEAD"]).stdout.decode().strip()
        changes = git(["git", "--no-optional-locks", "status", "--porcelain", "reluprime"]).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head}{UNCOMMITTED}" if changes else head


def _archived_commit() -> str:
    file = REPOSITORY / "reluprime" / "COMMIT"
    text = file.read_text().strip() if file.exists() else ""
    return text if text.isalnum() else "unknown"  # not the placeholder that git replaces


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    for line in cpuinfo.read_text().splitlines() if cpuinfo.exists() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
