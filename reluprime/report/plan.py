"""What a profile of the report still lacks, what that costs, and a file of it to be computed.

The cells are those that the notebooks' own code asks for. Arithmetic is that of matrix products
and convolutions (torch's flop counter on one image) times images, epochs and networks; a training
step counts as three forward passes, a search as if no trial were stopped, a Monte Carlo as if no
network were left early.
"""

import contextlib
import json
import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import pandas as pd
import torch
import yaml
from pydantic import BaseModel, ValidationError
from torch.utils.flop_counter import FlopCounterMode

from reluprime import bifurcation, records, volume
from reluprime.evidence import claim
from reluprime.instruments import data, models
from reluprime.instruments.activations import ReLU
from reluprime.report.page import annotated
from reluprime.report.studies import STUDIES
from reluprime.search import study as tuning
from reluprime.training.config import TrainingConfig

NOTEBOOKS = records.REPOSITORY / "notebooks"
TFLOPS = 30.0  # assumed of a large GPU, fp32 without TF32


class Cell(NamedTuple):
    """A cell that a page asks for."""

    page: str
    study: Callable
    config: BaseModel
    known: bool  # whether the store has it


def cells(
    profile: str, store: str, changes: dict[str, Any], only: tuple[str, ...] = ("",)
) -> list[Cell]:
    """The cells of pages at a profile, each once, in the order in which to compute them.

    changes: parameters in the place of the profile's; only: how the pages' names start. A page
    whose cells depend on the results of others (trainings with the learning rates that searches
    find) asks for those that are known.

    Raises ValueError for an unknown profile or parameter, RuntimeError where a page does not take
    the values or its code that asks for cells fails.
    """
    profiles = {path.stem: path for path in (NOTEBOOKS / "profiles").glob("*.yaml")}
    if profile not in profiles:
        raise ValueError(f"unknown profile {profile!r}; choose from {', '.join(sorted(profiles))}")
    parameters = yaml.safe_load(profiles[profile].read_text())
    if unknown := sorted(changes.keys() - parameters.keys()):
        known = ", ".join(sorted(parameters))
        raise ValueError(f"unknown parameter {', '.join(unknown)}; choose from {known}")
    parameters |= {"store": store, **changes}
    found: dict[str, Cell] = {}
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        for cell in _asked(path, parameters) if path.stem.startswith(only) else ():
            found.setdefault(records.cell_key(cell.study, cell.config), cell)
    return sorted(found.values(), key=_order)


def _order(cell: Cell) -> tuple:
    """Page by page; first seeds before later ones, and first s=0 and what is farthest from it."""
    inner = getattr(cell.config, "training", cell.config)
    s = getattr(inner, "s", 0.0)
    return cell.page, getattr(inner, "seed", 0), -abs(s) if s else -math.inf


def _asked(path: Path, parameters: dict[str, Any]) -> list[Cell]:
    from IPython.utils.capture import capture_output  # a machine that only computes may lack it

    sweeps: list[list[Cell]] = []
    namespace: dict[str, Any] = {"__name__": "__main__"}
    with _noted(path.stem, sweeps), capture_output():
        for code, tags in _code(path):
            before = len(sweeps)
            try:
                exec(code, namespace)
            except ValidationError as error:  # of a config, wherever it is made
                raise RuntimeError(f"{path.name} cannot say its cells: {error}") from error
            except Exception as error:  # where it shows results: some are missing or left out
                if "Page(" in code or len(sweeps) - before < code.count("sweep("):
                    raise RuntimeError(f"{path.name} cannot say its cells: {error!r}") from error
            if "parameters" in tags:
                declared = annotated(code)
                namespace |= {n: v for n, v in parameters.items() if n in declared}
    plt.close("all")  # drawn beside what was asked for, and not to be shown
    return [cell for asked in sweeps for cell in asked]


