"""Every claim of the two papers, and the rule that turns records into a verdict.

`python -m reluprime.claims [--json] [--store PATH]` prints the scorecard.

A rule looks at records of full scale alone (the paper's data set, architecture and mini-batch
size, and a stated least number of runs or networks) and says for each gradient rule whether the
claim holds. Thresholds come from the published sentence; each is named in its rule's docstring.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from reluprime import (
    bifurcation,
    learning_claims,
    records,
    replication_claims,
    training,
    tuning,
    volume,
    zeros,
)
from reluprime.activations import GRADIENT_RULES
from reluprime.findings import NOTHING, Finding, Frames, all_of, matches
from reluprime.statistics import (
    MIN_ZEROS,
    by_network,
    conv_shares,
    differ,
    hoeffding_margin,
    is_larger,
    pair_share,
    quartiles,
    sample_size_shares,
    with_sizes,
    zero_rates,
    zone_shares,
)

UNTESTED = "not tested"
TOO_SMALL = "not tested at this scale"

MIN_RUNS = 3  # seeds of a paired run
MIN_NETWORKS = 100  # random networks of a condition whose share is compared
MIN_NETWORKS_FP64 = 50  # where the claim is that there are none


@dataclass(frozen=True)
class Claim:
    """One row of the scorecard; `rule` maps records and a gradient rule to a Finding."""

    id: str
    statement: str
    published: str
    source: str
    rule: Callable[[Frames, str], Finding]
    scale: str  # of the records that a verdict is based on
    figure: str  # where the report shows it: notebook#heading


STUDIES = (
    bifurcation.paired_run,
    bifurcation.weight_plane,
    volume.estimate,
    training.fit,
    zeros.count,
    tuning.search,
)


def load(store: records.Store) -> Frames:
    """All records that the rules read, by study name."""
    return {records.study_name(study): records.table(study, store) for study in STUDIES}


def _runs(frames: Frames, **wanted) -> pd.DataFrame:
    """Paired runs at the paper's settings: MNIST, mini-batches of 128, random step size, s=1."""
    frame = frames["bifurcation.paired_run"]
    if frame.empty:
        return frame
    wanted = {"dataset": "mnist", "batch_size": 128} | wanted
    return frame[frame["lr"].isna() & matches(frame, wanted)].drop_duplicates(["seed"])


RELU_RUN = {"activation": "relu", "hidden_sizes": (2000, 128)}
RELU6_RUN = {"activation": "relu6", "hidden_sizes": (4000, 256)}


def _controls_are_zero(runs: pd.DataFrame) -> bool:
    return all(not any(distance["control"]) for distance in runs["distance"])


def _jumps(runs: pd.DataFrame, gradient_rule: str) -> tuple[list[float], bool]:
    """L1 distance right after each run's event, and whether all distances were 0 before it."""
    jumps, clean = [], True
    for run in runs.to_dict("records"):
        if run["event"] is None:
            clean &= not any(run["distance"][f"{gradient_rule} s=1"])
            continue
        step, distance = run["event"]["step"], run["distance"][f"{gradient_rule} s=1"]
        clean &= not any(distance[:step])
        jumps.append(distance[step])
    return jumps, clean


def _diverges(frames: Frames, gradient_rule: str, settings: dict) -> Finding:
    runs = _runs(frames, precision="fp32", **settings)
    if len(runs) < MIN_RUNS:
        return NOTHING
    jumps, clean = _jumps(runs, gradient_rule)
    _, jump, _ = quartiles(jumps)
    value = f"{len(jumps)} of {len(runs)} runs part; median jump {jump:.2g}"
    parts = len(jumps) > len(runs) / 2 and jump > 1
    return Finding(value, bool(clean and _controls_are_zero(runs) and parts))


def _stays(frames: Frames, gradient_rule: str, settings: dict) -> Finding:
    runs = _runs(frames, precision="fp64", **settings)
    if len(runs) < MIN_RUNS:
        return NOTHING
    parted = sum(any(d[f"{gradient_rule} s=1"]) for d in runs["distance"])
    value = f"{parted} of {len(runs)} runs part at fp64"
    return Finding(value, parted == 0 and _controls_are_zero(runs))


