"""What a page says of its scale and cost."""

import pandas as pd

from reluprime.report import pages, scale

PAGE = "09_mobilenet_tuning"


def parameters(**changes):
    return pages.checked(PAGE, pages.section(PAGE, scale.PAPER) | changes)


def records(*rows):
    """Records of (key, device, name of it, threads, seconds)."""
    names = ("device", "device_name", "threads", "wall_seconds")
    return pd.DataFrame(
        {"key": key, "provenance": dict(zip(names, how, strict=True))} for key, *how in rows
    )


def test_a_page_at_the_papers_scale_has_no_differences():
    assert scale.differences(PAGE, parameters()) == []


def test_where_records_are_is_no_difference():
    assert scale.differences(PAGE, parameters(store="mine", max_seconds=1)) == []


def test_each_parameter_that_is_another_is_named_with_both_values():
    own = parameters(mobilenet_epochs=1, mobilenet_s=[0, 0.5, 1], mobilenet_dataset="mnist-5k")
    assert scale.differences(PAGE, own) == [
        "mobilenet dataset: mnist-5k instead of mnist",
        "mobilenet epochs: 1 instead of 2",
        "mobilenet s: 3 values instead of 2",
    ]


def test_lists_of_one_length_are_compared_by_their_values():
    found = scale.differences("03_training_curves", pages.checked("03_training_curves", {}))
    assert "mlp hidden sizes: 512, 512, 512 instead of 2,048, 2,048, 2,048" in found


def test_bounds_by_precision_and_switches_are_in_words():
    found = scale.differences("05_zero_calls", pages.checked("05_zero_calls", {}))
    assert "zero epochs: fp32 20, bf16 5 instead of fp16 100, fp32 100" in found
    doses = pages.checked("14_how_many_kinks", {"dose_batch_norm": True})
    found = scale.differences("14_how_many_kinks", doses)
    assert "dose batch norm: yes instead of no" in found
    assert "dose s: 1 value instead of 2" in found


def test_the_cost_counts_a_record_once_and_devices_apart():
    cpu = records(("a", "cpu", "x", 1, 60.0), ("b", "cpu", "x", 1, 120.0), ("c", "cpu", "x", 2, 30))
    gpu = records(("d", "cuda", "H", 1, 7200.0))
    assert scale.cost([cpu, gpu, cpu.head(1), pd.DataFrame()]) == (
        "2.0 hours (H, 1 thread) and 3 minutes (x, 1 thread) and less than a minute (x, 2 threads)"
    )


def test_the_line_unfolds_into_the_differences():
    cells = [records(("a", "cpu", "x", 1, 600.0))]
    line = scale.line(PAGE, parameters(mobilenet_epochs=1), cells)
    assert "1 parameter is not as at the papers' scale" in line
    assert "<li>mobilenet epochs: 1 instead of 2</li>" in line
    assert "10 minutes (x, 1 thread)" in line
    assert "<details" not in scale.line(PAGE, parameters(), cells)


def test_a_page_without_records_says_so():
    assert scale.NOTHING in scale.line(PAGE, parameters(), [pd.DataFrame()])