def _code(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Code and tags of a notebook that asks for cells, without what only shows results."""
    found = [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
    sources = ["".join(cell["source"]) for cell in found]
    if not any("sweep(" in code for code in sources):
        return
    for cell, code in zip(found, sources, strict=True):
        tags = cell["metadata"].get("tags", [])
        shows = "figure" in cell["metadata"].get("mystnb", {}) or "remove-input" in tags
        if "sweep(" in code or not (shows or "page.show(" in code):
            yield code, tags


@contextlib.contextmanager
def _noted(page: str, sweeps: list[list[Cell]]) -> Iterator[None]:
    """Within, sweeps compute nothing and put their cells into `sweeps`."""
    sweep = records.sweep

    def note(study, configs, store, *_, **__) -> pd.DataFrame:
        configs = list(configs)
        frame = sweep(study, configs, store, compute="never")
        known = _known(study, configs, store)
        sweeps.append([Cell(page, study, c, k) for c, k in zip(configs, known, strict=True)])
        return frame

    records.sweep = note
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # missing cells are what is looked for
            yield
    finally:
        records.sweep = sweep


def _known(study: Callable, configs: list[BaseModel], store: records.Store) -> list[bool]:
    keys = store.read(records.study_name(study)).keys()
    both = ("cpu", "cuda")
    return [any(records.cell_key(study, c, device) in keys for device in both) for c in configs]


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
    name = getattr(inner, "architecture", "mlp")
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
    for path in sorted(store.path.glob("*.jsonl")):
        function = STUDIES[path.stem]
        for record in store.read(path.stem).values():
            how = record["provenance"]
            config = records.config_class(function).model_validate(record["config"])
            rate = arithmetic.of(config) / max(how["wall_seconds"], 1e-3)
            if record["version"] == function.version and not math.isnan(rate):
                found.setdefault((how["device"], *_kind(path.stem, config)), []).append(rate)
    return {key: median(values) for key, values in found.items()}


def cost(planned: list[Cell], store: records.Store, tflops: float) -> pd.DataFrame:
    """What is missing, by page (its number), study, network and data set, and its hours.

    "hours, CPU" (or GPU): at the median rate that the store's own records of the same study,
    architecture and precision reached there, whatever their width; "over" where some cells have
    no such record and count nothing. "hours at N TFLOP/s": at a rate that you expect. Neither
    knows what is not arithmetic.
    """
    arithmetic = Arithmetic()
    measured = rates(store, arithmetic)
    rows = pd.DataFrame(_costs(cell, arithmetic, measured) for cell in planned if not cell.known)
    if rows.empty:
        return rows
    asked = Counter(_row(cell) for cell in planned)
    lines = []
    for (page, experiment), group in rows.groupby(["page", "experiment"], sort=False):
        operations = group["operations"].sum(skipna=False)
        line = {
            "page": page,
            "experiment": experiment,
            "missing": f"{len(group)} of {asked[page, experiment]}",
            "PFLOP": _text(operations / 1e15),
        }
        for device, kind in (("cpu", "CPU"), ("cuda", "GPU")):
            if any(key[0] == device for key in measured):
                hours, unknown = group[device].sum() / 3600, group[device].isna()
                over = "over " if unknown.any() else ""
                line[f"hours, {kind}"] = "" if unknown.all() else over + _text(hours)
        line[f"hours at {tflops:g} TFLOP/s"] = _text(operations / tflops / 3.6e15)
        lines.append(line)
    return pd.DataFrame(lines)


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


def _text(number: float) -> str:
    return "" if math.isnan(number) else f"{number:,.2f}" if number < 10 else f"{number:,.0f}"


# ---- as a file ----


def write(planned: list[Cell], path: Path) -> None:
    """The cells that are not known, a JSON line each."""
    lines = [
        json.dumps(
            {"study": records.study_name(c.study), "config": c.config.model_dump(mode="json")}
        )
        for c in planned
        if not c.known
    ]
    path.write_text("".join(f"{line}\n" for line in lines))


def read(path: Path) -> list[claim.Cell]:
    """The cells of a file that :func:`write` wrote.

    Raises ValueError naming a line that is no cell.
    """
    found = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        try:
            asked = json.loads(line)
            study = STUDIES[asked["study"]]
            config = records.config_class(study).model_validate(asked["config"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}, line {number} is no cell to compute: {error!r}") from error
        found.append(claim.Cell(study, config))
    return found
