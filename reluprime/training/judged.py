"""Every run that claims about trainings are judged on, for the page that the claims are on."""

from collections.abc import Iterable, Iterator

import pandas as pd

from reluprime.evidence.claim import Cell, Claim, Evidence
from reluprime.evidence.style import RULE_NAMES
from reluprime.evidence.words import signed
from reluprime.records import Store, study_name
from reluprime.training import arms
from reluprime.training.arms import Scale
from reluprime.training.claims import R7, mnist
from reluprime.training.config import TrainingConfig
from reluprime.training.study import fit

BOTH = "both"  # rules: they agree at s=0
NAMES = {"mlp": "MLP", "vgg11": "VGG11", "resnet18": "ResNet-18", "resnet20": "ResNet-20"}
NAMES |= {"mobilenet_v3_small": "MobileNetV3-small"}


def runs_table(evidence: Evidence, claims: Iterable[Claim]) -> pd.DataFrame:
    """A row a scale, s and gradient rule that a claim is judged on, for the page.

    Columns: claims (ids), training, precision (with the arithmetic), s, rule, the exact zeros of a
    run at s=0 (mean), the test accuracy of each run in the order of the seeds, and the mean
    difference to the run of the same seed at s=0, for which a run that diverged or ended at chance
    counts as chance. A run at s=0 that met no exact zero stands for every other s of its seed, as
    those are equal bit for bit. What a claim reads under a gradient rule and an arithmetic is left
    out until a machine has all of it.
    """
    found = _arms(evidence, claims)
    rows = []
    for arm in sorted(found, key=_order):
        own, ids = found[arm]
        if row := _row(own, *arm):
            rows.append(row | {"claims": ", ".join(ids)})
    columns = ["claims", "training", "precision", "s", "rule", "exact zeros a run at s=0"]
    return pd.DataFrame(rows, columns=[*columns, "test accuracy of each run, %", "points"])


def trend_table(evidence: Evidence) -> pd.DataFrame:
    """R7 by arithmetic: the zeros of the last half of the epochs less those of the first.

    Columns: arithmetic, rule, s (0, or the others together), the mean over the seeds, and each seed
    that met a zero, in their order. As :func:`runs_table`, of complete conditions alone.
    """
    rows = []
    for rule, arithmetic in R7.conditions():
        own = next(iter(evidence.complete(R7.grid(rule, arithmetic)).values()), None)
        if own is None:
            continue
        scale = mnist.fully_connected("bf16", arithmetic)
        at = {"0": (0.0,)} if rule == "chain" else {}
        for s, values in (at | {"other than 0": mnist.M23_S}).items():
            found = mnist.trend_by_seed(own, scale, rule, values)
            row = {"arithmetic": arithmetic, "rule": RULE_NAMES[rule] if s != "0" else BOTH, "s": s}
            each = ", ".join(f"{trend:+.1f}" for trend in found)
            rows.append(row | {"mean": f"{found.mean():+.1f}", "each seed": each})
    return pd.DataFrame(rows, columns=["arithmetic", "rule", "s", "mean", "each seed"])


def evidence_of(store: Store) -> Evidence:
    """The trainings of a store."""
    return Evidence.of_store(store, [study_name(fit)])


def records_of(evidence: Evidence, claims: Iterable[Claim]) -> pd.DataFrame:
    """The records behind :func:`runs_table`, for a page's source line."""
    found = _complete(evidence, claims)
    frames = [own.table(fit, [cell.config for cell in cells]) for _, own, cells in found]
    if not frames:
        return evidence.table(fit, [])
    everything = pd.concat(frames).drop_duplicates("key")
    everything.attrs = frames[0].attrs
    return everything


def _complete(
    evidence: Evidence, claims: Iterable[Claim]
) -> Iterator[tuple[str, Evidence, list[Cell]]]:
    """-> id, what one machine has, cells: of each claim and condition that a machine has whole."""
    for claim in claims:
        for condition in claim.conditions():
            cells = claim.grid(*condition)
            own = next(iter(evidence.complete(cells).values()), None)
            if own is not None:
                yield claim.id, own, cells


def _arms(
    evidence: Evidence, claims: Iterable[Claim]
) -> dict[tuple[Scale, float, str], tuple[Evidence, list[str]]]:
    """For each scale, s and gradient rule its evidence and the ids of the claims judged on it."""
    found: dict[tuple[Scale, float, str], tuple[Evidence, list[str]]] = {}
    for name, own, cells in _complete(evidence, claims):
        for arm in _of_cells(cells):
            _, ids = found.setdefault(arm, (own, []))
            ids += [name] * (name not in ids)
    return found


def _of_cells(cells: Iterable[Cell]) -> list[tuple[Scale, float, str]]:
    seeds: dict[TrainingConfig, set[int]] = {}
    for _, config, _ in cells:
        seeds.setdefault(_base(config), set()).add(config.seed)
    scales = {config: Scale(config, tuple(sorted(own))) for config, own in seeds.items()}
    return [
        (scales[_base(config)], config.s, config.gradient_rule if config.s else BOTH)
        for _, config, _ in cells
    ]


def _order(arm: tuple[Scale, float, str]) -> tuple:
    (config, _), s, rule = arm
    return _training(config), config.precision, config.arithmetic, rule, s


def _base(config: TrainingConfig) -> TrainingConfig:
    return config.replace(s=0.0, gradient_rule="chain", seed=0)


def _row(evidence: Evidence, scale: Scale, s: float, rule: str) -> dict:
    """Empty for a larger scale that no seed asked for, as none met a zero at the smaller one."""
    arm = arms.arm(evidence, scale, s, "chain" if rule == BOTH else rule)
    if not arm.accuracies:
        return {}
    return {
        "training": _training(scale.config),
        "precision": f"{scale.config.precision} {scale.config.arithmetic}",
        "s": f"{s:g}",
        "rule": RULE_NAMES.get(rule, BOTH),
        "exact zeros a run at s=0": f"{arm.zeros:.3g}",
        "test accuracy of each run, %": arms.each(arm),
        "points": signed(100 * arm.values.mean()) if s else "–",
    }


def _training(config: TrainingConfig) -> str:
    """What tells the trainings of the claims apart, in words."""
    sizes = config.hidden_sizes
    size = f"{len(sizes)}x{sizes[0]}" if sizes else f"at width {config.width:g}"
    words = [
        f"{NAMES[config.architecture]} {size}",
        "batch norm" if config.batch_norm else "",
        f"dropout {config.dropout:g}" if config.dropout else "",
        "Adam" if config.optimizer == "adam" else "SGD",
        f"{config.epochs} epochs",
    ]
    return ", ".join(word for word in words if word)
