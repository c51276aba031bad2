"""The rules about the dose of kinks, on made-up trainings."""

import dataclasses
import functools
import math

import pandas as pd
import pytest

from reluprime import dose_claims as claims
from reluprime import records, training
from reluprime.activations import GRADIENT_RULES
from reluprime.evidence import made_up
from reluprime.evidence.claim import Evidence
from reluprime.training import TrainingConfig

# Grids are built once.
BY_ID = {c.id: dataclasses.replace(c, grid=functools.cache(c.grid)) for c in claims.CLAIMS}
CONDITIONS = [(claim.id, rule) for claim in claims.CLAIMS for rule in GRADIENT_RULES]
CALLS = 10**9  # inputs of a ReLU in all epochs


def by_width(config):
    """20 kinks at a width of 1e-7 and 10 % of all inputs at 0.5; real zeros at 16 bits."""
    real = {"fp16": 200, "bf16": 1600}
    return round(2e8 * config.kink_width) if config.kink_width else real.get(config.precision, 0)


def flat(config, met):
    return 0.0


def trained(loss=flat, dose=by_width, dead=lambda config, met: 7, met=lambda config, dose: dose):
    """Trainings that end at 0.9, and at another s than 0 lose loss(config, dose).

    dose(config): kinks that the run at s=0 meets; met: that the run itself does; dead(config,
    met): units at its end. The accuracies of seeds lie apart by more than most losses here.
    """

    def example(cell):
        config = cell.config
        kinks = dose(config)
        own = met(config, kinks) if config.s else kinks
        lost = loss(config, kinks) + made_up.wobble(config.seed, 0.0004) if config.s else 0.0
        accuracy = 0.9 - 0.02 * config.seed - lost
        by_epoch = [0] * (config.epochs - 1)
        zeros = own if not config.kink_width else 0
        result = {
            "train_loss": [[0.3] * config.epochs],
            "test_accuracy": [[*by_epoch, accuracy]],
            "affected_steps": [[*by_epoch, 1]],
            "exact_zeros": {"a": [[*by_epoch, zeros]], "b": [[*by_epoch, 0]]},
            "relu_calls": {"a": CALLS // config.epochs // 2, "b": CALLS // config.epochs // 2},
            "n_batches": 400,
            "diverged_epoch": [None],
        }
        if config.kink_width:
            result["kinks"] = {"a": [[*by_epoch, own - own // 3]], "b": [[*by_epoch, own // 3]]}
        units = {"a": [[*by_epoch, dead(config, own)]], "b": [[*by_epoch, 0]]}
        return result | {"dead_units": units, "always_on_units": units}

    return example


def finding(claim, rule, example):
    condition = (rule, "native")
    found = made_up.evidence(example, BY_ID[claim].grid(*condition))
    return BY_ID[claim].finding(found, condition)


def outcome(claim, rule="injected", **example):
    return finding(claim, rule, trained(**example)).outcome


def by_seed(config, size):
    return size if config.seed % 2 else -size


# ---- grids ----


@pytest.mark.parametrize(("claim", "rule"), CONDITIONS)
def test_grids_are_of_valid_configs(claim, rule):
    grid = BY_ID[claim].grid(rule, "native")
    assert {cell.study for cell in grid} == {training.fit}
    for config in {records.cell_key(c.study, c.config): c.config for c in grid}.values():
        assert TrainingConfig.model_validate(config.model_dump()) == config
        assert config.count_units
        assert config.n_networks == 1


@pytest.mark.parametrize(("claim", "rule"), CONDITIONS)
def test_a_cell_of_a_grid_never_waits_for_two_things(claim, rule):
    waits = {}
    for cell in BY_ID[claim].grid(rule, "native"):
        after = cell.after and records.cell_key(cell.study, cell.after)
        waits.setdefault(records.cell_key(cell.study, cell.config), set()).add(after)
    assert {len(found) for found in waits.values()} == {1}


@pytest.mark.parametrize(("claim", "rule"), CONDITIONS)
def test_every_run_has_its_reference_in_the_grid(claim, rule):
    """The run at s=0 with the same band and seed, which is that of the rule "chain"."""
    configs = [cell.config for cell in BY_ID[claim].grid(rule, "native")]
    there = {records.cell_key(training.fit, config) for config in configs}
    for config in configs:
        zero = config.model_copy(update={"s": 0.0, "gradient_rule": "chain"})
        assert records.cell_key(training.fit, zero) in there


def test_each_claim_is_shown_in_the_notebook_of_kinks():
    anchors = [claim.figure.partition("#") for claim in claims.CLAIMS]
    assert {notebook for notebook, _, _ in anchors} == {"14_how_many_kinks"}
    assert all(heading for _, _, heading in anchors)
    assert [claim.id for claim in claims.CLAIMS] == [f"D{n}" for n in range(1, 10)]


def test_a_change_that_no_config_takes_is_refused():
    with pytest.raises(ValueError, match="momentum"):
        claims.changed(claims.MLP, optimizer="adam")


def test_bands_give_each_width_and_seed_a_reference():
    cells = claims.bands(claims.MLP, (1e-7, 1e-6), (1.0, 0.1), "injected", range(3), lr=0.5)
    arms = [(c.config.kink_width, c.config.seed, c.config.s) for c in cells]
    assert sorted(arms) == sorted(
        (w, n, s) for w in (1e-7, 1e-6) for n in range(3) for s in (0.0, 1.0, 0.1)
    )
    assert all(c.config.lr == 0.5 for c in cells)
    assert {(c.config.gradient_rule) for c in cells if c.config.s} == {"injected"}


@pytest.mark.parametrize(("claim", "rule"), CONDITIONS)
def test_a_missing_cell_leaves_a_claim_untested(claim, rule):
    condition = (rule, "native")
    grid = BY_ID[claim].grid(*condition)
    lost = records.cell_key(training.fit, grid[-1].config)
    kept = [c for c in grid if records.cell_key(training.fit, c.config) != lost]
    found = BY_ID[claim].finding(made_up.evidence(trained(), kept), condition)
    assert found.outcome is None


# ---- a rule reads its own network, and of that what it is about ----


def is_mlp(config):
    """The network of most sentences, whatever the band, s, rule and seed."""
    arm = {n: getattr(claims.MLP, n) for n in ("kink_width", "s", "gradient_rule", "seed")}
    return config.model_copy(update=arm) == claims.MLP


def is_of(config, *names):
    ways = [claims.changed(claims.MLP, **claims.MITIGATIONS[n]) for n in names]
    arm = {n: getattr(claims.MLP, n) for n in ("kink_width", "s", "gradient_rule", "seed")}
    return config.model_copy(update=arm) in ways


READS = {
    "D1": lambda c: is_mlp(c) and 0 <= c.s <= 1,
    "D2": lambda c: c.architecture == "vgg11" and 0 <= c.s <= 1,
    "D3": lambda c: c.architecture == "resnet18" and 0 <= c.s <= 1,
    "D4": lambda c: is_mlp(c) and c.s in (0, 1),
    "D5": lambda c: c.architecture == "vgg11" and c.s in (0, 1),
    "D6": lambda c: is_mlp(c) and c.s in (0, 1),
    "D7": lambda c: (is_mlp(c) or c.arithmetic == "separate") and c.s in (0, 0.1, 0.3, 1),
    "D8": lambda c: (is_mlp(c) or is_of(c, "Adam", "batch norm")) and c.s in (0, 1),
    "D9": lambda c: (
        (is_mlp(c) and c.s in (0, 0.1, 0.3, 1, 10))
        or (c.s in (0, 1) and is_mlp(c.model_copy(update={"lr": 0.01})) and c.lr in (0.003, 0.03))
    ),
}


POOLED = "`_of` drops fields at their default: clipped runs, and kinks in one layer, are pooled"
ALONE = [
    pytest.param(*c, marks=pytest.mark.xfail(strict=True, raises=AssertionError, reason=POOLED))
    if c in [("D8", "injected"), ("D9", "injected")]
    else c
    for c in CONDITIONS
]


@pytest.mark.parametrize(("claim", "rule"), ALONE)
def test_a_rule_reads_nothing_else(claim, rule):
    """Ruin every run that it is not about, also those of other claims' grids."""

    def loss(config, dose):
        product = dose * config.lr * abs(config.s)
        return min(0.6, 0.01 * product) if config.gradient_rule == "injected" else 0.0

    def ruined(config, dose):
        return loss(config, dose) if READS[claim](config) else 0.7

    def dead(config, met):
        return min(met, 500) if config.s else 0

    def dead_or_ruined(config, met):
        return dead(config, met) if READS[claim](config) else 700

    condition = (rule, "native")
    every = [cell for other in claims.CLAIMS for r in GRADIENT_RULES for cell in other.grid(r, "")]
    own = BY_ID[claim].grid(*condition)
    alone = made_up.evidence(trained(loss, dead=dead), own)
    among = made_up.evidence(trained(ruined, dead=dead_or_ruined), [*every, *own])
    found = BY_ID[claim].finding(alone, condition)
    assert found.outcome is not None
    assert BY_ID[claim].finding(among, condition) == found


def test_what_a_rule_is_about_is_in_its_grid():
    """Else the test above ruins everything, or nothing."""
    for claim, rule in CONDITIONS:
        configs = [c.config for c in BY_ID[claim].grid(rule, "native")]
        assert any(READS[claim](c) and c.s for c in configs)
    for claim in ("D1", "D4", "D6", "D7", "D8", "D9"):
        assert not all(READS[claim](c.config) for c in BY_ID[claim].grid("injected", "native"))


# ---- D1 to D3 ----

UNCHANGED = {"D1": 0.005, "D2": 0.02, "D3": 0.02}
widths = pytest.mark.parametrize(("claim", "margin"), UNCHANGED.items())


@widths
@pytest.mark.parametrize("rule", GRADIENT_RULES)
def test_unchanged(claim, margin, rule):
    assert BY_ID[claim].thresholds["margin"] == margin
    assert outcome(claim, rule) == "holds"
    assert outcome(claim, rule, loss=lambda c, d: margin / 2) == "holds"
    assert outcome(claim, rule, loss=lambda c, d: 1.2 * margin) == "fails"
    assert outcome(claim, rule, loss=lambda c, d: by_seed(c, 3 * margin)) == "open"
    assert outcome(claim, rule, dose=lambda c: CALLS // 50) == "no occasion"


@widths
def test_one_dose_that_loses_is_enough(claim, margin):
    grid = BY_ID[claim].grid("injected", "native")
    largest = max(c.config.kink_width for c in grid)

    def loss(config, dose):
        return 2 * margin if config.kink_width == largest and config.s == 1 else 0.0

    found = finding(claim, "injected", trained(loss))
    assert found.outcome == "fails"
    assert f"s=1, {2e8 * largest:,.0f} kinks: {-200 * margin:+.2f} points" in found.value


@widths
def test_a_loss_above_a_hundredth_of_all_inputs_does_not_count(claim, margin):
    def dose(config):
        return CALLS // 50 if config.kink_width >= 1e-2 else CALLS // 1000

    def loss(config, dose):
        return 0.5 if dose > CALLS // 100 else 0.0

    found = finding(claim, "chain", trained(loss, dose))
    assert found.outcome == "holds"
    assert f"{CALLS // 50:,}" not in found.value
    # A hundredth itself counts.
    just = {"loss": lambda c, d: 0.5, "dose": lambda c: CALLS // 100}
    assert outcome(claim, "chain", **just) == "fails"


def test_seeds_that_disagree_leave_one_width_open():
    def loss(config, dose):
        return by_seed(config, 0.02) if config.kink_width == 1e-6 else 0.0

    assert outcome("D1", "chain", loss=loss) == "open"
    assert outcome("D1", loss=loss) == "open"


@widths
def test_a_mean_loss_of_four_seeds_is_open(claim, margin):
    """The fifth gains a little: one of the 32 flips, and another, are as far from 0."""

    def loss(config, dose):
        return -margin if config.seed == 4 else 4 * margin

    assert outcome(claim, "chain", loss=loss) == "open"


# ---- D4 and D5 ----


def cliff(at):
    """A loss of 30 points from a dose on; by seed, if `at` is a function."""
    return lambda config, dose: 0.3 if dose >= (at(config) if callable(at) else at) else 0.0


@pytest.mark.parametrize("claim", ["D4", "D5"])
def test_few_kinks(claim):
    tenfold = {"dose": lambda c: round(2e9 * c.kink_width)}  # VGG11's largest dose: 2,000
    assert outcome(claim, loss=cliff(200), **tenfold) == "holds"
    assert outcome(claim, loss=cliff(math.inf), **tenfold) == "fails"
    assert outcome(claim, loss=cliff(lambda c: 20 if c.seed else math.inf), **tenfold) == "open"


def test_points_are_of_the_claim():
    assert outcome("D4", loss=lambda c, d: 0.012) == "holds"
    assert outcome("D4", loss=lambda c, d: 0.008) == "fails"
    assert outcome("D5", loss=lambda c, d: 0.11) == "holds"
    assert outcome("D5", dose=lambda c: 3000, loss=lambda c, d: 0.08) == "fails"


@pytest.mark.parametrize("claim", ["D4", "D5"])
def test_what_was_not_tried_is_open(claim):
    """No loss up to 200 kinks says nothing about 1,000."""
    few = {"dose": lambda c: min(200, by_width(c))}
    assert outcome(claim, loss=flat, **few) == "open"
    assert "none, none, none, none, none" in finding(claim, "injected", trained(**few)).value
    most = {"dose": lambda c: 999 if c.seed == 2 else 1000}
    assert outcome(claim, loss=flat, **most) == "open"
    assert outcome(claim, loss=flat, dose=lambda c: 1000) == "fails"


# ---- D6 ----


def a_kink(units):
    """Dead units beside 7 that are dead at s=0; units: for each kink, or a function of config."""

    def dead(config, met):
        each = units(config) if callable(units) else units
        return 7 + round(each * met) if config.s else 7

    return dead


def test_units_a_kink():
    assert outcome("D6", dead=a_kink(1)) == "holds"
    assert outcome("D6", dead=a_kink(3)) == "fails"
    assert outcome("D6", dead=a_kink(0)) == "fails"
    assert outcome("D6", dead=a_kink(0.25)) == "fails"
    assert outcome("D6", dead=a_kink(lambda c: c.seed)) == "open"
    assert outcome("D6", dose=lambda c: 9) == "no occasion"
    assert outcome("D6", "chain", dose=lambda c: 9) == "no occasion"
    assert outcome("D6", dose=lambda c: 301) == "no occasion"
    assert outcome("D6", dose=lambda c: 9 if c.seed == 3 else 50) == "no occasion"


def test_units_that_are_dead_at_0_are_no_effect():
    def dead(config, met):
        return 5 * met + (met if config.s else 0)

    assert outcome("D6", dead=dead) == "holds"


def test_kinks_are_those_that_the_run_met():
    """Half as many as its reference, so twice as many units a kink."""
    halved = {"met": lambda c, dose: dose // 2}
    text = finding("D6", "injected", trained(dead=a_kink(1.2), **halved)).value
    assert text.startswith("1.2 ")
    assert outcome("D6", dead=a_kink(1), met=lambda c, dose: 9) == "no occasion"
    assert outcome("D6", dead=a_kink(1), met=lambda c, dose: 301) == "no occasion"


def test_runs_with_few_or_many_kinks_are_not_read():
    def dead(config, met):
        return 7 + (met if 10 <= met <= 300 else 500) * bool(config.s)

    assert outcome("D6", dead=dead) == "holds"
    # Under the derivative there is no largest number, and none of these doses is small.
    assert outcome("D6", "chain", dead=dead) == "fails"


def test_the_interval_is_over_seeds():
    """Runs of one seed are no five values: 0.4 to 1.6 by seed is too wide, 0.9 to 1.1 is not."""
    assert outcome("D6", dead=a_kink(lambda c: 0.4 + 0.3 * c.seed)) == "open"
    assert outcome("D6", dead=a_kink(lambda c: 0.9 + 0.05 * c.seed)) == "holds"


# ---- D7 ----


def as_real(extra=0.0):
    """A point at 300 kinks and 1 / s as many; at 16 bits by extra(config), or a number, more."""

    def loss(config, dose):
        more = extra(config) if callable(extra) else extra
        lost = 0.01 * math.log1p(dose * max(config.s, 0) / 300)
        return lost + (0 if config.precision == "fp32" else more)

    return loss


@pytest.mark.parametrize("rule", GRADIENT_RULES)
def test_a_band_as_a_stand_in(rule):
    assert outcome("D7", rule, loss=as_real()) == "holds"
    assert outcome("D7", rule, loss=as_real(0.004)) == "holds"
    assert outcome("D7", rule, loss=as_real(0.015)) == "fails"
    assert outcome("D7", rule, loss=as_real(-0.015)) == "fails"
    assert outcome("D7", rule, loss=as_real(lambda c: by_seed(c, 0.03))) == "open"


def test_one_precision_and_s_is_enough_to_fail():
    def extra(config):
        return 0.02 if (config.precision, config.s) == ("bf16", 0.3) else 0.0

    assert outcome("D7", loss=as_real(extra)) == "fails"
    assert outcome("D7", "chain", loss=as_real(extra)) == "holds"


@pytest.mark.parametrize("zeros", [0, 1, 10**6])
def test_real_zeros_beyond_every_band_are_open(zeros):
    def dose(config):
        beyond = config.precision == "bf16" and config.seed == 4
        return zeros if beyond else by_width(config)

    found = finding("D7", "injected", trained(as_real(), dose))
    assert found.outcome == "open"
    assert "bf16, s=1, " in found.value
    assert found.value.count("no band with that dose") == 3


def test_the_loss_is_that_at_the_dose_of_each_seed():
    """Seeds with ten times the zeros lose more, as their own band says."""

    def dose(config):
        return by_width(config) * (10 if config.seed % 2 and not config.kink_width else 1)

    def loss(config, met):
        return 0.05 * math.log10(max(met, 1)) if met else 0.0

    wide = {"dose": lambda c: min(dose(c), 1900)}
    assert outcome("D7", loss=loss, **wide) == "holds"


def test_the_table_of_real_zeros():
    def loss(config, met):
        return 0.0 if config.precision == "fp32" and met < 100 else 0.2

    found = made_up.evidence(trained(loss), claims._d7_grid("injected", ""))
    table = claims.beside_the_band(found, "injected")
    assert len(table) == 2 * 3 * 5
    assert set(table["real_precision"]) == {"fp16", "bf16"}
    assert table.groupby("real_precision")["dose"].mean().to_dict() == {"bf16": 1600, "fp16": 200}
    # 200 kinks: those of the band of 1e-6.
    at_1 = table[(table["s"] == 1) & (table["real_precision"] == "fp16") & (table["seed"] == 0)]
    assert at_1["at_equal_dose"].tolist() == pytest.approx([0.2 + made_up.wobble(0, 0.0004)])


# ---- D8 ----


def bears(adam, batch_norm):
    """Ten points at 60 kinks, in proportion to the logarithm; at more by Adam and batch norm."""

    def loss(config, dose):
        factor = {"adam": adam}.get(config.optimizer, batch_norm if config.batch_norm else 1)
        factor = factor(config) if callable(factor) else factor
        at = 0.1 + 0.1 * math.log10(max(dose, 1) / 60 / factor)
        return min(0.6, max(0.0, at))

    return loss


def test_mitigation():
    assert outcome("D8", loss=bears(5, 5)) == "holds"
    assert outcome("D8", loss=bears(1, 1)) == "fails"
    assert outcome("D8", loss=bears(5, 1)) == "fails"
    assert outcome("D8", loss=bears(1, 5)) == "fails"
    assert outcome("D8", loss=bears(1.8, 5)) == "fails"
    assert outcome("D8", loss=bears(2.3, 2.3)) == "holds"
    assert outcome("D8", loss=bears(5, lambda c: 5 if c.seed % 2 else 1)) == "open"
    assert outcome("D8", loss=flat) == "no occasion"


def test_a_dose_that_is_never_reached_counts_as_the_largest():
    found = finding("D8", "injected", trained(bears(10**6, 5)))
    assert found.outcome == "holds"
    assert "Adam 6,000" in found.value


@pytest.mark.parametrize("loss", [flat, bears(1, 1)])
def test_under_the_derivative_nothing_is_said_about_mitigation(loss):
    assert outcome("D8", "chain", loss=loss) in ("no occasion", "open")


# ---- D9 ----


def scaled(lr=1.0, s=1.0):
    """A point at 60 kinks of s=1 and a rate of 0.01, and the powers of both in what it costs."""

    def loss(config, dose):
        strength = (config.lr / 0.01) ** lr * config.s**s if config.s > 0 else 0.0
        return min(0.6, 0.01 * dose * strength / 60)

    return loss


def test_scaling():
    assert outcome("D9", loss=scaled()) == "holds"
    assert outcome("D9", loss=scaled(lr=0)) == "fails"
    assert outcome("D9", loss=scaled(s=0)) == "fails"
    assert outcome("D9", loss=scaled(s=2)) == "fails"
    # Three times the least is still proportional, and no more than that.
    assert outcome("D9", loss=scaled(s=0.85)) == "holds"
    assert outcome("D9", loss=scaled(s=0.7)) == "fails"
    assert outcome("D9", loss=flat) == "no occasion"


@pytest.mark.parametrize("s", [0.1, 0.3, 1.0, 10.0])
def test_a_strength_without_a_loss_leaves_the_scaling_open(s):
    def loss(config, dose):
        is_it = (config.s, config.lr) == (s, 0.01)
        return 0.0 if is_it else scaled()(config, dose)

    found = finding("D9", "injected", trained(loss))
    assert found.outcome == "open"
    assert found.value.endswith(f"no dose costs a point: s={s:g}")


def test_the_scaling_is_of_geometric_means():
    """Of 6, 60 and 600 kinks by seed, which are lost just below the next dose tried."""

    def loss(config, dose):
        if (config.s, config.lr) != (1, 0.01):
            return scaled()(config, dose)
        by = {0: 2, 1: 20, 2: 200, 3: 20, 4: 20}[config.seed]
        return 0.6 if dose >= 10 * by else 0.0

    found = finding("D9", "injected", trained(loss))
    values = pd.Series(found.value.split("; "))
    (base,) = values[values.str.startswith("s=1 ")]
    assert base == "s=1 61"


# ---- what the rules answer and must not: to be mended before their records are read ----


def pooled(config, dose):
    """D9 in full, and kinks in one layer alone are ten times worse, or harmless."""
    return min(0.6, {None: 1, 1: 10}.get(config.kink_layer, 0) * scaled()(config, dose))


def clipped(config, dose):
    """Adam and batch norm bear 1.5 times as many; clipped gradients a tenth."""
    return bears(1.5, 1.5)(config, dose * (10 if config.clip_norm else 1))


def at_first(config, dose):
    return 0.5


def few_of_adam(config):
    return by_width(config) // (60 if config.optimizer == "adam" else 1)


def more_of_the_two(config):
    return by_width(config) * (10 if config.batch_norm or config.optimizer == "adam" else 1)


def convex(config, dose):
    """One curve for a band and for real zeros."""
    return min(0.6, 0.01 * (dose * max(config.s, 0) / 80) ** 2)


def bounded(config, met):
    return 7 + (min(met, 761) if config.s else 0)


def fewer_a_kink(config, met):
    """1.9 units a kink where there are few, and 0.1 at 200."""
    return 7 + (round(met * (1.9 if met < 100 else 0.1)) if config.s else 0)


MISTAKES = {
    "nothing was met": ("D3", "injected", "holds", {"dose": lambda c: 0}),
    "20 kinks are not a hundredth of all inputs": (
        "D3",
        "injected",
        "holds",
        {"loss": lambda c, d: min(0.6, d / 1e4)},
    ),
    "no run at s=0 learnt": ("D3", "chain", "holds", {"loss": flat, "learns": False}),
    "no run at s=0 could lose": ("D5", "chain", "fails", {"loss": flat, "learns": False}),
    "a gain is no sameness": ("D1", "chain", "open", {"loss": lambda c, d: -0.03}),
    "no run with fewer than 1,000 lost": (
        "D5",
        "injected",
        "holds",
        {"loss": cliff(2000), "dose": lambda c: round(2e9 * c.kink_width)},
    ),
    "fewer than 1,200 were not tried": (
        "D5",
        "injected",
        "fails",
        {"loss": at_first, "dose": lambda c: round(1.2e11 * c.kink_width)},
    ),
    "a kink kills one of 768 units until none is left": (
        "D6",
        "chain",
        "fails",
        {"dead": bounded},
    ),
    "no run in which a kink killed about one": ("D6", "injected", "holds", {"dead": fewer_a_kink}),
    "nothing is lost in either": ("D7", "injected", "holds", {"loss": flat}),
    "the same curve between two doses": (
        "D7",
        "injected",
        "fails",
        {
            "loss": convex,
            "dose": lambda c: 350 if c.precision in ("fp16", "bf16") else by_width(c),
        },
    ),
    "other runs are pooled with SGD's": ("D8", "injected", "holds", {"loss": clipped}),
    "Adam lost nothing at any dose tried": (
        "D8",
        "injected",
        "fails",
        {
            "loss": lambda c, d: 0.0 if c.optimizer == "adam" else bears(5, 5)(c, d),
            "dose": few_of_adam,
        },
    ),
    "all lost at the first dose": (
        "D8",
        "injected",
        "holds",
        {"loss": at_first, "dose": more_of_the_two},
    ),
    "other runs are pooled with s=1": ("D9", "injected", "fails", {"loss": pooled}),
    "the root of the rate": ("D9", "injected", "holds", {"loss": scaled(lr=0.55)}),
}


def at_chance(example):
    return lambda cell: example(cell) | {"test_accuracy": [[0.1] * cell.config.epochs]}


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="found after the rules' registration")
@pytest.mark.parametrize("name", MISTAKES)
def test_a_rule_is_not_wrong(name):
    claim, rule, wrong, arguments = MISTAKES[name]
    example = trained(**{n: value for n, value in arguments.items() if n != "learns"})
    example = example if arguments.get("learns", True) else at_chance(example)
    assert finding(claim, rule, example).outcome != wrong


# ---- the examples ----


def test_no_example_is_without_a_network_of_its_own():
    """Every example has a result for every cell, or for none."""
    for name, example in BY_ID["D8"].examples.items():
        found = [example(c) is None for c in BY_ID["D8"].grid("injected", "native")]
        assert len({*found}) == 1, name


def test_evidence_of_no_records_is_untested():
    for claim, rule in CONDITIONS:
        condition = (rule, "native")
        assert BY_ID[claim].finding(Evidence([]), condition).outcome is None
