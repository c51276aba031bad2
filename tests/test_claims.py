"""Verdict rules on synthetic records that should pass, and on those that should not."""

import json

import numpy as np
import pandas as pd
import pytest

from reluprime import claims, findings, records

EVENT = {"step": 2, "sample": 300, "layer": "activation1", "neuron": 1, "kink": 0.0}


def run(precision, seed, jump_chain, jump_injected, event=True, **changes):
    def distance(jump):
        return [0.0, 0.0, jump, 2 * jump] if event else [0.0] * 4

    return {
        "dataset": "mnist",
        "hidden_sizes": (2000, 128),
        "activation": "relu",
        "precision": precision,
        "batch_size": 128,
        "lr": None,
        "seed": seed,
        "distance": {
            "control": [0.0] * 4,
            "chain s=1": distance(jump_chain),
            "injected s=1": distance(jump_injected),
        },
        "event": EVENT if event else None,
    } | changes


def frames(runs=(), planes=(), cells=()):
    return {
        "bifurcation.paired_run": pd.DataFrame(runs),
        "bifurcation.weight_plane": pd.DataFrame(planes),
        "volume.estimate": pd.DataFrame(cells),
    }


def three(precision="fp32", **kwargs):
    return [run(precision, seed, 1e-5, 2.0, **kwargs) for seed in range(3)]


def test_p1_holds_for_a_jump_above_1_alone():
    found = frames(three())
    assert claims.fp32_run_jumps(found, "injected").holds is True
    assert claims.fp32_run_jumps(found, "chain").holds is False


@pytest.mark.parametrize(
    "spoil",
    [
        lambda r: r["distance"].update(control=[0.0, 0.0, 0.0, 1e-9]),  # the control left
        lambda r: r["distance"].update({"injected s=1": [1e-9, 1e-9, 2.0, 4.0]}),  # apart too early
    ],
)
def test_p1_needs_controls_and_identity_before_the_event(spoil):
    runs = three()
    spoil(runs[1])
    assert claims.fp32_run_jumps(frames(runs), "injected").holds is False


def test_p1_fails_where_most_runs_never_part():
    runs = [three()[0], *(run("fp32", s, 0, 0, event=False) for s in (1, 2))]
    assert claims.fp32_run_jumps(frames(runs), "injected").holds is False


@pytest.mark.parametrize(
    "changes", [{"dataset": "mnist-5k"}, {"hidden_sizes": (64,)}, {"lr": 0.01}, {"batch_size": 64}]
)
def test_runs_at_another_scale_are_no_evidence(changes):
    found = frames(three(**changes))
    assert claims.fp32_run_jumps(found, "injected").holds is None
    assert claims.fp32_run_jumps(frames(three()[:2]), "injected").holds is None  # two seeds


def test_p2_holds_if_no_fp64_run_parts():
    still = [run("fp64", seed, 0, 0, event=False) for seed in range(3)]
    assert claims.fp64_run_stays(frames(still), "chain").holds is True
    moved = [*still[:2], run("fp64", 2, 1e-15, 0)]
    assert claims.fp64_run_stays(frames(moved), "chain").holds is False
    assert claims.fp64_run_stays(frames(moved), "injected").holds is True


def test_p3_needs_both_precisions():
    wide = {"activation": "relu6", "hidden_sizes": (4000, 256)}
    at_fp32 = three(**wide)
    at_fp64 = [run("fp64", seed, 0, 0, event=False, **wide) for seed in range(3)]
    assert claims.relu6_run_jumps(frames(at_fp32), "injected").holds is None
    assert claims.relu6_run_jumps(frames(at_fp32 + at_fp64), "injected").holds is True
    assert claims.relu6_run_jumps(frames(at_fp32 + at_fp64), "chain").holds is False


def plane(run_seed, resolution, zeros, zeros_fp64=0, dataset="mnist", seed=1):
    def grid(n):
        flat = np.ones(resolution**2)
        flat[:n] = 0
        return flat.reshape(resolution, resolution).tolist()

    run = {"dataset": dataset, "precision": "fp32", "seed": run_seed}
    parts = {"plane": grid(zeros), "plane_fp64": grid(zeros_fp64)}
    return {"run": run, "resolution": resolution, "seed": seed, "event": EVENT} | parts


def planes(coarse, fine, fine_fp64=0, **changes):
    return [
        plane(run_seed, size, *zeros, **changes)
        for run_seed in range(3)
        for size, zeros in ((41, (coarse, 0)), (81, (fine, fine_fp64)))
    ]


