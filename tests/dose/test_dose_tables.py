"""Tables and figures of the page about doses, on the made-up trainings of its rules."""

import functools
import math
import re

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from reluprime import records
from reluprime.dose import claims as dose_claims
from reluprime.dose import (
    experiments,
    factor_tables,
    paper_tables,
    papers,
    real_tables,
    unit_tables,
)
from reluprime.dose import figures as dose_figures
from reluprime.dose import tables as dose_tables
from reluprime.dose.grids import Doses
from reluprime.evidence import made_up
from reluprime.evidence.claim import Cell, Evidence
from reluprime.records import Store
from reluprime.training import study as training
from reluprime.training.experiments import BASE_MLP
from reluprime.training.zeros import ZeroCountConfig
from reluprime.training.zeros import count as count_zeros

EXAMPLES = dose_claims.D1.examples
NONE = Evidence([])


@functools.cache
def evidence(name="mitigated"):
    cells = {c.config.model_dump_json(): c for claim in dose_claims.CLAIMS for c in claim.cells()}
    return made_up.evidence(EXAMPLES[name], cells.values())


def test_a_curve_has_a_point_a_rule_s_and_width():
    curve = dose_tables.by_width(dose_tables.of_network(evidence(), "mlp"))
    own = curve[(curve["gradient_rule"] == "injected") & (curve["s"] == 1)]
    assert own["kink_width"].tolist() == list(experiments.WIDTHS)
    assert own["dose"].tolist() == pytest.approx([2e8 * w for w in experiments.WIDTHS], abs=4)
    assert set(own["runs"]) == {5}
    at_200 = own[own["dose"] == 200].iloc[0]
    assert at_200["difference"] == pytest.approx(-0.02)
    assert at_200["dead_units"] == 200
    assert (own["least"] < own["difference"]).all()
    assert (own["difference"] < own["most"]).all()


def test_a_curve_in_words_names_what_was_met():
    table = dose_tables.curve_table(dose_tables.of_network(evidence(), "mlp"))
    row = table[(table["s"] == "1") & (table["dose"] == "200") & (table["rule"] == "injected")]
    assert row["points against s=0"].tolist() == ["-2.00 ± 0.10"]
    assert row["as s=0"].tolist() == ["no"]
    assert row["kinks met (median)"].tolist() == ["200"]
    assert row["units that died"].tolist() == ["200"]
    assert table[table["dose"] == "2,000,000"]["of all inputs"].unique().tolist() == ["0.8%"]


def test_the_prose_has_the_largest_dose_of_one_rule_and_the_least_of_the_other():
    words = dose_tables.in_prose({"mlp": dose_tables.of_network(evidence(), "mlp")})
    assert words["mlp_most"] == "2 million"
    assert re.fullmatch(r"[-+]0\.\d\d ± 0\.1\d", words["mlp_most_points"])
    assert (words["mlp_least"], words["mlp_points"]) == ("200", "2.0 ± 0.1")


def test_thresholds_have_intervals_over_seeds_and_a_product():
    pairs = dose_tables.of_network(evidence(), "mlp")
    own = pairs[(pairs["gradient_rule"] == "injected") & (pairs["s"] == 0.1)]
    (row,) = dose_tables.threshold_table(own, ["s"]).to_dict("records")
    middle, ends = row["dose that costs a point"].split(" ", 1)
    low, high = (float(end.replace(",", "")) for end in ends.strip("[]").split(", "))
    assert low < float(middle.replace(",", "")) < high
    assert 600 < low < 1000 < high * 2  # a point at 1,000 kinks, between 600 and 2,000
    assert row["lr × s × dose"] == f"{0.01 * 0.1 * float(middle.replace(',', '')):.2g}"


def test_a_threshold_that_no_seed_reached_says_how_far_was_tried():
    pairs = dose_tables.of_network(evidence("no loss at any dose"), "mlp")
    own = pairs[(pairs["gradient_rule"] == "injected") & (pairs["s"] == 1)]
    (row,) = dose_tables.threshold_table(own, ["s"]).to_dict("records")
    assert row["dose that costs a point"] == "more than 20,000 in 5 of 5"
    assert row["lr × s × dose"] == ""


