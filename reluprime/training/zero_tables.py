"""Tables of exact zeros that networks meet while they train (B21 Fig. 6)."""

import numpy as np
import pandas as pd

from reluprime.evidence.intervals import poisson_interval, ratio_of_counts
from reluprime.evidence.style import RULE_NAMES
from reluprime.evidence.words import calls_a_hit
from reluprime.records import published

MIN_ZEROS = 10  # of a network whose zeros a call are compared with another's


def zero_rates(cells: pd.DataFrame) -> pd.DataFrame:
    """Exact zeros per ReLU call while training, a row a network shape (B21 Fig. 6).

    cells: rows of `zeros.count` at one s. Columns: precision, gradient_rule, depth, width, zeros,
    calls (sums over networks), rate, low and high (exact Poisson interval, 95 %).
    """
    names = ["precision", "gradient_rule", "depth", "width", "zeros", "calls"]
    rows = [
        {
            "precision": cell["precision"],
            "gradient_rule": cell["gradient_rule"],
            "depth": len(cell["hidden_sizes"]),
            "width": min(cell["hidden_sizes"]),
            "zeros": sum(n[-1] for n in cell["cumulative_zeros"]),
            "calls": sum(n[-1] for n in cell["cumulative_calls"]),
        }
        for cell in cells.to_dict("records")
    ]
    table = pd.DataFrame(rows, columns=names).groupby(names[:4], as_index=False, sort=False).sum()
    low, high = poisson_interval(table["zeros"].to_numpy(dtype=float))
    calls = table["calls"].astype(float)
    return table.assign(rate=table["zeros"] / calls, low=low / calls, high=high / calls)


def zeros_by_layer(cells: pd.DataFrame) -> pd.DataFrame:
    """Exact zeros of training by layer, a row for each precision and depth, over widths and rules.

    cells: rows of `zeros.count`.
    """
    rows = []
    depths = cells["hidden_sizes"].map(len)
    for (precision, depth), group in cells.groupby(["precision", depths], sort=False):
        layers = pd.DataFrame(group["zeros_by_layer"].tolist()).map(sum).sum()
        named = {name.replace("activation", "layer "): int(n) for name, n in layers.items()}
        rows.append({"precision": precision, "depth": depth} | named)
    return pd.DataFrame(rows, dtype=object).fillna("–")  # whole numbers stay whole


def zero_rate_table(rates: pd.DataFrame) -> pd.DataFrame:
    """Zeros a call over all networks, a row a precision and gradient rule, for the page.

    rates: rows of :func:`zero_rates`.
    """
    rows = []
    for (precision, rule), group in rates.groupby(["precision", "gradient_rule"], sort=False):
        zeros, calls = int(group["zeros"].sum()), int(group["calls"].sum())
        low, high = (float(end) / calls for end in poisson_interval(np.array(float(zeros))))
        often = group[group["zeros"] >= MIN_ZEROS]["rate"]
        span = f"{often.min():.1e} to {often.max():.1e} ({len(often)})" if len(often) else "–"
        rows.append(
            {
                "precision": precision,
                "rule": rule,
                "networks": len(group),
                "ReLU calls": f"{calls:.2e}",
                "exact zeros": zeros,
                "zeros a call": f"{zeros / calls:.2e} [{low:.2e}, {high:.2e}]",
                f"zeros a call, of networks with at least {MIN_ZEROS} zeros": span,
            }
        )
    return pd.DataFrame(rows)


def zeros_by_epoch(runs: pd.DataFrame) -> pd.DataFrame:
    """One row an epoch of a run of `tables.runs`: precision, s, gradient_rule, seed, epoch
    (from 1) and zeros."""
    rows = [
        {name: row[name] for name in ("precision", "s", "gradient_rule", "seed")}
        | {"epoch": epoch, "zeros": zeros}
        for row in runs.to_dict("records")
        for epoch, zeros in enumerate(row["zeros_by_epoch"], start=1)
    ]
    return pd.DataFrame(rows)


def trend(runs: pd.DataFrame) -> pd.Series:
    """For each run the zeros of the last half of its epochs less those of the first half.

    A middle epoch counts for neither.
    """
    halves = runs["zeros_by_epoch"].map(lambda n: (n[: len(n) // 2], n[(len(n) + 1) // 2 :]))
    return halves.map(lambda h: float(sum(h[1]) - sum(h[0])))


def in_prose(counts: dict[str, pd.DataFrame]) -> dict[str, str]:
    """For the page: a_zero_NAME, how many ReLU calls there are to a zero at fp32, in words.

    counts: rows of `zeros.count` by name. Under the constant, which B21 ran.
    """
    found = {}
    for name, cells in counts.items():
        rates = zero_rates(cells)
        own = rates[(rates["gradient_rule"] == "injected") & (rates["precision"] == "fp32")]
        zeros, calls = int(own["zeros"].sum()), int(own["calls"].sum())
        found[f"a_zero_{name}"] = f"one in {calls_a_hit(zeros / calls)}" if zeros else "none"
    return found


def beside_released(cells: pd.DataFrame) -> pd.DataFrame:
    """Zeros of the first epochs beside the released ones (B21 Fig. 6), for the page.

    cells: rows of `zeros.count`. A row a precision and number of epochs that the release has and
    ours reach, over the network shapes of both, but for those of which a network of ours diverged
    before: epochs, networks, published (zeros), and for each gradient rule its zeros and, with an
    exact interval for two Poisson counts of as many calls (95 %), published over ours.
    """
    theirs = published("paper_zero_calls.csv")
    theirs["precision"] = "fp" + theirs["precision"].astype(str)
    theirs["shape"] = [(w,) * d for w, d in theirs[["nb_neurons", "nb_layers"]].to_numpy()]
    rows = []
    for (precision, epochs), released in theirs.groupby(["precision", "epochs"]):
        own = cells[(cells["precision"] == precision) & (cells["epochs"] >= epochs)]
        own = own.assign(shape=own["hidden_sizes"].map(tuple))
        least = own["cumulative_zeros"].map(lambda by_network: min(map(len, by_network)))
        both = (set(own["shape"]) & set(released["shape"])) - set(own["shape"][least < epochs])
        if not both:
            continue
        k = int(released[released["shape"].isin(both)]["cum_zeros"].sum())
        row = {"precision": precision, "epochs": epochs, "networks": len(both), "published": k}
        for rule, group in own[own["shape"].isin(both)].groupby("gradient_rule"):
            ours = sum(zeros[epochs - 1] for n in group["cumulative_zeros"] for zeros in n)
            row[RULE_NAMES[rule]] = ours
            row[f"published / {RULE_NAMES[rule]}"] = _ratio(k, ours)
        rows.append(row)
    return pd.DataFrame(rows)


def _ratio(k: int, ours: int) -> str:
    if not k or not ours:
        return "–"
    return "{:.2f} [{:.2f}, {:.2f}]".format(*ratio_of_counts(k, ours))


def released_zero_rates() -> pd.DataFrame:
    """B21's zeros and calls after the last epoch (Fig. 6), networks without a zero left out.

    Columns: precision ("fp16", "fp32"), zeros, calls and those of the file.
    """
    table = published("paper_zero_calls.csv")
    last = table[(table["epochs"] == table["epochs"].max()) & (table["cum_zeros"] > 0)]
    named = last.rename(columns={"cum_zeros": "zeros", "cum_relu": "calls"})
    return named.assign(precision="fp" + named["precision"].astype(str))
