"""Whether a widened kink is a fair stand-in: runs whose zeros are real, beside the band."""

import numpy as np
import pandas as pd

from reluprime.dose.claims.stand_in import beside_the_band
from reluprime.dose.experiments import GRIDS, REAL_S, SEEDS
from reluprime.dose.runs import kinks_of, measured
from reluprime.dose.tables import mean_points
from reluprime.dose.thresholds import loss_at
from reluprime.evidence.claim import Cell, Evidence
from reluprime.evidence.words import signed
from reluprime.training import experiments
from reluprime.training.arms import Scale
from reluprime.training.study import fit

# The trainings of page 03 at fp32, whose few zeros are real.
CONVOLUTIONAL = {
    "vgg11": experiments.BASE_VGG.replace(n_train=50_000, epochs=6),
    "resnet18": experiments.BASE_RESNET.replace(n_train=50_000),
}


def stand_in_table(evidence: Evidence) -> pd.DataFrame:
    """Runs with real zeros beside the band at their dose: a row a precision, rule and s."""
    rows = []
    for rule in REAL_S:
        found = beside_the_band(evidence, rule)
        if found.empty:
            continue
        for (precision, s), own in found.groupby(["real_precision", "s"]):
            apart = own["difference"] + own["at_equal_dose"]
            banded = own["at_equal_dose"].mean()
            rows.append(
                {"rule": rule, "precision": precision, "s": f"{s:g}", "runs": len(own)}
                | {"real zeros (dose)": f"{own['dose'].mean():,.0f}"}
                | {"met": f"{own['kinks'].mean():,.0f}"}
                | {"points against s=0": mean_points(own["difference"])}
                | {"band at that dose": signed(-100 * banded)}
                | {"real less band": mean_points(apart)}
                | {"by run": ", ".join(signed(100 * a) for a in apart)}
                | {"units that died": f"{(own['dead_units'] - own['dead_at_0']).mean():,.0f}"}
            )
    return pd.DataFrame(rows)


def real_grid(network: str) -> list[Cell]:
    """Trainings of a convolutional network without a band: s=0, and s=1 under the constant."""
    scale = Scale(CONVOLUTIONAL[network], SEEDS)
    seeds, s_values = scale.seeds, (0.0, 1.0)
    return [Cell(fit, scale.arm(s, "injected", seed)) for seed in seeds for s in s_values]


def convolutional_table(evidence: Evidence) -> pd.DataFrame:
    """Convolutional networks at s=1 under the constant: real zeros, then each band, by dose."""
    rows = []
    for network in CONVOLUTIONAL:
        real, band = real_grid(network), GRIDS[network]("injected")
        banded = measured(evidence, band)
        banded = banded[(banded["s"] == 1) & (banded["kink_width"] > 0)]
        curve = banded.groupby("kink_width")[["dose", "difference"]].mean()
        own = measured(evidence, real)
        if len(own):
            lost = loss_at(curve["dose"], -curve["difference"], own["dose"].mean())
            beside = "none that small" if np.isnan(lost) else signed(-100 * lost)
            kinks = _by_layer(evidence, real, 0.0)
            name = f"real zeros, {CONVOLUTIONAL[network].epochs} epochs"
            rows.append(_row(network, name, own, kinks) | {"bands at that dose": beside})
        for width, at in banded.groupby("kink_width"):
            kinks = _by_layer(evidence, band, width)
            rows.append(_row(network, f"band of {width:g}", at, kinks) | {"bands at that dose": ""})
    return pd.DataFrame(rows)


def _row(network: str, kinks: str, own: pd.DataFrame, by_layer: np.ndarray) -> dict:
    each = -100 * own["difference"].sum() / own["dose"].sum()
    return {
        "network": network,
        "kinks": kinks,
        "runs": len(own),
        "dose": f"{own['dose'].mean():,.0f}",
        "doses of the runs": f"{own['dose'].min():,.0f} to {own['dose'].max():,.0f}",
        "exact zeros among them": f"{own['real_dose'].sum() / own['dose'].sum():.0%}",
        "points against s=0": mean_points(own["difference"]),
        "points lost a kink": f"{each:.2g}",
        "in the layer with most": f"{by_layer.max() / by_layer.sum():.0%} in "
        f"activation {by_layer.argmax() + 1}",
    }


def _by_layer(evidence: Evidence, cells: list[Cell], width: float) -> np.ndarray:
    """The kinks of the runs at s=0 with a band, by layer, over all seeds."""
    configs = dict.fromkeys(c.config for c in cells)
    wanted = [c for c in configs if c.s == 0 and c.kink_width == width]
    rows = evidence.table(fit, wanted).to_dict("records")
    return np.sum([[sum(layer[0]) for layer in kinks_of(r).values()] for r in rows], axis=0)


def in_prose(table: pd.DataFrame) -> dict[str, str]:
    """The numbers in the prose about :func:`convolutional_table`, by name; of VGG11.

    real_a_kink and band_a_kink (the narrowest): points lost a kink; real_runs; real_points, of
    the runs whose zeros are real.
    """
    own = table[table["network"] == "vgg11"]
    is_real = own["kinks"].str.startswith("real")
    if not is_real.any() or is_real.all():
        return {}
    real, band = own[is_real].iloc[0], own[~is_real].iloc[0]
    found = {"real_a_kink": real["points lost a kink"], "real_runs": str(real["runs"])}
    found |= {"real_points": real["points against s=0"]}
    return found | {"band_a_kink": band["points lost a kink"]}


def stand_in_in_prose(table: pd.DataFrame) -> dict[str, str]:
    """The least and the most of "real less band" of :func:`stand_in_table` under the constant.

    Of the rows whose interval is within a point either way; with precision and s.
    """
    own = table[table["rule"] == "injected"] if len(table) else table
    numbers = [[float(n) for n in words.split(" ± ")] for words in own.get("real less band", [])]
    told = sorted((mean, place) for place, (mean, half) in enumerate(numbers) if half < 1)
    found = {}
    for name, (_, place) in zip(("real_least", "real_most"), told[:1] + told[-1:], strict=False):
        row = own.iloc[place]
        found[name] = f"{row['real less band']} points ({row['precision']}, s={row['s']})"
    return found