@pytest.mark.parametrize(
    ("values", "expected"),
    [([8.0], (8, math.nan, math.nan)), ([2.0, 2.0], (2, 2, 2)), ([], (math.nan,) * 3)],
)
def test_a_geometric_mean_of_few(values, expected):
    assert dose_tables.geometric(values) == pytest.approx(expected, nan_ok=True)


def test_a_geometric_interval_is_a_t_interval_of_logarithms():
    values = np.array([10.0, 20.0, 40.0])
    mean, low, high = dose_tables.geometric(values)
    half = 4.3027 * np.log(values).std(ddof=1) / math.sqrt(3)
    assert mean == pytest.approx(20)
    assert (low, high) == pytest.approx((20 / math.exp(half), 20 * math.exp(half)), rel=1e-4)
    assert dose_tables.geometric([1.0, math.inf]) == (math.inf,) * 3


def test_each_change_is_told_from_the_others():
    table = dose_tables.one_change(evidence(), experiments.VARIANTS | experiments.MITIGATIONS)
    of = table[(table["gradient_rule"] == "injected") & (table["s"] == 1)].groupby("condition")
    assert set(of.groups) == {
        dose_tables.RELEASED,
        *experiments.VARIANTS,
        *experiments.MITIGATIONS,
    }
    assert of["kink_layer"].get_group("kinks in layer 2").tolist() == [2] * len(
        of.get_group("kinks in layer 2")
    )
    assert of.get_group(dose_tables.RELEASED)["kink_layer"].isna().all()
    assert of.get_group(dose_tables.RELEASED)["clip_norm"].isna().all()
    assert set(of.get_group("clipped gradients")["clip_norm"]) == {1.0}


def test_zeros_that_are_left_are_counted_a_run():
    table = dose_tables.zeros_left(evidence()).set_index("condition")
    assert len(table) == 1 + len(experiments.MITIGATIONS)
    value = table.loc["Adam", "exact zeros a run, epilogue"]
    assert value.startswith("200.0 [")
    assert dose_tables.zeros_left(NONE).iloc[0, 1] == "no run"


def test_real_zeros_stand_beside_the_band():
    table = real_tables.stand_in_table(evidence("real zeros cost five points more"))
    row = table[
        (table["precision"] == "fp16") & (table["s"] == "1") & (table["rule"] == "injected")
    ]
    assert row["points against s=0"].tolist() == ["-7.00 ± 0.10"]
    assert row["band at that dose"].tolist() == ["-2.00"]
    assert row["real less band"].tolist() == ["-5.00 ± 0.00"]
    assert row["by run"].item().split(", ") == ["-5.00"] * 5


def test_real_less_band_is_told_where_its_interval_is_narrow():
    rows = [
        ("injected", "bf16", "1", "-8.00 ± 80.00"),
        ("injected", "bf16", "0.1", "+0.45 ± 0.20"),
        ("injected", "fp16", "1", "-0.24 ± 0.40"),
        ("injected", "fp16", "0.1", "+0.02 ± 0.10"),
        ("chain", "fp16", "1", "-0.90 ± 0.05"),
    ]
    table = pd.DataFrame(rows, columns=["rule", "precision", "s", "real less band"])
    assert real_tables.stand_in_in_prose(table) == {
        "real_least": "-0.24 ± 0.40 points (fp16, s=1)",
        "real_most": "+0.45 ± 0.20 points (bf16, s=0.1)",
    }
    assert real_tables.stand_in_in_prose(real_tables.stand_in_table(NONE)) == {}


def test_what_a_band_costs_by_itself():
    table = dose_tables.band_table(evidence())
    assert set(table["points against plain s=0"]) == {"+0.00"}
    assert set(table["network"]) == {"mlp", "vgg11", "resnet18"}
    assert dose_tables.band_table(NONE).empty


