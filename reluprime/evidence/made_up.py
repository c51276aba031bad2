"""Made-up results, on which each rule is tried before its records exist.

An example says for each cell of a claim's grid what its result would be. What a rule answers on
its examples is registered with it, so a rule that comes to answer otherwise is another rule.
"""

from collections.abc import Callable, Iterable

from reluprime import records
from reluprime.evidence.claim import Cell, Claim, Evidence, Example
from reluprime.evidence.finding import Condition, Finding

VERSIONS = ("reluprime", "commit", "python", "torch", "torchvision", "numpy")
PROVENANCE = dict.fromkeys(VERSIONS, "made up") | {
    "device": "cpu",
    "device_name": "made up",
    "threads": 1,
    "wall_seconds": 1.0,
    "utc": "2000-01-01T00:00:00+00:00",
}


def evidence(example: Example, cells: Iterable[Cell]) -> Evidence:
    """Records with the example's results."""
    results = ((cell, example(cell)) for cell in cells)
    return Evidence(_record(cell, result) for cell, result in results if result is not None)


def _record(cell: Cell, result: dict) -> dict:
    return {
        "key": records.cell_key(cell.study, cell.config),
        "study": records.study_name(cell.study),
        "version": cell.study.version,
        "config": cell.config.model_dump(mode="json"),
        "result": result,
        "provenance": PROVENANCE,
    }


def findings(claim: Claim, condition: Condition) -> dict[str, Finding]:
    """What the claim's rule answers on each of its examples."""
    cells = claim.grid(*condition)
    return {
        name: claim.finding(evidence(example, cells), condition)
        for name, example in claim.examples.items()
    }


def wobble(seed: int, size: float) -> float:
    """A number in [-size, size] that changes with the seed and has no trend."""
    return size * ((7 * seed) % 5 - 2) / 2


def trainings(
    loss: Callable[..., float],
    zeros: Callable[..., float] = lambda config: 9,
    epochs: int = 4,
    diverges: Callable[..., bool] = lambda config: False,
) -> Example:
    """Trainings whose test accuracy is 0.9 at s=0, less loss(config) at another s.

    zeros(config): exact zeros of each epoch, a number or one for each of `epochs`. Those for
    which diverges(config) end after the second epoch, in which they meet no more zeros.
    """

    def result(cell: Cell) -> dict:
        config = cell.config
        accuracy = 0.9 + wobble(config.seed, 0.002)
        if config.s:
            accuracy += wobble(config.seed + 1, 0.001) - loss(config)
        met = zeros(config)
        by_epoch = [met] * epochs if isinstance(met, int) else list(met)
        ends = diverges(config)
        if ends:
            by_epoch, accuracy = [by_epoch[0], 0], 0.098
        return {
            "train_loss": [[0.3] * len(by_epoch)],
            "train_accuracy": [[accuracy] * len(by_epoch)],
            "test_accuracy": [[accuracy] * len(by_epoch)],
            "affected_steps": [by_epoch],
            "exact_zeros": {"activation": [by_epoch]},
            "relu_calls": {"activation": 10**8},
            "n_batches": 400,
            "seconds": [1.0] * len(by_epoch),
            "diverged_epoch": [1 if ends else None],
        }

    return result
