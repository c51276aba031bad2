"""What a profile of the report still lacks, what that costs, and a file of it to be computed.

The cells are those of the pages' grids. Arithmetic is that of matrix products
and convolutions (torch's flop counter on one image) times images, epochs and networks; a training
step counts as three forward passes, a search as if no trial were stopped, a Monte Carlo as if no
network were left early.
"""

import functools
import json
import math
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import pandas as pd
import torch
from pydantic import BaseModel
from torch.utils.flop_counter import FlopCounterMode

from reluprime import bifurcation, records, volume
from reluprime.evidence import claim
from reluprime.instruments import data, models
from reluprime.instruments.activations import ReLU
from reluprime.parameters import Parameters
from reluprime.report import pages
from reluprime.report.studies import STUDIES
from reluprime.search import study as tuning
from reluprime.training.config import TrainingConfig

TFLOPS = 30.0  # assumed of a large GPU, fp32 without TF32


class Cell(NamedTuple):
    """A cell that a page asks for."""

    page: str
    study: Callable
    config: BaseModel
    known: bool  # whether the store has it


def cells(
    profile: str, store: records.Store, changes: dict[str, Any], only: tuple[str, ...] = ("",)
) -> list[Cell]:
    """The cells of pages at a profile, each once, in the order in which to compute them.

    changes: parameters in the place of the profile's; only: how the pages' names start. A page
    whose cells depend on the results of others (trainings with the learning rates that searches
    find) asks for those that are known.

    Raises ValueError for an unknown profile, page or parameter, and a value that a page does not
    take.
    """
    stored = functools.cache(lambda study: store.read(records.study_name(study)).keys())
    found: dict[str, Cell] = {}
    for page, values in pages.values(profile, changes, only).items():
        for study, config in _asked(pages.checked(page, values), store):
            keys = [records.cell_key(study, config, device) for device in claim.DEVICES]
            known = any(key in stored(study) for key in keys)
            found.setdefault(keys[0], Cell(page, study, config, known))
    return sorted(found.values(), key=_order)


def _order(cell: Cell) -> tuple:
    """Page by page; first seeds before later ones, and first s=0 and what is farthest from it."""
    inner = getattr(cell.config, "training", cell.config)
    s = getattr(inner, "s", 0.0)
    return cell.page, getattr(inner, "seed", 0), -abs(s) if s else -math.inf


def _asked(parameters: Parameters, store: records.Store) -> list[tuple[Callable, BaseModel]]:
    grids = parameters.grids()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # missing cells are what is looked for
        found = {
            name: records.sweep(*grids[name], store, compute="never")
            for name in parameters.needed_first
        }
    grids = grids | parameters.grids_after(found)
    return [(study, config) for study, grid in grids.values() for config in grid]


# ---- what it costs ----


class Arithmetic:
    """Floating-point operations of cells; one forward pass of each network is counted."""

    def __init__(self):
        self._forward: dict[str, int] = {}

    def forward(self, config: models.NetworkConfig) -> int:
        """Of one image."""
        network = models.NetworkConfig(
            **{
                name: getattr(config, name)
                for name in models.NetworkConfig.model_fields
                if name != "arithmetic"  # whose products are the same
            }
        )
        key = repr(network)
        if key not in self._forward:
            shape = (1, 28, 28) if network.traits.fully_connected else (3, 32, 32)
            built = models.build(network, shape, 10, ReLU, seed=0).eval()
            counter = FlopCounterMode(display=False)
            with counter, torch.no_grad():
                built(torch.zeros(1, *shape))
            self._forward[key] = counter.get_total_flops()
        return self._forward[key]

    def of(self, config: BaseModel) -> float:
        """Of a whole cell; nan where this module has no rule for its kind."""
        if isinstance(config, tuning.SearchConfig):
            return config.n_trials * 0.8 * self.of(config.training)  # a fifth validates
        (images, _), _ = data.SIZES.get(getattr(config, "dataset", ""), ((math.nan, 0), ()))
        if isinstance(config, volume.VolumeConfig):
            seen = min(images, (config.max_batches or math.inf) * config.batch_size)
            return config.n_networks * seen * self.forward(config)
        if isinstance(config, bifurcation.PairedRunConfig):
            networks = 2 + len(config.variants)  # s=0, its control, and the variants
            mlp = models.NetworkConfig(hidden_sizes=config.hidden_sizes)
            return networks * config.epochs * images * 3 * self.forward(mlp)
        if isinstance(config, TrainingConfig):
            seen = config.n_train or images
            return config.n_networks * config.epochs * seen * 3 * self.forward(config)
        return math.nan


def _network(config: BaseModel) -> str:
    inner = getattr(config, "training", config)
    name = getattr(inner, "architecture", getattr(config, "network", "mlp"))
    return f"{name} with batch norm" if getattr(inner, "batch_norm", False) else name


