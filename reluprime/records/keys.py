"""What a cell, one (study, config), is called.

A study is a function ``study(config, device=None) -> dict`` of one frozen pydantic model that has
a `precision` and may have a `reduced_precision`; its name and version are those of `config.study`.
"""

import functools
import hashlib
import json
from collections.abc import Callable
from typing import get_type_hints

from pydantic import BaseModel


def study_name(study: Callable) -> str:
    """What a study is called in the store: see `config.study`."""
    return study.study_name


@functools.lru_cache
def config_class(study: Callable) -> type[BaseModel]:
    """The class of a study's configs: the type of its argument `config`."""
    return get_type_hints(study)["config"]


def cell_key(study: Callable, config: BaseModel, device: str = "cpu") -> str:
    """16 hex digits (of a SHA-256) for the study's name, its version, the config and the device.

    device: "cpu" or "cuda". Its kernels add up in another order, so a cell's results on both are
    two records, and neither replaces the other.
    """
    return key_of(study_name(study), study.version, config.model_dump(mode="json"), device)


def key_of(name: str, version: int, config: dict, device: str) -> str:
    """:func:`cell_key` of a record's fields: its config as JSON has it."""
    cell = {"study": name, "version": version, "config": config}
    if device != "cpu":  # which the first records do not name
        cell["device"] = device
    return digest(cell)


def digest(content) -> str:
    """16 hex digits of a SHA-256 over JSON, whatever the order of its fields."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
