"""What a check found, as tables, a picture and a sentence."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from reluprime.check.passes import Condition, Result

RISK = 0.05  # of the interval, as in the report
LITTLE = 0.01  # of the change from one mini-batch to the next (without a next, of the gradient)
KEYS = list(Condition._fields)


def interval(k: int, n: int) -> tuple[float, float]:
    """Exact interval of a proportion from k of n independent draws (Clopper and Pearson 1934)."""

    def at_most(p: float, k: int) -> float:
        return sum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k + 1))

    low = 0.0 if k == 0 else _root(lambda p: 1 - at_most(p, k - 1) < RISK / 2)
    high = 1.0 if k == n else _root(lambda p: at_most(p, k) > RISK / 2)
    return low, high


def _root(below: Callable[[float], bool]) -> float:
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) else (low, middle)
    return low


@dataclass
class Report:
    """The result of :func:`reluprime.check`.

    results: what was found under each condition. not_available: {condition: why it was left out}.
    """

    results: dict[Condition, Result]
    not_available: dict[Condition, str]

    @property
    def sites(self) -> pd.DataFrame:
        """A row a condition and call site, in the order of the calls.

        calls (numbers, pairs or windows), hits (those exactly at a kink, or tied), structural (hits
        that fp64 has too), by_rounding (the others), expected (hits that rounding is predicted to
        make, where a native layer with a bias comes right before), units, dead_units (neurons or
        channels that never left the flat side). Sums over the mini-batches.
        """
        rows = []
        for condition, result in self.results.items():
            for site, counts in result.sites.items():
                units, dead = counts.units()
                rest = None if counts.structural is None else counts.hits - counts.structural
                row = condition._asdict() | site._asdict()
                row |= {"calls": counts.calls, "hits": counts.hits, "structural": counts.structural}
                row |= {"by_rounding": rest, "expected": counts.expected}
                rows.append(row | {"units": units, "dead_units": dead})
        columns = ("module", "line", "function", "calls", "hits", "structural", "by_rounding")
        columns = [*KEYS, *columns, "expected", "units", "dead_units"]
        whole = dict.fromkeys(("structural", "by_rounding", "units", "dead_units"), "Int64")
        return pd.DataFrame(rows, columns=columns).astype(whole | {"expected": "float64"})

    @property
    def gradients(self) -> pd.DataFrame:
        """A row a condition and mini-batch.

        depends (whether the gradient at s = 1 has other numbers than at s = 0), relative_l2 (the
        length of their difference over that at s = 0, all parameters), non_finite (numbers left out
        as NaN or infinite), next_batch (the same ratio for the mini-batch before in its place).
        """
        rows = [
            condition._asdict() | {"mini_batch": number} | vars(gradients)
            for condition, result in self.results.items()
            for number, gradients in enumerate(result.gradients)
        ]
        return pd.DataFrame(rows)

    @property
    def summary(self) -> pd.DataFrame:
        """A row a condition: affected mini-batches with their interval, and sums over the sites.

        relative_l2 and largest: median and maximum over the affected ones.
        """
        rows = []
        sites = self.sites
        for condition, group in self.gradients.groupby(KEYS, sort=False):
            changes = group["relative_l2"][group["depends"]]
            affected, n = len(changes), len(group)
            own = sites[(sites[KEYS] == list(condition)).all(axis=1)]
            row = dict(zip(KEYS, condition, strict=True))
            row |= {"mini_batches": n, "affected": affected}
            row |= dict(zip(("low", "high"), interval(affected, n), strict=True))
            row |= {"relative_l2": changes.median(), "largest": changes.max()}
            row |= {"next_batch": group["next_batch"].median()}
            row |= {name: own[name].sum() for name in ("calls", "hits")}
            row |= {name: own[name].sum(skipna=False) for name in ("structural", "by_rounding")}
            rows.append(row | {name: own[name].sum() for name in ("units", "dead_units")})
        return pd.DataFrame(rows).astype({"structural": "Int64", "by_rounding": "Int64"})

    @property
    def answer(self) -> str:
        """Does the derivative at kinks matter for this model? In words, the first condition first.

        "Not seen" where no mini-batch was affected: another might be, as the interval says. "No"
        where the model calls no known function with a kink, and none that is named as not reached.
        "Hardly" where the largest change is less than 1 % of that to another mini-batch; of the
        gradient's length where there is one mini-batch.
        """
        first, *others = self.summary.to_dict("records")
        if first["calls"] == 0:
            verdict = "Not seen" if self._not_reached() else "No"
            no_kink = f"{verdict}: the model calls no function with a kink that this tool knows."
            return no_kink + self._rest()
        text = f"{_verdict(first)}: at {_name(first)} the gradient {_dependence(first)}"
        if first["affected"]:
            text += f", by {_percent(first['relative_l2'])} of its length"
            if not math.isnan(first["next_batch"]):
                text += f" (another mini-batch changes it by {_percent(first['next_batch'])})"
        text += "." + self._rest()
        short = [f"{_name(row)}: {_short(row)}" for row in others]
        return text + (f" In other conditions, {'; '.join(short)}." if short else "")

    def _rest(self) -> str:
        names = self._not_reached()
        not_finite = int(self.gradients["non_finite"].sum())
        text = f" Not reached: {', '.join(names)}." if names else ""
        return text + (f" {not_finite} numbers of gradients are not finite." if not_finite else "")

    def _not_reached(self) -> list[str]:
        names = (name for result in self.results.values() for name in result.not_reached)
        return list(dict.fromkeys(names))

    def _first_sites(self) -> pd.DataFrame:
        """The sites under the first condition."""
        sites = self.sites
        return sites[(sites[KEYS] == list(next(iter(self.results)))).all(axis=1)].drop(columns=KEYS)

    def as_dict(self) -> dict[str, Any]:
        """Answer and tables for JSON: lists of rows, None where nothing is known."""
        tables = {name: getattr(self, name) for name in ("summary", "gradients", "sites")}
        return {
            "answer": self.answer,
            **{name: _rows(table) for name, table in tables.items()},
            "not_available": [c._asdict() | {"why": why} for c, why in self.not_available.items()],
        }

    def __str__(self) -> str:
        parts = [self.answer, _text(self.summary), _text(self._first_sites())]
        parts += [
            f"{_name(c._asdict())}: not available, {w}" for c, w in self.not_available.items()
        ]
        return "\n\n".join(parts)

    def _repr_html_(self) -> str:
        tables = (self.summary, self._first_sites())
        shown = (_shown(table).to_html(index=False, border=0) for table in tables)
        return f"<p>{self.answer}</p>" + "".join(shown)

    def plot(self):
        """Exact hits a call at each site, by rounding and structural, of the first condition.

        Returns matplotlib's Axes; matplotlib comes with `pip install '.[report]'` in a clone of the
        repository.
        """
        from matplotlib import pyplot as plt

        sites = self._first_sites()
        _, axes = plt.subplots(figsize=(7, 1 + 0.3 * len(sites)), layout="constrained")
        names = sites["module"] + " " + sites["line"] + " " + sites["function"]
        for kind, marker in (("structural", "s"), ("by_rounding", "o")):
            share = sites[kind].astype("float64") / sites["calls"]
            axes.plot(
                share.where(share > 0), range(len(sites)), marker, label=kind.replace("_", " ")
            )
        axes.set_yticks(range(len(sites)), names)
        axes.set(xscale="log", xlabel="share of calls that are exactly at a kink")
        axes.invert_yaxis()
        axes.legend()
        return axes


def _name(row: dict) -> str:
    """A condition in words: its precision, and what is not PyTorch's own."""
    name = row["precision"].replace("-", " ")
    name += "" if row["arithmetic"] == "native" else f" ({row['arithmetic']})"
    return name + (" with reduced-precision reductions" if row["reduced_precision"] else "")


