"""Tables by order of summation: networks are pooled by form, and compared as the same networks."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from reluprime.mechanism import grids, order_tables


def cell(form, firsts, seed=0, hidden_sizes=(8, 8)):
    own = {"hidden_sizes": hidden_sizes, "linear_form": form}
    return own | {"seed": seed, "first_zero": firsts}


def firsts(met):
    return [0 if zero else None for zero in met]


def test_orders_are_pooled_by_network_and_form():
    cells = [
        cell("native", [0, None]),
        cell("native", [3, None, None], seed=2),
        cell("split", [1, 1]),
    ]
    found = order_tables.orders_table(pd.DataFrame(cells))
    assert found["networks"].tolist() == [5, 2]
    assert [share.split()[0] for share in found["share"]] == ["40.0%", "100.0%"]
    assert found["network"].tolist() == ["8-8", "8-8"]


def test_an_order_s_network_stands_beside_its_released_share():
    cells = pd.DataFrame([cell("native", [1, None], hidden_sizes=(64,) * 3)])
    (row,) = order_tables.orders_table(cells).to_dict("records")
    assert row["released"].startswith("B21 16.3%")  # 163 of 1000
    assert grids.NETWORKS.keys() == order_tables.RELEASED.keys()


@pytest.mark.parametrize("table", [order_tables.orders_table, order_tables.spread_table])
def test_no_orders_are_an_empty_table(table):
    assert table(pd.DataFrame()).empty


def test_orders_are_compared_on_the_networks_that_all_of_them_have():
    cells = [
        cell("native", [None, 0, 0, None, 0]),
        cell("split", [0, None, None], seed=3),  # networks 3 and 4 are common
        cell("split", [None], seed=2),
        cell("wide", [0, None, None], seed=2),
    ]
    (row,) = order_tables.spread_table(pd.DataFrame(cells)).to_dict("records")
    assert (row["orders"], row["networks"]) == (3, 3)
    assert row["least share"] == "33.3% (split)"
    assert row["largest share"] == "66.7% (native)"


def test_two_orders_are_compared_as_by_mc_nemar():
    """Cochran's Q of two is McNemar's test: of the networks that differ alone."""
    a, b = np.repeat([1, 1, 0, 0], [40, 25, 5, 230]), np.repeat([1, 0, 1, 0], [40, 25, 5, 230])
    cells = pd.DataFrame([cell("native", firsts(a)), cell("split", firsts(b))])
    (row,) = order_tables.spread_table(cells).to_dict("records")
    assert float(row["p"]) == pytest.approx(stats.chi2.sf((25 - 5) ** 2 / 30, 1), rel=0.01)


@pytest.mark.parametrize("met", [[0, 0, 0], [1, 1, 1]])
def test_orders_that_all_meet_a_zero_or_none_have_no_p(met):
    cells = pd.DataFrame([cell("native", firsts(met)), cell("split", firsts(met))])
    (row,) = order_tables.spread_table(cells).to_dict("records")
    assert row["p"] == "–"


def test_equal_orders_differ_in_one_of_twenty_sets():
    """At 5 %, 400 sets of 150 networks in 5 orders: 20 expected, 99 % within 10 and 32."""
    random = np.random.default_rng(0)
    rejected = 0
    for _ in range(400):
        rates = random.beta(2, 5, size=(150, 1))  # of each network, the same in each order
        met = random.random((150, 5)) < rates
        cells = [cell(f"form {i}", firsts(own)) for i, own in enumerate(met.T)]
        (row,) = order_tables.spread_table(pd.DataFrame(cells)).to_dict("records")
        rejected += float(row["p"]) < 0.05
    assert 10 <= rejected <= 32


def test_networks_whose_orders_differ_are_named():
    a, b = np.repeat([1, 0], 50), np.repeat([0, 1], [20, 80])
    differ = [cell("native", firsts(a)), cell("split", firsts(b))]
    alike = [cell(form, firsts(a), hidden_sizes=(4, 4)) for form in ("native", "split")]
    assert order_tables.in_prose(pd.DataFrame(differ + alike)) == {"orders_differ": "8-8"}
    none = {"orders_differ": "none of these networks"}
    assert order_tables.in_prose(pd.DataFrame(alike)) == none
    assert order_tables.in_prose(pd.DataFrame()) == none
