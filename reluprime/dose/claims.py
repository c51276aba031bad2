"""How many kinks does it take: the grid of widened kinks, and our sentences about it.

No paper claims these; they are registered and computed like the papers' claims. The numbers in
them are from pilots.
"""

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pandas as pd
from scipy import optimize, stats

from reluprime.dose import study as dose
from reluprime.evidence import made_up
from reluprime.evidence.claim import Cell, Claim, Evidence, Example
from reluprime.evidence.finding import FAILS, HOLDS, NO_OCCASION, OPEN, Finding, decided
from reluprime.evidence.tests import RISK, equivalence, sign_flip
from reluprime.training import arms, experiments
from reluprime.training import study as training
from reluprime.training.experiments import CIFAR_MARGIN, MLP_MARGIN
from reluprime.training.study import TrainingConfig

LEAST_S = 0.5  # of the sentences about s up to 1
SHARE = 0.01  # of all inputs of a ReLU: the largest dose that the sentences are about
ENOUGH = 0.002  # of them: without a dose as large, "however many" was not tried
POINT, TEN_POINTS = 0.01, 0.1  # of test accuracy
FEW = 1000  # kinks
UNITS_A_KINK = (0.5, 1.5)
COUNTED_DOSES = (10, 300)  # in which units are counted: more kinks than that kill whole layers
SLOPE, SLOPE_MARGIN = -1.0, 0.5  # of log dose on log s, and on log learning rate
STEEPEST = 10.0  # slope that is looked at
SEEDS = range(5)

# ---- networks and widths ----

MLP = TrainingConfig(
    dataset="mnist", hidden_sizes=(256, 256, 256), epochs=5, lr=0.01, count_units=True
)
VGG = experiments.VGG.small.config.replace(count_units=True)
RESNET = experiments.RESNET.small.config.replace(count_units=True)
FASHION = MLP.replace(dataset="fashion-mnist")

WIDTHS = (1e-8, 3e-8, 1e-7, 3e-7, 1e-6, 3e-6, 1e-5, 3e-5, 1e-4)
MIDDLE = WIDTHS[2:7]
WIDE = (1e-6, 1e-4, 3e-3, 1e-2, 1e-1)  # for the derivative

# What else may move the dose that a network bears, one change at a time.
VARIANTS: dict[str, dict] = {
    "learning rate 0.003": {"lr": 0.003},
    "learning rate 0.03": {"lr": 0.03},
    "batch size 32": {"batch_size": 32},
    "batch size 512": {"batch_size": 512},
    "1 hidden layer": {"hidden_sizes": (256,)},
    "5 hidden layers": {"hidden_sizes": (256,) * 5},
    "kinks in layer 1": {"kink_layer": 1},
    "kinks in layer 2": {"kink_layer": 2},
    "kinks in layer 3": {"kink_layer": 3},
}
MITIGATIONS: dict[str, dict] = {
    "no momentum": {"momentum": 0.0, "lr": 0.1},  # the same step once momentum has built up
    "Adam": {"optimizer": "adam", "momentum": 0.0, "weight_decay": 0.0, "lr": 1e-3},
    "batch norm": {"batch_norm": True},
    "dropout": {"dropout": 0.5},
    "clipped gradients": {"clip_norm": 1.0},
    "no weight decay": {"weight_decay": 0.0},
}
MITIGATED = WIDTHS[2:8]


def bands(
    base: TrainingConfig,
    widths: Iterable[float],
    s_values: Sequence[float],
    gradient_rule: str,
    seeds: Iterable[int] = SEEDS,
    **changes,
) -> list[Cell]:
    """For each width and seed the reference at s=0 and the runs at each s, all with `changes`."""
    found = []
    for width in widths:
        for seed in seeds:
            own = base.replace(kink_width=width, seed=seed, **changes)
            found.append(Cell(training.fit, own))
            found += [
                Cell(training.fit, own.replace(s=s, gradient_rule=gradient_rule)) for s in s_values
            ]
    return found


def own_grid(
    network: str,
    widths: Sequence[float],
    s_values: Sequence[float],
    gradient_rules: Sequence[str],
    seeds: int,
    *,
    dataset: str,
    hidden_sizes: Sequence[int],
    epochs: int,
    optimizer: str,
    batch_norm: bool,
) -> list[TrainingConfig]:
    """The runs that a reader's parameters ask for, each once; rate as in the registered grid.

    Raises ValueError for an unknown network, and what a TrainingConfig refuses.
    """
    if network not in NETWORKS:
        raise ValueError(f"dose_network={network!r}; choose one of {list(NETWORKS)}")
    base = NETWORKS[network][0]
    changes = {"dataset": dataset, "epochs": epochs, "batch_norm": batch_norm}
    if network == "mlp":
        changes |= {"hidden_sizes": tuple(hidden_sizes)}
    if optimizer == "adam":
        changes |= MITIGATIONS["Adam"]
    elif optimizer != "sgd":
        raise ValueError(f"dose_optimizer={optimizer!r}; choose sgd or adam")
    own = base.replace(**changes)
    cells = [c for rule in gradient_rules for c in bands(own, widths, s_values, rule, range(seeds))]
    return list(dict.fromkeys(cell.config for cell in cells))