@pytest.mark.parametrize(
    ("coarse", "fine", "fine_fp64", "holds"),
    [
        (34, 131, 0, True),  # 2 % on both grids: an area
        (34, 68, 0, False),  # half the share on twice the points: a line
        (41, 81, 0, False),
        (0, 0, 0, False),
        (34, 131, 161, True),  # a line at fp64
        (34, 131, 162, False),
    ],
)
def test_p4_tells_an_area_from_a_line(coarse, fine, fine_fp64, holds):
    found = frames(planes=planes(coarse, fine, fine_fp64))
    assert claims.zero_set_is_an_area(found, "chain").holds is holds


@pytest.mark.parametrize("changes", [{"dataset": "mnist-5k"}, {"seed": 0}])
def test_p4_reads_fresh_planes_of_mnist_alone(changes):
    found = frames(planes=planes(34, 131, **changes))
    assert claims.zero_set_is_an_area(found, "chain").holds is None


def test_p4_needs_events_and_both_grids():
    fine_alone = [p for p in planes(34, 131) if p["resolution"] == 81]
    assert claims.zero_set_is_an_area(frames(planes=fine_alone), "chain").holds is None
    without = [p | {"event": None} for p in planes(34, 131)]
    assert claims.zero_set_is_an_area(frames(planes=without), "chain").holds is None


def cell(precision, n, hit, differences=(0.002, 30.0), stop=False, **changes):
    """n networks of which the first `hit` are affected in one mini-batch of 235."""
    affected = [1] * hit + [0] * (n - hit)
    chain, injected = differences
    return {
        **claims.TABLE_1,
        "width": 1.0,
        "precision": precision,
        "stop_at_first": stop,
        "seed": 0,
        "n_networks": n,
        "n_batches": 235,
        **{f"affected_{r}": affected for r in ("chain", "injected")},
        **{
            f"first_affected_{r}": [0 if a else None for a in affected]
            for r in ("chain", "injected")
        },
        "relative_difference_chain": [chain] * hit,
        "relative_difference_first_layer_chain": [chain] * hit,
        "relative_difference_injected": [injected] * hit,
        "relative_difference_first_layer_injected": [injected] * hit,
    } | changes


def table_1(fp16=(200, 200), fp32=(200, 80), fp64=(200, 0), **kwargs):
    counts = {"fp16": fp16, "fp32": fp32, "fp64": fp64}
    return [cell(p, *counts[p], **kwargs) for p in counts]


@pytest.mark.parametrize(
    ("changes", "holds"),
    [
        ({}, True),
        ({"fp32": (200, 40)}, False),  # 20 %
        ({"fp16": (200, 100)}, False),
        ({"fp64": (200, 40)}, False),
        ({"fp16": (99, 99)}, None),  # too few networks
    ],
)
def test_p5_compares_with_both_margins(changes, holds):
    found = frames(cells=table_1(**changes))
    assert claims.share_by_precision(found, "chain").holds is holds


def test_p5_ignores_other_networks():
    other = [c | {"relu_after_first": False} for c in table_1()]
    assert claims.share_by_precision(frames(cells=other), "chain").holds is None


def test_p6_wants_a_factor_of_two():
    possible = table_1()  # 80 of 200 * 235 pairs: 0.17 %
    assert claims.share_of_pairs(frames(cells=possible), "chain").holds is False
    rare = table_1(fp16=(2000, 235), fp32=(20_000, 9))  # 0.05 % and 0.0002 %
    assert claims.share_of_pairs(frames(cells=rare), "chain").holds is True


def test_p7_wants_more_than_20_and_more_at_fp16():
    cells = [
        cell("fp16", 200, 200, (0.003, 100.0)),
        cell("fp32", 200, 80, (0.002, 25.0)),
        cell("fp64", 200, 0),
    ]
    assert claims.relative_difference(frames(cells=cells), "injected").holds is True
    assert claims.relative_difference(frames(cells=cells), "chain").holds is False
    cells[0] = cell("fp16", 200, 200, (0.003, 25.0))
    assert claims.relative_difference(frames(cells=cells), "injected").holds is False