def fp32_run_jumps(frames: Frames, gradient_rule: str) -> Finding:
    """P1: controls at 0, distance 0 before the event, most runs part, median jump above 1."""
    return _diverges(frames, gradient_rule, RELU_RUN)


def fp64_run_stays(frames: Frames, gradient_rule: str) -> Finding:
    """P2: no fp64 run ever parts from s=0."""
    return _stays(frames, gradient_rule, RELU_RUN)


def relu6_run_jumps(frames: Frames, gradient_rule: str) -> Finding:
    """P3: the rules of P1 at fp32 and P2 at fp64, with ReLU6 on the wider network."""
    at_fp32 = _diverges(frames, gradient_rule, RELU6_RUN)
    at_fp64 = _stays(frames, gradient_rule, RELU6_RUN)
    if None in (at_fp32.holds, at_fp64.holds):
        return NOTHING
    return Finding(f"{at_fp32.value}; {at_fp64.value}", at_fp32.holds and at_fp64.holds)


def zero_set_is_an_area(frames: Frames, gradient_rule: str) -> Finding:
    """P4: the share of a plane that is exactly 0 keeps its size when the grid is refined.

    Twice as many points a side see a line's share halved and an area's unchanged. fp32 holds if
    the share on the fine grid is above 0 and at least 3/4 of that on the coarse one, over all
    planes; fp64 if no plane has more zeros than a line through the grid can have (2 R - 1).

    The rule replaces one that asked for more than 2 R - 1 zeros at fp32, which depends on the
    square's size; that failed on the planes of direction seed 0, so those are no evidence here.
    """
    planes = frames["bifurcation.weight_plane"]
    if planes.empty:
        return NOTHING
    usable = planes["run"].map(lambda r: r["dataset"] == "mnist" and r["precision"] == "fp32")
    rows = planes[usable & planes["event"].notna() & (planes["seed"] > 0)].to_dict("records")
    by_place = {(row["run"]["seed"], row["seed"], row["resolution"]): row for row in rows}
    pairs = [
        (by_place[run, seed, (size + 1) // 2], fine)
        for (run, seed, size), fine in by_place.items()
        if (run, seed, (size + 1) // 2) in by_place
    ]
    if len(pairs) < MIN_RUNS:
        return NOTHING
    coarse, fine = (
        sum(_zeros(p["plane"]) / p["resolution"] ** 2 for p in planes) / len(pairs)
        for planes in zip(*pairs, strict=True)
    )
    vanishes = all(_zeros(p["plane_fp64"]) <= 2 * p["resolution"] - 1 for _, p in pairs)
    value = f"{fine:.2%} exactly 0 at fp32 ({coarse:.2%} on half the grid), {len(pairs)} planes"
    return Finding(value, bool(0.75 * coarse <= fine > 0 and vanishes))


def _zeros(plane: list[list[float]]) -> int:
    return sum(z == 0 for row in plane for z in row)


TABLE_1 = {
    "dataset": "mnist",
    "architecture": "mlp",
    "batch_norm": False,
    "max_batches": None,
    "hidden_sizes": (256, 256, 256),
    "batch_size": 256,
    "initialisation": "torch",
    "relu_after_first": True,
}


B21_WIDTHS = range(16, 1025)  # Fig. 2
M23_WIDTHS = range(4, 65)  # Fig. 4


def _networks(frames: Frames, gradient_rule: str, **wanted) -> pd.DataFrame:
    frame = frames["volume.estimate"]
    if frame.empty:
        return by_network(frame, gradient_rule)
    return by_network(frame[matches(frame, wanted)], gradient_rule)


def _table_1(frames: Frames, gradient_rule: str) -> dict[str, pd.DataFrame] | None:
    """Table 1's networks at fp16, fp32 and fp64, or None if one of them has too few."""
    found = {
        precision: _networks(
            frames, gradient_rule, precision=precision, stop_at_first=False, **TABLE_1
        )
        for precision in ("fp16", "fp32", "fp64")
    }
    return found if all(len(n) >= MIN_NETWORKS for n in found.values()) else None


def share_by_precision(frames: Frames, gradient_rule: str) -> Finding:
    """P5: Hoeffding intervals (95 %) around ours and around 100, 40 and 0 % (+-5) overlap."""
    networks = _table_1(frames, gradient_rule)
    if networks is None:
        return NOTHING
    published = {"fp16": 1.0, "fp32": 0.4, "fp64": 0.0}
    ours = {p: float((n["affected"] > 0).mean()) for p, n in networks.items()}
    holds = all(
        abs(ours[p] - published[p]) <= 0.05 + hoeffding_margin(len(networks[p])) for p in ours
    )
    return Finding(" / ".join(f"{ours[p]:.1%}" for p in ours), holds)


def share_of_pairs(frames: Frames, gradient_rule: str) -> Finding:
    """P6: within a factor of 2 of 0.05 % and 0.0002 %, and none at fp64."""
    networks = _table_1(frames, gradient_rule)
    if networks is None:
        return NOTHING
    published = {"fp16": 5e-4, "fp32": 2e-6}
    ours = {p: pair_share(n)["share"] for p, n in networks.items()}
    close = all(published[p] / 2 <= ours[p] <= published[p] * 2 for p in published)
    return Finding(" / ".join(f"{ours[p]:.2%}" for p in ours), close and ours["fp64"] == 0)


def relative_difference(frames: Frames, gradient_rule: str) -> Finding:
    """P7: the sentence of B21 3.2: median above 20 at fp32, and higher at fp16 (one-sided
    Mann-Whitney test, 5 %); nothing to compare at fp64."""
    networks = _table_1(frames, gradient_rule)
    if networks is None:
        return NOTHING
    values = {p: n["relative_difference"].explode().dropna().tolist() for p, n in networks.items()}
    medians = {p: quartiles(v)[1] for p, v in values.items()}
    larger = is_larger(values["fp16"], values["fp32"])
    holds = medians["fp32"] > 20 and larger and not values["fp64"]
    return Finding(f"medians {medians['fp16']:.2g} / {medians['fp32']:.2g} / none", holds)


def _sweep_shares(frames: Frames, rule: str, precision: str, by: str) -> pd.DataFrame:
    """Shares in the zone over one size, the rest as in B21 Fig. 2, smallest size first."""
    settings = {k: v for k, v in TABLE_1.items() if k != by}
    networks = _networks(frames, rule, precision=precision, stop_at_first=True, **settings)
    return zone_shares(networks, [by]).sort_values(by, ignore_index=True)


def _depths_and_widths(
    frames: Frames, rule: str, precision: str, base: tuple[int, int], widths: range
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Sweeps over depth at width base[0], and over `widths` at depth base[1]."""
    settings = {k: v for k, v in TABLE_1.items() if k != "hidden_sizes"}
    networks = _networks(frames, rule, precision=precision, stop_at_first=True, **settings)
    networks = with_sizes(networks)
    width, depth = base
    by_depth = zone_shares(networks[networks["width"] == width], ["depth"])
    in_range = (networks["depth"] == depth) & networks["width"].isin(widths)
    by_width = zone_shares(networks[in_range], ["width"])
    return by_depth.sort_values("depth"), by_width.sort_values("width")


def _grows(shares: pd.DataFrame) -> bool:
    """The last share's exact interval lies above the first's."""
    return bool(shares["low"].iloc[-1] > shares["high"].iloc[0])


def _enough(shares: pd.DataFrame, least: int, ends: tuple[int, int]) -> bool:
    """Whether the sweep reaches from one published end to the other with enough networks."""
    sizes = set(shares.iloc[:, 0])
    return sizes.issuperset(ends) and bool((shares["networks"] >= least).all())


def share_grows(frames: Frames, gradient_rule: str) -> Finding:
    """P8, at fp32: exact intervals at the smallest and largest depth, width and sample do not
    meet; a chi-squared test over batch sizes finds no difference at 1 %; and no fp64 network of
    any size is in the zone. The sweeps must reach from one published end to the other."""
    depth, width = _depths_and_widths(frames, gradient_rule, "fp32", (256, 3), B21_WIDTHS)
    batch = _sweep_shares(frames, gradient_rule, "fp32", "batch_size")
    deep = _networks(
        frames,
        gradient_rule,
        precision="fp32",
        stop_at_first=True,
        **TABLE_1 | {"hidden_sizes": (256,) * 4},
    )
    fp64 = _depths_and_widths(frames, gradient_rule, "fp64", (256, 3), B21_WIDTHS)
    complete = [
        _enough(depth, MIN_NETWORKS, (1, 6)),
        _enough(width, MIN_NETWORKS, (16, 1024)),
        _enough(batch, MIN_NETWORKS, (16, 1024)),
        len(deep) >= MIN_NETWORKS,
        _enough(fp64[0], MIN_NETWORKS_FP64, (1, 6)),
        _enough(fp64[1], MIN_NETWORKS_FP64, (16, 1024)),
    ]
    if not all(complete):
        return NOTHING
    sample = sample_size_shares(deep, [10_000, 60_000])
    grows = {"depth": _grows(depth), "width": _grows(width), "sample": _grows(sample)}
    depends = differ(batch["in_zone"], batch["networks"], 0.01)
    none = not any(shares["in_zone"].any() for shares in fp64)
    value = (
        f"fp32 grows with {', '.join(n for n, g in grows.items() if g) or 'nothing'}; "
        f"{'depends' if depends else 'no dependence'} on batch size; "
        f"{'none' if none else 'some'} at fp64"
    )
    return Finding(value, all(grows.values()) and not depends and none)


def small_share_grows(frames: Frames, gradient_rule: str) -> Finding:
    """R3, networks of width 4 to 64: at fp32 the largest depth's and width's exact intervals lie
    above the smallest's; every fp16 share is at least the fp32 one; none at fp64."""
    shares = {
        p: _depths_and_widths(frames, gradient_rule, p, (32, 4), M23_WIDTHS)
        for p in ("fp16", "fp32", "fp64")
    }
    least = {"fp16": MIN_NETWORKS, "fp32": MIN_NETWORKS, "fp64": MIN_NETWORKS_FP64}
    ends = ((1, 6), (4, 64))
    if not all(
        _enough(s, least[p], e)
        for p, pair in shares.items()
        for s, e in zip(pair, ends, strict=True)
    ):
        return NOTHING
    grows = [_grows(s) for s in shares["fp32"]]
    above = [
        s16.merge(s32, on=by, suffixes=("_16", "_32")).eval("share_16 >= share_32").all()
        for by, s16, s32 in zip(("depth", "width"), shares["fp16"], shares["fp32"], strict=True)
    ]
    none = not any(s["in_zone"].any() for s in shares["fp64"])
    last = [s["share"].iloc[-1] for s in shares["fp32"]]
    value = (
        f"fp32 up to {last[0]:.1%} with depth, {last[1]:.1%} with width; fp16 above: {all(above)}"
    )
    return Finding(value, bool(all(grows) and all(above) and none))


MIN_NETWORKS_FP16 = 10  # whose first mini-batch alone is asked for
CONV = {"dataset": "cifar10", "width": 1.0, "batch_size": 100, "initialisation": "torch"}
MANY_BATCHES = 51  # of 100 images; the published shares reach 97 % there
FEW_BATCHES = 6


def _conv_share(
    frames: Frames, rule: str, architecture: str, norm: bool, precision: str, count: int
):
    """Share of networks in the zone after `count` mini-batches, or None if there are too few."""
    frame = frames["volume.estimate"]
    wanted = CONV | {"architecture": architecture, "batch_norm": norm, "precision": precision}
    shares = conv_shares(frame[matches(frame, wanted)] if len(frame) else frame, rule, [count])
    least = MIN_NETWORKS_FP16 if precision == "fp16" else MIN_NETWORKS
    enough = len(shares) and shares["networks"].iloc[0] >= least
    return shares.iloc[0] if enough else None


def _above(a: pd.Series | None, b: pd.Series | None) -> bool | None:
    """Whether a's exact interval lies above b's."""
    return None if a is None or b is None else bool(a["low"] > b["high"])


def conv_networks_meet_the_zone(frames: Frames, gradient_rule: str) -> Finding:
    """P16, full width, VGG11 and ResNet-18: (a) without batch norm at fp32 at least 95 % are in
    the zone after 51 mini-batches of 100; (b) after the first one, more at fp16 than at fp32;
    (c) batch norm enlarges the share at fp32 after 6 mini-batches, for both networks; (d) and
    shrinks it at fp16 after the first one, for VGG11 (the published ResNet-18 stays at 100 %).
    More and fewer: exact intervals do not meet. One part that fails decides."""

    def share(architecture: str, norm: bool, precision: str, count: int):
        return _conv_share(frames, gradient_rule, architecture, norm, precision, count)

    parts, words = [], []
    for network in ("vgg11", "resnet18"):
        many = share(network, False, "fp32", MANY_BATCHES)
        few, few_norm = (share(network, norm, "fp32", FEW_BATCHES) for norm in (False, True))
        parts.append(None if many is None else many["share"] >= 0.95)
        parts.append(_above(share(network, False, "fp16", 1), share(network, False, "fp32", 1)))
        parts.append(_above(few_norm, few))
        if many is not None and few_norm is not None:
            words.append(
                f"{network} {many['share']:.0%} after {MANY_BATCHES} mini-batches; after "
                f"{FEW_BATCHES}: {few['share']:.0%}, with batch norm {few_norm['share']:.0%}"
            )
    parts.append(_above(share("vgg11", False, "fp16", 1), share("vgg11", True, "fp16", 1)))
    holds = all_of(parts)
    return Finding("; ".join(words), None if holds is None else bool(holds))


MIN_ARCHITECTURES = 4
SPREAD = 4.0  # the published rates of such architectures lie within a factor of 3.8 (fp16)


def zeros_are_proportional(frames: Frames, gradient_rule: str) -> Finding:
    """P17: at fp32 and at fp16 the zeros per call of all networks with at least 10 zeros (at least
    4 such, of two depths and two widths) lie within a factor of 4, as the published ones do.
    Training on MNIST at s=1 under the rule."""
    frame = frames["zeros.count"]
    if frame.empty:
        return NOTHING
    wanted = {"dataset": "mnist", "s": 1.0, "gradient_rule": gradient_rule, "batch_norm": False}
    rates = zero_rates(frame[matches(frame, wanted)])
    parts, words = [], []
    for precision in ("fp32", "fp16"):
        own = rates[(rates["precision"] == precision) & (rates["zeros"] >= MIN_ZEROS)]
        varied = own["depth"].nunique() >= 2 and own["width"].nunique() >= 2
        if len(own) < MIN_ARCHITECTURES or not varied:
            parts.append(None)
            continue
        low, high = own["rate"].min(), own["rate"].max()
        parts.append(bool(high <= SPREAD * low))
        words.append(f"{precision} {low:.1e} to {high:.1e} a call")
    return Finding("; ".join(words), all_of(parts))


B21_MNIST = "MNIST, one epoch on the CPU"
B21_TRAINING = "full width, at least 20 epochs and 3 seeds"
MONTE_CARLO = "MNIST, random networks on the CPU"
M23_MNIST = "MNIST, training on the CPU"

CLAIMS = (
    Claim(
        "P1",
        "At fp32, training with s=1 equals training with s=0 until a pre-activation is exactly 0; "
        "then the weights jump apart. A second s=0 run stays identical.",
        "L1 distance from 0 to above 1 at iteration 65",
        "B21 Fig. 1",
        fp32_run_jumps,
        B21_MNIST,
        "01_bifurcation_event#one-run-step-by-step",
    ),
    Claim(
        "P2",
        "At fp64 the runs never part.",
        "no divergence over many epochs",
        "B21 Fig. 7",
        fp64_run_stays,
        B21_MNIST,
        "01_bifurcation_event#one-run-step-by-step",
    ),
    Claim(
        "P3",
        "The same with ReLU6 on a wider network.",
        "jump at fp32, none at fp64",
        "B21 Fig. 8",
        relu6_run_jumps,
        B21_MNIST,
        "01_bifurcation_event#the-same-with-relu6",
    ),
    Claim(
        "P4",
        "In a random plane of weights through the event the neuron is exactly 0 on an area at "
        "fp32, and not at fp64.",
        "picture",
        "B21 Fig. 1, 7",
        zero_set_is_an_area,
        B21_MNIST,
        "01_bifurcation_event#the-zone-around-the-event",
    ),
    Claim(
        "P5",
        "Share of random networks in the bifurcation zone, at 16 / 32 / 64 bits.",
        "100 / 40 / 0 % (±5 %)",
        "B21 Table 1, row 1",
        share_by_precision,
        MONTE_CARLO,
        "02_relative_volume#table-1",
    ),
    Claim(
        "P6",
        "Share of (network, mini-batch) pairs whose gradient depends on s, at 16 / 32 / 64 bits.",
        "0.05 / 0.0002 / 0 % (±13 %)",
        "B21 Table 1, row 2",
        share_of_pairs,
        MONTE_CARLO,
        "02_relative_volume#table-1",
    ),
    Claim(
        "P7",
        "On affected mini-batches the gradient changes by more than 20 times its norm, and more "
        "at 16 bits.",
        "quartiles (98, 117, 137) / (19, 25, 47) / 0",
        "B21 Table 1, row 3",
        relative_difference,
        MONTE_CARLO,
        "02_relative_volume#table-1",
    ),
    Claim(
        "P8",
        "The share grows with sample size, width and depth, not with batch size, and is 0 at 64 "
        "bits.",
        "five sizes of each, M=1000",
        "B21 Fig. 2",
        share_grows,
        MONTE_CARLO,
        "02_relative_volume#sample-size-width-depth-and-batch-size",
    ),
    Claim(
        "P9",
        "VGG11 on CIFAR-10 with SGD: test accuracy is concave in s with its maximum at 0.",
        "falls beyond |s| = 0.1",
        "B21 Fig. 3",
        learning_claims.vgg11_prefers_zero,
        B21_TRAINING,
        "03_training_curves#vgg11-on-cifar-10",
    ),
    Claim(
        "P10",
        "An MLP on MNIST reacts less; ResNet-18 without batch norm cannot be trained for large s.",
        "ResNet-18 fails above about 0.2",
        "B21 Fig. 9, 10, 15",
        learning_claims.resnet18_fails_mlp_resists,
        B21_TRAINING,
        "03_training_curves#resnet-18-on-cifar-10",
    ),
    Claim(
        "P11",
        "ResNet-50 on ImageNet loses accuracy at s=1.",
        "75 % to 63 % and 55 %",
        "B21 Fig. 17",
        learning_claims.imagenet_drops,
        "ImageNet",
        "07_imagenet#ours",
    ),
    Claim(
        "P12",
        "Batch normalisation removes the effect, but for a small one on ResNet-18.",
        "flat curves",
        "B21 Fig. 3, 9, 12, 15",
        learning_claims.batch_norm_removes_effect,
        B21_TRAINING,
        "04_mitigation#fully-connected-network-on-mnist",
    ),
    Claim(
        "P13",
        "Adam reduces the effect.",
        "flatter curves",
        "B21 Fig. 4, 13",
        learning_claims.adam_reduces_effect,
        B21_TRAINING,
        "04_mitigation#training-loss-with-adam",
    ),
    Claim(
        "P14",
        "s=1 at 64 bits equals s=0 at 32 bits; s=1 at 16 bits cannot be trained.",
        "box plots",
        "B21 Fig. 14",
        learning_claims.precision_decides,
        B21_TRAINING,
        "04_mitigation#fully-connected-network-on-mnist",
    ),
    Claim(
        "P15",
        "Dropout has no joint effect with s.",
        "no joint effect",
        "B21 Fig. 11",
        learning_claims.dropout_has_no_joint_effect,
        B21_TRAINING,
        "04_mitigation#fully-connected-network-on-mnist",
    ),
    Claim(
        "P16",
        "Convolutional networks meet the zone almost surely on large samples; batch norm enlarges "
        "it at 32 bits and shrinks it at 16.",
        "shares after 1 to 600 mini-batches",
        "B21 Fig. 5, 9, 16",
        conv_networks_meet_the_zone,
        "CIFAR-10, random networks of full width on the CPU",
        "06_conv_volume#shares-of-networks",
    ),
    Claim(
        "P17",
        "ReLU(0) calls are proportional to all ReLU calls, whatever the architecture.",
        "constant ratio by precision",
        "B21 Fig. 6",
        zeros_are_proportional,
        "MNIST, training on the CPU",
        "05_zero_calls#zeros-against-calls",
    ),
    Claim(
        "R1",
        "The weights of s=0 and s=1 part faster at 16 bits than at 32.",
        "curves",
        "M23 Fig. 1",
        replication_claims.weights_part_faster,
        M23_MNIST,
        "08_replication_fc#distance-between-the-weights",
    ),
    Claim(
        "R2",
        "A 3x200 network trains alike for every s at 32 bits; at 16 bits larger s is worse and "
        "more spread.",
        "curves, box plots",
        "M23 Fig. 2, 3",
        replication_claims.small_precision_suffers,
        M23_MNIST,
        "08_replication_fc#three-layers-of-200",
    ),
    Claim(
        "R3",
        "The trends of the zone's share hold at smaller sizes.",
        "shares of 100 networks",
        "M23 Fig. 4",
        small_share_grows,
        MONTE_CARLO,
        "02_relative_volume#the-smaller-networks-of-m23",
    ),
    Claim(
        "R4",
        "ResNet-18 with batch norm is stable for every s.",
        "curves",
        "M23 Fig. 5",
        replication_claims.resnet_is_stable,
        M23_MNIST,
        "08_replication_fc#a-resnet-with-batch-norm-on-mnist",
    ),
    Claim(
        "R5",
        "MobileNetV3-small shows no difference.",
        "first 2 epochs",
        "M23 4.5",
        replication_claims.mobilenet_shows_nothing,
        M23_MNIST,
        "09_mobilenet_tuning#relu-the-first-two-epochs",
    ),
    Claim(
        "R6",
        "Searching ReLU6'(0) and ReLU6'(6) too does worse than leaving them 0.",
        "96.92 % against 97.36 %",
        "M23 Fig. 6",
        replication_claims.searching_does_worse,
        M23_MNIST,
        "09_mobilenet_tuning#searches",
    ),
    Claim(
        "R7",
        "A fully connected search agrees; with s other than 0, zeros become rarer in training.",
        "text",
        "M23 4.5",
        replication_claims.fully_connected_agrees,
        M23_MNIST,
        "08_replication_fc#the-fully-connected-search",
    ),
)

_VERDICTS = {
    (True, True): "reproduced",
    (False, True): "reproduced only with the injected rule",
    (True, False): "reproduced only with the chain rule",
    (False, False): "not reproduced",
}


def verdict(chain: Finding, injected: Finding) -> str:
    """The scorecard's word for what holds under each gradient rule."""
    seen = TOO_SMALL if chain.value or injected.value else UNTESTED
    return _VERDICTS.get((chain.holds, injected.holds), seen)


def scorecard(store: records.Store) -> pd.DataFrame:
    """One row a claim: id, figure, claim, published, chain, injected, scale, verdict, source.

    A claim whose records are missing is "not tested"; one whose records are too small is "not
    tested at this scale".
    """
    frames, rows = load(store), []
    for claim in CLAIMS:
        found = {r: claim.rule(frames, r) for r in GRADIENT_RULES}
        word = verdict(**found)
        rows.append(
            {
                "id": claim.id,
                "figure": claim.figure,
                "claim": claim.statement,
                "published": claim.published,
                **{r: finding.value or "–" for r, finding in found.items()},
                "scale": claim.scale if word not in (UNTESTED, TOO_SMALL) else "–",
                "verdict": word,
                "source": claim.source,
            }
        )
    return pd.DataFrame(rows)


def main(argv: list[str] | None = None) -> int:
    """Print the scorecard; 1 if the store cannot be read."""
    parser = argparse.ArgumentParser(prog="python -m reluprime.claims", description=__doc__)
    parser.add_argument("--json", action="store_true", help="as JSON, one object a claim")
    parser.add_argument("--store", default="records", help="folder of the records")
    args = parser.parse_args(argv)
    try:
        card = scorecard(records.Store(args.store))
    except records.RecordsError as error:
        print(error, file=sys.stderr)
        return 1
    if args.json:
        print(card.to_json(orient="records", indent=2, force_ascii=False))
    else:
        print(card.drop(columns=["claim"]).to_string(index=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
