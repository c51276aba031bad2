"""The rules of the claims: on made-up records, on the papers' data, and old mistakes."""

import numpy as np
import pandas as pd
import pytest

from reluprime import records
from reluprime.cli import main
from reluprime.evidence import made_up
from reluprime.evidence.claim import Cell, Evidence
from reluprime.evidence.compute import cells_of
from reluprime.evidence.registry import of_condition, read
from reluprime.evidence.tests import sign_flip
from reluprime.report import scorecard as claims
from reluprime.training import arms, experiments
from reluprime.training.arms import Arm
from reluprime.training.claims import mnist as mnist_claims
from reluprime.training.claims.zero_calls import proportional
from reluprime.training.config import TrainingConfig
from reluprime.volume.convolutional import conv_shares
from reluprime.volume.experiments import B21, M23, networks_of, pair_networks

CONDITIONS = [(claim.id, c) for claim in claims.CLAIMS for c in claim.conditions()]
# Where a rule has no test that could leave it open, or is about the absence of zeros.
NEVER_OPEN = {"P2", "P4", "P6"}
NO_OCCASION_IS_NO_ZEROS = {"P2", "P5", "P6", "P8", "P16", "R3"}
NEVER_DECIDED = {"R6"}  # four repeats cannot pass a sign-flip test
# Of native arithmetic a part was not computed, so the rest cannot hold.
NEVER_HOLD = {("P6", "native"), ("P7", "native")}


@pytest.fixture(scope="module")
def registered():
    """What each rule answered on its examples when it was registered."""
    entries = read()
    return {(c, condition): of_condition(entries, c, condition)[-1] for c, condition in CONDITIONS}


@pytest.mark.parametrize(("claim", "condition"), CONDITIONS)
def test_a_rule_passes_fails_and_stays_undecided(claim, condition, registered):
    """What the outcomes are now is the registry's test; here, that all kinds are among them."""
    outcomes = {*registered[claim, condition]["examples"].values()}
    wanted = {"holds", "fails", None} if claim not in NEVER_DECIDED else {None}
    if (claim, condition[1]) in NEVER_HOLD:
        wanted.remove("holds")
    if claim not in NEVER_OPEN:
        wanted.add("open")
    if claim not in NO_OCCASION_IS_NO_ZEROS:
        wanted.add("no occasion")
    assert wanted <= outcomes


# What must not turn round, whatever else changes: of these made-up results a rule says this.
SIGNS = [
    ("P9", "a loss", "holds"),
    ("P9", "no loss", "fails"),
    ("P9", "a gain", "fails"),
    ("P12", "batch norm helps", "holds"),
    ("P12", "batch norm does not help", "fails"),
    ("P13", "Adam loses less", "holds"),
    ("P13", "both lose alike", "fails"),
    ("P13", "both end at chance", "open"),
    ("P13", "both end at chance at s=50 alone", "holds"),
    ("P13", "one seed ends at chance with both", "open"),
    ("P15", "no joint effect", "holds"),
    ("P15", "worse with dropout", "fails"),
    ("R2", "16 bits suffer", "holds"),
    ("R2", "32 bits suffer too", "fails"),
    ("R4", "no loss", "holds"),
    ("R4", "a loss", "fails"),
    ("R7", "rarer", "holds"),
    ("R7", "more often", "fails"),
]


@pytest.mark.parametrize(("claim", "example", "outcome"), SIGNS)
def test_what_a_rule_holds_to_be_a_success(claim, example, outcome, registered):
    own = [e["examples"][example] for (name, _), e in registered.items() if name == claim]
    assert own == [outcome] * len(own) != []


def test_ids_are_those_of_the_papers():
    wanted = [f"P{n}" for n in range(1, 18)] + [f"R{n}" for n in range(1, 8)]
    found = [claim.id for claim in claims.CLAIMS]
    assert [name for name in found if name[0] in "PR"] == wanted
    assert len({*found}) == len(found)