FREE = ("seed", "kink_width", "s", "gradient_rule", "image_folder", "n_networks")


def rows_of(table: pd.DataFrame, config: TrainingConfig, **arm) -> pd.DataFrame:
    """The rows of `dose.pairs` of one network, whatever their band, s, rule and seed."""
    own = table
    wanted = {n: getattr(config, n) for n in TrainingConfig.model_fields if n not in FREE} | arm
    for name, value in wanted.items():
        column = own[name]
        same = column.isna() if value is None else column.map(lambda x, v=value: x == v)
        own = own[same.astype(bool)]
    return own


def learnt(table: pd.DataFrame, loss: float) -> bool:
    """Whether every reference is so far above chance that `loss` can be told from it."""
    return bool((table["reference"] >= arms.CHANCE + arms.AT_CHANCE + loss).all())


NOT_LEARNT = Finding(OPEN, "a run at s=0 is too near chance to lose that much")


# ---- examples ----


def _widened(
    loss: Callable[[TrainingConfig, float], float],
    dead: Callable[[TrainingConfig, float], float] | None = None,
    kinks: float = 2e8,
    zeros: int = 200,
    level: float = 0.9,
) -> Example:
    """Trainings that meet `kinks` per unit of width (or `zeros` exact zeros, without a band).

    They end at the accuracy `level`, and lose loss(config, dose) at another s than 0, where
    dead(config, dose) units are dead: by default one a kink, up to 250.
    """
    dead = dead or _one_a_kink

    def example(cell: Cell) -> dict:
        config = cell.config
        met = round(kinks * config.kink_width) if config.kink_width else zeros
        of = made_up.trainings(lambda c: loss(c, met), lambda c: 0 if c.kink_width else zeros // 4)
        result = of(cell)
        last = result["test_accuracy"][0][-1] + level - 0.9
        result["test_accuracy"] = [[last] * 4]
        if config.kink_width:
            result["kinks"] = {"activation": [[met // 4] * 4]}
        if config.count_units:
            units = {"activation": [[round(dead(config, met))] * 4]}
            result |= {"dead_units": units, "always_on_units": units, "units": {"activation": 768}}
        result["relu_calls"] = {"activation": 6 * 10**7}
        return result

    return example


def _never(config: TrainingConfig, met: float) -> float:
    return 0.0


def _by_dose(config: TrainingConfig, met: float) -> float:
    """A point at 100 kinks under the constant at s=1, in proportion to s; none under the other."""
    if config.gradient_rule == "chain":
        return 0.0
    return min(0.7, POINT * abs(config.s) * (config.lr / 0.01) * met / 100)


def _mildly(config: TrainingConfig, met: float) -> float:
    """As `_by_dose`, with a fifth of the loss where something mitigates, or in the first layer."""
    helps = config.batch_norm or config.optimizer == "adam" or config.kink_layer == 1
    rate = 0.01 / config.lr if config.optimizer == "adam" else 1.0
    return _by_dose(config, met) * (rate / 5 if helps else 1)


def _steeply(config: TrainingConfig, met: float) -> float:
    return min(0.7, 10 * _by_dose(config, met))


def _the_mitigated_worse(config: TrainingConfig, met: float) -> float:
    helps = config.batch_norm or config.optimizer == "adam"
    return min(0.7, _by_dose(config, met) * (400 if helps else 1))


def _last_least(config: TrainingConfig, met: float) -> float:
    return _by_dose(config, met) / (5 if config.kink_layer == 3 else 1)


def _alike(config: TrainingConfig, met: float) -> float:
    return min(0.7, POINT * met / 100)


def _real_costs_more(config: TrainingConfig, met: float) -> float:
    return _by_dose(config, met) + (0.0 if config.kink_width else 0.05)


def _by_seed(config: TrainingConfig, met: float) -> float:
    """As `_by_dose` for even seeds, and nothing for odd ones."""
    return 0.0 if config.seed % 2 else _by_dose(config, met)


def _one_a_kink(config: TrainingConfig, met: float) -> float:
    return min(met, 250.0) if config.s else 0.0


_EXAMPLES: dict[str, Example] = {
    "a point at 100 kinks under the constant": _widened(_by_dose),
    "no loss at any dose": _widened(_never, dead=lambda c, met: 0.0),
    "the same loss for every s, rule and learning rate": _widened(_alike),
    "a loss of 3 points at every dose": _widened(lambda c, met: 0.03),
    "a gain of 3 points at every dose": _widened(lambda c, met: -0.03),
    "mitigated": _widened(_mildly),
    "real zeros cost five points more": _widened(_real_costs_more),
    "half of the seeds lose": _widened(_by_seed),
    "a thousand times the kinks": _widened(_by_dose, kinks=2e11),
    "ten units a kink": _widened(_by_dose, dead=lambda c, met: 10 * _one_a_kink(c, met)),
    "a unit a kink for half of the seeds": _widened(
        _by_dose, dead=lambda c, met: 0.0 if c.seed % 2 else _one_a_kink(c, met)
    ),
    "many kinks, ten points at 100": _widened(_steeply, kinks=5e9),
    "many kinks, no loss": _widened(_never, kinks=5e9),
    "the last layer costs least": _widened(_last_least),
    "Adam and batch norm are worse": _widened(_the_mitigated_worse),
    "no kink met": _widened(_never, kinks=0.0, zeros=0),
    "at chance": _widened(_never, level=0.1),
    "no records": lambda _: None,
}

# ---- D1 to D3: the derivative at any dose ----

NETWORKS = {
    "mlp": (MLP, MLP_MARGIN),
    "vgg11": (VGG, CIFAR_MARGIN),
    "resnet18": (RESNET, CIFAR_MARGIN),
}
TRIED_S = {"mlp": "s=0.5 and s=1", "vgg11": "s=1", "resnet18": "s=1"}


def plain(base: TrainingConfig) -> list[Cell]:
    """The runs at s=0 without a band."""
    return bands(base, (0.0,), (), "chain")


def mlp_grid(gradient_rule: str) -> list[Cell]:
    """Widths, s and rule on the fully connected network."""
    if gradient_rule == "chain":
        return bands(MLP, WIDE, (0.5, 1.0, -1.0, 2.0, 10.0, 50.0), "chain") + plain(MLP)
    return [
        *bands(MLP, WIDTHS, (1.0,), "injected"),
        *bands(MLP, (*WIDTHS[2:], 3e-4), (0.1,), "injected"),
        *bands(MLP, WIDTHS[4:], (0.01,), "injected"),
        *bands(MLP, WIDTHS[1:], (0.3,), "injected"),
        *bands(MLP, WIDTHS[1:7], (-1.0,), "injected"),
        *bands(MLP, (1e-9, 3e-9, *WIDTHS[:5]), (10.0, 50.0), "injected"),
        *plain(MLP),
    ]


def vgg_grid(gradient_rule: str) -> list[Cell]:
    """Widths, s and rule on VGG11 at a quarter of the width."""
    if gradient_rule == "chain":
        return [
            *bands(VGG, (1e-4, 3e-3, 1e-2, 1e-1), (1.0,), "chain"),
            *bands(VGG, (1e-2,), (10.0,), "chain"),
            *plain(VGG),
        ]
    return bands(VGG, (1e-8, 1e-7, 1e-6), (1.0, 0.1), "injected") + plain(VGG)


def resnet_grid(gradient_rule: str) -> list[Cell]:
    """Widths, s and rule on ResNet-18 without batch norm at a quarter of the width."""
    if gradient_rule == "chain":
        return bands(RESNET, (1e-4, 3e-3, 1e-2), (1.0,), "chain") + plain(RESNET)
    return bands(RESNET, (1e-9, 1e-8, 1e-7), (1.0,), "injected") + plain(RESNET)


GRIDS = {"mlp": mlp_grid, "vgg11": vgg_grid, "resnet18": resnet_grid}


def band_alone(evidence: Evidence, cells: Iterable[Cell], config: TrainingConfig) -> pd.Series:
    """What a band costs at s=0: accuracy less that without one, mean over seeds, by width."""
    runs = rows_of(dose.all_runs(evidence, cells), config, s=0.0)
    means = runs.groupby("kink_width")["counts_as"].mean()
    return (means - means.get(0.0, math.nan)).drop(0.0, errors="ignore")


def _unchanged(network: str) -> Claim:
    base, margin = NETWORKS[network]
    grid = GRIDS[network]

    def judge(evidence: Evidence, gradient_rule: str, _: str) -> Finding:
        table = rows_of(dose.measured(evidence, grid(gradient_rule)), base)
        table = table[table["s"].between(LEAST_S, 1)]
        outcomes, values, largest = [], [], dict.fromkeys(table["s"], 0.0)
        for (s, _width), own in table.groupby(["s", "kink_width"]):
            met, share = own["dose"].mean(), own["dose_share"].mean()
            if share > SHARE or (own["dose"] > 0).sum() < arms.MIN_SEEDS:
                why = "beyond 1 %" if share > SHARE else "too few kinks"
                values.append(f"s={s:g}, {met:,.0f} kinks: not judged, {why}")
                continue
            apart = own.sort_values("seed")["difference"].to_numpy()
            outcomes.append(_same_or_not(apart, margin) if learnt(own, margin) else OPEN)
            values.append(f"s={s:g}, {met:,.0f} kinks: {100 * apart.mean():+.2f} points")
            largest[s] = max(largest[s], share)
        outcome = _each(outcomes)
        if outcome == HOLDS and min(largest.values()) < ENOUGH:
            outcome = OPEN
        return Finding(outcome, "; ".join(values))

    return Claim(
        id=f"D{1 + list(NETWORKS).index(network)}",
        statement=f"At {TRIED_S[network]} the accuracy of {network} is what it is at s=0, however "
        "many kinks it meets, up to 1 % of all inputs of its ReLUs.",
        published="no number",
        source="ours",
        figure="14_how_many_kinks#the-derivative-at-any-dose",
        rule=(
            "Ours, from pilots. At each width of the band whose dose is at most 1 % of all inputs "
            "of a ReLU, and in which five seeds met a kink, at s=0.5 and s=1 as far as they are in "
            "the grid: equivalent to s=0 with the same band within the margin, paired over five "
            "seeds. Open where at one s no dose is 0.2 % of the inputs, or a run at s=0 is too "
            "near chance. Fails where one such dose loses or gains the margin by a sign-flip test "
            "(5 % either way)."
        ),
        thresholds={"margin": margin, "risk": RISK, "largest share": SHARE}
        | {"enough of a share": ENOUGH, "least seeds that met a kink": arms.MIN_SEEDS}
        | {"least s": LEAST_S},
        grid=lambda gradient_rule, _: grid(gradient_rule),
        judge=judge,
        scale=_scale(network),
        examples=_EXAMPLES,
    )


def _scale(network: str) -> str:
    return "5 epochs, 5 seeds" + ("" if network == "mlp" else ", a quarter of the width")


def _same_or_not(apart: np.ndarray, margin: float) -> str:
    """Whether paired differences are equivalent to 0 within the margin, or at least as large."""
    either = min(sign_flip(apart), sign_flip(-apart)) < RISK
    return decided(equivalence(apart, margin) < RISK, bool(either and abs(apart.mean()) >= margin))


def _each(outcomes: Sequence[str]) -> str:
    """Fails if one does, open if one is, holds if one does; parts without occasion aside."""
    return next((word for word in (FAILS, OPEN, HOLDS) if word in outcomes), NO_OCCASION)


D1, D2, D3 = (_unchanged(network) for network in NETWORKS)

# ---- D4 and D5: a few hundred under the constant ----


def brackets(table: pd.DataFrame, loss: float) -> pd.DataFrame:
    """`dose.bracket` of each seed, of `dose.pairs` that differ in band and seed alone.

    Indexed by seed; columns below and at.
    """
    found = {
        seed: dose.bracket(own["dose"], -own["difference"], loss)
        for seed, own in table.groupby("seed")
    }
    return pd.DataFrame.from_dict(found, orient="index", columns=["below", "at"], dtype=float)


def _few(claim_id: str, network: str, loss: float) -> Claim:
    base, grid = NETWORKS[network][0], GRIDS[network]

    def judge(evidence: Evidence, gradient_rule: str, _: str) -> Finding:
        table = rows_of(dose.measured(evidence, grid(gradient_rule)), base, s=1.0)
        table = table[table["dose_share"] <= SHARE]
        if table.empty or not learnt(table, loss):
            return NOT_LEARNT
        found = brackets(table, loss)
        outcome = decided(bool((found["at"] < FEW).all()), bool((found["below"] >= FEW).all()))
        between = ", ".join(_between(*row) for row in found.to_numpy())
        return Finding(outcome, f"{points} of accuracy, by seed: {between}")

    points = "one point" if loss == POINT else "ten points"
    return Claim(
        id=claim_id,
        statement=f"Fewer than 1,000 kinks at s=1 cost {network} {points}.",
        published="no number",
        source="ours",
        figure="14_how_many_kinks#the-constant",
        rule=(
            f"Ours, from pilots. For each of five seeds a dose below 1,000 was tried at which s=1 "
            f"costs {points} of test accuracy against s=0 with the same band. Fails where for "
            "each seed a dose of 1,000 or more, and at most 1 % of all inputs of a ReLU, was tried "
            "below which nothing costs as much. Nothing is interpolated."
        ),
        thresholds={"loss": loss, "few": FEW, "largest share": SHARE},
        grid=lambda gradient_rule, _: grid(gradient_rule),
        judge=judge,
        scale=_scale(network),
        examples=_EXAMPLES,
    )


def _between(below: float, at: float) -> str:
    if math.isinf(at):
        return f"not at {below:,.0f}"
    return f"at {at:,.0f}, not at {below:,.0f}" if below else f"at {at:,.0f}, the least tried"


D4, D5 = _few("D4", "mlp", POINT), _few("D5", "vgg11", TEN_POINTS)

# ---- D6: what one kink does ----


def units_a_kink(table: pd.DataFrame) -> pd.Series:
    """Units that died for each kink of the dose, a seed: the median over its runs.

    table: of `dose.pairs`. Runs are chosen by their dose, within COUNTED_DOSES, and by nothing
    that they did themselves.
    """
    own = table[table["dose"].between(*COUNTED_DOSES)]
    return ((own["dead_units"] - own["dead_at_0"]) / own["dose"]).groupby(own["seed"]).median()


def _d6(evidence: Evidence, gradient_rule: str, _: str) -> Finding:
    table = rows_of(dose.measured(evidence, mlp_grid(gradient_rule)), MLP, s=1.0)
    by_seed = units_a_kink(table).to_numpy()
    if len(by_seed) < len(SEEDS):
        low, high = COUNTED_DOSES
        return Finding(NO_OCCASION, f"{len(by_seed)} seeds with a dose in {low} to {high}")
    mean, half = by_seed.mean(), half_width(by_seed)
    least, most = UNITS_A_KINK
    inside = mean - half >= least and mean + half <= most
    outside = mean + half < least or mean - half > most
    value = f"{mean:.2g} ± {half:.2g} units die for each kink of the dose"
    return Finding(decided(bool(inside), bool(outside)), value)


def half_width(values: np.ndarray) -> float:
    """Of the 95 % t-interval of a mean."""
    return float(stats.sem(values) * stats.t.ppf(0.975, len(values) - 1))


D6 = Claim(
    id="D6",
    statement="At s=1 a kink of the dose kills about one unit.",
    published="no number",
    source="ours",
    figure="14_how_many_kinks#what-one-kink-does",
    rule=(
        "Ours, from pilots. Dead units at the end, less those of the run at s=0 with the same "
        "band, for each kink of the dose: for each seed the median over its runs with a dose of "
        "10 to 300. The 95 % t-interval over five seeds lies within 0.5 and 1.5; fails where it "
        "lies outside."
    ),
    thresholds={"least": UNITS_A_KINK[0], "most": UNITS_A_KINK[1]}
    | {"least dose": COUNTED_DOSES[0], "largest dose": COUNTED_DOSES[1]},
    grid=lambda gradient_rule, _: mlp_grid(gradient_rule),
    judge=_d6,
    scale="MLP 3x256, 5 epochs, 5 seeds",
    examples=_EXAMPLES,
)

# ---- D7: a band against real zeros ----

REAL = {p: MLP.replace(precision=p, arithmetic="separate") for p in ("fp16", "bf16")}
REAL_S = {"injected": (1.0, 0.3, 0.1), "chain": (1.0,)}


def real_grid(gradient_rule: str) -> list[Cell]:
    """The same network at 16 bits without a band, where zeros are real and many."""
    s_values = REAL_S[gradient_rule]
    return [c for own in REAL.values() for c in bands(own, (0.0,), s_values, gradient_rule)]


def _d7_grid(gradient_rule: str, _: str) -> list[Cell]:
    return real_grid(gradient_rule) + mlp_grid(gradient_rule)


def beside_the_band(evidence: Evidence, gradient_rule: str) -> pd.DataFrame:
    """Runs with real zeros beside the two bands of their seed and s whose doses are nearest.

    Columns of `dose.pairs`, and: real_precision, least and most (losses of the bands below and
    above their dose; NaN where there is none), band_reference (the lower of their references),
    at_equal_dose (interpolated between the two), both_stuck (the run and the band above are at
    chance).
    """
    table = dose.measured(evidence, _d7_grid(gradient_rule, ""))
    banded, rows = rows_of(table, MLP), []
    for precision, base in REAL.items():
        for row in rows_of(table, base, kink_width=0.0).to_dict("records"):
            own = banded[(banded["s"] == row["s"]) & (banded["seed"] == row["seed"])]
            rows.append(row | {"real_precision": precision} | _neighbours(own, row))
    return pd.DataFrame(rows)


def _neighbours(own: pd.DataFrame, row: dict) -> dict:
    own = own[own["dose"] > 0].sort_values("dose")
    below, above = own[own["dose"] <= row["dose"]], own[own["dose"] >= row["dose"]]
    if below.empty or above.empty or not row["dose"]:
        return dict.fromkeys(("least", "most", "at_equal_dose", "band_reference"), math.nan) | {
            "both_stuck": False
        }
    two = -below.iloc[-1]["difference"], -above.iloc[0]["difference"]
    return {
        "band_reference": min(below.iloc[-1]["reference"], above.iloc[0]["reference"]),
        "least": min(two),
        "most": max(two),
        "at_equal_dose": dose.loss_at(own["dose"], -own["difference"], row["dose"]),
        "both_stuck": bool(row["stuck"] and above.iloc[0]["stuck"]),
    }


def _d7(evidence: Evidence, gradient_rule: str, _: str) -> Finding:
    table = beside_the_band(evidence, gradient_rule)
    outcomes, values = [], []
    for (precision, s), own in table.groupby(["real_precision", "s"]):
        outcomes.append(_stands_in(own))
        text = f"{precision}, s={s:g}, {own['dose'].mean():,.0f} zeros: "
        lost, least, most = (-100 * own[n].mean() for n in ("difference", "least", "most"))
        band = "no band with that dose" if own["least"].isna().any() else ""
        band = band or f"bands beside it {least:+.1f} and {most:+.1f}"
        values.append(f"{text}{-lost:+.1f} points, {band}: {outcomes[-1]}")
    return Finding(_each(outcomes), "; ".join(values))


def _stands_in(own: pd.DataFrame) -> str:
    """Whether the losses of a precision and s lie between those of the bands, seed by seed."""
    references = own.assign(reference=own[["reference", "band_reference"]].min(axis=1))
    if own["least"].isna().any() or not learnt(references, TEN_POINTS):
        return OPEN
    lost = -own["difference"]
    if abs(lost.mean()) < POINT and own["most"].mean() < POINT:
        return NO_OCCASION
    if ((own["most"] - own["least"] > TEN_POINTS) & ~own["both_stuck"]).any():
        return OPEN  # between such bands nearly every loss would do
    above = (lost > own["most"] + POINT) & ~own["both_stuck"]
    below = (lost < own["least"] - POINT) & ~own["both_stuck"]
    return decided(not (above | below).any(), bool(above.all() or below.all()))


D7 = Claim(
    id="D7",
    statement="At equal dose a widened kink costs what real zeros cost.",
    published="no number",
    source="ours",
    figure="14_how_many_kinks#is-a-widened-kink-a-fair-stand-in",
    rule=(
        "Ours, from pilots. The MLP at fp16 and bf16 in `separate`, whose zeros are real, beside "
        "the same network at fp32 with a band: at each precision and s the loss of each of five "
        "seeds lies between the losses of its two bands whose doses are nearest, or within a "
        "point of them, or both are at chance. Fails where all five seeds lose more than that, or "
        "all less. Where neither loses a point there is no occasion; where the two bands are more "
        "than ten points apart, or a run at s=0 is near chance, it is open."
    ),
    thresholds={"margin": POINT, "widest gap": TEN_POINTS},
    grid=_d7_grid,
    judge=_d7,
    scale="MLP 3x256, 5 epochs, 5 seeds",
    examples=_EXAMPLES,
)

# ---- D8: what mitigates, at equal dose ----


def mitigation_grid(gradient_rule: str) -> list[Cell]:
    """Each way to train at s=1, and without a band how many exact zeros it leaves."""
    cells = []
    for changes in MITIGATIONS.values():
        own = MLP.replace(**changes)
        cells += bands(own, MITIGATED, (1.0,), gradient_rule)
        cells += bands(own, (0.0,), (), gradient_rule)
        cells += bands(own.replace(arithmetic="epilogue"), (0.0,), (), gradient_rule)
    return cells + bands(MLP.replace(arithmetic="epilogue"), (0.0,), (), gradient_rule)


def _d8_grid(gradient_rule: str, _: str) -> list[Cell]:
    if gradient_rule == "chain":  # under which no dose of D1 costs anything that could be mitigated
        return mlp_grid("chain")
    return mlp_grid("injected") + mitigation_grid("injected")


def _d8(evidence: Evidence, gradient_rule: str, _: str) -> Finding:
    table = dose.measured(evidence, _d8_grid(gradient_rule, ""))
    ways = {"as released": MLP} | {n: MLP.replace(**MITIGATIONS[n]) for n in ("Adam", "batch norm")}
    own = {name: rows_of(table, config, s=1.0) for name, config in ways.items()}
    released = own.pop("as released")
    if not learnt(released, TEN_POINTS):
        return NOT_LEARNT
    base = brackets(released, TEN_POINTS)
    if np.isinf(base["at"]).all():
        return Finding(NO_OCCASION, "no dose costs ten points")
    outcomes, values = [], [f"as released {brackets_in_words(base)}"]
    for name, rows in own.items():
        if rows.empty or not learnt(rows, TEN_POINTS):
            outcomes.append(OPEN)
            values.append(f"{name}: no run, or one at s=0 near chance")
            continue
        found = brackets(rows, TEN_POINTS)
        outcomes.append(later(found, base))
        values.append(f"{name} {brackets_in_words(found)}")
    return Finding(_each(outcomes), "ten points: " + "; ".join(values))


def later(a: pd.DataFrame, b: pd.DataFrame) -> str:
    """Whether `a` loses as much only at larger doses than `b`, by the brackets of each seed.

    Holds where for every seed a dose at which `b` has lost it costs `a` less; fails where for
    every seed it is the other way round. Nothing is interpolated.
    """
    more, less = a["below"] >= b["at"], b["below"] >= a["at"]
    return decided(bool(more.all()), bool(less.all()))


def brackets_in_words(found: pd.DataFrame) -> str:
    """The widest bracket over the seeds."""
    return _between(found["below"].min(), found["at"].max())


D8 = Claim(
    id="D8",
    statement="Adam and batch norm each bear more kinks than SGD with momentum.",
    published="no number",
    source="ours",
    figure="14_how_many_kinks#what-mitigates",
    rule=(
        "Ours, from pilots. At s=1, Adam (rate 0.001, no weight decay) and batch norm, one rate "
        "each: for each of five seeds a dose was tried that costs SGD as released ten points, and "
        "a dose at least as large that costs the other less, with none below that costs it as "
        "much. Fails where for one of them it is the other way round for each seed. Nothing is "
        "interpolated."
    ),
    thresholds={"loss": TEN_POINTS},
    grid=_d8_grid,
    judge=_d8,
    scale="MLP 3x256, 5 epochs, 5 seeds",
    examples=_EXAMPLES,
)

# ---- D9 and D10: how the dose scales ----


def variant_grid(gradient_rule: str) -> list[Cell]:
    """One change at a time, at s=1."""
    return [
        cell
        for changes in VARIANTS.values()
        for cell in bands(MLP, (3e-8, *MIDDLE), (1.0,), gradient_rule, **changes)
    ]


def fashion_grid() -> list[Cell]:
    """A second data set, three seeds: shown, and judged by no rule."""
    return [
        *bands(FASHION, (1e-7, 1e-6), (1.0,), "injected", range(3)),
        *bands(FASHION, (1e-4, 1e-2), (1.0,), "chain", range(3)),
    ]


RATES = ("learning rate 0.003", "learning rate 0.03")
SCALED_S = (0.1, 0.3, 1.0, 10.0)


def _d9_grid(gradient_rule: str, _: str) -> list[Cell]:
    if gradient_rule == "chain":
        return mlp_grid("chain")
    changes = (VARIANTS[name] for name in RATES)
    by_rate = [c for own in changes for c in bands(MLP, (3e-8, *MIDDLE), (1.0,), "injected", **own)]
    return mlp_grid("injected") + by_rate


def strengths(table: pd.DataFrame) -> dict[str, dict[float, pd.DataFrame]]:
    """Runs at s=1 and others by what is varied and its value: by s, and by learning rate."""
    rates = (MLP.replace(**VARIANTS[RATES[0]]), MLP, MLP.replace(**VARIANTS[RATES[1]]))
    return {
        "s": {s: rows_of(table, MLP, s=s) for s in SCALED_S},
        "learning rate": {c.lr: rows_of(table, c, s=1.0) for c in rates},
    }


def slopes(brackets_at: dict[float, tuple[float, float]]) -> tuple[float, float]:
    """The least and largest slope of log dose on log strength that the brackets leave room for.

    brackets_at: below and at, by strength. NaN where no straight line goes through all of them.
    """
    rows, bounds = [], []
    for strength, (below, at) in brackets_at.items():
        x = math.log(strength)
        if below > 0:
            rows.append([-1.0, -x])
            bounds.append(-math.log(below))
        if math.isfinite(at):
            rows.append([1.0, x])
            bounds.append(math.log(at))
    ends = []
    for sign in (1, -1):
        free = [(None, None), (-STEEPEST, STEEPEST)]
        found = optimize.linprog([0.0, sign], rows or None, bounds or None, bounds=free)
        ends.append(float(found.x[1]) if found.success else math.nan)
    return ends[0], ends[1]


def _d9(evidence: Evidence, gradient_rule: str, _: str) -> Finding:
    table = dose.measured(evidence, _d9_grid(gradient_rule, ""))
    if gradient_rule == "chain":
        return _without_those_runs(table)
    outcomes, values, lost, read = [], [], False, True
    for name, own in strengths(table).items():
        if any(rows.empty or not learnt(rows, POINT) for rows in own.values()):
            outcomes.append(OPEN)
            values.append(f"by {name}: a run at s=0 is near chance")
            read = False
            continue
        found = {at: brackets(rows, POINT) for at, rows in own.items()}
        lost = lost or any(np.isfinite(b["at"]).any() for b in found.values())
        by_seed = [slopes({at: tuple(b.loc[seed]) for at, b in found.items()}) for seed in SEEDS]
        low, high = (min(e[0] for e in by_seed), max(e[1] for e in by_seed))
        outcomes.append(_is_slope(by_seed))
        doses = ", ".join(f"{at:g}: {brackets_in_words(b)}" for at, b in found.items())
        values.append(f"by {name}: slope between {low:.2f} and {high:.2f} ({doses})")
    if read and not lost:
        return Finding(NO_OCCASION, "no dose costs a point")
    return Finding(_each(outcomes), "; ".join(values))


def _without_those_runs(table: pd.DataFrame) -> Finding:
    """Under the derivative, where variants are not computed: D1 asks whether it costs anything."""
    own = rows_of(table, MLP, s=1.0)
    if not learnt(own[own["dose_share"] <= SHARE], POINT):
        return NOT_LEARNT
    lost = np.isfinite(brackets(own, POINT)["at"]).any()
    return Finding(OPEN, "not computed") if lost else Finding(NO_OCCASION, "no dose costs a point")


def _is_slope(by_seed: list[tuple[float, float]]) -> str:
    least, most = SLOPE - SLOPE_MARGIN, SLOPE + SLOPE_MARGIN
    inside = all(least <= low and high <= most for low, high in by_seed)
    outside = all(not (low <= most and high >= least) for low, high in by_seed)
    return decided(inside, outside)


D9 = Claim(
    id="D9",
    statement="The dose that costs a point is proportional to 1 / s and to 1 / learning rate.",
    published="no number",
    source="ours",
    figure="14_how_many_kinks#how-the-dose-scales",
    rule=(
        "Ours, from pilots. The two doses tried between which one point is lost, for each of five "
        "seeds, at s = 0.1, 0.3, 1 and 10 (learning rate 0.01), and at learning rates of 0.003, "
        "0.01 and 0.03 (s=1): every straight line of log dose on log s, and on log learning rate, "
        "that goes between them has a slope of -1.5 to -0.5; fails where for each seed none has, "
        "for one of the two. Nothing is interpolated."
    ),
    thresholds={"loss": POINT, "slope": SLOPE, "margin": SLOPE_MARGIN},
    grid=_d9_grid,
    judge=_d9,
    scale="MLP 3x256, 5 epochs, 5 seeds",
    examples=_EXAMPLES,
)


def _d10_grid(gradient_rule: str, _: str) -> list[Cell]:
    """With what the page shows beside: batch size, depth, another data set."""
    if gradient_rule == "chain":
        return mlp_grid("chain")
    return mlp_grid("injected") + variant_grid("injected") + fashion_grid()


def _d10(evidence: Evidence, gradient_rule: str, _: str) -> Finding:
    table = dose.measured(evidence, _d10_grid(gradient_rule, ""))
    if gradient_rule == "chain":
        return _without_those_runs(table)
    layers = [rows_of(table, MLP, s=1.0, kink_layer=layer) for layer in (1, 2, 3)]
    if not learnt(pd.concat(layers), POINT):
        return NOT_LEARNT
    found = [brackets(own, POINT) for own in layers]
    if all(np.isinf(own["at"]).all() for own in found):
        return Finding(NO_OCCASION, "no dose in one layer costs a point")
    words = "; ".join(f"layer {n}: {brackets_in_words(b)}" for n, b in enumerate(found, start=1))
    return Finding(later(found[0], found[2]), f"one point, {words}")


D10 = Claim(
    id="D10",
    statement="A kink in the last hidden layer costs more than one in the first.",
    published="no number",
    source="ours",
    figure="14_how_many_kinks#how-the-dose-scales",
    rule=(
        "Ours, from pilots. With the band in one layer alone, at s=1: for each of five seeds a "
        "dose was tried that costs one point in the last hidden layer, and one at least as large "
        "in the first that costs less, with none below that costs as much. Fails where it is the "
        "other way round for each seed. Nothing is interpolated."
    ),
    thresholds={"loss": POINT},
    grid=_d10_grid,
    judge=_d10,
    scale="MLP 3x256, 5 epochs, 5 seeds",
    examples=_EXAMPLES,
)

CLAIMS = (D1, D2, D3, D4, D5, D6, D7, D8, D9, D10)
