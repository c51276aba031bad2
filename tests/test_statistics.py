import math

import numpy as np
import pandas as pd
import pytest

from reluprime.statistics import (
    CONDITION,
    bootstrap_mean,
    by_network,
    clopper_pearson,
    differ,
    hoeffding_margin,
    is_larger,
    mcdiarmid_margin,
    pair_share,
    published_shares,
    quartiles,
    relative_differences,
    run_table,
    sample_shares_by_rule,
    sample_size_shares,
    shares_by_rule,
    table_1,
    zone_shares,
)

# ---- intervals ----


def test_hoeffding_margin():
    assert hoeffding_margin(1000) == pytest.approx(0.042947, abs=1e-6)
    assert hoeffding_margin(1000, risk=2 * math.exp(-2)) == pytest.approx(math.sqrt(1 / 1000))
    assert hoeffding_margin(4000) == pytest.approx(hoeffding_margin(1000) / 2)


def test_mcdiarmid_margin():
    # B21, Appendix C: sqrt((1/M + 1/Q) log(2/risk) / 2) with M = 1000 networks, Q = 235
    assert mcdiarmid_margin(1000, 235) == pytest.approx(0.098454, abs=1e-6)
    assert mcdiarmid_margin(8, 8, risk=2 * math.exp(-2)) == pytest.approx(0.5)
    assert mcdiarmid_margin(1000, 10**12) == pytest.approx(hoeffding_margin(1000))


@pytest.mark.parametrize(
    ("k", "n", "risk", "low", "high"),
    [
        (0, 10, 0.05, 0.0, 0.308497),  # 1 - 0.025^(1/10)
        (10, 10, 0.05, 0.691503, 1.0),
        (1, 10, 0.05, 0.002529, 0.445016),
        (5, 10, 0.05, 0.187086, 0.812914),
        (1, 2, 0.05, 0.012579, 0.987421),  # 1 - sqrt(1 - 0.025)
        (0, 1, 0.1, 0.0, 0.95),
    ],
)
def test_clopper_pearson_at_known_values(k, n, risk, low, high):
    assert clopper_pearson(k, n, risk) == pytest.approx((low, high), abs=1e-6)


@pytest.mark.parametrize(("p", "n"), [(0.02, 50), (0.4, 50), (0.5, 7)])
def test_intervals_cover_the_true_proportion(p, n):
    """2,000 draws; an interval of 95 % fails at most 5 % of the time, plus 4 standard errors.

    A correct implementation fails this test about once in 30,000 seeds.
    """
    draws = np.random.RandomState(0).binomial(n, p, 2000)
    allowed = 0.05 + 4 * math.sqrt(0.05 * 0.95 / len(draws))
    exact = {k: clopper_pearson(int(k), n) for k in np.unique(draws)}
    missed = np.mean([not exact[k][0] <= p <= exact[k][1] for k in draws])
    assert missed <= allowed
    margin = hoeffding_margin(n)
    assert np.mean(np.abs(draws / n - p) > margin) <= allowed
    assert all(abs(k / n - bound) < margin for k in exact for bound in exact[k])  # it is wider


def test_clopper_pearson_is_not_wider_than_it_must_be():
    """At p = 0.5 and n = 200 the true coverage is 0.9520; 5 standard errors of 2,000 draws."""
    draws = np.random.RandomState(1).binomial(200, 0.5, 2000)
    exact = {k: clopper_pearson(int(k), 200) for k in np.unique(draws)}
    missed = np.mean([not exact[k][0] <= 0.5 <= exact[k][1] for k in draws])
    assert abs(missed - 0.048) < 5 * math.sqrt(0.048 * 0.952 / 2000)


def test_bootstrap_mean():
    assert bootstrap_mean([0.25, 0.25]) == (0.25, 0.25)
    values = np.random.RandomState(0).exponential(size=400)
    low, high = bootstrap_mean(values)
    error = values.std() / math.sqrt(400)
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)
    assert bootstrap_mean(values) == (low, high)
    assert bootstrap_mean([0.0, 1.0]) == (0.0, 1.0)


def test_bootstrap_leaves_the_global_random_state_alone():
    np.random.seed(0)
    expected = np.random.rand()
    np.random.seed(0)
    bootstrap_mean([1.0, 2.0])
    assert np.random.rand() == expected


# ---- tables ----


def cell(seed=0, affected=(0, 2, 1), first=(None, 0, 3), differences=(0.5, 0.25, 4.0), **changes):
    """A row of `volume.estimate`; the injected rule has ten times the difference."""
    condition = {
        "dataset": "mnist",
        "hidden_sizes": (256, 256),
        "precision": "fp32",
        "batch_size": 256,
        "initialisation": "torch",
        "relu_after_first": True,
        "stop_at_first": False,
    }
    assert list(condition) == CONDITION
    row = condition | {"seed": seed, "n_networks": len(affected), "n_batches": 8}
    for rule, factor in (("chain", 1), ("injected", 10)):
        row |= {
            f"affected_{rule}": list(affected),
            f"first_affected_{rule}": list(first),
            f"relative_difference_{rule}": [factor * d for d in differences],
            f"relative_difference_first_layer_{rule}": [-factor * d for d in differences],
            f"nonfinite_{rule}": 0,
        }
    return row | changes


