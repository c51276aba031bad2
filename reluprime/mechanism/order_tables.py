"""Tables of the order of summation at fp32: shares by order, and whether orders differ."""

import numpy as np
import pandas as pd
from statsmodels.stats.contingency_tables import cochrans_q

from reluprime import records
from reluprime.evidence.intervals import clopper_pearson
from reluprime.evidence.tests import RISK
from reluprime.mechanism import orders

# The released shares of the networks of grids.NETWORKS: work, file, width.
RELEASED = {
    (64, 64, 64): ("B21", "paper_volume_mlp.csv", 64),
    (256, 256, 256): ("B21", "paper_volume_mlp.csv", 256),
    (32, 32, 32, 32): ("M23", "replication_volume_mlp.csv", 32),
}


def order_cells(store: records.Store) -> pd.DataFrame:
    """The records of `orders.shares`."""
    return records.table(orders.shares, store)


def orders_table(cells: pd.DataFrame) -> pd.DataFrame:
    """Share of networks that meet an exact zero, a row a network and form, with exact intervals.

    cells: of `orders.shares`. All forms of a network are tried on the same weights, so the spread
    of a column is that of the order of summation alone.
    """
    rows = []
    for hidden_sizes, forms in _zeros(cells).items():
        for form, met in forms.items():
            rows.append(
                {"network": _name(hidden_sizes), "form of a linear layer": form}
                | {"networks": len(met), "share": _share(int(met.sum()), len(met))}
                | {"released": _released(hidden_sizes)}
            )
    columns = ["network", "form of a linear layer", "networks", "share", "released"]
    return pd.DataFrame(rows, columns=columns)


def spread_table(cells: pd.DataFrame) -> pd.DataFrame:
    """By network: its least and its largest share over orders, and whether orders differ at all.

    Of the networks (weights) that all its orders have; p is Cochran's Q test of equal shares,
    for shares of the same networks (none where no share differs from 0 or from 1).
    """
    rows = []
    for hidden_sizes, forms in _zeros(cells).items():
        both = pd.DataFrame(forms).dropna().astype(bool)  # networks x forms
        shares = both.mean().sort_values()
        rows.append(
            {"network": _name(hidden_sizes), "orders": len(forms), "networks": len(both)}
            | {"least share": f"{shares.iloc[0]:.1%} ({shares.index[0]})"}
            | {"largest share": f"{shares.iloc[-1]:.1%} ({shares.index[-1]})"}
            | {"p": _p_of_equal_shares(both)}
        )
    columns = ["network", "orders", "networks", "least share", "largest share", "p"]
    return pd.DataFrame(rows, columns=columns)


def in_prose(cells: pd.DataFrame) -> dict[str, str]:
    """orders_differ: the networks of :func:`spread_table` whose orders differ at RISK, in words."""
    table = spread_table(cells)
    differ = table["network"][pd.to_numeric(table["p"], errors="coerce") < RISK]
    return {"orders_differ": ", ".join(differ) or "none of these networks"}


def _zeros(cells: pd.DataFrame) -> dict[tuple[int, ...], dict[str, pd.Series]]:
    """{hidden sizes: {form: whether a network meets an exact zero, by its seed}}."""
    found: dict = {}
    for cell in cells.to_dict("records"):
        met = {cell["seed"] + i: first is not None for i, first in enumerate(cell["first_zero"])}
        found.setdefault(cell["hidden_sizes"], {}).setdefault(cell["linear_form"], {}).update(met)
    return {
        hidden_sizes: {form: pd.Series(met) for form, met in forms.items()}
        for hidden_sizes, forms in found.items()
    }


def _p_of_equal_shares(met: pd.DataFrame) -> str:
    p = cochrans_q(met.to_numpy(int)).pvalue if met.nunique(axis=1).gt(1).any() else np.nan
    return "–" if np.isnan(p) else f"{p:.2g}"


def _name(hidden_sizes: tuple[int, ...]) -> str:
    return "-".join(map(str, hidden_sizes))


def _share(k: int, n: int) -> str:
    low, high = clopper_pearson(k, n)
    return f"{k / n:.1%} [{low:.1%}, {high:.1%}]"


def _released(hidden_sizes: tuple[int, ...]) -> str:
    if hidden_sizes not in RELEASED:
        return ""
    work, file, width = RELEASED[hidden_sizes]
    table = records.published(file)
    own = (table["factor"] == "nb_neurons") & (table["value"] == width) & (table["precision"] == 32)
    (row,) = table[own].to_dict("records")
    return f"{work} {_share(row['in_zone'], row['networks'])}"
