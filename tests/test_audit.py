"""The audit's demonstrations show what its page says they show."""

import pytest

from reluprime.instruments.watch import count_kinks
from reluprime.report import demonstrations as audit


def test_one_zero_gets_s_times_upstream_or_s():
    table = audit.gradient_at_one_zero(s=3.0, upstream=2.0**-10).set_index("rule")["gradient"]
    assert table["chain"] == 3 * 2.0**-10
    assert table["injected"] == 3.0
    assert table.iloc[2] == table["chain"]


def test_one_planted_zero_changes_the_gradient_by_its_share_or_by_a_multiple_of_it():
    table = audit.one_planted_zero().set_index("rule").astype(float)
    assert 0 < table.loc["chain", "all parameters"] < 0.1
    assert table.loc["injected", "all parameters"] > 1
    assert (audit.one_planted_zero(s=0.0).iloc[:, 1:] == "0").all(axis=None)


def test_the_planted_zero_is_the_only_one():
    network, x, _ = audit._planted()
    with count_kinks(network) as hits:
        network(x)
    assert sum(int(n.sum()) for n in hits.values()) == 1


def test_row_two_is_below_what_row_one_allows_by_far():
    table = audit.least_share_of_pairs(235).set_index("precision")
    assert table.loc["32 bits", "affected pairs, at least"] == "0.17%"
    assert table.loc["16 bits", "affected pairs, at least"] == "0.43%"


def test_the_denominator_is_off_by_the_number_of_images():
    assert audit.calls_of_an_epoch((16, 16), 60_000)["calls / neurons"].item() == 60_000


def test_a_swallowed_keyword_and_a_stem_alone():
    assert audit.swallowed_keyword()["ReLU with s"].tolist() == [0, 14]
    assert audit.activation_of_the_stem().iloc[0].tolist() == [1, 8]


def test_equal_sums_of_weights_that_differ():
    table = audit.sums_of_a_permutation()
    assert table["L1 distance"].item() == 12
    assert table["|sum - sum|"].item() == 0


def test_momentum_multiplies_one_gradient():
    assert audit.displacement_by_one_gradient(0.0) == 1
    assert audit.displacement_by_one_gradient(0.9) == pytest.approx(10, rel=1e-3)


def test_networks_and_weights_as_released_and_as_written():
    assert audit.relus_of_three_hidden_layers()["ReLUs"].tolist() == [3, 2]
    table = audit.largest_initial_weights()
    assert (table["largest |weight|"] <= table["bound"] * (1 + 1e-6)).all()
    assert (table["largest |weight|"] > 0.99 * table["bound"]).all()


def test_selection_and_dropped_runs_flatter():
    assert float(audit.gain_by_selection()["of the best"].item().rstrip("%")) > 90.3
    row = audit.mean_without_diverged(diverged=7).iloc[0]
    assert (row["dropped"], row["at chance"]) == pytest.approx((0.8, 0.31))


def test_plots_of_mini_batches_and_integers():
    assert audit.mini_batch_of_sixteen()["over 128"].item() == 0.125
    assert audit.integer_losses()["stored"].tolist() == [0, 0, 1]


def test_directions_inputs_controls():
    assert audit.angle_of_directions()["cosine"].tolist() == pytest.approx([0.75, 0.0], abs=0.02)
    raw, normalised = audit.zero_pixels()["exactly 0"]
    assert float(raw.rstrip("%")) > 70
    assert normalised == "0.0%"
    assert audit.not_a_number().iloc[0].tolist() == [True, False]


def test_zeros_of_every_precision_and_of_one_kernel():
    structural = audit.structural_zero()
    assert (structural["exactly 0"] == structural["outputs"]).all()
    dead = audit.dead_channel(beta=0.5)
    assert (dead["equal to beta"] == dead["outputs"]).all()
    twice, once = audit.one_or_two_roundings()["of 1000 exactly 0"]
    assert twice == 1000
    assert once < 20  # products of fp32 numbers that need no rounding are rare


def test_code_that_cannot_run():
    outcomes = audit.dropout_of_s().set_index("s")["share set to 0"]
    assert (outcomes[0.0], outcomes[1.0]) == ("0.0", "1.0")
    assert outcomes[2.0].startswith("ValueError")
    assert audit.class_for_a_module().iloc[0, 0].startswith("TypeError")
    assert "incorrect number of gradients" in audit.missing_gradient().iloc[0, 0]


def test_released_files_and_formats():
    networks = audit.networks_in_released_files()["network"]
    assert not networks.str.contains("resnet50").any()
    assert (audit.runs_without_a_value()["rows_missing_metric"] > 0).sum() >= 4
    assert audit.activations_of_mobilenet()["number"].tolist()[0] == 14
    assert audit.formats()["smallest number"].tolist()[0] == 2.0**-24
    assert audit.bounds_without_a_hit()["share at most"].tolist()[0] == "97.50%"