def frame(*rows):
    return pd.DataFrame(rows)


def test_a_cell_becomes_one_row_a_network():
    found = by_network(frame(cell(seed=40)), "chain")
    assert found["network"].tolist() == [40, 41, 42]
    assert found["affected"].tolist() == [0, 2, 1]
    assert [None if pd.isna(v) else v for v in found["first_affected"]] == [None, 0, 3]
    assert found["relative_difference"].tolist() == [[], [0.5, 0.25], [4.0]]
    assert found["relative_difference_first_layer"].tolist() == [[], [-0.5, -0.25], [-4.0]]
    assert set(found["n_batches"]) == {8}
    assert set(found["hidden_sizes"]) == {(256, 256)}
    injected = by_network(frame(cell(seed=40)), "injected")
    assert injected["relative_difference"].tolist() == [[], [5.0, 2.5], [40.0]]


def test_a_network_in_two_cells_counts_once():
    one = cell(seed=0)
    overlap = cell(seed=2, affected=(1, 3), first=(3, 1), differences=(4.0, 1.0, 2.0, 3.0))
    found = by_network(frame(one, overlap), "chain")
    assert found["network"].tolist() == [0, 1, 2, 3]
    assert found["relative_difference"].tolist()[2:] == [[4.0], [1.0, 2.0, 3.0]]
    other = [cell(precision="fp16"), cell(stop_at_first=True), cell(hidden_sizes=(64,))]
    assert len(by_network(frame(one, *other), "chain")) == 12  # other conditions, other rows


def test_no_cells_no_rows():
    found = by_network(frame(cell()).head(0), "chain")
    assert len(found) == 0
    assert [*CONDITION, "network", "n_batches", "affected"] == list(found.columns[:10])


def test_zone_shares():
    rows = [cell(), cell(precision="fp16", affected=(1,) * 4, first=(0,) * 4, differences=(1,) * 4)]
    found = zone_shares(by_network(frame(*rows), "chain"), ["precision"])
    assert list(found.columns) == [
        "precision", "networks", "in_zone", "share", "low", "high", "margin"
    ]  # fmt: skip
    assert found["precision"].tolist() == ["fp32", "fp16"]
    assert found["networks"].tolist() == [3, 4]
    assert found["in_zone"].tolist() == [2, 4]
    assert found["share"].tolist() == [2 / 3, 1.0]
    assert (found["low"][0], found["high"][0]) == clopper_pearson(2, 3)
    assert found["margin"].tolist() == [hoeffding_margin(3), hoeffding_margin(4)]


def test_pair_share():
    found = pair_share(by_network(frame(cell()), "chain"))
    assert found["pairs"] == 24
    assert found["affected"] == 3
    assert found["share"] == 3 / 24
    assert found["low"] <= found["share"] <= found["high"]
    assert (found["low"], found["high"]) == bootstrap_mean([0, 2 / 8, 1 / 8])
    assert found["margin"] == mcdiarmid_margin(3, 8)


def test_sample_size_shares_count_whole_mini_batches():
    """The networks are first hit in mini-batch 0, in mini-batch 3, and never."""
    networks = by_network(frame(cell()), "chain")
    sizes = [1, 255, 256, 767, 768, 1023, 1024, 10**6]
    found = sample_size_shares(networks, sizes)
    assert found["sample_size"].tolist() == sizes
    assert found["in_zone"].tolist() == [0, 0, 1, 1, 1, 1, 2, 2]
    assert found["networks"].tolist() == [3] * 8


def test_sample_size_shares_of_networks_that_are_never_hit():
    rows = [cell(affected=(0, 0), first=(None, None), differences=())]
    found = sample_size_shares(by_network(frame(*rows), "chain"), [256, 60000])
    assert found["in_zone"].tolist() == [0, 0]


def test_shares_by_rule():
    hit = {"affected": (1, 1), "first": (0, 7), "differences": (1.0, 1.0)}
    never = {"affected": (0, 0), "first": (None, None), "differences": ()}
    cells = frame(
        cell(hidden_sizes=(64, 64, 64), **hit),
        cell(hidden_sizes=(64,), **never),
        cell(hidden_sizes=(64, 32), **hit),  # of two widths: neither a depth nor a width
    )
    found = shares_by_rule(cells, "depth")
    assert found["depth"].tolist() == [1, 1, 3, 3]
    assert sorted(found["gradient_rule"][:2]) == ["chain", "injected"]
    assert found["share"].tolist() == [0, 0, 1, 1]
    by_size = sample_shares_by_rule(cells[:1], [256, 2048])
    assert by_size["share"].tolist() == [0.5, 1.0, 0.5, 1.0]
    assert by_size["gradient_rule"].tolist() == ["chain"] * 2 + ["injected"] * 2