@pytest.mark.parametrize("claim", claims.CLAIMS, ids=lambda claim: claim.id)
def test_a_grid_has_each_cell_once_and_what_it_waits_for(claim):
    for condition in claim.conditions():
        grid = claim.grid(*condition)
        keys = [records.cell_key(c.study, c.config) for c in grid]
        assert len(set(keys)) == len(keys)
        waited = {records.cell_key(c.study, c.after) for c in grid if c.after is not None}
        assert waited <= set(keys)


@pytest.mark.parametrize("claim", claims.CLAIMS, ids=lambda claim: claim.id)
def test_a_missing_cell_leaves_a_claim_untested(claim):
    """A verdict is never read before its cells are complete."""
    condition = claim.conditions()[-1]
    grid, example = claim.grid(*condition), next(iter(claim.examples.values()))
    found = [record for cell in grid for record in made_up.evidence(example, [cell]).of(*cell[:2])]
    assert claim.finding(Evidence(found), condition).outcome is not None
    assert claim.finding(Evidence(found[1:]), condition).outcome is None


# ---- mistakes of the first edition's rules ----

P9 = claims.BY_ID["P9"]
INJECTED = ("injected", "native")


def with_changes(**changes):
    """P9's records that must pass, of trainings with other values."""
    cells = [
        Cell(c.study, c.config.model_copy(update=changes), c.after) for c in P9.grid(*INJECTED)
    ]
    return made_up.evidence(P9.examples["a loss"], cells)


@pytest.mark.parametrize(
    "changes",
    [
        {"n_train": 500},
        {"lr": 0.5},
        {"batch_size": 4},
        {"initialisation": "torch"},
        {"schedule": "constant"},
        {"augment": False},
    ],
    ids=str,
)
def test_an_experiment_with_another_value_is_no_evidence(changes):
    """P9 passed on 500 images, and took each arm from whatever learning rate had most runs."""
    assert P9.finding(with_changes(), INJECTED).outcome == "holds"
    assert P9.finding(with_changes(**changes), INJECTED).outcome is None


def of_machine(name, example, cells):
    found = made_up.evidence(example, cells)
    rows = [record for cell in cells for record in found.of(cell.study, cell.config)]
    return [r | {"provenance": r["provenance"] | {"device_name": name}} for r in rows]


def test_runs_of_two_machines_are_no_pair():
    """A run at s=0 of one device is no control of a run at s=1 of another."""
    scale = experiments.MLP.small
    cells, example = scale.cells("injected", (1.0,)), P9.examples["a loss"]
    apart = [
        record
        for cell in cells
        for record in of_machine("a CPU" if cell.config.s else "a GPU", example, [cell])
    ]
    together = of_machine("a CPU", example, cells)
    assert len(arms.arm(Evidence(together), scale, 1.0, "injected").values) == 5
    assert len(arms.arm(Evidence(apart), scale, 1.0, "injected").values) == 0


def test_a_grid_on_two_machines_is_that_of_one_and_incomplete():
    """Half of the records are of a GPU: nothing is pooled, and what is missing is said."""
    cells, example = P9.grid(*INJECTED), P9.examples["a loss"]
    half = len(cells) // 2
    found = [
        *of_machine("a CPU", example, cells[:half]),
        *of_machine("a GPU", example, cells[half:]),
    ]
    finding = P9.finding(Evidence(found), INJECTED)
    assert finding.outcome is None
    assert "so far" in finding.value


def on_gpu(record):
    """The record of the same cell on a GPU, with another accuracy."""
    key = record["key"][::-1]
    result = record["result"] | {"test_accuracy": [[0.8]]}
    how = record["provenance"] | {"device_name": "a GPU"}
    return record | {"key": key, "result": result, "provenance": how}


