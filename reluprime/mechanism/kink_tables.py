"""Tables of the page on kinks beyond ReLU at 0."""

from statistics import median

import pandas as pd

from reluprime.evidence.intervals import poisson_interval
from reluprime.evidence.words import calls_a_hit
from reluprime.mechanism import kinks


def derivatives(s: float, upstream: float) -> pd.DataFrame:
    """:func:`kinks.derivatives` for the page, with the chain rule at s=0 beside that at s."""
    at_zero, at_s = (kinks.derivatives(value, upstream) for value in (0.0, s))

    def words(gradients: tuple[float, ...]) -> str:
        return ", ".join(f"{g + 0.0:g}" for g in gradients)  # + 0.0: no -0

    return pd.DataFrame(
        {
            "function": name,
            "derivative, s=0": words(at_zero[name]["chain"]),
            f"derivative, s={s:g}": words(rules["chain"]),
            f"constant, s={s:g}": words(rules["injected"]),
            "PyTorch": words(rules["PyTorch"]),
        }
        for name, rules in at_s.items()
    )


def rates(cells: pd.DataFrame) -> pd.DataFrame:
    """Hits a call, a row a precision, number of epochs and kink; cells: rows of `kinks.count`.

    Columns: precision, epochs, kink, calls, hits, rate, low and high (exact Poisson interval).
    """
    rows = [
        {"precision": cell["precision"], "epochs": cell["epochs"], "kink": kink}
        | {"calls": calls, "hits": cell["hits"][kink]}
        for cell in cells.to_dict("records")
        for kink, calls in cell["calls"].items()
    ]
    table = pd.DataFrame(rows)
    low, high = poisson_interval(table["hits"].to_numpy(dtype=float))
    calls = table["calls"].astype(float)
    return table.assign(rate=table["hits"] / calls, low=low / calls, high=high / calls)


def for_page(table: pd.DataFrame) -> pd.DataFrame:
    """:func:`rates` with intervals in words."""
    words = [
        f"{row.rate:.1e} [{row.low:.1e}, {row.high:.1e}]" for row in table.itertuples(index=False)
    ]
    calls = table["calls"].map("{:.1e}".format)
    return table[["kink", "precision", "epochs", "hits"]].assign(calls=calls, **{"a call": words})


def pools(cells: pd.DataFrame) -> pd.DataFrame:
    """Rows of `kinks.pool_ties` for the page."""
    return pd.DataFrame(
        {
            "precision": cell["precision"],
            "windows": f"{cell['windows']:.1e}",
            "tied at 0": f"{cell['tied_at_zero'] / cell['windows']:.1%}",
            "tied above 0": f"{cell['tied_above_zero'] / cell['windows']:.2%}",
            "relative gradient change, median": f"{median(cell['relative_difference']):.1e}",
        }
        for cell in cells.to_dict("records")
    )


def sixes(cells: pd.DataFrame) -> pd.DataFrame:
    """Exact zeros and sixes of trainings with ReLU6; cells: rows of `training.fit`."""

    def total(by_activation: dict[str, list[list[int]]]) -> int:
        return sum(sum(epochs) for networks in by_activation.values() for epochs in networks)

    rows = []
    for cell in cells.to_dict("records"):
        epochs = len(cell["seconds"])
        calls = epochs * sum(cell["relu_calls"].values())
        zeros, upper = total(cell["exact_zeros"]), total(cell["exact_sixes"])
        rows.append(
            {"precision": cell["precision"], "epochs": epochs, "calls": f"{calls:.1e}"}
            | {"zeros": zeros, "sixes": upper}
            | {"zeros a call": f"{zeros / calls:.1e}", "sixes a call": f"{upper / calls:.1e}"}
        )
    return pd.DataFrame(rows)


def in_prose(cells: pd.DataFrame) -> dict[str, float | str]:
    """The numbers in the prose about other kinks at bf16, by name; cells: as of :func:`rates`."""
    table = rates(cells)
    epochs = int(table["epochs"].max())
    last = table[(table["epochs"] == epochs) & (table["precision"] == "bf16")].set_index("kink")
    return {
        "bf16_zero": calls_a_hit(last["rate"][kinks.AT_ZERO]),
        "bf16_tie": calls_a_hit(last["rate"][kinks.AT_TIE]),
        "kink_epochs": epochs,
        "largest": float(cells["largest"].max()),
    }
