"""The zeros that both works released, number by number, against what an arithmetic predicts.

A point is a share of random networks at one size; a curve is the share over the mini-batches seen.
Nothing is fitted: the networks are drawn as the papers draw them, and an arithmetic says how their
layers round. Each point has a test, and each curve and each panel of batch sizes one for all.
"""

from functools import cache
from typing import NamedTuple

import pandas as pd

from reluprime.evidence.claim import Cell, Evidence
from reluprime.evidence.intervals import clopper_pearson
from reluprime.instruments.arithmetic import ARITHMETICS
from reluprime.records import Store, published
from reluprime.volume import zone
from reluprime.volume.experiments import (
    B21,
    CONV_NETWORKS,
    M23,
    PER_CELL,
    PER_CONV_CELL,
    Sweep,
    cells_of,
    conv_config,
    networks_of,
    published_points,
    share_networks,
)
from reluprime.volume.zone import ZoneConfig

READING = 0.004  # by which the curve over sample sizes, read from a picture, may be off

WORKS: dict[str, tuple[Sweep, str, tuple[str, ...]]] = {
    "B21": (B21, "paper_volume_mlp.csv", ("fp16", "fp32")),
    "M23": (M23, "replication_volume_mlp.csv", ("fp16", "fp32")),
}


class Curve(NamedTuple):
    """Shares of networks in the zone after a number of mini-batches."""

    panel: str
    precision: str
    config: ZoneConfig
    per_cell: int
    batches: tuple[int, ...]  # increasing
    published: tuple[float, ...]
    reading: float  # error of the published shares


def predicted_precisions(arithmetic: str) -> tuple[str, ...]:
    """At 32 bits "separate" is "epilogue", and not counted twice."""
    return ("fp16",) if arithmetic == "separate" else ("fp16", "fp32")


@cache
def curves(arithmetic: str) -> list[Curve]:
    """Those of B21: over sample sizes, for the network of Table 1, and of Fig. 5 and 16."""
    precisions = predicted_precisions(arithmetic)
    found = [_sample_curve(p, arithmetic) for p in precisions if arithmetic != "native"]
    if arithmetic == "separate":  # of convolutional networks it differs in the output layer alone
        return found
    at = ("fp32",) if arithmetic == "native" else precisions
    return found + [
        _conv_curve(network, norm, p, arithmetic)
        for network in CONV_NETWORKS
        for norm in (False, True)
        for p in at
    ]


def _sample_curve(precision: str, arithmetic: str) -> Curve:
    table = published("paper_volume_sample.csv")
    own = table[table["precision"] == int(precision[2:])]
    config = share_networks(arithmetic)["release", precision]
    shares = tuple(own["batches_seen"]), tuple(own["share"])
    return Curve("sample size", precision, config, PER_CELL, *shares, READING)


def _conv_curve(network: str, norm: bool, precision: str, arithmetic: str) -> Curve:
    table = published("paper_volume_conv.csv")
    config = conv_config(network, norm, precision, arithmetic)
    own = table[(table["network"] == network) & (table["batch_norm"] == norm)]
    own = own[(own["precision"] == int(precision[2:]))]
    own = own[own["batches_seen"] <= config.max_batches]
    name = f"{network}, batch norm" if norm else network
    shares = tuple(own["batches_seen"]), tuple(own["in_zone"] / own["networks"])
    return Curve(name, precision, config, PER_CONV_CELL, *shares, 0.0)


def prediction_grid(_: str, arithmetic: str) -> list[Cell]:
    """The cells of all points and curves."""
    cells = []
    for sweep, _file, precisions in WORKS.values():
        for precision in set(precisions) & set(predicted_precisions(arithmetic)):
            for by, sizes in sweep.shapes.items():
                for size in sizes:
                    config = sweep.config(by, size, precision, arithmetic)
                    cells += cells_of(config)
    for curve in curves(arithmetic):
        cells += cells_of(curve.config, curve.per_cell)
    return sorted(cells, key=lambda cell: cell.config.model_dump_json())


