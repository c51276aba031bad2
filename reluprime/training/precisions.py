"""VGG11 by the precision that it is trained in: B21 Fig. 14 at the scale of P14.

The runs are those that P14 is judged on, all in `epilogue`, and one seed at 16 bits in `separate`,
which differs in the output layer alone.
"""

from collections.abc import Iterable, Iterator

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from reluprime.evidence.claim import Cell, Evidence
from reluprime.evidence.panels import legend_below
from reluprime.evidence.style import (
    QUIET,
    RULE_COLOURS,
    RULE_MARKERS,
    RULE_NAMES,
    WIDTH,
    taken_from_pyplot,
)
from reluprime.evidence.words import rounded, signed
from reluprime.instruments.activations import GRADIENT_RULES
from reluprime.training import arms
from reluprime.training.arms import CHANCE, Arm, Scale
from reluprime.training.claims import P14
from reluprime.training.experiments import BASE_VGG, VGG_AT

BOTH = "both"
ARMS = ((0.0, BOTH), (1.0, "chain"), (0.1, "injected"), (1.0, "injected"))  # s, gradient rule
SIXTEEN_BITS = ("fp16", "bf16")
IN_SEPARATE = {
    precision: Scale(BASE_VGG.replace(precision=precision, arithmetic="separate"), (0,))
    for precision in SIXTEEN_BITS
}


def separate_grid() -> list[Cell]:
    """The cells of the one seed in `separate`."""
    return [
        cell
        for scale in IN_SEPARATE.values()
        for rule, s_values in (("chain", (1.0,)), ("injected", (1.0, 0.1)))
        for cell in scale.cells(rule, s_values)
    ]


def grid() -> list[Cell]:
    """The cells of :func:`by_precision`: those of P14 and of `separate`."""
    by_rule = (P14.grid(rule, "epilogue") for rule in GRADIENT_RULES)
    return [cell for own in by_rule for cell in own] + separate_grid()


def by_precision(evidence: Evidence) -> pd.DataFrame:
    """A row a precision, arithmetic, number of epochs, s and gradient rule that has a run.

    Columns: those five, and arm (an `arms.Arm`). Where no run at s=0 met an exact zero, an arm's
    accuracies are those at s=0, as they are equal bit for bit.
    """
    rows = [
        {"precision": scale.config.precision, "arithmetic": scale.config.arithmetic}
        | {"epochs": scale.config.epochs, "s": s, "gradient_rule": rule}
        | {"arm": arms.arm(evidence, scale, s, "chain" if rule == BOTH else rule)}
        for scale in _scales()
        for s, rule in ARMS
    ]
    table = pd.DataFrame(rows)
    return table[table["arm"].map(lambda arm: len(arm.accuracies) > 0)].reset_index(drop=True)


def _scales() -> Iterator[Scale]:
    for precision, experiment in VGG_AT.items():
        yield from (experiment.small, *experiment.large)
        if precision in IN_SEPARATE:
            yield IN_SEPARATE[precision]


def table(found: pd.DataFrame) -> pd.DataFrame:
    """:func:`by_precision` for the page: every run's accuracy, the means and their difference."""
    return pd.DataFrame(
        {
            "precision": row["precision"],
            "arithmetic": row["arithmetic"],
            "epochs": row["epochs"],
            "s": f"{row['s']:g}",
            "rule": RULE_NAMES.get(row["gradient_rule"], BOTH),
            "exact zeros a run at s=0": f"{row['arm'].zeros:.3g}",
            "test accuracy of each run, %": arms.each(row["arm"]),
            "points against s=0, mean": _points(row),
        }
        for row in found.to_dict("records")
    )


def _points(row: dict) -> str:
    return signed(100 * row["arm"].values.mean()) if row["s"] else "–"


def in_prose(found: pd.DataFrame) -> dict[str, str]:
    """The numbers in the prose about :func:`by_precision`, by name, all in `epilogue`.

    zeros_PRECISION: that a run at s=0 meets, at the smaller scale (mean). points_RULE_S_PRECISION:
    what s changes there, at 16 bits. stuck_RULE_S: how many of all runs at that s and 16 bits
    diverged or ended at chance. "–" where there are no runs.
    """
    own = found[found["arithmetic"] == "epilogue"]
    small = own[own["epochs"] == BASE_VGG.epochs]
    values = {
        f"zeros_{precision}": rounded(arm.zeros)
        for precision, arm in small[small["s"] == 0].set_index("precision")["arm"].items()
    }
    half = own[own["precision"].isin(SIXTEEN_BITS)]
    for s, rule in ARMS[1:]:
        arm = half[(half["s"] == s) & (half["gradient_rule"] == rule)]
        values[f"stuck_{rule}_{s:g}"] = _stuck(arm["arm"])
        values |= {
            f"points_{rule}_{s:g}_{row['precision']}": _points(row)
            for row in arm[arm["epochs"] == BASE_VGG.epochs].to_dict("records")
        }
    names = [f"zeros_{precision}" for precision in VGG_AT]
    names += [f"points_{rule}_{s:g}_{p}" for s, rule in ARMS[1:] for p in SIXTEEN_BITS]
    return dict.fromkeys(names, "–") | values


def _stuck(found: Iterable[Arm]) -> str:
    each = [at_chance for arm in found for at_chance in arm.at_chance.values()]
    return f"{sum(each)} of {len(each)}" if each else "–"


def figure(found: pd.DataFrame) -> Figure:
    """Test accuracy of every run of :func:`by_precision`, a panel a number of epochs.

    A run that diverged stands at chance, as it enters the tests; open marks are `separate`.
    """
    precisions = [name for name in VGG_AT if name in set(found["precision"])]
    epochs = sorted(set(found["epochs"]))
    drawn, panels = plt.subplots(
        1, len(epochs), figsize=(WIDTH, 3.4), sharex=True, sharey=True, squeeze=False
    )
    for panel, n in zip(panels[0], epochs, strict=True):
        for row in found[found["epochs"] == n].to_dict("records"):
            place = ARMS.index((row["s"], row["gradient_rule"]))
            x = precisions.index(row["precision"]) + 0.2 * (place - 1.5)
            x += 0.09 * (row["arithmetic"] == "separate")  # beside the filled marks
            values = 100 * row["arm"].counted
            panel.plot([x] * len(values), values, **_style(row))
        panel.axhline(100 * CHANCE, color=QUIET, linewidth=0.8, linestyle=":")
        panel.set(title=f"{n} epochs", xlabel="precision")
    panels[0, 0].set_xticks(range(len(precisions)), precisions)
    panels[0, 0].set_xlim(-0.5, len(precisions) - 0.5)
    panels[0, 0].set(ylabel="test accuracy, %", ylim=(0, None))
    legend_below(drawn, panels[0], ncols=2)
    return taken_from_pyplot(drawn)


def _style(row: dict) -> dict:
    rule, separate = row["gradient_rule"], row["arithmetic"] == "separate"
    colour = RULE_COLOURS.get(rule, QUIET)
    label = f"s={row['s']:g}" + (f", {RULE_NAMES[rule]}" if rule in RULE_NAMES else "")
    small = row["s"] not in (0.0, 1.0)
    return {
        "color": colour,
        "marker": "v" if small else RULE_MARKERS.get(rule, "s"),
        "markerfacecolor": "white" if separate else colour,
        "linestyle": "none",
        "markersize": 5,
        "label": f"{label} (separate)" if separate else label,
    }
