"""Tables of exact zeros: rates by layer, and a GPU's linear layers by shape."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from reluprime import records
from reluprime.evidence.intervals import poisson_interval, ratio_of_counts
from reluprime.evidence.words import calls_a_hit
from reluprime.mechanism.study import linear_zeros
from reluprime.training.zero_tables import MIN_ZEROS

SHAPE = ["precision", "rows", "inputs", "outputs"]
CONDITIONS = ("native", "native, flag on", "epilogue", "separate")


def gpu_cells(store: records.Store) -> pd.DataFrame:
    """The records of `mechanism.linear_zeros` that a GPU made."""
    cells = records.table(linear_zeros, store)
    if cells.empty:
        return cells
    on_gpu = cells["provenance"].map(lambda how: how["device"] == "cuda")
    return cells[on_gpu]


def by_shape(cells: pd.DataFrame) -> pd.DataFrame:
    """Zeros by shape of the layer, a column for each of CONDITIONS; calls (outputs) of each.

    Shapes of which a condition is missing are left out.
    """
    if cells.empty:
        return pd.DataFrame(columns=[*SHAPE, "calls", *CONDITIONS])
    arithmetic, reduced = (
        cells[name].fillna(value) if name in cells else pd.Series(value, index=cells.index)
        for name, value in (("arithmetic", "native"), ("reduced_precision", False))
    )
    condition = arithmetic.where(~reduced.astype(bool), "native, flag on")
    wide = cells.assign(condition=condition).pivot_table(
        index=[*SHAPE, "calls"], columns="condition", values="zeros", aggfunc="last"
    )
    return wide.reindex(columns=list(CONDITIONS)).dropna().astype(int).reset_index()


class Ratio(NamedTuple):
    """Of two Poisson counts over equally many calls: value, exact 95 % interval, p of 1."""

    value: float
    low: float
    high: float
    p: float


def ratio(a: int, b: int) -> Ratio:
    """a / b, by the exact binomial test of a among a + b."""
    p = stats.binomtest(int(a), int(a + b)).pvalue if a + b else 1.0
    return Ratio(*ratio_of_counts(a, b), float(p))


def summary(shapes: pd.DataFrame) -> pd.DataFrame:
    """A row a precision: the native kernel's zeros over those of each emulation.

    Columns: precision, shapes, native, flag_changes (shapes whose count the flag changes), and
    for each emulation its zeros, the ratio with its interval, and in how many shapes the two
    differ at 1 % divided by the number of shapes.
    """
    rows = []
    for precision, own in shapes.groupby("precision"):
        row = {"precision": precision, "shapes": len(own), "native": own["native"].sum()}
        row["flag_changes"] = int((own["native"] != own["native, flag on"]).sum())
        for name in ("epilogue", "separate"):
            whole = ratio(own["native"].sum(), own[name].sum())
            apart = [ratio(n, e).p for n, e in zip(own["native"], own[name], strict=True)]
            row |= {name: own[name].sum(), f"{name}_ratio": whole}
            row[f"{name}_differs"] = int(np.sum(np.array(apart) < 0.01 / len(own)))
        rows.append(row)
    return pd.DataFrame(rows)


def summary_table(shapes: pd.DataFrame) -> pd.DataFrame:
    """:func:`summary` in words, for the page."""
    rows = []
    for row in summary(shapes).to_dict("records"):
        of_shapes = f"of {row['shapes']} shapes"
        words = {
            "precision": row["precision"],
            "zeros, the GPU's kernel": f"{row['native']:,}",
            "changed by the flag": f"{row['flag_changes']} {of_shapes}",
        }
        for name in ("epilogue", "separate"):
            found = row[f"{name}_ratio"]
            words[f"kernel / {name}"] = f"{found.value:.2g} [{found.low:.2g}, {found.high:.2g}]"
            words[f"differs from {name}"] = f"{row[f'{name}_differs']} {of_shapes}"
        rows.append(words)
    return pd.DataFrame(rows)


def shape_table(shapes: pd.DataFrame) -> pd.DataFrame:
    """:func:`by_shape` for the page."""
    words = {"rows": "images", "calls": "outputs counted"}
    return shapes.rename(columns=words).map(lambda x: f"{x:,}" if isinstance(x, int) else x)


def forward_rates(cells: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Exact zeros a pre-activation, measured and predicted, a row a condition and activation.

    cells: rows of `mechanism.forward_zeros`. Columns: `by`, activation, calls, zeros, structural,
    rate, low and high (of zeros that are not structural; exact Poisson interval, 95 %), predicted
    (rate; None without a model).
    """
    names = ("calls", "zeros", "structural", "predicted")
    rows = [
        {n: cell[n] for n in by} | {"activation": a} | {n: cell[n][a] for n in names}
        for cell in cells.to_dict("records")
        for a in cell["calls"]
    ]
    return _with_rates(pd.DataFrame(rows, columns=[*by, "activation", *names]), by)


