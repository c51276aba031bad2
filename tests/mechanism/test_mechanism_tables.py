import numpy as np
import pandas as pd
import pytest
from scipy import stats

from reluprime.mechanism import tables
from reluprime.records import REPOSITORY, Store

GPU, CPU = {"device": "cuda"}, {"device": "cpu"}


def layer(zeros, rows=16, arithmetic="native", flag=False, how=GPU, precision="fp16"):
    return {
        "precision": precision,
        "rows": rows,
        "inputs": 8,
        "outputs": 4,
        "calls": 64 * rows,
        "arithmetic": arithmetic,
        "reduced_precision": flag,
        "zeros": zeros,
        "provenance": how,
    }


def four(native, flag, epilogue, separate, **shape):
    return [
        layer(native, **shape),
        layer(flag, flag=True, **shape),
        layer(epilogue, arithmetic="epilogue", **shape),
        layer(separate, arithmetic="separate", **shape),
    ]


def test_a_shape_has_a_column_for_each_condition():
    found = tables.by_shape(pd.DataFrame(four(3, 5, 4, 90) + four(1, 1, 2, 50, rows=32)))
    assert found[["rows", *tables.CONDITIONS]].to_numpy().tolist() == [
        [16, 3, 5, 4, 90],
        [32, 1, 1, 2, 50],
    ]


def test_a_shape_that_lacks_a_condition_is_left_out():
    cells = pd.DataFrame(four(3, 3, 4, 90) + four(1, 1, 2, 50, rows=32)[:3])
    assert tables.by_shape(cells)["rows"].tolist() == [16]


def test_no_records_are_no_shapes():
    assert tables.by_shape(pd.DataFrame()).empty


@pytest.mark.parametrize(("a", "b"), [(10, 20), (0, 7), (286, 339)])
def test_a_ratio_is_that_of_counts_with_an_exact_interval(a, b):
    found = tables.ratio(a, b)
    assert found.value == pytest.approx(a / b)
    assert found.low <= found.value <= found.high
    assert found.p == pytest.approx(stats.binomtest(a, a + b).pvalue)


def test_intervals_of_a_ratio_miss_as_often_as_they_say():
    """Of 2,000 pairs of Poisson counts with ratio 0.5; exact intervals miss 5 % at most."""
    random = np.random.default_rng(0)
    pairs = random.poisson((30, 60), size=(2000, 2))
    missed = sum(not found.low <= 0.5 <= found.high for found in (tables.ratio(*p) for p in pairs))
    assert 20 < missed < 100


def test_summary_counts_shapes_that_differ_and_those_that_the_flag_changes():
    cells = [*four(20, 21, 22, 900), *four(30, 30, 90, 28, rows=32)]
    (row,) = tables.summary(tables.by_shape(pd.DataFrame(cells))).to_dict("records")
    assert (row["shapes"], row["native"], row["flag_changes"]) == (2, 50, 1)
    assert (row["epilogue"], row["epilogue_differs"]) == (112, 1)  # the second
    assert (row["separate"], row["separate_differs"]) == (928, 1)  # the first
    assert row["epilogue_ratio"].value == pytest.approx(50 / 112)


def test_the_prose_about_a_gpu_says_each_precision_s_own_numbers():
    """bf16 comes first in the table; the prose once called its numbers those of fp16."""
    rows = [*four(20, 20, 40, 800), *four(3, 3, 30, 900)]
    cells = pd.DataFrame(rows).assign(precision=["fp16"] * 4 + ["bf16"] * 4)
    cells["provenance"] = [{"device_name": "a GPU", "torch": "2.11.0+cu130"}] * 8
    found = tables.gpu_in_prose(cells, tables.by_shape(cells))
    assert found["gpu_epilogue_fp16"] == pytest.approx(0.5)
    assert found["gpu_epilogue_bf16"] == pytest.approx(0.1)
    assert found["gpu_separate_times_fp16"] == pytest.approx(40)
    assert found["gpu_torch"] == "2.11.0"


def test_only_a_gpu_s_records_count():
    cells = tables.gpu_cells(Store(REPOSITORY / "records"))
    assert len(cells) > 0
    assert {how["device"] for how in cells["provenance"]} == {"cuda"}
