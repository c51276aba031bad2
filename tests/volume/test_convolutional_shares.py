"""Shares of convolutional networks in the zone by mini-batches seen."""

import pandas as pd

from reluprime import records
from reluprime.instruments.activations import GRADIENT_RULES
from reluprime.volume import VolumeConfig
from reluprime.volume import figures as volume_figures
from reluprime.volume.convolutional import (
    conv_shares,
    conv_shares_by_rule,
    conv_table,
    published_conv_shares,
    zeros_table,
)

PROVENANCE = {"device_name": "made up", "threads": 1}


def conv_cell(first, **condition):
    """A Monte Carlo cell of 100 networks; first: {first affected mini-batch: networks}."""
    found = [b for b, n in first.items() for _ in range(n)]
    config = VolumeConfig(
        **{"dataset": "cifar10", "batch_size": 100, "n_networks": len(found), "max_batches": 60}
        | condition,
        stop_at_first=True,
    )
    lists = {
        f"{name}_{rule}": value
        for rule in GRADIENT_RULES
        for name, value in {
            "affected": [int(b is not None) for b in found],
            "first_affected": found,
            "relative_difference": [1.0] * sum(b is not None for b in found),
            "relative_difference_first_layer": [1.0] * sum(b is not None for b in found),
            "nonfinite": 0,
        }.items()
    }
    row = config.model_dump() | {"n_batches": config.max_batches} | lists
    return row | {"hidden_sizes": (), "key": "", "provenance": PROVENANCE}


def test_conv_shares_count_networks_that_saw_enough_mini_batches():
    cells = pd.DataFrame(
        [
            conv_cell({0: 10, 3: 30, None: 60}, architecture="vgg11"),
            conv_cell({0: 5, None: 5}, architecture="vgg11", seed=100, max_batches=2),
        ]
    )
    shares = conv_shares(cells, "chain", [1, 3, 4, 60]).set_index("batches")
    assert shares["networks"].tolist() == [110, 100, 100, 100]
    assert shares["in_zone"].tolist() == [15, 10, 40, 40]


def test_the_table_of_convolutional_networks_has_the_released_shares():
    cells = [
        conv_cell({0: 10, 3: 30, None: 60}, architecture="vgg11", precision="fp32", batch_norm=norm)
        for norm in (False, True)
    ]
    none = {"affected_chain": [0] * 100, "first_affected_chain": [None] * 100}
    none |= {f"relative_difference{part}_chain": [] for part in ("", "_first_layer")}
    cells[1] |= none  # with batch norm no network is in the zone of the derivative
    released = published_conv_shares(records.published("paper_volume_conv.csv"))
    table = conv_table(pd.DataFrame(cells), released, [1, 6, 7, 100])
    assert table["mini-batches"].tolist() == [1, 6, 7] * 2  # none was shown 100
    first, sixth, seventh = table.to_dict("records")[:3]
    assert (first["network"], first["batch norm"], first["precision"]) == ("vgg11", "no", "fp32")
    assert (first["derivative"], first["published"]) == ("10.0% [4.9, 17.6]", "10.4%")
    assert sixth["constant"].startswith("40.0% [")
    assert seventh["published"] == "–"
    with_norm = table.iloc[3]
    assert (with_norm["batch norm"], with_norm["published"]) == ("yes", "26.2%")
    assert with_norm["derivative"].startswith("0.0% [")
    assert with_norm["constant"].startswith("10.0% [")


def test_the_table_of_zeros_adds_up_layers_and_cells():
    cell = conv_cell({0: 10, 3: 30, None: 60}, architecture="vgg11")
    zeros = [{"features.1": 7, "features.4": 1}, {"features.1": 2}]
    cells = pd.DataFrame([cell, cell]).assign(exact_zeros=zeros, structural_zeros=zeros[::-1])
    row = zeros_table(cells).iloc[0]
    assert row[["networks", "exact zeros", "structural among them"]].tolist() == [200, 10, 10]


def test_the_zone_panel_shows_shares():
    cells = pd.DataFrame([conv_cell({0: 10, 3: 30, None: 60}, architecture="vgg11")])
    released = published_conv_shares(records.published("paper_volume_conv.csv"))
    figure = volume_figures.conv_volume_figure(conv_shares_by_rule(cells, [1, 6]), released)
    without = figure.axes[0]
    lines = [line for line in without.get_lines() if len(line.get_ydata())]
    published = [line for line in lines if line.get_linestyle() == ":"]
    assert [line.get_xydata()[0].tolist() for line in published] == [[1.0, 1.0], [1.0, 0.104]]
    assert {line.get_ydata()[0] for line in lines} >= {0.1, 0.104}
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words == ["fp16", "fp32", "constant, or both rules", "derivative", "published"]