def _with_rates(counts: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    sums = {name: "sum" for name in ("calls", "zeros", "structural")}
    groups = counts.groupby([*by, "activation"], as_index=False, sort=False)
    table = groups.agg(sums | {"predicted": lambda p: p.astype(float).sum(min_count=1)})
    calls, rounding = table["calls"].astype(float), table["zeros"] - table["structural"]
    low, high = poisson_interval(rounding.to_numpy(dtype=float))
    rates = {"rate": rounding / calls, "low": low / calls, "high": high / calls}
    return table.assign(**rates, predicted=table["predicted"].astype(float) / calls)


def all_layers(rates: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Rows of :func:`forward_rates`, their activations added up."""
    weighted = rates.assign(predicted=rates["predicted"] * rates["calls"], activation="all")
    names = ["calls", "zeros", "structural", "predicted"]
    return _with_rates(weighted[[*by, "activation", *names]], by)


def forward_rate_table(rates: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """:func:`forward_rates` for the page."""
    with_model = rates["predicted"].notna().any()
    rows = [
        {n: row[n] for n in [*by, "activation"]}
        | {
            "pre-activations": f"{row['calls']:.1e}",
            "exact zeros": row["zeros"],
            "structural": row["structural"],
            "by rounding, a call": f"{row['rate']:.1e} [{row['low']:.1e}, {row['high']:.1e}]",
        }
        | ({"predicted": f"{row['predicted']:.1e}"} if with_model else {})
        for row in rates.to_dict("records")
    ]
    return pd.DataFrame(rows)


def gpu_in_prose(cells: pd.DataFrame, shapes: pd.DataFrame) -> dict[str, float | str]:
    """The numbers in the prose about a GPU's kernels, by name; each at fp16 and at bf16.

    cells: of :func:`gpu_cells`; shapes: theirs by :func:`by_shape`.
    """
    machine = cells["provenance"].iloc[-1]
    found = {"gpu_name": machine["device_name"], "gpu_torch": machine["torch"].partition("+")[0]}
    for precision, row in summary(shapes).set_index("precision").iterrows():
        against = row["epilogue_ratio"]
        found |= {
            f"gpu_shapes_{precision}": int(row["shapes"]),
            f"gpu_flag_changes_{precision}": int(row["flag_changes"]),
            f"gpu_epilogue_{precision}": against.value,
            f"gpu_epilogue_low_{precision}": against.low,
            f"gpu_epilogue_high_{precision}": against.high,
            f"gpu_separate_times_{precision}": 1 / row["separate_ratio"].value,
        }
    return found


def forms_in_prose(rates: pd.DataFrame) -> dict[str, float | str]:
    """The numbers in the prose about the forms of a linear layer, by name.

    a_zero_PRECISION_FORM: how many pre-activations there are to one exact zero, in words.

    rates: rows of :func:`forward_rates` by precision and form; points with fewer than
    MIN_ZEROS zeros are compared with no prediction.
    """
    totals = all_layers(rates, ["precision", "form"])
    found = {
        f"rate_{row['precision']}_{row['form']}": float(row["rate"])
        for row in totals.to_dict("records")
    }
    found |= {
        f"a_zero_{row['precision']}_{row['form']}": calls_a_hit(row["rate"])
        for row in totals.to_dict("records")
    }
    by_form = totals.set_index(["precision", "form"])
    for precision in ("fp16", "bf16"):
        unfused, fused = (by_form.loc[(precision, form)] for form in ("unfused", "fused"))
        found[f"unfused_over_fused_{precision}"] = float(unfused["rate"] / fused["high"])
    compared = rates[rates["zeros"] >= MIN_ZEROS]
    ratios = compared["rate"] / compared["predicted"]
    return found | {
        "compared": len(compared),
        "least_ratio": float(ratios.min()),
        "largest_ratio": float(ratios.max()),
        "largest_factor": float(max(ratios.max(), 1 / ratios.min())),
    }


def norms_in_prose(rates: pd.DataFrame) -> dict[str, float | str]:
    """The numbers in the prose about batch norm, by name; rates: of all layers, by norm_form."""
    found = {}
    for row in rates.to_dict("records"):
        found[f"norm_rate_{row['norm_form']}"] = float(row["rate"])
        found[f"norm_high_{row['norm_form']}"] = float(row["high"])
        found[f"norm_a_zero_{row['norm_form']}"] = calls_a_hit(row["rate"])
        found[f"norm_least_{row['norm_form']}"] = calls_a_hit(row["high"])
    return found


def structural_in_prose(rates: pd.DataFrame) -> dict[str, float]:
    """The largest share of structural zeros on the first data set and on the last, by name.

    rates: of all layers, by dataset and precision.
    """
    shares = (rates["structural"] / rates["calls"]).groupby(rates["dataset"], sort=False).max()
    return {
        "structural_photographs": float(shares.iloc[0]),
        "structural_digits": float(shares.iloc[-1]),
    }
