"""The claim about how often trained networks meet exact zeros: B21 4.5 (P17)."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import statsmodels.api as sm

from reluprime.evidence.claim import Cell, Claim, Evidence, Example
from reluprime.evidence.finding import NO_OCCASION, Finding, all_must_hold, decided
from reluprime.evidence.tests import RISK
from reluprime.records import published
from reluprime.training import zeros
from reluprime.training.zeros import ZeroCountConfig

DEPTHS, WIDTHS = (1, 3, 5, 6), (16, 64, 256, 512)
LEAST_ZEROS = 10  # in all networks together, for a regression
# Of each precision; B21's 16 bits are fp16, which is slow natively.
EPOCHS = {"native": {"fp32": 20, "bf16": 5}, "epilogue": {"fp32": 20, "fp16": 5}}
# "Roughly proportional": twice as many calls meet between 1.6 and 2.8 times as many zeros.
SLOPES = (2 / 3, 3 / 2)


def _configs(gradient_rule: str, arithmetic: str, precision: str) -> list[ZeroCountConfig]:
    return [
        ZeroCountConfig(
            dataset="mnist",
            hidden_sizes=(width,) * depth,
            precision=precision,
            arithmetic=arithmetic,
            epochs=EPOCHS[arithmetic][precision],
            s=1.0,
            gradient_rule=gradient_rule,
        )
        for depth in DEPTHS
        for width in WIDTHS
    ]


def _grid(gradient_rule: str, arithmetic: str) -> list[Cell]:
    configs = (c for p in EPOCHS[arithmetic] for c in _configs(gradient_rule, arithmetic, p))
    return [Cell(zeros.count, config) for config in configs]


def proportional(counts: pd.DataFrame) -> Finding:
    """Whether zeros are proportional to calls, by a Poisson regression of log zeros on log calls.

    counts: columns zeros and calls, a row a network, those without zeros too. The slope's interval
    (95 %, widened by the scatter beyond Poisson's) must lie within SLOPES; fails outside.
    """
    if counts["zeros"].sum() < LEAST_ZEROS:
        return Finding(NO_OCCASION, f"{counts['zeros'].sum()} zeros")
    log_calls = sm.add_constant(np.log(counts["calls"].astype(float)))
    model = sm.GLM(counts["zeros"], log_calls, family=sm.families.Poisson())
    poisson = model.fit()
    fit = model.fit(scale=max(1.0, poisson.pearson_chi2 / poisson.df_resid))
    low, high = fit.conf_int(RISK).loc["calls"]
    inside = SLOPES[0] <= low and high <= SLOPES[1]
    outside = high < SLOPES[0] or low > SLOPES[1]
    value = (
        f"slope {fit.params['calls']:.2f} [{low:.2f}, {high:.2f}], deviance "
        f"{poisson.deviance:.0f} for {len(counts) - 2} degrees of freedom"
    )
    return Finding(decided(inside, outside), value)


def _p17(evidence: Evidence, gradient_rule: str, arithmetic: str) -> Finding:
    at = {p: _configs(gradient_rule, arithmetic, p) for p in EPOCHS[arithmetic]}
    found = {p: proportional(_counts(evidence, configs)) for p, configs in at.items()}
    value = "; ".join(f"{p} {finding.value}" for p, finding in found.items())
    return Finding(all_must_hold(f.outcome for f in found.values()), value)


def _counts(evidence: Evidence, configs: list[ZeroCountConfig]) -> pd.DataFrame:
    table = evidence.table(zeros.count, configs)
    last = {
        name: table[f"cumulative_{name}"].map(lambda by_network: sum(n[-1] for n in by_network))
        for name in ("zeros", "calls")
    }
    return pd.DataFrame(last)


def _p17_published() -> Finding:
    table = published("paper_zero_calls.csv")
    table = table[table["epochs"] == table["epochs"].max()]
    table = table.rename(columns={"cum_zeros": "zeros", "cum_relu": "calls"})
    found = {bits: proportional(table[table["precision"] == bits]) for bits in (32, 16)}
    value = "; ".join(f"fp{bits} {finding.value}" for bits, finding in found.items())
    return Finding(all_must_hold(f.outcome for f in found.values()), value)


def _trained(mean_zeros: Callable[[ZeroCountConfig, float], float]) -> Example:
    """Networks whose zeros are the nearest whole number to a mean, by config and calls."""

    def result(cell: Cell) -> dict:
        calls = 60_000 * sum(cell.config.hidden_sizes) * cell.config.epochs
        met = round(mean_zeros(cell.config, calls))
        return {"cumulative_zeros": [[met]], "cumulative_calls": [[calls]]}

    return result


P17 = Claim(
    id="P17",
    statement="ReLU(0) calls are proportional to all ReLU calls, whatever the architecture.",
    published="constant ratio by precision",
    source="B21 Fig. 6",
    figure="05_zero_calls#zeros-against-calls",
    rule=(
        "Poisson regression of zeros on calls over all networks, those without zeros too, at each "
        "precision: the slope of log zeros against log calls is 1 within a factor of 1.5 "
        "(interval, 95 %, widened by the scatter), failing where its interval lies outside."
    ),
    thresholds={
        "risk": RISK,
        "least slope": SLOPES[0],
        "largest slope": SLOPES[1],
        "least zeros": LEAST_ZEROS,
    },
    grid=_grid,
    judge=_p17,
    scale="20 of 100 epochs at fp32, 5 at 16 bits; 16 networks (B21: 20)",
    arithmetics=tuple(EPOCHS),
    reduced=True,
    on_published=_p17_published,
    examples={
        "proportional": _trained(lambda c, calls: 1e-7 * calls),
        "much the same for all": _trained(lambda c, calls: 20 + len(c.hidden_sizes)),
        "with the square": _trained(lambda c, calls: 1e-16 * calls**2),
        "too scattered": _trained(
            lambda c, calls: 1e-8 * calls * (8 if len(c.hidden_sizes) % 2 else 1)
        ),
        "no zeros": _trained(lambda *_: 0),
        "no records": lambda _: None,
    },
)

CLAIMS = (P17,)
