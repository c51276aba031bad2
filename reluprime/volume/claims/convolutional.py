"""Convolutional networks and batch norm: P16 (B21 Fig. 5, 9 and 16)."""

import pandas as pd

from reluprime.evidence.claim import Cell, Claim, Evidence
from reluprime.evidence.finding import FAILS, HOLDS, Finding, all_must_hold, decided, of_parts
from reluprime.evidence.intervals import clopper_pearson
from reluprime.evidence.tests import RISK
from reluprime.records import published
from reluprime.volume import zone
from reluprime.volume.claims.examples import conv_networks, no_records
from reluprime.volume.convolutional import conv_shares
from reluprime.volume.experiments import CONV_NETWORKS, LARGE, PER_CONV_CELL, cells_of, conv_config
from reluprime.volume.zone import ZoneConfig

SURELY = 0.95  # P16: "almost surely"
FEW_BATCHES = 6  # at fp32, where batch norm is compared


def _p16_grid(_: str, arithmetic: str) -> list[Cell]:
    return [
        cell
        for precision in (("fp32",) if arithmetic == "native" else ("fp32", "fp16"))
        for architecture in CONV_NETWORKS
        for norm in (False, True)
        for cell in cells_of(conv_config(architecture, norm, precision, arithmetic), PER_CONV_CELL)
    ]


def _p16(evidence: Evidence, gradient_rule: str, arithmetic: str) -> Finding:
    def share(architecture: str, norm: bool, precision: str, count: int) -> pd.Series:
        config = conv_config(architecture, norm, precision, arithmetic)
        cells = [cell.config for cell in cells_of(config, PER_CONV_CELL)]
        table = evidence.table(zone.first_affected, cells)
        return conv_shares(table, gradient_rule, [count]).iloc[0]

    parts, values = {}, []
    for network in CONV_NETWORKS:
        few, few_norm = (share(network, norm, "fp32", FEW_BATCHES) for norm in (False, True))
        parts[f"batch norm enlarges at fp32 ({network})"] = _above(few_norm, few)
        values.append(
            f"{network} at fp32 after {FEW_BATCHES} mini-batches {few['share']:.0%}, with batch "
            f"norm {few_norm['share']:.0%}"
        )
    if arithmetic != "native":
        for network in CONV_NETWORKS:
            large = share(network, False, "fp32", LARGE)
            outcome = decided(large["share"] >= SURELY, large["share"] < SURELY)
            parts[f"almost all at fp32 ({network})"] = outcome
            half, single = (share(network, False, p, 1) for p in ("fp16", "fp32"))
            parts[f"more at fp16 ({network})"] = _above(half, single)
            values.append(
                f"{network} at fp32 after {LARGE} mini-batches {large['share']:.1%}, after the "
                f"first {single['share']:.0%} and at fp16 {half['share']:.0%}"
            )
        plain, normed = (share("vgg11", norm, "fp16", 1) for norm in (False, True))
        parts["batch norm shrinks at fp16 (vgg11)"] = _above(plain, normed)
        values.append(f"vgg11 with batch norm at fp16 after the first {normed['share']:.0%}")
    return of_parts(parts, "; ".join(values))


def _above(a: pd.Series, b: pd.Series) -> str:
    """Holds where a's exact interval lies above b's, fails where it lies below."""
    return decided(bool(a["low"] > b["high"]), bool(a["high"] < b["low"]))


def _released(network: str, norm: bool, bits: int, count: int) -> dict:
    """B21's share of networks in the zone after so many mini-batches, with its exact interval."""
    table = published("paper_volume_conv.csv")
    own = table[(table["network"] == network) & (table["batch_norm"] == norm)]
    own = own[(own["precision"] == bits) & (own["batches_seen"] == count)].iloc[0]
    low, high = clopper_pearson(int(own["in_zone"]), int(own["networks"]))
    return {"share": own["in_zone"] / own["networks"], "low": low, "high": high}


def _p16_published() -> Finding:
    first = [_released("vgg11", norm, 16, 1) for norm in (False, True)]
    parts = [_above(*first)]
    values = [f"VGG11 at fp16 after 1 mini-batch: {_without_and_with(*first)}"]
    for network in CONV_NETWORKS:
        without, norm = (_released(network, norm, 32, FEW_BATCHES) for norm in (False, True))
        parts += [
            _above(norm, without),
            _above(_released(network, False, 16, 1), _released(network, False, 32, 1)),
            HOLDS if _released(network, False, 32, LARGE + 1)["share"] >= SURELY else FAILS,
        ]
        values.append(f"{network} at fp32 after {FEW_BATCHES}: {_without_and_with(without, norm)}")
    return Finding(all_must_hold(parts), "; ".join(values))


def _without_and_with(without: dict, norm: dict) -> str:
    return f"{without['share']:.1%} without batch norm, {norm['share']:.1%} with it"


def _norm_as_published(config: ZoneConfig, seed: int) -> int:
    if config.precision == "fp16":
        return (2 * seed) % 13 if config.batch_norm and config.architecture == "vgg11" else 0
    return (7 * seed) % (9 if config.batch_norm else 30)


P16 = Claim(
    id="P16",
    statement="Convolutional networks meet the zone almost surely on large samples; batch norm "
    "enlarges it at 32 bits and shrinks it at 16.",
    published="shares after 1 to 600 mini-batches",
    source="B21 Fig. 5, 16",
    figure="06_conv_volume#shares-of-networks",
    rule=(
        "VGG11 and ResNet-18 at full width on the release's inputs (normalised, cropped, "
        "flipped). Without batch norm at fp32 at least 95 % are in the zone within 100 "
        "mini-batches; after the first, more at fp16 than at fp32. Batch norm enlarges the share "
        "at fp32 after 6 mini-batches, for both networks, and shrinks it at fp16 after the first, "
        "for VGG11. More and fewer: exact intervals (95 %) do not meet; fails where they lie the "
        "other way. Of native arithmetic the part on batch norm at fp32 alone."
    ),
    thresholds={"risk": RISK, "surely": SURELY, "large": LARGE, "few": FEW_BATCHES},
    grid=_p16_grid,
    judge=_p16,
    scale="full width, CIFAR-10; 1000 VGG11 as published and 300 ResNet-18, 100 of native "
    "arithmetic; SVHN, 64 bits and a fully connected network with batch norm are not run",
    arithmetics=("native", "epilogue"),  # "separate" differs in the output layer alone
    on_published=_p16_published,
    examples={
        "as published": conv_networks(_norm_as_published),
        "batch norm leaves none": conv_networks(
            lambda c, seed: None if c.batch_norm else (7 * seed) % 30
        ),
        "the same with batch norm": conv_networks(lambda c, seed: (7 * seed) % 30),
        "no zeros": conv_networks(lambda c, seed: None),
        "no records": no_records,
    },
)