@pytest.mark.parametrize(("there", "so_far"), [(0, False), (3, True), (None, False)])
def test_a_verdict_is_one_so_far_while_a_second_machine_has_some_of_the_cells(there, so_far):
    """It may answer differently, and then no arithmetic decides."""
    cells = {cell: None for rule in ("chain", "injected") for cell in P9.grid(rule, "native")}
    here = of_machine("a CPU", P9.examples["a loss"], cells)
    again = of_machine("a GPU", P9.examples["a loss"], list(cells)[:there])
    keys = [records.cell_key(cell.study, cell.config, "cuda") for cell in cells]
    there = [record | {"key": key} for record, key in zip(again, keys, strict=False)]
    row = claims.judged(P9, Evidence([*here, *there]), [])
    assert row["verdict"].endswith(", so far") == so_far
    assert ("a GPU, 1 thread has 3 of" in row["by"][0]["value"]) == so_far


def test_a_seed_with_records_of_two_machines_is_paired_within_one(monkeypatch):
    """0.8 of a GPU at s=0 and at s=1 is no loss, whatever a CPU has at s=0."""
    scale = experiments.MLP.small
    cells = scale.cells("injected", (1.0,))
    cpu = of_machine("a CPU", P9.examples["no loss"], [c for c in cells if c.config.s == 0])
    gpu = [on_gpu(r) for r in of_machine("a CPU", P9.examples["no loss"], cells)]
    rows = {}
    for record in [*cpu, *gpu]:
        name = records.cell_key(scale_study(), scale_config(record))
        rows.setdefault(name, []).append(record)
    found = Evidence([])
    monkeypatch.setattr(found, "of", lambda s, c: rows.get(records.cell_key(s, c), []))
    arm = arms.arm(found, scale, 1.0, "injected")
    assert list(arm.values) == [0.0] * 5


def scale_study():
    return experiments.MLP.small.cells("injected", ())[0].study


def scale_config(record):
    return TrainingConfig.model_validate(record["config"])


def test_a_scale_says_what_made_its_records(tmp_path):
    """Verdicts said "on the CPU" whatever made the records."""
    assert not any("CPU" in claim.scale for claim in claims.CLAIMS)
    cells = P9.grid(*INJECTED)
    found = Evidence(of_machine("a GPU", P9.examples["a loss"], cells))
    assert claims.judged(P9, found, [])["made_on"] == "a GPU"


def test_the_longer_of_two_records_of_a_network_counts():
    """A shorter one that came later removed evidence."""
    base = {"dataset": "cifar10", "architecture": "vgg11", "hidden_sizes": (), "width": 1.0}
    base |= {"batch_norm": False, "precision": "fp32", "batch_size": 100, "seed": 0}
    base |= {"initialisation": "torch", "relu_after_first": True, "stop_at_first": True}
    rows = []
    for n_batches, first in ((60, 40), (10, None)):
        own = base | {"n_batches": n_batches, "max_batches": n_batches}
        for rule in ("chain", "injected"):
            own |= {f"affected_{rule}": [int(first is not None)], f"nonfinite_{rule}": 0}
            own |= {f"first_affected_{rule}": [first]}
            own |= {f"relative_difference_{rule}": [1.0] * (first is not None)}
            own |= {f"relative_difference_first_layer_{rule}": [1.0] * (first is not None)}
        rows.append(own)
    for order in (rows, rows[::-1]):
        shares = conv_shares(pd.DataFrame(order), "chain", [60])
        assert shares[["networks", "in_zone"]].values.tolist() == [[1, 1]]


def test_networks_with_few_zeros_count():
    """19 zeros of a network stood against 1.2 expected, and were left out as too few."""
    calls = [1e6 * n for n in (1, 2, 4, 8, 16, 32, 64, 128)]
    as_expected = pd.DataFrame({"zeros": [0, 0, 1, 2, 4, 8, 16, 32], "calls": calls})
    small_one = as_expected.assign(zeros=[9, 9, 9, 9, 9, 8, 16, 32])
    assert proportional(as_expected).outcome == "holds"
    assert proportional(small_one).outcome == "fails"