def sweep(base=(256, 3), hits=(10, 120), fp64_hits=0, batch_hits=(80, 84)):
    """Depth and width sweeps of two sizes, the sample's network, and two batch sizes."""
    width, depth = base
    low, high = hits

    def at(hidden, hit, precision="fp32", **changes):
        return cell(precision, 200, hit, stop=True, hidden_sizes=hidden, **changes)

    rows = [at((width,), low), at((width,) * 6, high)]
    narrow, wide = {256: (16, 1024), 32: (4, 64)}[width]
    rows += [at((narrow,) * depth, low), at((wide,) * depth, high)]
    rows += [at((width,) * depth, batch_hits[0])]
    rows += [at((width,) * depth, batch_hits[1], batch_size=b) for b in (16, 1024)]
    late = [200 if a else None for a in [1] * 120 + [0] * 80]
    rows += [at((width,) * (7 - depth), 120, first_affected_chain=late)]
    shapes = {(width,), (width,) * 6, (narrow,) * depth, (wide,) * depth, (width,) * depth}
    rows += [at(shape, fp64_hits, "fp64") for shape in shapes]
    rows += [at(shape, 200, "fp16") for shape in shapes]
    return rows


def test_p8_holds_for_growth_and_no_dependence_on_batch_size():
    assert claims.share_grows(frames(cells=sweep()), "chain").holds is True


@pytest.mark.parametrize(
    "changes",
    [{"hits": (80, 84)}, {"fp64_hits": 1}, {"batch_hits": (40, 120)}],
)
def test_p8_fails_for(changes):
    assert claims.share_grows(frames(cells=sweep(**changes)), "chain").holds is False


@pytest.mark.parametrize(
    "lacks",
    [
        lambda c: c["precision"] == "fp64",
        lambda c: c["precision"] == "fp64" and c["hidden_sizes"] == (1024,) * 3,
        lambda c: c["precision"] == "fp32" and c["hidden_sizes"] == (256,),
        lambda c: c["batch_size"] == 1024,
    ],
)
def test_p8_is_not_tested_on_part_of_the_sweeps(lacks):
    cells = [c for c in sweep() if not lacks(c)]
    assert claims.share_grows(frames(cells=cells), "chain").holds is None


def test_r3_holds_for_small_networks_that_grow():
    cells = sweep(base=(32, 4), hits=(0, 30), batch_hits=(6, 6))
    assert claims.small_share_grows(frames(cells=cells), "chain").holds is True
    flat = sweep(base=(32, 4), hits=(6, 8), batch_hits=(6, 6))
    assert claims.small_share_grows(frames(cells=flat), "chain").holds is False


@pytest.mark.parametrize(
    ("chain", "injected", "word"),
    [
        (True, True, "reproduced"),
        (False, True, "reproduced only with the injected rule"),
        (True, False, "reproduced only with the chain rule"),
        (False, False, "not reproduced"),
        (None, True, "not tested at this scale"),
        (None, None, "not tested at this scale"),
    ],
)
def test_verdicts(chain, injected, word):
    assert claims.verdict(claims.Finding("1", chain), claims.Finding("2", injected)) == word


def test_no_value_is_not_tested():
    assert claims.verdict(findings.NOTHING, findings.NOTHING) == "not tested"


def test_an_empty_store_leaves_every_claim_in_the_table(tmp_path):
    card = claims.scorecard(records.Store(tmp_path))
    ids = [f"P{n}" for n in range(1, 18)] + [f"R{n}" for n in range(1, 8)]
    assert card["id"].tolist() == ids
    assert set(card["verdict"]) == {"not tested"}


def test_the_command_prints_table_and_json(tmp_path, capsys):
    assert claims.main(["--store", str(tmp_path)]) == 0
    assert "P17" in capsys.readouterr().out
    assert claims.main(["--store", str(tmp_path), "--json"]) == 0
    assert [row["id"] for row in json.loads(capsys.readouterr().out)][:2] == ["P1", "P2"]


def test_the_command_fails_where_the_store_cannot_be_read(tmp_path, capsys):
    (tmp_path / "volume.estimate.jsonl").mkdir()
    assert claims.main(["--store", str(tmp_path)]) == 1
    assert "volume.estimate.jsonl" in capsys.readouterr().err


def test_none_is_found_among_numbers():
    """pandas makes NaN of None where another row has a number."""
    frame = pd.DataFrame([{"max_batches": None}, {"max_batches": 60}])
    assert findings.matches(frame, {"max_batches": None}).tolist() == [True, False]
    assert findings.matches(frame, {"max_batches": 60}).tolist() == [False, True]


def test_the_committed_records_still_give_the_verdicts_of_section_3():
    """Cells of other studies in the same file must not hide those of Table 1."""
    card = claims.scorecard(records.Store("records")).set_index("id")
    untested = card.loc[[f"P{n}" for n in range(1, 9)], "verdict"].str.startswith("not tested")
    assert not untested.any()
