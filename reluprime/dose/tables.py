"""Tables of the page "How many kinks does it take?", from the records of the registered grid."""

import math
from collections.abc import Iterable

import numpy as np
import pandas as pd
import torch
from scipy import stats

from reluprime.dose import claims as dose_claims
from reluprime.dose import study as dose
from reluprime.dose.claims import MITIGATIONS, MLP, POINT, TEN_POINTS
from reluprime.evidence.claim import Cell, Evidence
from reluprime.evidence.intervals import poisson_interval
from reluprime.instruments import models
from reluprime.instruments.activations import ReLU
from reluprime.instruments.units import UnitRanges
from reluprime.records import Store, table
from reluprime.training import study as training
from reluprime.training import tables as learning
from reluprime.training.study import TrainingConfig

STUDIES = ("training.fit",)
RELEASED = "as released"  # SGD with momentum 0.9 and weight decay, no batch norm

# ---- what was run ----


def evidence_of(store: Store) -> Evidence:
    """The records that this page reads."""
    return Evidence.of_store(store, STUDIES)


def grids(network: str) -> list[Cell]:
    """All cells of a network's bands, under both rules."""
    own = dose_claims.GRIDS[network]
    return own("injected") + own("chain")


def of_network(evidence: Evidence, network: str) -> pd.DataFrame:
    """`dose.pairs` of a network as released; mlp, vgg11 or resnet18."""
    return dose.measured(evidence, grids(network))


def one_change(evidence: Evidence, changes: dict[str, dict]) -> pd.DataFrame:
    """`dose.pairs` of the fully connected network with one change at a time, and as released.

    The column `condition` names the change.
    """
    conditions = {RELEASED: {}} | changes
    cells = [*grids("mlp"), *dose_claims.variant_grid("injected")]
    table = dose.measured(evidence, [*cells, *dose_claims.mitigation_grid("injected")])
    parts = []
    for name, own in conditions.items():
        network, band = _split(own)
        rows = dose_claims.rows_of(table, network, **band)
        parts.append(rows.assign(condition=name))
    return pd.concat(parts, ignore_index=True)


def _split(changes: dict):
    """-> the network, and what differs only where there is a band."""
    band = {name: value for name, value in changes.items() if name == "kink_layer"}
    rest = {name: value for name, value in changes.items() if name not in band}
    return MLP.replace(**rest), band


def cells_of(store: Store, cells: Iterable[Cell]) -> pd.DataFrame:
    """The records of a grid, for their source."""
    found = evidence_of(store)
    return found.table(training.fit, dict.fromkeys(cell.config for cell in cells))


def progress(evidence: Evidence) -> pd.DataFrame:
    """How many cells of each sentence's grid have a record."""
    rows = []
    for claim in dose_claims.CLAIMS:
        cells = claim.cells()
        wanted = {c.config.model_dump_json(): c for c in cells}.values()
        there = len(wanted) - len(evidence.missing(wanted))
        rows.append({"sentence": claim.id, "runs computed": there, "of": len(wanted)})
    return pd.DataFrame(rows)


# ---- what is lost ----


def band_table(evidence: Evidence) -> pd.DataFrame:
    """What each band costs at s=0, beside the plain run at s=0: points, mean over seeds."""
    rows = []
    for network, (base, _) in dose_claims.NETWORKS.items():
        alone = dose_claims.band_alone(evidence, dose_claims.GRIDS[network]("chain"), base)
        rows += [
            {"network": network, "width of the band": f"{width:g}"}
            | {"points against plain s=0": learning.signed(100 * cost)}
            for width, cost in alone.dropna().items()
        ]
    return pd.DataFrame(rows, columns=["network", "width of the band", "points against plain s=0"])