def test_runs_that_met_no_zero_are_not_called_equal():
    """Differences that are all 0 passed the equivalence test with p = 0."""
    P15 = claims.BY_ID["P15"]
    found = made_up.evidence(P15.examples["no zeros"], P15.grid(*INJECTED))
    assert P15.finding(found, INJECTED).outcome == "no occasion"


def test_a_network_counts_once_in_p7():
    """One network with thousands of affected mini-batches outvoted all others."""
    P7, condition = claims.BY_ID["P7"], ("injected", "epilogue")
    example = P7.examples["one network in a hundred has most of them"]
    found = made_up.evidence(example, P7.grid(*condition))
    networks = networks_of(found, pair_networks("epilogue")["paper", "fp32"], "injected")
    assert np.median(networks["relative_difference"].sum()) == 1.0  # that of the pooled ones
    assert P7.finding(found, condition).outcome == "holds"  # which asks for more than 20


def test_a_seed_counts_once_in_r7():
    """12 runs of 3 seeds counted as 12."""
    R7 = claims.BY_ID["R7"]
    found = made_up.evidence(R7.examples["rarer in seven of ten seeds"], R7.grid(*INJECTED))
    rarer = np.repeat([-1.0] * 7 + [1.0] * 3, len(mnist_claims.M23_S))
    assert sign_flip(-rarer) < 0.05  # all runs
    assert R7.finding(found, INJECTED).outcome == "open"


@pytest.mark.parametrize("sweep", [B21, M23])
def test_sizes_have_networks_of_their_own(sweep):
    """The sets were nested, and the test over batch sizes compared networks with themselves."""
    for arithmetic in ("native", "epilogue"):
        known = {}
        for cell in sweep.grid("injected", arithmetic):
            config, sizes = cell.config, (cell.config.hidden_sizes, cell.config.batch_size)
            for seed in range(config.seed, config.seed + config.n_networks):
                assert known.setdefault((config.precision, seed), sizes) == sizes


# ---- arms ----


def arm_of(differences, met=5, accuracies=None):
    by_seed = dict(enumerate(differences))
    levels = dict(enumerate(accuracies or [0.5] * len(differences)))
    return Arm(by_seed, levels, dict.fromkeys(by_seed, False), met, dict.fromkeys(by_seed, 9.0))


LOSS, FLAT = [-0.05, -0.06, -0.07, -0.05, -0.04], [0.001, -0.001, 0.002, 0.0, -0.002]


@pytest.mark.parametrize(
    ("small", "large", "drop", "same"),
    [
        (arm_of(LOSS), arm_of(LOSS[:3]), "holds", "fails"),
        (arm_of(LOSS), arm_of(FLAT[:3]), "open", "open"),
        (arm_of(FLAT), arm_of(FLAT[:3]), "fails", "holds"),
        (arm_of([*LOSS[:4], 0.1]), arm_of(LOSS[:3]), "open", "open"),
        (arm_of(LOSS, met=4), arm_of(LOSS[:3]), "no occasion", "no occasion"),
    ],
)
def test_predicates(small, large, drop, same):
    assert arms.drop(small, [large], 0.02) == drop
    assert arms.same(small, [large], 0.02) == same


def test_untrainable_means_every_run_at_every_scale():
    stuck, learns = arm_of(LOSS, accuracies=[0.1, 0.11, 0.1, 0.14, 0.1]), arm_of(LOSS)
    half = arm_of(LOSS, accuracies=[0.1, 0.5, 0.1, 0.5, float("nan")])
    assert arms.untrainable(stuck, [stuck], 0.05) == "holds"
    assert arms.untrainable(stuck, [learns], 0.05) == "open"
    assert arms.untrainable(half, [stuck], 0.05) == "open"
    assert arms.untrainable(learns, [learns], 0.05) == "fails"


