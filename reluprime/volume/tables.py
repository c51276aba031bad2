"""Tables of the Monte Carlo by arithmetic: which conditions meet which row of B21's Table 1."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from reluprime.evidence.claim import ARITHMETICS, Evidence
from reluprime.evidence.intervals import quartiles
from reluprime.evidence.tests import RISK
from reluprime.instruments.activations import GRADIENT_RULES
from reluprime.records import Store
from reluprime.volume.claims.quartiles import QUARTILE
from reluprime.volume.experiments import cells_of, networks_of, pair_networks
from reluprime.volume.networks import VolumeConfig
from reluprime.volume.table_1 import PUBLISHED_QUARTILES

RESAMPLES = 200  # of networks, for the interval of a quartile
NORMS = {
    "first layer": "relative_difference_first_layer",  # what the release takes
    "all parameters": "relative_difference",  # what the paper writes
}


def evidence_of(store: Store) -> Evidence:
    """What a store has of Table 1's networks."""
    return Evidence.of_store(store, ["volume.estimate"])


def table_1_records(store: Store) -> pd.DataFrame:
    """The records behind :func:`table_1_by_arithmetic`, for a page's source line."""
    evidence = evidence_of(store)
    configs = [cell.config for _, _, config in _complete(evidence) for cell in cells_of(config)]
    study = cells_of(next(iter(pair_networks("native").values())))[0].study
    return evidence.table(study, dict.fromkeys(configs))


def _complete(evidence: Evidence) -> Iterator[tuple[str, str, VolumeConfig]]:
    """-> arithmetic, network, config: conditions of which each network has its record.

    At 32 bits "separate" is "epilogue", and comes once.
    """
    for arithmetic in ARITHMETICS:
        for (network, _), config in pair_networks(arithmetic).items():
            if config.arithmetic == arithmetic and not evidence.missing(cells_of(config)):
                yield arithmetic, network, config


def table_1_by_arithmetic(evidence: Evidence) -> pd.DataFrame:
    """Rows 2 and 3 of B21's Table 1 by network, norm, gradient rule and arithmetic.

    Columns: precision, arithmetic, network (paper: three ReLUs; release: two), gradient rule,
    networks, norm, pairs (share of affected mini-batches), q1, q2, q3 (quartiles of the relative
    difference), low_1 ... high_3 (intervals, 95 %, networks drawn anew), meets (whether each
    published quartile is in its interval or within 10 % of ours). Conditions whose networks do
    not all have records are left out.
    """
    rows = []
    for arithmetic, network, config in _complete(evidence):
        for rule in GRADIENT_RULES:
            found = networks_of(evidence, config, rule)
            shared = {
                "precision": config.precision,
                "arithmetic": arithmetic,
                "network": network,
                "rule": rule,
                "networks": len(found),
                "pairs": found["affected"].sum() / found["n_batches"].sum(),
            }
            rows += [shared | {"norm": n} | _quartiles(found[c], config) for n, c in NORMS.items()]
    columns = ["precision", "arithmetic", "network", "rule", "networks", "pairs", "norm"]
    ends = [f"{end}_{k}" for end in ("low", "high") for k in (1, 2, 3)]
    return pd.DataFrame(rows, columns=[*columns, "q1", "q2", "q3", *ends, "meets"])


def _quartiles(lists: pd.Series, config: VolumeConfig) -> dict:
    values = [np.asarray(v, dtype=float) for v in lists if len(v)]
    ours = quartiles(np.concatenate(values)) if values else (np.nan,) * 3
    low, high = _intervals(values) if values else ((np.nan,) * 3, (np.nan,) * 3)
    theirs = PUBLISHED_QUARTILES[config.precision]
    meets = all(
        a <= published <= b or abs(q - published) <= QUARTILE * published
        for q, a, b, published in zip(ours, low, high, theirs, strict=True)
    )
    named = zip((1, 2, 3), ours, low, high, strict=True)
    found = {"meets": meets}
    for k, q, a, b in named:
        found |= {f"q{k}": q, f"low_{k}": a, f"high_{k}": b}
    return found


def _intervals(values: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Ends (three each) of percentile intervals of the pooled quartiles, networks drawn anew."""
    random = np.random.RandomState(0)
    drawn = (random.randint(len(values), size=len(values)) for _ in range(RESAMPLES))
    found = [quartiles(np.concatenate([values[i] for i in indices])) for indices in drawn]
    low, high = np.quantile(found, [RISK / 2, 1 - RISK / 2], axis=0)
    return low, high


def table_1_words(table: pd.DataFrame) -> pd.DataFrame:
    """:func:`table_1_by_arithmetic` for the page, the published rows above ours."""
    rows = []
    for precision, group in table.groupby("precision", sort=False):
        published = "({}, {}, {})".format(*PUBLISHED_QUARTILES[precision])
        blank = dict.fromkeys(("arithmetic", "network", "rule", "networks", "pairs", "norm"), "–")
        rows.append(
            {"precision": precision} | blank | {"quartiles": published, "meets": "published"}
        )
        rows += [_words(row) for row in group.to_dict("records")]
    names = ["precision", "arithmetic", "network", "rule", "networks", "pairs", "norm"]
    return pd.DataFrame(rows, columns=[*names, "quartiles", "meets"])


def _words(row: dict) -> dict:
    names = ("precision", "arithmetic", "network", "rule", "networks", "norm")
    middle = ", ".join(
        f"{row[f'q{k}']:.3g} [{row[f'low_{k}']:.3g}, {row[f'high_{k}']:.3g}]" for k in (1, 2, 3)
    )
    return {name: row[name] for name in names} | {
        "pairs": f"{row['pairs']:.2%}",
        "quartiles": middle,
        "meets": "yes" if row["meets"] else "no",
    }