def curve(pairs: pd.DataFrame) -> pd.DataFrame:
    """A row a rule, s and width of the band.

    Columns: dose (mean), kinks (met, median), runs, difference (mean), least, most (of the runs),
    dead_units (mean, less those at s=0), stuck (runs at chance or diverged).
    """
    rows = []
    for (rule, s, width), own in pairs.groupby(["gradient_rule", "s", "kink_width"]):
        rows.append(
            {"gradient_rule": rule, "s": s, "kink_width": width, "runs": len(own)}
            | {"dose": own["dose"].mean(), "kinks": own["kinks"].median()}
            | {"dose_share": own["dose_share"].mean()}
            | {"difference": own["difference"].mean(), "stuck": int(own["stuck"].sum())}
            | {"least": own["difference"].min(), "most": own["difference"].max()}
            | {"dead_units": (own["dead_units"] - own["dead_at_0"]).mean()}
        )
    return pd.DataFrame(rows, columns=_CURVE)


_CURVE = ["gradient_rule", "s", "kink_width", "runs", "dose", "kinks", "dose_share"]
_CURVE += ["difference", "stuck", "least", "most", "dead_units"]


def curve_table(pairs: pd.DataFrame) -> pd.DataFrame:
    """:func:`curve` in words, for the page."""
    return pd.DataFrame(
        {
            "rule": row["gradient_rule"],
            "s": f"{row['s']:g}",
            "width of the band": f"{row['kink_width']:g}",
            "runs": row["runs"],
            "dose": f"{row['dose']:,.0f}",
            "of all inputs": f"{row['dose_share']:.1%}" if row["dose_share"] > 0.0005 else "",
            "kinks met (median)": f"{row['kinks']:,.0f}",
            "points against s=0": learning.signed(100 * row["difference"]),
            "single runs": f"{100 * row['least']:+.1f} to {100 * row['most']:+.1f}",
            "at chance": row["stuck"],
            "units that died": f"{row['dead_units']:,.0f}",
        }
        for row in curve(pairs).to_dict("records")
    )


def geometric(values: Iterable[float]) -> tuple[float, float, float]:
    """Geometric mean and its 95 % t-interval, on the logarithm; NaN with fewer than two values.

    Infinite where a value is: a threshold that was not reached has no mean.
    """
    values = np.asarray([*values], dtype=float)
    if not len(values) or np.isinf(values).any():
        return (math.inf if len(values) else math.nan,) * 3
    logs = np.log(values)
    half = (
        stats.sem(logs) * stats.t.ppf(0.975, len(logs) - 1)
        if len(logs) > 1 and np.ptp(logs) > 0
        else (0.0 if len(logs) > 1 else math.nan)
    )
    return tuple(float(np.exp(x)) for x in (logs.mean(), logs.mean() - half, logs.mean() + half))


def _dose_words(values: pd.Series, tried: pd.Series) -> str:
    """A threshold with its interval; how far was tried where a seed never reached it."""
    mean, low, high = geometric(values)
    if math.isnan(mean):
        return "no run"
    if math.isinf(mean):
        return f"more than {tried.min():,.0f} in {int(np.isinf(values).sum())} of {len(values)}"
    return f"{mean:,.0f} [{low:,.0f}, {high:,.0f}]"