def points(evidence: Evidence, gradient_rule: str, arithmetic: str) -> pd.DataFrame:
    """One row a published point whose networks all have records, all of one machine.

    Columns: work, panel (depth, width, batch_size), size, precision, published and ours (shares),
    k, n, published_k, published_n (networks in the zone and all), low and high, published_low and
    published_high (exact intervals, 95 %).
    """
    rows, evidence = [], evidence.on_one_machine(prediction_grid(gradient_rule, arithmetic))
    for work, (sweep, file, _) in WORKS.items():
        for precision in predicted_precisions(arithmetic):
            theirs = published_points(file, int(precision[2:]))
            ours = sweep.shares(evidence, gradient_rule, precision, arithmetic)
            both = theirs.merge(ours, on=["by", "size"], suffixes=("_published", ""))
            rows += [_point(work, precision, row) for row in both.to_dict("records")]
    return pd.DataFrame(rows, columns=_POINT)


_POINT = [
    *("work", "panel", "size", "precision", "published", "ours", "k", "n"),
    *("published_k", "published_n", "low", "high", "published_low", "published_high"),
]


def _point(work: str, precision: str, row: dict) -> dict:
    theirs = clopper_pearson(row["in_zone_published"], row["networks_published"])
    return {
        "work": work,
        "panel": row["by"],
        "size": row["size"],
        "precision": precision,
        "published": row["in_zone_published"] / row["networks_published"],
        "ours": row["in_zone"] / row["networks"],
        "k": row["in_zone"],
        "n": row["networks"],
        "published_k": row["in_zone_published"],
        "published_n": row["networks_published"],
        "low": row["low"],
        "high": row["high"],
        "published_low": theirs[0],
        "published_high": theirs[1],
    }


def curve_points(evidence: Evidence, gradient_rule: str, arithmetic: str) -> pd.DataFrame:
    """One row a point of a curve whose networks all have records: work, panel, precision, batches,
    published, ours, n, reading, low and high (exact interval of ours, 95 %)."""
    rows, evidence = [], evidence.on_one_machine(prediction_grid(gradient_rule, arithmetic))
    for curve in curves(arithmetic):
        if evidence.missing(cells_of(curve.config, curve.per_cell)):
            continue
        networks = networks_of(evidence, curve.config, gradient_rule, curve.per_cell)
        for batches, share in zip(curve.batches, curve.published, strict=True):
            k, n = int((networks["first_affected"] < batches).sum()), len(networks)
            low, high = clopper_pearson(k, n)
            rows.append(
                {
                    "work": "B21",
                    "panel": curve.panel,
                    "precision": curve.precision,
                    "batches": batches,
                    "published": share,
                    "ours": k / n,
                    "n": n,
                    "reading": curve.reading,
                    "low": low,
                    "high": high,
                }
            )
    columns = ["work", "panel", "precision", "batches", "published", "ours", "n", "reading"]
    return pd.DataFrame(rows, columns=[*columns, "low", "high"])


def evidence_of(store: Store) -> Evidence:
    """What a store has of the points and curves."""
    return Evidence.of_store(store, ["zone.first_affected"])


def records_of(store: Store, arithmetic: str) -> pd.DataFrame:
    """The records of an arithmetic's points, for a page's source line."""
    cells = prediction_grid("injected", arithmetic)
    evidence = evidence_of(store).on_one_machine(cells)
    return evidence.table(zone.first_affected, [cell.config for cell in cells])


def progress(evidence: Evidence) -> pd.DataFrame:
    """How many of each arithmetic's cells a machine has records of, for the page."""
    rows = []
    for arithmetic in ARITHMETICS:
        cells = prediction_grid("injected", arithmetic)
        for machine, own in evidence.by_machine(cells).items():
            there = len(cells) - len(own.missing(cells))
            of = {"arithmetic": arithmetic, "machine": machine}
            rows.append(of | {"cells": len(cells), "with records": there})
    return pd.DataFrame(rows, columns=["arithmetic", "machine", "cells", "with records"])