def test_a_run_at_chance_or_diverged_counts_as_chance():
    scale = experiments.MLP.small

    def result(cell):
        found = P9.examples["no loss"](cell)
        if cell.config.s:
            end = {0: 0.098, 1: 0.119, 2: 0.13}.get(cell.config.seed, 0.9)
            found |= {"test_accuracy": [[end]]}
            found |= {"diverged_epoch": [0 if cell.config.seed == 3 else None]}
        return found

    found = made_up.evidence(result, scale.cells("injected", (1.0,)))
    zero = {0: -0.002, 1: 0.002, 2: -0.001, 3: 0.001, 4: -0.0}
    arm = arms.arm(found, scale, 1.0, "injected")
    expected = {0: 0.1, 1: 0.1, 2: 0.13, 3: 0.1, 4: 0.9}
    for seed, value in expected.items():
        base = 0.9 + made_up.wobble(seed, 0.002)
        assert arm.differences[seed] == pytest.approx(value - base), zero
    assert arm.at_chance == {0: True, 1: True, 2: False, 3: True, 4: False}
    assert "3 at chance" in arms.words(arm)


def test_arms_of_a_run_without_zeros_are_not_computed_and_not_read():
    scale = experiments.MLP.small
    cells = scale.cells("injected", (1.0,))

    def result(cell):
        if cell.config.s and cell.config.seed != 2:
            return None
        return made_up.trainings(lambda _: 0.5, lambda c: 9 if c.seed == 2 else 0)(cell)

    found = made_up.evidence(result, cells)
    assert not found.missing(cells)
    assert len(found.due(cells)) == 6
    arm = arms.arm(found, scale, 1.0, "injected")
    assert arm.met == 1
    assert [round(d, 1) for d in arm.values] == [0, 0, -0.5, 0, 0]


# ---- what is computed next ----


def missing(claim, store):
    evidence = Evidence.of_store(store, {records.study_name(c.study) for c in claim.cells()})
    return evidence.missing(cells_of([claim]))


def test_a_grid_is_computed_as_its_results_ask(tmp_path):
    """First what waits for nothing; the arms of a seed once its run at s=0 met a zero."""
    claim = claims.BY_ID["R5"]
    store = records.Store(tmp_path)
    first = missing(claim, store)
    assert {cell.config.s for cell in first} == {0.0}
    example = made_up.trainings(lambda _: 0.0, lambda c: 3 if c.seed == 1 else 0, epochs=2)
    for cell in first:
        for record in made_up.evidence(example, [cell]).of(cell.study, cell.config):
            store.append(record)
    then = missing(claim, store)
    assert {(c.config.seed, c.config.gradient_rule) for c in then} == {
        (1, "chain"),
        (1, "injected"),
    }


def test_the_command_computes_what_a_claim_lacks(tmp_path, monkeypatch):
    """Cell by cell, each with the arms that it asks for, and nothing twice."""
    done = []

    def measure(study, config, device):
        done.append((config.seed, config.s, config.gradient_rule))
        example = made_up.trainings(lambda _: 0.0, lambda c: 3 if c.seed == 1 else 0, epochs=2)
        (record,) = made_up.evidence(example, [Cell(study, config)]).of(study, config)
        return record

    monkeypatch.setattr(records, "measure", measure)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main(["compute", "R5", "--store", str(tmp_path)]) == 0
    zeros = [(seed, 0.0, "chain") for seed in range(5)]
    assert sorted(done) == sorted([*zeros, (1, 1.0, "chain"), (1, 1.0, "injected")])
    assert main(["compute", "R5", "--store", str(tmp_path)]) == 0
    assert main(["compute", "R2", "--store", str(tmp_path), "--max-seconds", "0"]) == 0
    assert len(done) == 7


def test_one_arithmetic_can_be_computed_alone():
    found = {a: cells_of([claims.BY_ID["R1"]], a) for a in ("native", "separate")}
    assert {c.config.arithmetic for c in found["native"]} == {"native"}
    assert {c.config.arithmetic for c in found["separate"]} == {
        "separate",
        "epilogue",
    }  # bf16, fp32