def threshold_table(pairs: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """The dose that costs one point and ten, with intervals over seeds; a row for each of `by`."""
    rows = []
    for values, own in pairs.groupby(by, sort=False):
        tried = own.groupby("seed")["dose"].max()
        one, ten = (dose.thresholds(own, loss) for loss in (POINT, TEN_POINTS))
        mean = geometric(one)[0]
        first = own.iloc[0]
        product = first["lr"] * abs(first["s"]) * mean
        steps = first["n_batches"] * first["epochs"]
        rows.append(
            dict(zip(by, values, strict=True))
            | {"runs": len(own), "dose that costs a point": _dose_words(one, tried)}
            | {"a step": f"{mean / steps:.2g}" if math.isfinite(mean) else ""}
            | {"dose that costs ten points": _dose_words(ten, tried)}
            | {"lr × s × dose": f"{product:.2g}" if math.isfinite(product) else ""}
        )
    return pd.DataFrame(rows)


def zeros_left(evidence: Evidence) -> pd.DataFrame:
    """Exact zeros of a run at s=0 without a band: a row a mitigation, `native` and `epilogue`."""
    rows = []
    for name, changes in ({RELEASED: {}} | MITIGATIONS).items():
        row = {"condition": name}
        for arithmetic in ("native", "epilogue"):
            own = MLP.replace(**changes, arithmetic=arithmetic)
            configs = [own.replace(seed=seed) for seed in dose_claims.SEEDS]
            runs = learning.runs(evidence.table(training.fit, configs))
            zeros = runs["exact_zeros"].sum()
            low, high = (float(bound) for bound in poisson_interval(np.array(zeros)))
            n = len(runs)
            row[f"exact zeros a run, {arithmetic}"] = (
                f"{zeros / n:.1f} [{low / n:.1f}, {high / n:.1f}]" if n else "no run"
            )
        rows.append(row)
    return pd.DataFrame(rows)


def stand_in_table(evidence: Evidence) -> pd.DataFrame:
    """Runs with real zeros beside the band at their dose: a row a precision, rule and s."""
    rows = []
    for rule in dose_claims.REAL_S:
        found = dose_claims.beside_the_band(evidence, rule)
        if found.empty:
            continue
        for (precision, s), own in found.groupby(["real_precision", "s"]):
            apart = -own["difference"] - own["at_equal_dose"]
            banded = own["at_equal_dose"].mean()
            rows.append(
                {"rule": rule, "precision": precision, "s": f"{s:g}", "runs": len(own)}
                | {"real zeros (dose)": f"{own['dose'].mean():,.0f}"}
                | {"met": f"{own['kinks'].mean():,.0f}"}
                | {"points against s=0": learning.signed(100 * own["difference"].mean())}
                | {"band at that dose": learning.signed(-100 * banded)}
                | {"apart, by run": ", ".join(learning.signed(-100 * a) for a in apart)}
                | {"units that died": f"{(own['dead_units'] - own['dead_at_0']).mean():,.0f}"}
            )
    return pd.DataFrame(rows)


# ---- the papers' doses ----

# B21's trainings without batch norm at fp32: epochs, images and the published values of s (P9,
# P10, P12, P13, P15). Mini-batches of 128.
PAPERS: dict[str, dict] = {
    "MLP 3x2048, MNIST, SGD": {"architecture": "mlp", "images": 60_000, "optimizer": "sgd"},
    "VGG11, CIFAR-10, SGD": {"architecture": "vgg11", "images": 50_000, "optimizer": "sgd"},
    "VGG11, CIFAR-10, Adam": {"architecture": "vgg11", "images": 50_000, "optimizer": "adam"},
    "ResNet-18, CIFAR-10, SGD": {"architecture": "resnet18", "images": 50_000, "optimizer": "sgd"},
}
PAPER_EPOCHS, PAPER_BATCH = 200, 128


def rates(store: Store) -> pd.DataFrame:
    """Exact zeros an input of a ReLU, in our trainings at s=0 and fp32 without batch norm.

    A row a network and optimizer: zeros, calls, runs, rate, low, high (Poisson, 95 %). Widths and
    numbers of epochs differ from the papers'.
    """
    runs = learning.runs(table(training.fit, store))
    plain = (runs["precision"] == "fp32") & (runs["arithmetic"] == "native") & (runs["s"] == 0)
    plain &= ~runs["batch_norm"].astype(bool) & (runs["dropout"] == 0) & (runs["kink_width"] == 0)
    rows = []
    for (network, optimizer), own in runs[plain].groupby(["architecture", "optimizer"]):
        zeros, calls = int(own["exact_zeros"].sum()), float(own["relu_calls"].sum())
        low, high = (float(bound) / calls for bound in poisson_interval(np.array(zeros)))
        rows.append(
            {"architecture": network, "optimizer": optimizer, "runs": len(own), "zeros": zeros}
            | {"calls": calls, "rate": zeros / calls, "low": low, "high": high}
        )
    columns = ["architecture", "optimizer", "runs", "zeros", "calls", "rate", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def size(architecture: str) -> tuple[int, int]:
    """-> inputs of ReLUs an image, and units (neurons or channels), at the paper's full width."""
    shape = (1, 28, 28) if architecture == "mlp" else (3, 32, 32)
    sizes = {"hidden_sizes": (2048, 2048, 2048)} if architecture == "mlp" else {}
    config = TrainingConfig(architecture=architecture, **sizes)
    network = models.build(config, shape, 10, ReLU, seed=0).eval()
    x, ranges = torch.zeros(1, *shape), UnitRanges(network)
    with torch.no_grad(), ranges.one_pass():
        network(x)
    return sum(models.relu_calls(network, x).values()), sum(ranges.sizes().values())


def paper_doses(found: pd.DataFrame) -> pd.DataFrame:
    """What the papers' trainings would meet at the rates found: a row a training.

    Columns: training, architecture, optimizer, dose, low, high, a_step, a_unit, units.
    """
    rows = []
    for name, paper in PAPERS.items():
        own = found[
            (found["architecture"] == paper["architecture"])
            & (found["optimizer"] == paper["optimizer"])
        ]
        if own.empty:
            continue
        rate = own.iloc[0]
        calls, units = size(paper["architecture"])
        all_calls = calls * paper["images"] * PAPER_EPOCHS
        steps = math.ceil(paper["images"] / PAPER_BATCH) * PAPER_EPOCHS
        doses = {at: rate[column] * all_calls for at, column in _BOUNDS.items()}
        rows.append(
            {"training": name, **{n: paper[n] for n in ("architecture", "optimizer")}, **doses}
            | {"a_step": doses["dose"] / steps, "a_unit": doses["dose"] / units, "units": units}
        )
    return pd.DataFrame(rows)


_BOUNDS = {"dose": "rate", "low": "low", "high": "high"}


def paper_table(doses: pd.DataFrame, found: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """The papers' doses in words, with the published drop at s=1 and the band's at that dose.

    found: rows of :func:`rates`. pairs: of the fully connected network, whose curve at s=1 is read
    at the same number of kinks a unit; nothing is extrapolated.
    """
    units = sum(MLP.hidden_sizes)
    own = pairs[(pairs["gradient_rule"] == "injected") & (pairs["s"] == 1)]
    rows = []
    for row in doses.to_dict("records"):
        at = (found["architecture"] == row["architecture"]) & (
            found["optimizer"] == row["optimizer"]
        )
        rate = found[at].iloc[0]
        lost = dose.loss_at(own["dose"], -own["difference"], row["a_unit"] * units)
        rows.append(
            {"training": row["training"], "zeros counted": f"{rate['zeros']:,.0f}"}
            | {"runs": rate["runs"], "inputs of ReLUs": f"{rate['calls']:.1e}"}
            | {"dose": f"{row['dose']:,.0f} [{row['low']:,.0f}, {row['high']:,.0f}]"}
            | {"a step": f"{row['a_step']:.2g}", "a unit": f"{row['a_unit']:.2g}"}
            | {"published at s=1": _published_drop(row["architecture"], row["optimizer"])}
            | {"the MLP's curve there": "beyond" if math.isnan(lost) else f"{-100 * lost:+.1f}"}
        )
    return pd.DataFrame(rows)


def _published_drop(architecture: str, optimizer: str) -> str:
    """B21's mean at s=1 less its mean at s=0, in points; "not released" where there is none."""
    dataset = "mnist" if architecture == "mlp" else "cifar10"
    published = learning.published_accuracy(
        network=architecture, optimizer=optimizer, dataset=dataset, batch_norm=False
    )
    at = published[published["s"] == 1]
    return learning.signed(100 * at["difference"].iloc[0]) if len(at) else "not released"