def _kind(study: str, config: BaseModel) -> tuple:
    """The group of cells whose records tell how many operations a second a cell will do.

    Study, network, precision, arithmetic of the layers, and whether networks are left early. What
    a group has in common decides the speed; widths, epochs and numbers of networks only decide
    the number of operations, which is counted.
    """
    early = getattr(config, "stop_at_first", False)
    inner = getattr(config, "training", config)
    arithmetic = getattr(inner, "arithmetic", "native")
    return study, _network(config), config.precision, arithmetic, early


def rates(store: records.Store, arithmetic: Arithmetic) -> dict[tuple, float]:
    """Operations a second of a store's records: {(device, *kind of cell): their median}."""
    found: dict[tuple, list[float]] = {}
    for name, function in STUDIES.items():
        for record in store.read(name).values():
            if record["version"] != function.version:
                continue
            how = record["provenance"]
            config = records.config_class(function).model_validate(record["config"])
            rate = arithmetic.of(config) / max(how["wall_seconds"], 1e-3)
            if not math.isnan(rate):
                found.setdefault((how["device"], *_kind(name, config)), []).append(rate)
    return {key: median(values) for key, values in found.items()}


def cost(planned: list[Cell], store: records.Store, tflops: float) -> pd.DataFrame:
    """What is missing, by page (its number), study, network and data set, and its hours.

    "hours, CPU" (or GPU): at the median rate that the store's own records of the same study,
    architecture and precision reached there, whatever their width. "hours at N TFLOP/s": at a rate
    that you expect. Neither knows what is not arithmetic. "over": some cells have no known cost,
    and count nothing. Of several rows the last is their sum.
    """
    arithmetic = Arithmetic()
    measured = rates(store, arithmetic)
    rows = pd.DataFrame(_costs(cell, arithmetic, measured) for cell in planned if not cell.known)
    if rows.empty:
        return rows
    asked = Counter(_row(cell) for cell in planned)
    found = {row: group for row, group in rows.groupby(["page", "experiment"], sort=False)}
    if len(found) > 1:
        asked["all", ""] = sum(asked[row] for row in found)
        found["all", ""] = rows
    devices = {key[0] for key in measured}
    return pd.DataFrame(
        {
            "page": page,
            "experiment": experiment,
            "missing": f"{len(group)} of {asked[page, experiment]}",
            "PFLOP": _sum(group["operations"] / 1e15),
        }
        | {
            f"hours, {kind}": _sum(group[device] / 3600)
            for device, kind in (("cpu", "CPU"), ("cuda", "GPU"))
            if device in devices
        }
        | {f"hours at {tflops:g} TFLOP/s": _sum(group["operations"] / tflops / 3.6e15)}
        for (page, experiment), group in found.items()
    )


def _row(cell: Cell) -> tuple[str, str]:
    """Where a cell counts: page and experiment."""
    data_set = getattr(getattr(cell.config, "training", cell.config), "dataset", "")
    name = records.study_name(cell.study)
    return cell.page[:2], f"{name}: {_network(cell.config)}, {data_set}"


def _costs(cell: Cell, arithmetic: Arithmetic, measured: dict[tuple, float]) -> dict:
    """Operations of a cell, and its seconds on each kind of device."""
    (page, experiment), operations = _row(cell), arithmetic.of(cell.config)
    kind = _kind(records.study_name(cell.study), cell.config)
    seconds = {
        device: operations / measured.get((device, *kind), math.nan) for device in ("cpu", "cuda")
    }
    return {"page": page, "experiment": experiment, "operations": operations, **seconds}


def _sum(costs: pd.Series) -> str:
    """Of the costs that are known: "over" if some are not, nothing if none is."""
    if costs.isna().all():
        return ""
    total, over = costs.sum(), "over " if costs.isna().any() else ""
    return over + (f"{total:,.2f}" if total < 10 else f"{total:,.0f}")


# ---- as a file ----


def write(planned: list[Cell], path: Path) -> None:
    """The cells that are not known, a JSON line each."""
    lines = [
        json.dumps(
            {
                "study": records.study_name(c.study),
                "version": c.study.version,
                "config": c.config.model_dump(mode="json"),
            }
        )
        for c in planned
        if not c.known
    ]
    path.write_text("".join(f"{line}\n" for line in lines))


def read(path: Path) -> list[claim.Cell]:
    """The cells of a file that :func:`write` wrote.

    Raises ValueError naming a line that is no cell, or one of another version of its study.
    """
    found = []
    try:
        lines = path.read_text().splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no file of cells to compute: {error}") from error
    for number, line in enumerate(lines, start=1):
        try:
            found.append(_cell(json.loads(line)))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"{path}, line {number} is no cell to compute: {error!r}") from error
    return found


def _cell(asked: dict[str, Any]) -> claim.Cell:
    study = STUDIES[asked["study"]]
    if asked["version"] != study.version:
        raise ValueError(f"version {asked['version']}, but here it is {study.version}")
    return claim.Cell(study, records.config_class(study).model_validate(asked["config"]))