def _verdict(row: dict) -> str:
    if not row["affected"]:
        return "Not seen"
    scale = 1.0 if math.isnan(row["next_batch"]) else row["next_batch"]
    return "Hardly" if row["largest"] < LITTLE * scale else "Yes"


def _dependence(row: dict) -> str:
    bounds = f"95 % interval {_percent(row['low'])} to {_percent(row['high'])} of all"
    number = f"{row['affected']} of {row['mini_batches']}"
    return f"depends on the derivative at kinks for {number} mini-batches ({bounds})"


def _short(row: dict) -> str:
    of = f"{row['affected']} of {row['mini_batches']}"
    return of + (f", by {_percent(row['relative_l2'])}" if row["affected"] else "")


def _percent(share: float) -> str:
    """A share with two digits: 12 %, 0.00034 %."""
    return f"{100 * share:.2g} %" if share < 1 else f"{100 * share:.0f} %"


def _rows(table: pd.DataFrame) -> list[dict]:
    return table.astype(object).where(table.notna(), None).to_dict("records")


def _shown(table: pd.DataFrame) -> pd.DataFrame:
    """Two digits of each number that is not whole, and nothing where nothing is known."""

    def cell(value) -> str:
        if pd.isna(value):
            return ""
        return f"{value:.2g}" if isinstance(value, float) else f"{value}"

    return table.map(cell)


def _text(table: pd.DataFrame) -> str:
    return _shown(table).to_string(index=False)
