"""The audit's demonstrations show what its page says they show."""

import pytest

from reluprime.instruments.watch import count_kinks
from reluprime.report.demonstrations import arithmetic, evaluation, gradients, networks


def test_one_zero_gets_s_times_upstream_or_s():
    table = gradients.gradient_at_one_zero(s=3.0, upstream=2.0**-10).set_index("rule")["gradient"]
    assert table["chain"] == 3 * 2.0**-10
    assert table["injected"] == 3.0
    assert table.iloc[2] == table["chain"]


def test_one_planted_zero_changes_the_gradient_by_its_share_or_by_a_multiple_of_it():
    table = gradients.one_planted_zero().set_index("rule").astype(float)
    assert 0 < table.loc["chain", "all parameters"] < 0.1
    assert table.loc["injected", "all parameters"] > 1
    assert (gradients.one_planted_zero(s=0.0).iloc[:, 1:] == "0").all(axis=None)


def test_the_planted_zero_is_the_only_one():
    network, x, _ = gradients._planted()
    with count_kinks(network) as hits:
        network(x)
    assert sum(int(n.sum()) for n in hits.values()) == 1


def test_row_two_is_below_what_row_one_allows_by_far():
    table = evaluation.least_share_of_pairs(235).set_index("precision")
    assert table.loc["32 bits", "affected pairs, at least"] == "0.17%"
    assert table.loc["16 bits", "affected pairs, at least"] == "0.43%"


def test_the_denominator_is_off_by_the_number_of_images():
    assert networks.calls_of_an_epoch((16, 16), 60_000)["calls / neurons"].item() == 60_000


def test_a_swallowed_keyword_and_a_stem_alone():
    assert networks.swallowed_keyword()["ReLU with s"].tolist() == [0, 14]
    assert networks.activation_of_the_stem().iloc[0].tolist() == [1, 8]


def test_equal_sums_of_weights_that_differ():
    table = gradients.sums_of_a_permutation()
    assert table["L1 distance"].item() == 12
    assert table["|sum - sum|"].item() == 0


def test_momentum_multiplies_one_gradient():
    assert gradients.displacement_by_one_gradient(0.0) == 1
    assert gradients.displacement_by_one_gradient(0.9) == pytest.approx(10, rel=1e-3)


def test_networks_and_weights_as_released_and_as_written():
    assert networks.relus_of_three_hidden_layers()["ReLUs"].tolist() == [3, 2]
    table = networks.largest_initial_weights()
    assert (table["largest |weight|"] <= table["bound"] * (1 + 1e-6)).all()
    assert (table["largest |weight|"] > 0.99 * table["bound"]).all()


def test_selection_and_dropped_runs_flatter():
    assert float(evaluation.gain_by_selection()["of the best"].item().rstrip("%")) > 90.3
    row = evaluation.mean_without_diverged(diverged=7).iloc[0]
    assert (row["mean, those dropped"], row["mean, those at chance"]) == pytest.approx((0.8, 0.31))


def test_plots_of_mini_batches_and_integers():
    assert evaluation.mini_batch_of_sixteen()["over 128"].item() == 0.125
    assert evaluation.integer_losses()["stored"].tolist() == [0, 0, 1]


def test_directions_inputs_controls():
    assert gradients.angle_of_directions()["cosine"].tolist() == pytest.approx(
        [0.75, 0.0], abs=0.02
    )
    raw, normalised = arithmetic.zero_pixels()["exactly 0"]
    assert float(raw.rstrip("%")) > 70
    assert normalised == "0.0%"
    assert gradients.not_a_number().iloc[0].tolist() == [True, False]


def test_zeros_of_every_precision_and_of_one_kernel():
    structural = arithmetic.structural_zero()
    assert (structural["exactly 0"] == structural["outputs"]).all()
    dead = arithmetic.dead_channel(beta=0.5)
    assert (dead["equal to beta"] == dead["outputs"]).all()
    twice, once = arithmetic.one_or_two_roundings()["of 1000 exactly 0"]
    assert twice == 1000
    assert once < 20  # products of fp32 numbers that need no rounding are rare


def test_code_that_cannot_run():
    outcomes = networks.dropout_of_s().set_index("s")["share set to 0"]
    assert (outcomes[0.0], outcomes[1.0]) == ("0.0", "1.0")
    assert outcomes[2.0].startswith("ValueError")
    assert networks.class_for_a_module().iloc[0, 0].startswith("TypeError")
    assert "incorrect number of gradients" in networks.missing_gradient().iloc[0, 0]


def test_released_files_and_formats():
    released = networks.networks_in_released_files()["network"]
    assert not released.str.contains("resnet50").any()
    assert (evaluation.runs_without_a_value()["rows_missing_metric"] > 0).sum() >= 4
    assert networks.activations_of_mobilenet()["number"].tolist()[0] == 14
    assert arithmetic.formats()["smallest number"].tolist()[0] == 2.0**-24
    assert evaluation.bounds_without_a_hit()["share at most"].tolist()[0] == "97.50%"
