"""How the dose that costs a point scales, and the two factors of what mitigates."""

import math
from collections.abc import Iterable

import numpy as np
import pandas as pd

from reluprime.dose.claims.paper_dose import few
from reluprime.dose.experiments import (
    ADAM,
    BATCH_NORM,
    DROPOUT,
    MITIGATIONS,
    MLP,
    SEEDS,
    SIDES,
    both_sides,
    mlp_grid,
)
from reluprime.dose.runs import measured, rows_of
from reluprime.dose.tables import RELEASED, geometric, mean_points, zeros_left
from reluprime.dose.thresholds import POINT, loss_at, thresholds
from reluprime.evidence.claim import Cell, Evidence
from reluprime.evidence.intervals import ratio_of_counts, t_margin
from reluprime.training import tables as training_tables
from reluprime.training.study import fit

# What is varied: in a power law of the dose that costs a point, each has its exponent.
BY_S = {"s, 0.1 to 1": (0.1, 0.3, 1.0), "s, 1 to 50": (1.0, 10.0, 50.0)}
BY_CONDITION: dict[str, dict[str, float]] = {
    "learning rate": {"learning rate 0.003": 0.003, RELEASED: 0.01, "learning rate 0.03": 0.03},
    "batch size": {"batch size 32": 32, RELEASED: 128, "batch size 512": 512},
    "hidden layers": {"1 hidden layer": 1, RELEASED: 3, "5 hidden layers": 5},
}


def exponents(by_s: pd.DataFrame, by_condition: pd.DataFrame) -> pd.DataFrame:
    """The exponent of the dose that costs a point, with its interval: a row a variable.

    by_s: `runs.pairs` under the constant. by_condition: those of `tables.one_change` at s=1 under
    it. The slope of log dose on log level for each seed, and their mean with its t-interval;
    levels that a seed does not reach are left out, and named.
    """
    found = {name: {s: by_s[by_s["s"] == s] for s in values} for name, values in BY_S.items()}
    for name, levels in BY_CONDITION.items():
        of = by_condition["condition"]
        found[name] = {level: by_condition[of == own] for own, level in levels.items()}
    return pd.DataFrame(_exponent(name, levels) for name, levels in found.items())


def _exponent(name: str, levels: dict[float, pd.DataFrame]) -> dict:
    doses = pd.DataFrame({level: thresholds(own, POINT) for level, own in levels.items()})
    reached = doses.columns[np.isfinite(doses).all() & doses.notna().all()] if len(doses) else []
    missing = [f"{level:g}" for level in levels if level not in reached]
    words = ""
    if len(reached) > 1:
        slopes = np.polyfit(np.log(reached.to_numpy(float)), np.log(doses[reached].T), 1)[0]
        words = f"{slopes.mean():.2f} ± {t_margin(slopes):.2f}"
    return {
        "what is varied": name,
        "levels": ", ".join(f"{level:g}" for level in reached),
        "exponent of the dose that costs a point": words,
        "not reached at": ", ".join(missing),
    }


def two_factors(evidence: Evidence, mitigated: pd.DataFrame) -> pd.DataFrame:
    """Each way to train against training as released, which is the first row: fewer kinks, and
    the harm of each.

    mitigated: `tables.one_change` at s=1 under the constant. Columns: exact zeros a run without a
    band, `native` and `epilogue`; kinks and harm a kink, as multiples of those as released with
    95 % intervals; kinks × harm. Harm a kink is the inverse of the dose that costs a point,
    paired by seed; kinks are the zeros of `native`, and a bound where there are none.
    """
    table = zeros_left(evidence).set_index("condition")
    zeros = {name: _zeros(evidence, own) for name, own in ({RELEASED: {}} | MITIGATIONS).items()}
    of = mitigated["condition"]
    doses = {name: thresholds(mitigated[of == name], POINT) for name in zeros}
    times = ("kinks, × as released", "harm a kink, × as released", "kinks × harm")
    rows = [{"way to train": RELEASED, **table.loc[RELEASED]} | dict.fromkeys(times, "1")]
    for name in MITIGATIONS:
        kinks = ratio_of_counts(zeros[name], zeros[RELEASED])
        harm = geometric((doses[RELEASED] / doses[name]).dropna())
        rows.append(
            {"way to train": name, **table.loc[name].to_dict()}
            | dict(
                zip(times, (_times(*kinks), _times(*harm), _both(kinks[0], harm[0])), strict=True)
            )
        )
    return pd.DataFrame(rows)


