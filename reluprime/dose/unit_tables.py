"""What kinks do to the units of the fully connected network, by layer and epoch."""

import pandas as pd

from reluprime.dose.experiments import MITIGATIONS, MLP, SEEDS, bands, mlp_grid
from reluprime.dose.runs import kinks_of, measured, pairs, runs
from reluprime.evidence.claim import Cell, Evidence
from reluprime.evidence.intervals import t_margin
from reluprime.evidence.words import signed
from reluprime.training.study import fit

SHOWN = (1e-6, 1e-5, 1e-4)  # widths of the bands whose units are drawn
AT = 1e-5  # the width at which conditions are compared
# What is compared: changes of how the network trains, and s under the constant.
CONDITIONS: dict[str, tuple[dict, float]] = {
    "s=1": ({}, 1.0),
    "s=0.1": ({}, 0.1),
    "s=-1": ({}, -1.0),
    **{f"s=1, {name}": (changes, 1.0) for name, changes in MITIGATIONS.items()},
}


def cells_at(name: str) -> list[Cell]:
    """The runs of a condition at the width AT, and those at s=0 beside them."""
    changes, s = CONDITIONS[name]
    return bands(MLP.replace(**changes), (AT,), (s,), "injected")


def shown_cells() -> list[Cell]:
    """The runs whose units are drawn."""
    return bands(MLP, SHOWN, (1.0,), "injected")


def by_layer(evidence: Evidence, cells: list[Cell]) -> pd.DataFrame:
    """A row a run, layer and epoch (both from 1).

    Columns: s, kink_width, seed, layer, epoch, kinks (of that epoch), dead and always_on (units,
    after it).
    """
    table = evidence.table(fit, dict.fromkeys(cell.config for cell in cells))
    rows = [
        {name: row[name] for name in ("s", "kink_width", "seed")}
        | {"layer": layer, "epoch": epoch, "kinks": kinks, "dead": dead, "always_on": on}
        for row in table.to_dict("records")
        for layer, counts in enumerate(_counts(row), start=1)
        for epoch, (kinks, dead, on) in enumerate(zip(*counts, strict=True), start=1)
    ]
    columns = ["s", "kink_width", "seed", "layer", "epoch", "kinks", "dead", "always_on"]
    return pd.DataFrame(rows, columns=columns)


def _counts(row: dict) -> list[tuple]:
    """For each layer its kinks, dead and always-on units by epoch, of the one network."""
    kinds = (kinks_of(row), row["dead_units"], row["always_on_units"])
    return list(zip(*([of[0] for of in kind.values()] for kind in kinds), strict=True))


def unit_table(evidence: Evidence) -> pd.DataFrame:
    """Kinks and units at one band: a row a condition, means over seeds."""
    rows = []
    for name in CONDITIONS:
        cells = cells_at(name)
        found = pairs(runs(evidence.table(fit, dict.fromkeys(c.config for c in cells))))
        if len(found) < len(SEEDS):
            continue
        layers = by_layer(evidence, cells)
        own, zero = layers[layers["s"] != 0], layers[layers["s"] == 0]
        rows.append(
            {"condition": name, "dose": f"{found['dose'].mean():,.0f}"}
            | {"kinks met": f"{found['kinks'].mean():,.0f}"}
            | {"in the last epoch, of the first": f"{_last_of_first(own):.0%}"}
            | {"the same at s=0": f"{_last_of_first(zero):.0%}"}
            | {"points against s=0": _points(found["difference"])}
            | {"dead, by layer": _after_training(own, "dead")}
            | {"at s=0": _after_training(zero, "dead")}
            | {"always on, by layer": _after_training(own, "always_on")}
        )
    return pd.DataFrame(rows)


def _last_of_first(layers: pd.DataFrame) -> float:
    by_epoch = layers.groupby("epoch")["kinks"].sum()
    return by_epoch.iloc[-1] / by_epoch.iloc[0]


def _points(differences: pd.Series) -> str:
    return f"{signed(100 * differences.mean())} ± {100 * t_margin(differences.to_numpy()):.2f}"


def _after_training(layers: pd.DataFrame, name: str) -> str:
    last = layers[layers["epoch"] == layers["epoch"].max()]
    return ", ".join(f"{mean:.0f}" for mean in last.groupby("layer")[name].mean())


def without_a_layer(pairs: pd.DataFrame) -> dict[str, str]:
    """Of the runs at chance those with a layer that has no unit left, by s: "2 of 2".

    pairs: rows of `runs.pairs` of one network.
    """
    stuck = pairs[pairs["stuck"]]
    sizes = zip(stuck["hidden_sizes"], stuck["dead_by_layer"], strict=True)
    gone = [any(dead == size for dead, size in zip(*both, strict=True)) for both in sizes]
    by_s = stuck.assign(gone=gone).groupby("s")["gone"]
    return {f"{s:g}": f"{own.sum()} of {len(own)}" for s, own in by_s}


def in_prose(evidence: Evidence) -> dict[str, str]:
    """The numbers in the prose about units, by name.

    kinks_last_CONDITION: kinks of the last epoch, of those of the first, at one band, for s0, s1
    and norm (batch norm at s=1). dead_in_one: dead units of the last layer after one epoch, at the
    widest band that is drawn. ruined_S: :func:`without_a_layer`, over all bands under the constant.
    always_on, dead_below: units of s=-1 after training, in all layers.
    """
    released = by_layer(evidence, cells_at("s=1"))
    norm = by_layer(evidence, cells_at("s=1, batch norm"))
    up = by_layer(evidence, cells_at("s=-1"))
    widest = by_layer(evidence, bands(MLP, SHOWN[-1:], (1.0,), "injected"))
    if any(own.empty for own in (released, norm, up, widest)):
        return {}
    ends = {"s0": released[released["s"] == 0], "s1": released[released["s"] == 1]}
    ends["norm"] = norm[norm["s"] == 1]
    first = widest[(widest["s"] == 1) & (widest["epoch"] == 1) & (widest["layer"] == 3)]
    ruined = without_a_layer(measured(evidence, mlp_grid("injected")))
    last = up[(up["s"] == -1) & (up["epoch"] == up["epoch"].max())]
    ends_at = last.groupby("seed")[["always_on", "dead"]].sum()
    words = {f"kinks_last_{name}": f"{_last_of_first(own):.0%}" for name, own in ends.items()}
    return (
        words
        | {f"ruined_{s}": found for s, found in ruined.items()}
        | {
            "dead_in_one": f"{first['dead'].mean():.0f}",
            "always_on": f"{ends_at['always_on'].mean():.0f}",
            "dead_below": f"{ends_at['dead'].mean():.0f}",
        }
    )
