"""A figure's form for a phone."""

import matplotlib.pyplot as plt
import pytest
from matplotlib.figure import Figure

from reluprime.evidence.panels import NARROW, legend_below, narrow
from reluprime.evidence.style import taken_from_pyplot


@pytest.fixture
def figure() -> Figure:
    """Two rows of three panels that share their axes, and a legend with four labels."""
    size = {"figsize": (7.2, 5.0), "layout": "constrained"}
    figure, axes = plt.subplots(2, 3, sharex=True, sharey=True, **size)
    for place, panel in enumerate(axes.flat):
        panel.plot([0, 1], [place, place], label=f"runs of condition {place % 4}")
    for place in range(3):
        axes[0, place].set_title(f"layer {place}")
        axes[1, place].set_xlabel(f"epoch {place}")
    axes[0, 0].set_ylabel("zeros")
    axes[1, 0].set_ylabel("dead units")
    legend_below(figure, axes.flat, ncols=4)
    return taken_from_pyplot(figure)


def test_the_panels_stand_in_one_column_in_the_order_of_the_rows(figure):
    form = narrow(figure)
    form.draw_without_rendering()
    assert [p.lines[0].get_ydata()[0] for p in form.axes] == [0, 1, 2, 3, 4, 5]
    bottoms = [p.get_position().y0 for p in form.axes]
    assert bottoms == sorted(bottoms, reverse=True)
    assert len({round(p.get_position().x0, 6) for p in form.axes}) == 1
    assert form.get_size_inches() == pytest.approx((NARROW, 6 * 2.5))


def test_each_panel_says_what_it_shared(figure):
    panels = narrow(figure).axes
    assert [p.get_title() for p in panels] == 2 * ["layer 0", "layer 1", "layer 2"]
    assert [p.get_ylabel() for p in panels] == 3 * ["zeros"] + 3 * ["dead units"]
    assert [p.get_xlabel() for p in panels] == 2 * ["epoch 0", "epoch 1", "epoch 2"]
    for panel in panels:
        assert panel.yaxis.get_tick_params()["labelleft"]
        assert panel.xaxis.get_tick_params()["labelbottom"]


def test_the_legend_fits_and_has_each_label_once(figure):
    form = narrow(figure)
    form.draw_without_rendering()
    (legend,) = form.legends
    assert [t.get_text() for t in legend.get_texts()] == [
        f"runs of condition {i}" for i in range(4)
    ]
    assert legend.get_window_extent().width <= form.bbox.width


def test_the_figure_itself_is_as_before(figure):
    places = [p.get_position().bounds for p in figure.axes]
    narrow(figure)
    assert [p.get_position().bounds for p in figure.axes] == places
    assert figure.get_size_inches() == pytest.approx((7.2, 5.0))
    assert figure.axes[1].get_ylabel() == ""


def test_a_figure_without_panels_stays_as_it_is():
    figure = taken_from_pyplot(plt.figure(figsize=(7.2, 3.0)))
    assert narrow(figure).get_size_inches() == pytest.approx((7.2, 3.0))


def test_a_bar_of_colours_stays_beside_its_panels():
    figure, axes = plt.subplots(1, 2, figsize=(7.2, 3.2), layout="constrained")
    image, _ = (panel.imshow([[0, 1]]) for panel in axes)
    figure.colorbar(image, ax=axes, label="size")
    form = narrow(taken_from_pyplot(figure))
    form.draw_without_rendering()
    left, right, bar = (p.get_position() for p in form.axes)
    assert left.y0 > right.y1
    assert bar.x0 > max(left.x1, right.x1)


def test_published_labels_come_last_whatever_drew_them():
    """Matplotlib lists lines before bars of error, so that one panel alone may change the order."""
    figure, panel = plt.subplots(layout="constrained")
    panel.plot([0, 1], [0, 1], label="fp32, published")
    panel.errorbar([0, 1], [0, 1], yerr=0.1, label="fp32")
    panel.plot([0, 1], [0, 1], label="fp64")
    legend_below(figure, [panel], ncols=3)
    labels = [text.get_text() for text in taken_from_pyplot(figure).legends[0].get_texts()]
    assert labels == ["fp64", "fp32", "fp32, published"]
