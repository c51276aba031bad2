"""Runs that the rules read, the cells that ask for them, and runs made up as examples."""

from collections.abc import Callable, Iterable

from reluprime.bifurcation.networks import PairedRunConfig
from reluprime.bifurcation.study import paired_run
from reluprime.evidence.claim import Cell, Evidence, Example
from reluprime.evidence.made_up import wobble

LONGEST = 5  # epochs of a run that has no event in the first
MIN_EVENTS = 5  # runs that parted, or seeds with an event, for a test


def run_configs(base: PairedRunConfig, seeds: Iterable[int], **changes) -> list[PairedRunConfig]:
    """`base` with each seed, and with other changes."""
    return [base.replace(seed=seed, **changes) for seed in seeds]


def until_event(base: PairedRunConfig, seeds: Iterable[int]) -> list[Cell]:
    """One epoch of each run, and LONGEST for those that have no event in it."""
    cells = []
    for run in run_configs(base, seeds):
        longer = run.replace(epochs=LONGEST)
        cells += [Cell(paired_run, run), Cell(paired_run, longer, after=run)]
    return cells


def longest_runs(evidence: Evidence, cells: Iterable[Cell]) -> list[dict]:
    """The runs of cells, and of each seed the longest."""
    configs = [cell.config for cell in evidence.due(cells)]
    table = evidence.table(paired_run, configs).sort_values("epochs", kind="stable")
    return table.drop_duplicates(["seed", "precision"], keep="last").to_dict("records")


def paired(event: Callable[[PairedRunConfig], int | None], height: float) -> Example:
    """Runs of 10 steps that part at a step by a height under both rules; None: they do not."""

    def result(cell: Cell) -> dict:
        step = event(cell.config)
        away = height * (1 + wobble(cell.config.seed, 0.3))
        distance = [0.0 if step is None or k < step else away for k in range(10)]
        where = None if step is None else {"step": step}
        return {
            "event": where,
            "distance": {"control": [0.0] * 10, "chain s=1": distance, "injected s=1": distance},
            "exact_zeros": {"activation1": [int(k == step) for k in range(10)]},
        }

    return result


def never(_) -> None:
    return None


def no_records(_) -> None:
    return None
