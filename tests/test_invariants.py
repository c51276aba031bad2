"""What must hold of fresh numbers at the quick profile's scale, on any machine."""

import numpy as np
import pytest

from reluprime.bifurcation import paired_run
from reluprime.instruments.activations import GRADIENT_RULES
from reluprime.mechanism.study import ForwardZerosConfig, forward_zeros
from reluprime.report import pages
from reluprime.volume.study import estimate


def quick(page, sweep):
    """The configs of a sweep at the quick profile."""
    return pages.checked(page, pages.section(page, "quick")).grids()[sweep][1]


def test_the_control_is_identical():
    config = next(c for c in quick("01_bifurcation_event", "runs") if c.precision == "fp32")
    assert set(
        paired_run(config.replace(epochs=1, hidden_sizes=(200, 50)))["distance"]["control"]
    ) == {0.0}


@pytest.fixture(scope="module")
def table():
    """Table 1 at the quick profile: {precision: result}."""
    return {c.precision: estimate(c) for c in quick("02_relative_volume", "table")}


def test_no_zero_at_fp64(table):
    assert sum(table["fp64"]["exact_zeros"].values()) == 0
    assert sum(table["fp64"]["affected_chain"]) == 0
    assert sum(table["fp16"]["exact_zeros"].values()) > sum(table["fp32"]["exact_zeros"].values())


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_the_constant_changes_the_gradient_a_hundred_times_as_much(precision, table):
    differences = [table[precision][f"relative_difference_{rule}"] for rule in GRADIENT_RULES]
    assert all(differences) or precision != "fp16"  # others have few zeros at this scale
    if all(differences):
        chain, injected = map(np.median, differences)
        assert injected > 100 * chain


def test_at_fp16_a_layer_in_two_steps_has_more_zeros():
    common = {
        "dataset": "mnist-5k",
        "hidden_sizes": (64, 64),
        "precision": "fp16",
        "n_images": 1000,
    }
    separate, epilogue = (
        sum(forward_zeros(ForwardZerosConfig(**common, arithmetic=a))["zeros"].values())
        for a in ("separate", "epilogue")
    )
    assert separate > 2 * epilogue