def test_table_1():
    found = table_1(frame(cell(), cell(precision="bf16", nonfinite_injected=2)))
    assert found["precision"].tolist() == ["fp32", "fp32", "bf16", "bf16"]
    assert found["gradient rule"].tolist() == ["chain", "injected"] * 2
    assert found["in the zone"][0].startswith("66.667% [9.430%, 99.160%]")
    assert found["affected pairs"][0].startswith("12.500% [")
    assert found["relative difference"][:2].tolist() == ["(0.375, 0.5, 2.25)", "(3.75, 5, 22.5)"]
    assert found["not finite"].tolist() == [0, 0, 0, 2]


def test_relative_differences():
    rows = [cell(), cell(precision="fp64", affected=(0,), first=(None,), differences=())]
    found = relative_differences(frame(*rows))
    assert found["relative_difference"].tolist() == [0.5, 0.25, 4.0, 5.0, 2.5, 40.0]
    assert found["gradient_rule"].tolist() == ["chain"] * 3 + ["injected"] * 3
    assert set(found["precision"]) == {"fp32"}


def test_published_shares():
    table = pd.DataFrame(
        {
            "factor": ["nb_layers", "nb_neurons", "batch_size"],
            "value": [3, 256, 64],
            "precision": [32, 16, 64],
            "in_zone": [4, 5, 0],
            "networks": [10, 5, 8],
        }
    )
    assert published_shares(table, "depth").to_dict("list") == {
        "depth": [3], "precision": ["fp32"], "share": [0.4]
    }  # fmt: skip
    assert published_shares(table, "width")["share"].tolist() == [1.0]
    assert published_shares(table, "batch_size")["precision"].tolist() == ["fp64"]


def test_run_table():
    run = {"activation": "relu", "precision": "fp32", "seed": 3}
    event = {"step": 1, "layer": "activation1", "neuron": 7, "sample": 9, "kink": 0.0}
    event["relative_gradient_difference"] = {"injected s=1": 25.0}
    hit = {"distance": {"control": [0.0, 0.0, 0.0], "injected s=1": [0.0, 1.5, 9.0]}}
    none = {"distance": {"control": [0.0], "injected s=1": [0.0]}, "event": None}
    found = run_table(pd.DataFrame([run | hit | {"event": event}, run | none]))
    assert found.iloc[0].to_dict() == {
        **run,
        "step": 1,
        "layer": "activation1",
        "neuron": 7,
        "control": "0",
        "injected s=1 gradient": "25",
        "injected s=1 jump": "1.5",
        "injected s=1 end": "9",
    }
    assert found.iloc[1]["step"] == found.iloc[1]["layer"] == "–"
    assert found.iloc[1]["injected s=1 end"] == "0"


# ---- tests of hypotheses ----


def test_quartiles():
    assert quartiles([4.0, 1.0, 3.0, 2.0, 5.0]) == (2.0, 3.0, 4.0)
    assert quartiles([7.0]) == (7.0, 7.0, 7.0)
    assert all(math.isnan(q) for q in quartiles([]))
    assert len(quartiles([])) == 3


def test_is_larger():
    assert is_larger([4, 5, 6, 7], [1, 2, 3])
    assert not is_larger([1, 2, 3], [4, 5, 6, 7])
    assert not is_larger([1, 2, 3, 4], [1, 2, 3, 4])
    assert not is_larger([], [1.0])
    assert not is_larger([1.0], [])
    assert not is_larger([2, 3], [0, 1])  # p = 1/6: two values each are too few


def test_is_larger_errs_as_often_as_it_says():
    """1,000 pairs of equal distributions: wrong in 5 % of them, within 4 standard errors."""
    random = np.random.RandomState(0)
    wrong = np.mean([is_larger(random.rand(30), random.rand(30)) for _ in range(1000)])
    assert abs(wrong - 0.05) < 4 * math.sqrt(0.05 * 0.95 / 1000)


def test_differ():
    assert differ([90, 10], [100, 100], risk=0.05)
    assert not differ([50, 51], [100, 100], risk=0.05)
    assert not differ([0, 0], [10, 10], risk=0.05)
    assert not differ([10, 10], [10, 10], risk=0.05)
    # [60, 40] of 100: Yates's chi-squared (20 - 1)^2 * 200 / (100 * 100) = 7.22, p = 0.0072
    assert differ([60, 40], [100, 100], risk=0.008)
    assert not differ([60, 40], [100, 100], risk=0.007)
    assert differ([10, 50, 90], [100, 100, 100], risk=1e-6)
