"""Tables of the Monte Carlo by arithmetic: which conditions meet which row of B21's Table 1."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from reluprime.evidence.claim import Evidence
from reluprime.evidence.finding import FAILS, HOLDS, matches
from reluprime.evidence.intervals import quartiles
from reluprime.evidence.tests import RISK
from reluprime.instruments.activations import GRADIENT_RULES
from reluprime.instruments.arithmetic import ARITHMETICS, available
from reluprime.records import Store
from reluprime.volume.claims.quartiles import QUARTILE
from reluprime.volume.claims.table_1 import MEANT_PAIRS, near, own_shares, within_factor
from reluprime.volume.experiments import (
    cells_of,
    in_zone,
    networks_of,
    pair_networks,
    share_networks,
)
from reluprime.volume.networks import VolumeConfig
from reluprime.volume.shares import pair_share, share_in_words
from reluprime.volume.table_1 import PUBLISHED_QUARTILES, PUBLISHED_TABLE_1

RESAMPLES = 200  # of networks, for the interval of a quartile
NORMS = {
    "first layer": "relative_difference_first_layer",  # what the release takes
    "all parameters": "relative_difference",  # what the paper writes
}


def evidence_of(store: Store) -> Evidence:
    """What a store has of Table 1's networks."""
    return Evidence.of_store(store, ["volume.estimate", "zone.first_affected"])


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
    """Row 3 of B21's Table 1 by network, norm, gradient rule and arithmetic.

    Columns: precision, arithmetic, network (paper: three ReLUs; release: two), rule, networks,
    norm, q1, q2, q3 (quartiles of the relative difference), low_1 ... high_3 (intervals, 95 %,
    networks drawn anew), meets (whether each published quartile is in its interval or within 10 %
    of ours). Conditions whose networks do not all have records are left out.
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
            }
            rows += [shared | {"norm": n} | _quartiles(found[c], config) for n, c in NORMS.items()]
    columns = ["precision", "arithmetic", "network", "rule", "networks", "norm"]
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


def in_prose(table: pd.DataFrame) -> dict[str, str]:
    """For the article: quartiles_PRECISION_ARITHMETIC, as the published ones were made.

    The release's network, its first layer's norm, the constant; "" where there are none. table:
    rows of :func:`table_1_by_arithmetic`.
    """
    words = {
        f"quartiles_{precision}_{arithmetic}": ""
        for precision in PUBLISHED_QUARTILES
        for arithmetic in ARITHMETICS
    }
    as_published = {"network": "release", "norm": "first layer", "rule": "injected"}
    for row in table[matches(table, as_published)].to_dict("records"):
        own = ", ".join(f"{row[f'q{k}']:.3g}" for k in (1, 2, 3))
        words[f"quartiles_{row['precision']}_{row['arithmetic']}"] = own
    return words


def table_1_words(table: pd.DataFrame) -> pd.DataFrame:
    """:func:`table_1_by_arithmetic` for the page, the published rows above ours."""
    rows = []
    for precision, group in table.groupby("precision", sort=False):
        published = "({}, {}, {})".format(*PUBLISHED_QUARTILES[precision])
        blank = dict.fromkeys(("arithmetic", "network", "rule", "networks", "norm"), "–")
        rows.append(
            {"precision": precision} | blank | {"quartiles": published, "meets": "published"}
        )
        rows += [_words(row) for row in group.to_dict("records")]
    names = ["precision", "arithmetic", "network", "rule", "networks", "norm"]
    return pd.DataFrame(rows, columns=[*names, "quartiles", "meets"])


def _words(row: dict) -> dict:
    names = ("precision", "arithmetic", "network", "rule", "networks", "norm")
    middle = ", ".join(
        f"{row[f'q{k}']:.3g} [{row[f'low_{k}']:.3g}, {row[f'high_{k}']:.3g}]" for k in (1, 2, 3)
    )
    return {name: row[name] for name in names} | {
        "quartiles": middle,
        "meets": "yes" if row["meets"] else "no",
    }


def first_rows(evidence: Evidence) -> pd.DataFrame:
    """Rows 1 and 2 of B21's Table 1 by network, gradient rule and arithmetic, for the page.

    Row 1, the share of networks in the zone, has the networks of P5 and exact intervals (95 %);
    "is it the published one" holds, fails or is open as in P5. Row 2, the share of affected
    (network, mini-batch) pairs, has the networks of P6 and intervals over networks, and holds where
    it is 1000 times the published share as in P6. Cells of a condition whose networks do not all
    have records are empty.
    """
    rows = [
        {"precision": precision, "arithmetic": "published"}
        | {"in the zone": in_zone_share, "affected pairs": pairs}
        for precision, (in_zone_share, pairs, _) in PUBLISHED_TABLE_1.items()
    ]
    for arithmetic in ARITHMETICS:
        shares, pairs = share_networks(arithmetic), pair_networks(arithmetic)
        for network, precision in shares | pairs:
            if available(arithmetic, precision) != arithmetic:
                continue
            at = {"precision": precision, "arithmetic": arithmetic, "network": network}
            for rule in GRADIENT_RULES:
                published = own_shares()[network][precision]
                first = _row_1(evidence, shares.get((network, precision)), rule, published)
                second = _row_2(evidence, pairs.get((network, precision)), rule)
                rows.append(at | {"rule": rule} | first | second)
    columns = ["precision", "arithmetic", "network", "rule", "in the zone", "as row 1"]
    table = pd.DataFrame(rows, columns=[*columns, "affected pairs", "as row 2"])
    return table.sort_values("precision", kind="stable").astype(object).fillna("")


def _row_1(evidence: Evidence, config: VolumeConfig | None, rule: str, published: float) -> dict:
    own = _of_one_machine(evidence, config)
    if own is None:
        return {}
    k, n = in_zone(own, config, rule)
    return {"in the zone": f"{share_in_words(k, n)} of {n}", "as row 1": near(k, n, published)}


def _row_2(evidence: Evidence, config: VolumeConfig | None, rule: str) -> dict:
    own = _of_one_machine(evidence, config)
    if own is None:
        return {}
    networks = networks_of(own, config, rule)
    found = pair_share(networks)
    words = f"{found['share']:.2%} [{100 * found['low']:.2f}, {100 * found['high']:.2f}]"
    of = f"{len(networks)} networks x {networks['n_batches'].iloc[0]}"
    outcome = HOLDS if within_factor(found["share"], MEANT_PAIRS[config.precision]) else FAILS
    return {"affected pairs": f"{words} of {of}", "as row 2": outcome}


def _of_one_machine(evidence: Evidence, config: VolumeConfig | None) -> Evidence | None:
    """What the machine has that made most of a condition's networks; None: not all of them."""
    if config is None:
        return None
    own = evidence.on_one_machine(cells_of(config))
    return None if own.missing(cells_of(config)) else own