def _both(kinks: float, harm: float) -> str:
    return f"{kinks * harm:.2g}" if math.isfinite(harm) else ""


def _zeros(evidence: Evidence, changes: dict) -> int:
    configs = [MLP.replace(**changes, seed=seed) for seed in SEEDS]
    return int(training_tables.runs(evidence.table(fit, configs))["exact_zeros"].sum())


def _times(middle: float, low: float, high: float) -> str:
    ends: Iterable[str] = (f"{end:.2g}" for end in (low, high))
    return f"{middle:.2g} [{', '.join(ends)}]" if math.isfinite(middle) else ""


WAYS = {"Adam": ADAM, "batch norm": BATCH_NORM, "dropout": DROPOUT}


def way_cells() -> list[Cell]:
    """Ways to train at s=1, 10 and 50 under the constant, as far as they are registered."""
    return both_sides(WAYS.values(), (1.0, 10.0, 50.0), "injected")


def by_s(evidence: Evidence) -> pd.DataFrame:
    """What ways to train lose at small and large s, and SGD as released at the same dose.

    A row an s and way, at the wider of its bands in `experiments.SIDES`. As released: each seed's
    loss, interpolated over the logarithm of the dose; empty where a seed tried no such dose.
    """
    ways, released = (measured(evidence, c) for c in (way_cells(), mlp_grid("injected")))
    rows = []
    for s, at_s in ways.groupby("s"):
        for name, config in WAYS.items():
            own = rows_of(at_s, config, kink_width=SIDES[config][-1])
            if own.empty:
                continue
            dose = own["dose"].mean()
            rows.append(
                {"s": f"{s:g}", "way to train": name, "dose": few(dose)}
                | {
                    "points against s=0": mean_points(own["difference"]),
                    "at chance": own["stuck"].sum(),
                }
                | {"SGD as released there": _at_dose(released[released["s"] == s], dose)}
            )
    return pd.DataFrame(rows)


def _at_dose(pairs: pd.DataFrame, dose: float) -> str:
    """What one s costs at a dose, with its interval over seeds; empty outside the doses tried."""
    seeds = pairs.groupby("seed")
    lost = [-loss_at(own["dose"], -own["difference"], dose) for _, own in seeds]
    return "" if np.isnan(lost).any() else mean_points(pd.Series(lost, dtype=float))


def in_prose(powers: pd.DataFrame, factors: pd.DataFrame, large: pd.DataFrame) -> dict[str, str]:
    """The numbers in the prose about scaling, by name: exponent_s, exponent_rate, harm_WAY.

    Of :func:`by_s` at s=50: points_WAY at dose_WAY, and released_WAY, what SGD loses there.
    """
    words = powers.set_index("what is varied")["exponent of the dose that costs a point"]
    found = {"exponent_s": words.iloc[0], "exponent_rate": words["learning rate"]}
    harm = factors.set_index("way to train")["harm a kink, × as released"]
    harm = harm.drop(RELEASED, errors="ignore")
    found |= {f"harm_{name.replace(' ', '_')}": value for name, value in harm.items()}
    names = {"points": "points against s=0", "dose": "dose", "released": "SGD as released there"}
    for row in large[large["s"] == "50"].to_dict("records"):
        way = row["way to train"].replace(" ", "_")
        found |= {f"{name}_{way}": row[column] for name, column in names.items()}
    return found