def test_up_to_which_dose_an_s_does_as_0():
    pairs = {"mlp": dose_tables.of_network(evidence("a loss of 3 points at every dose"), "mlp")}
    table = dose_tables.equal_table(pairs).set_index("s")
    assert table.loc["1", "as s=0 up to a dose of"] == "none tried"
    assert table.loc["1", "there"] == "-3.00 ± 0.10"
    pairs = {"mlp": dose_tables.of_network(evidence("no loss at any dose"), "mlp")}
    table = dose_tables.equal_table(pairs).set_index("s")
    assert table.loc["1", "as s=0 up to a dose of"] == "20 million"
    assert table.loc["1", "not, or open, from"] == "none tried"


@pytest.mark.parametrize(
    ("seeds", "losses", "expected"),
    [(5, [0.0] * 5, "yes"), (5, [0.1] * 5, "no"), (5, [0.0, 0.02] * 3, "open"), (3, [0.0] * 3, "")],
)
def test_whether_an_s_does_as_0_is_said_of_five_seeds(seeds, losses, expected):
    own = pd.DataFrame({"seed": range(seeds), "difference": [-x for x in losses[:seeds]]})
    own = own.assign(
        architecture="mlp", gradient_rule="chain", s=1.0, kink_width=1e-3, dose=9, kinks=9,
        dose_share=0.0, stuck=False, dead_units=math.nan, dead_at_0=0,
    )  # fmt: skip
    (row,) = dose_tables.curve_table(own).to_dict("records")
    assert row["as s=0"] == expected
    assert row["units that died"] == ""


# ---- exponents and factors ----


def doses(of_level):
    """Pairs of five seeds that lose 0.5 and 2 points around a dose: of_level(level, seed)."""
    rows = []
    for seed in range(5):
        for times, lost in ((0.5, 0.005), (2.0, 0.02)):
            rows.append({"seed": seed, "dose": of_level * times, "difference": -lost})
    return pd.DataFrame(rows)


def test_the_exponent_of_a_power_law_is_found():
    by_s = pd.concat(doses(300 * s**-1.5).assign(s=s) for s in (0.1, 0.3, 1.0, 10.0, 50.0))
    names = {dose_tables.RELEASED: 300, "learning rate 0.003": 1000, "learning rate 0.03": 100}
    named = pd.concat(doses(at).assign(condition=name) for name, at in names.items())
    table = factor_tables.exponents(by_s, named).set_index("what is varied")
    words = table["exponent of the dose that costs a point"]
    assert words["s, 0.1 to 1"] == "-1.50 ± 0.00"
    assert words["learning rate"] == "-1.00 ± 0.00"
    assert table.loc["batch size", "not reached at"] == "32, 512"
    assert words["batch size"] == ""


def test_what_mitigates_has_two_factors():
    parts = {dose_tables.RELEASED: 300, "Adam": 100, "batch norm": 600}
    table = pd.concat(doses(at).assign(condition=name) for name, at in parts.items())
    table = factor_tables.two_factors(evidence(), table).set_index("way to train")
    assert table.loc["Adam", "harm a kink, × as released"] == "3 [3, 3]"
    assert table.loc["batch norm", "harm a kink, × as released"] == "0.5 [0.5, 0.5]"
    assert table.loc["Adam", "kinks, × as released"].startswith("1 [0.9")
    assert table.loc["Adam", "kinks × harm"] == "3"
    assert table.loc[dose_tables.RELEASED, "kinks × harm"] == "1"
    assert table.loc["dropout", "kinks × harm"] == ""


def lost(of_dose):
    """Trainings that meet 1e8 kinks times the width of the band, and lose of_dose(dose, config)."""

    def result(cell):
        config = cell.config
        dose = round(1e8 * config.kink_width)
        return made_up.trainings(lambda c: of_dose(dose, c), lambda c: dose // 4)(cell)

    return result


def test_ways_to_train_stand_beside_sgd_at_their_dose():
    """SGD loses s / 10 points for each factor of ten of the width from 1e-8 on; the ways lose 2.

    Made-up trainings differ by 0.1 points and no trend at another s.
    """

    def of_dose(dose, config):
        if config.batch_norm or config.optimizer == "adam" or config.dropout:
            return 0.02
        return 0.01 * config.s / 10 * math.log10(max(dose, 1))

    cells = [*factor_tables.way_cells(), *experiments.mlp_grid("injected")]
    large = factor_tables.by_s(made_up.evidence(lost(of_dose), cells)).set_index(
        ["s", "way to train"]
    )
    assert large.loc[("10", "Adam"), "dose"] == "100"
    assert large.loc[("10", "Adam"), "points against s=0"] == "-2.00 ± 0.10"
    assert large.loc[("10", "Adam"), "SGD as released there"] == "-2.00 ± 0.10"
    assert large.loc[("1", "Adam"), "SGD as released there"] == "-0.20 ± 0.10"
    assert large.loc[("50", "batch norm"), "dose"] == "28"  # whole kinks of four epochs
    assert large.loc[("50", "batch norm"), "SGD as released there"] == "-7.39 ± 0.10"
    words = factor_tables.in_prose(*few_words(), large.reset_index())
    assert words["points_Adam"] == "-2.00 ± 0.10"
    assert words["released_batch_norm"] == "-7.39 ± 0.10"
    assert words["dose_batch_norm"] == "28"
    assert words["harm_batch_norm"] == "2 [1, 3]"


def test_sgd_has_no_loss_where_no_seed_tried_the_dose():
    """Half of the way from 1 to 100 on the logarithm is 10."""
    own = {"seed": [0, 0, 1, 1], "dose": [1, 100, 4, 25], "difference": [0.0, -0.2] * 2}
    assert factor_tables._at_dose(pd.DataFrame(own), 10) == "-10.00 ± 0.00"
    assert factor_tables._at_dose(pd.DataFrame(own), 2) == ""
    assert factor_tables._at_dose(pd.DataFrame(own), 50) == ""


def few_words():
    powers = pd.DataFrame(
        {
            "what is varied": ["s, 0.1 to 1", "learning rate"],
            "exponent of the dose that costs a point": ["-1", "-2"],
        }
    )
    harm = {"way to train": ["batch norm"], "harm a kink, × as released": ["2 [1, 3]"]}
    return powers, pd.DataFrame(harm)


# ---- units ----


def test_units_by_layer_and_epoch_add_up_to_a_run():
    layers = unit_tables.by_layer(evidence(), unit_tables.shown_cells())
    assert set(layers["epoch"]) == {1, 2, 3, 4}
    pairs = dose_tables.of_network(evidence(), "mlp")
    own = pairs[(pairs["gradient_rule"] == "injected") & (pairs["s"] == 1)]
    for width in unit_tables.SHOWN:
        at = layers[(layers["kink_width"] == width) & (layers["s"] == 1) & (layers["seed"] == 0)]
        run = own[(own["kink_width"] == width) & (own["seed"] == 0)].iloc[0]
        assert at["kinks"].sum() == run["kinks"]
        assert at.loc[at["epoch"] == 4, "dead"].sum() == run["dead_units"]
    assert unit_tables.by_layer(NONE, unit_tables.shown_cells()).empty


def test_conditions_are_compared_at_one_band():
    table = unit_tables.unit_table(evidence()).set_index("condition")
    assert set(table.index) == set(unit_tables.CONDITIONS)
    assert set(table["dose"]) == {"2,000"}
    assert table.loc["s=1", "in the last epoch, of the first"] == "100%"
    assert table.loc["s=1", "dead, by layer"] == "250"
    assert unit_tables.in_prose(NONE) == {}


def test_a_layer_without_units_is_one_of_its_own_size():
    rows = [
        (1.0, True, (4, 4), (0, 4)),
        (1.0, True, (4, 8), (3, 4)),  # four dead of eight are no dead layer
        (1.0, False, (4, 4), (4, 4)),
        (50.0, True, (4, 4), (4, 0)),
    ]
    table = pd.DataFrame(rows, columns=["s", "stuck", "hidden_sizes", "dead_by_layer"])
    assert unit_tables.without_a_layer(table) == {"1": "1 of 2", "50": "1 of 1"}


# ---- real zeros of convolutional networks ----


def real(cell):
    """40 zeros a run without a band, twice as many with a narrow one; a point lost for 100."""
    config = cell.config
    met = 40 if not config.kink_width else round(8e9 * config.kink_width)
    result = made_up.trainings(lambda c: met / 10_000, lambda c: 0)(cell)
    result["exact_zeros"] = {"a": [[0, 0, 0, 10]], "b": [[0, 0, 0, 30]]}
    if config.kink_width:
        result["kinks"] = {"a": [[0, 0, 0, met // 4]], "b": [[0, 0, 0, met - met // 4]]}
    return result


def test_real_zeros_of_convolutional_networks_stand_before_the_bands():
    cells = [c for n in ("vgg11", "resnet18") for c in real_tables.real_grid(n)]
    cells += [c for n in ("vgg11", "resnet18") for c in experiments.GRIDS[n]("injected")]
    table = real_tables.convolutional_table(made_up.evidence(real, cells))
    vgg = table[table["network"] == "vgg11"].set_index("kinks")
    assert vgg.loc["real zeros, 6 epochs", "dose"] == "40"
    assert vgg.loc["real zeros, 6 epochs", "runs"] == 5
    assert vgg.loc["real zeros, 6 epochs", "bands at that dose"] == "none that small"
    assert vgg.loc["real zeros, 6 epochs", "points lost a kink"] == "0.01"
    assert vgg.loc["real zeros, 6 epochs", "in the layer with most"] == "75% in activation 2"
    assert vgg.loc["band of 1e-08", "exact zeros among them"] == "50%"
    words = real_tables.in_prose(vgg.reset_index())
    assert words.pop("real_points").startswith("-0.40 ± ")
    assert words == {"real_a_kink": "0.01", "band_a_kink": "0.01", "real_runs": "5"}
    resnet = table[table["network"] == "resnet18"].set_index("kinks")
    assert -0.7 < float(resnet.loc["real zeros, 5 epochs", "bands at that dose"]) < -0.3


# ---- the papers' doses ----


def test_lower_precisions_are_counted_against_fp32(tmp_path):
    store = Store(tmp_path)
    plain = {"dataset": "mnist", "lr": 0.01}
    trained(store, 2, precision="fp32", **plain)
    trained(store, 30, precision="bf16", arithmetic="separate", **plain)
    trained(store, 30, precision="bf16", arithmetic="separate", seed=1, **plain)
    trained(store, 300, precision="bf16", dataset="mnist", lr=0.1)
    published, ours = paper_tables.precision_table(store).to_dict("records")
    times = "zeros, × those of fp32"
    assert published[times] == "29 [25, 33]"
    assert ours["that of fp32"] == "native"
    # 120 zeros of two runs against 4 of one, so 60 against 4 in as many inputs.
    assert ours[times].startswith("15 [")
    low, high = (float(end) for end in ours[times][4:-1].split(", "))
    assert (low, high) == pytest.approx((5.7, 56), rel=0.02)  # the ratio of 120 to 4, halved


def counted(store, zeros_by_epoch, precision, epochs, rule="chain"):
    """A record of `zeros.count` of one network, with a million inputs of ReLUs an epoch."""
    own = {"precision": precision, "arithmetic": "epilogue", "gradient_rule": rule}
    config = ZeroCountConfig(hidden_sizes=(16,), epochs=epochs, s=1.0, **own)
    done = len(zeros_by_epoch)  # less than `epochs` if it diverged
    cumulative = [sum(zeros_by_epoch[: e + 1]) for e in range(done)]
    calls = [10**6 * (e + 1) for e in range(done)]
    result = {"cumulative_zeros": [cumulative], "cumulative_calls": [calls]}
    result |= {"zeros_by_layer": {"activation": [cumulative[-1]]}, "final_accuracy": [0.9]}
    result |= {"diverged_epoch": [None if done == epochs else done - 1]}
    store.append(made_up._record(Cell(count_zeros, config), result))


def test_networks_of_fig_6_are_counted_over_equal_epochs_in_one_arithmetic(tmp_path):
    store = Store(tmp_path)
    counted(store, [3, 2, 50, 50], "fp32", epochs=4)
    counted(store, [40, 60], "fp16", epochs=2)
    counted(store, [500, 500], "fp16", epochs=2, rule="injected")
    _, ours = paper_tables.precision_table(store).to_dict("records")
    assert (ours["arithmetic"], ours["that of fp32"]) == ("epilogue", "epilogue")
    assert ours["networks"] == "1 of Fig. 6, 2 epochs"
    assert ours["zeros, × those of fp32"].startswith("20 [")  # 100 against 5


def test_a_network_of_fig_6_that_diverged_counts_the_epochs_that_it_had(tmp_path):
    store = Store(tmp_path)
    counted(store, [3, 2], "fp32", epochs=2)
    counted(store, [50], "fp16", epochs=2)
    _, ours = paper_tables.precision_table(store).to_dict("records")
    assert ours["zeros, × those of fp32"].startswith("20 [")  # 50 in one epoch against 5 in two


def test_the_rate_of_fig_6_stands_beside_ours():
    found = paper_tables.in_prose(papers.rates(Store("records")))
    assert found["published_rate"] == "2.9e-09"
    assert 1e-9 < float(found["our_rate"]) < 1e-8
    sgd, adam = (float(found[f"vgg11_{name}"].replace(",", "")) for name in ("sgd", "adam"))
    assert sgd > 2 * adam > 200
    nothing = paper_tables.in_prose(papers.rates(Store("records")).iloc[:0])
    assert (nothing["vgg11_sgd"], nothing["vgg11_adam"]) == ("–", "–")


@pytest.mark.parametrize(
    ("architecture", "calls", "units"),
    [
        ("mlp", 3 * 2048, 3 * 2048),
        ("vgg11", (64 * 4 + 128 + 2 * 256 // 4 + 2 * 512 // 16 + 2 * 512 // 64) * 256, 2752),
        # The stem and a max-pool, then four stages of two blocks with two ReLUs each.
        ("resnet18", 64 * 1024 + 4 * (64 * 256 + 128 * 64 + 256 * 16 + 512 * 4), 64 + 4 * 960),
    ],
)
def test_the_papers_networks_have_these_sizes(architecture, calls, units):
    assert papers.size(papers.at_full_width(architecture)) == (calls, units)


def trained(store, zeros, calls=10**6, **changes):
    config = BASE_MLP.replace(**{"hidden_sizes": (8,), "epochs": 2} | changes)
    result = made_up.trainings(lambda c: 0.0, lambda c: zeros, epochs=2)(Cell(training.fit, config))
    result["relu_calls"] = {"activation": calls}
    store.append(made_up._record(Cell(training.fit, config), result))


def test_rates_are_of_plain_runs_at_s_0_alone(tmp_path):
    store = Store(tmp_path)
    trained(store, 3, seed=0)
    trained(store, 5, seed=1)
    others = [{"s": 1.0}, {"precision": "bf16"}, {"batch_norm": True}, {"kink_width": 1e-3}]
    others += [{"activation": "relu6"}, {"lr": 0.1}, {"clip_norm": 1.0}, {"n_train": 100}]
    for other in others:
        for seed in (0, 2):
            trained(store, 100, seed=seed, **other)
    (row,) = papers.rates(store).to_dict("records")
    assert (row["zeros"], row["calls"], row["runs"]) == (16, 4e6, 2)
    assert row["rate"] == 16 / 4e6
    assert row["low"] < row["rate"] < row["high"]
    assert row["machines"] == "made up"


def test_rates_are_of_the_widest_network(tmp_path):
    """The rate of zeros falls with the width, and the papers' networks are wide."""
    store = Store(tmp_path)
    trained(store, 100, seed=0)
    trained(store, 3, calls=10**8, hidden_sizes=(1024,), seed=0)
    trained(store, 5, calls=10**8, hidden_sizes=(1024,), epochs=4, seed=1)
    found = papers.rates(store)
    row, narrow = found.to_dict("records")
    assert (row["training"], row["width"]) == ("MLP 3x2048, MNIST, SGD", 0.5)
    assert (row["zeros"], row["calls"], row["runs"]) == (16, 4e8, 2)
    assert (narrow["width"], narrow["zeros"]) == (8 / 2048, 200)
    (dose,) = papers.paper_doses(found)["dose"]
    assert dose == pytest.approx(16 / 4e8 * 6144 * 60_000 * 200)
    assert len(paper_tables.paper_table(found)) == 2


def test_the_interval_of_a_rate_is_wider_where_runs_lie_further_apart(tmp_path):
    ends = {}
    for name, zeros in {"even": (20, 20, 20), "apart": (1, 1, 58)}.items():
        store = Store(tmp_path / name)
        for seed, met in enumerate(zeros):
            trained(store, met, seed=seed)
        (row,) = papers.rates(store).to_dict("records")
        ends[name] = row["low"], row["high"]
        assert row["zeros"] == 120  # in two epochs
    assert ends["apart"][0] < ends["even"][0] / 2 < ends["even"][1] * 2 < ends["apart"][1]


def test_without_runs_there_are_no_doses(tmp_path):
    found = papers.rates(Store(tmp_path))
    doses = papers.paper_doses(found)
    assert paper_tables.paper_table(found).empty
    assert paper_tables.drop_table(doses, {}).empty


def test_a_run_that_two_configurations_ask_for_is_counted_once(tmp_path):
    store = Store(tmp_path)
    trained(store, 3, seed=0, s=1.0)  # which lost as much, as runs without a zero do
    trained(store, 3, seed=0)
    trained(store, 3, seed=0, n_train=60_000)  # all images, by their number
    (row,) = papers.rates(store).to_dict("records")
    assert (row["zeros"], row["calls"], row["runs"]) == (6, 2e6, 1)


def test_a_paper_s_dose_is_its_rate_times_its_inputs():
    rate = {"training": "MLP 3x2048, MNIST, SGD", "runs": 2, "zeros": 8, "calls": 1e9}
    rate |= {"rate": 8e-9, "low": 3e-9, "high": 2e-8}
    (row,) = papers.paper_doses(pd.DataFrame([rate])).to_dict("records")
    assert row["dose"] == pytest.approx(8e-9 * 6144 * 60_000 * 200)
    assert row["a_step"] == pytest.approx(row["dose"] / (469 * 200))
    assert row["a_unit"] == pytest.approx(row["dose"] / 6144)


def test_published_drops_stand_beside_the_doses():
    found = pd.DataFrame(
        [
            {"training": training, "runs": 1, "zeros": 9, "calls": 1e9, "width": 1.0}
            | {"rate": 9e-9, "low": 4e-9, "high": 2e-8, "machines": "a CPU"}
            for training in ("MLP 3x2048, MNIST, SGD", "ResNet-18, CIFAR-10, SGD")
        ]
    )
    pairs = {name: dose_tables.of_network(evidence(), name) for name in ("mlp", "resnet18")}
    doses = papers.paper_doses(found)
    in_words = paper_tables.paper_table(found)
    assert in_words["zeros counted"].tolist() == ["9", "9"]
    assert in_words["dose"].iloc[0] == "660 [290, 1,500]"  # 6144 x 60,000 x 200 inputs
    table = paper_tables.drop_table(doses, pairs).set_index(["training", "s"])
    assert set(table.loc["MLP 3x2048, MNIST, SGD", "published"]) == {"not released"}
    assert table.loc["MLP 3x2048, MNIST, SGD"].index.tolist() == ["1", "10", "50"]
    in_all, a_step = 9e-9 * 60_000 * 200 * 768, 9e-9 * 60_000 * 5 * 768
    mlp = table.loc[("MLP 3x2048, MNIST, SGD", "1")]
    assert mlp["dose of ours, as many a unit"] == f"{in_all:.0f}"
    assert mlp["as many a unit and step"] == f"{a_step:.1f}"
    assert mlp["ours there, injected"] == "-0.06 ± 0.10 at 4.0"  # the least that was met
    resnet = table.loc[("ResNet-18, CIFAR-10, SGD", "1")]
    assert float(resnet["published"]) < -75
    words = paper_tables.drops_in_prose(table.reset_index(), pairs["resnet18"], NONE)
    assert words["step_mlp_1"] == "-0.06 ± 0.10 points (at 4.0 kinks)"
    assert words["unit_mlp_1"] == f"{mlp['ours, injected']} points"
    assert (words["published_from"], words["resnet_from"]) == ("90", "90")
    assert words["open"] == "0 of 6"
    none = paper_tables.drop_table(doses, {name: own[:0] for name, own in pairs.items()})
    words = paper_tables.drops_in_prose(none, pairs["resnet18"], NONE)
    assert words["unit_mlp_1"] == "not tried"
    assert doses["published"].tolist()[1] == pytest.approx(float(resnet["published"]) / 100, 1e-3)


# ---- figures ----

DRAWN = {
    "dose": lambda of: dose_figures.dose_figure(
        {n: dose_tables.of_network(of, n) for n in experiments.NETWORKS}
    ),
    "answer": lambda of: dose_figures.answer_figure(
        {n: dose_tables.of_network(of, n) for n in experiments.NETWORKS}
    ),
    "s": lambda of: dose_figures.s_figure(dose_tables.of_network(of, "mlp")),
    "dead": lambda of: dose_figures.dead_figure(dose_tables.of_network(of, "mlp")),
    "mitigation": lambda of: dose_figures.mitigation_figure(dose_tables.mitigated(of)),
    "unit": lambda of: dose_figures.unit_figure(
        unit_tables.by_layer(of, unit_tables.shown_cells())
    ),
    "paper": lambda of: dose_figures.paper_figure(
        {n: dose_tables.of_network(of, n) for n in experiments.NETWORKS},
        papers.paper_doses(papers.rates(Store("records"))),
    ),
}


@pytest.mark.parametrize("of", [evidence, lambda: NONE], ids=["all", "none"])
@pytest.mark.parametrize("name", DRAWN)
def test_figures_are_drawn_with_and_without_records(name, of, tmp_path):
    plt.close("all")
    figure = DRAWN[name](of())
    figure.savefig(tmp_path / "figure.png")
    assert figure.axes
    assert not plt.get_fignums()


def test_every_figure_of_the_page_is_drawn_here():
    figures = {n for n in vars(dose_figures) if n.endswith("_figure")}
    assert figures == {f"{name}_figure" for name in DRAWN}


@pytest.mark.parametrize(
    ("value", "words"), [(1, "1"), (1000, "1,000"), (10_000, "10k"), (1e6, "1M"), (2.5e7, "25M")]
)
def test_counts_on_an_axis(value, words):
    assert dose_figures._count(value, None) == words


def test_a_reader_s_own_grid_is_of_the_registered_cells():
    """So that the page computes nothing that the store has."""
    _, own = Doses().grids()["mine"]
    registered = {records.cell_key(training.fit, c.config) for c in dose_tables.grids("mlp")}
    assert {records.cell_key(training.fit, c) for c in own} <= registered
    assert len(own) == 3 * 5 * 2
    for wrong in ({"dose_network": "lenet"}, {"dose_optimizer": "lion"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Doses(**wrong)
