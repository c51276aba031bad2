"""Every figure that tells precisions apart, drawn with all of them."""

from pathlib import Path
from typing import get_args

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from reluprime.bifurcation import figures as bifurcation_figures
from reluprime.dose import figures as dose_figures
from reluprime.evidence import style as figures
from reluprime.instruments.activations import GRADIENT_RULES
from reluprime.instruments.kernels import LinearForm
from reluprime.instruments.precision import Precision
from reluprime.mechanism import figures as mechanism_figures
from reluprime.records import REPOSITORY
from reluprime.search import figures as search_figures
from reluprime.speed import figures as speed_figures
from reluprime.training import figures as learning_figures
from reluprime.volume import figures as volume_figures
from reluprime.volume import table_1 as table_1_marks

PRECISIONS = get_args(Precision)
FORMS = get_args(LinearForm)
ARMS = pd.DataFrame(
    [{"precision": p, "gradient_rule": rule} for p in PRECISIONS for rule in GRADIENT_RULES]
)
SHARES = ARMS.assign(share=0.5, low=0.4, high=0.6)
PUBLISHED = pd.DataFrame({"precision": PRECISIONS}).assign(share=0.5)
RATES = {"rate": 1e-6, "low": 1e-7, "high": 1e-5, "predicted": 2e-6}


def volume():
    sizes = ("sample_size", "depth", "width", "batch_size")
    panels = {by: tuple(t.assign(**{by: 64}) for t in (SHARES, PUBLISHED)) for by in sizes}
    return volume_figures.volume_figure(panels)


def relative_difference():
    values = ARMS.assign(relative_difference=1.5)
    return volume_figures.relative_difference_figure(values, dict.fromkeys(PRECISIONS, (1, 2, 3)))


def predicted_rate():
    rows = [{"precision": p, "form": form} for p in PRECISIONS for form in FORMS]
    return mechanism_figures.predicted_rate_figure(pd.DataFrame(rows).assign(**RATES))


def prediction():
    own = {"work": "B21", "ours": 0.5, "low": 0.4, "high": 0.6, "published": 0.5}
    own |= {"published_low": 0.45, "published_high": 0.55}
    return volume_figures.prediction_figure({"epilogue": PUBLISHED.assign(**own)})


def curve():
    own = {"panel": "sample size", "batches": 3, "ours": 0.5, "low": 0.4, "high": 0.6}
    return volume_figures.curve_figure(PUBLISHED.assign(**own, published=0.5))


def event():
    run = {
        "seed": 0,
        "distance": {"control": [0.0, 0.0], "chain s=1": [0.0, 1.0]},
        "min_abs_preactivation": {"activation1": [0.0, 1e-3]},
    }
    return bifurcation_figures.event_figure([run | {"precision": p} for p in PRECISIONS])


def zero_calls():
    rates = ARMS.assign(calls=1e9, zeros=10.0, **RATES)
    published = PUBLISHED.assign(calls=1e9, zeros=10.0)
    return learning_figures.zero_calls_figure(rates, published)


def conv_volume():
    network = {"architecture": "vgg11", "batch_norm": False, "batches": 3}
    own = (table.assign(**network) for table in (SHARES, PUBLISHED))
    return volume_figures.conv_volume_figure(*own)


def distance():
    rows = ARMS.assign(quantity="L1 distance", seed=0, step=1, value=1e-3)
    return bifurcation_figures.distance_figure(pd.concat([rows, rows.assign(step=2)]))


def table_1():
    own = {"row": "networks in the zone", "value": 0.5, "low": 0.4, "high": 0.6}
    rules = pd.DataFrame({"rule": [*GRADIENT_RULES, "published"]})
    rows = pd.DataFrame({"precision": PRECISIONS}).merge(rules, how="cross").assign(**own)
    parts = [rows.assign(row=row) for row in table_1_marks.ROWS]
    return volume_figures.table_1_figure(pd.concat(parts))


def layers():
    zeros = pd.DataFrame({"precision": PRECISIONS, "depth": 2, "layer 1": 3, "layer 2": "–"})
    return learning_figures.layers_figure(zeros)


def shapes():
    zeros = {"calls": 10**6, "epilogue": 3, "native": 2, "separate": 300}
    return mechanism_figures.shapes_figure(pd.DataFrame({"precision": PRECISIONS}).assign(**zeros))


def kinks():
    rows = pd.DataFrame({"precision": PRECISIONS}).assign(epochs=0, kink="x = 0", hits=2, **RATES)
    return mechanism_figures.kinks_figure(pd.concat([rows, rows.assign(epochs=5, hits=0)]))


DRAWN = {
    "event_figure": event,
    "volume_figure": volume,
    "relative_difference_figure": relative_difference,
    "predicted_rate_figure": predicted_rate,
    "prediction_figure": prediction,
    "curve_figure": curve,
    "zero_calls_figure": zero_calls,
    "conv_volume_figure": conv_volume,
    "distance_figure": distance,
    "table_1_figure": table_1,
    "layers_figure": layers,
    "shapes_figure": shapes,
    "kinks_figure": kinks,
}
# One plane at one precision in words; the others are of one precision, or of none.
WITHOUT = {
    *("weight_plane_figure", "runs_figure", "speed_figure", "rounding_figure"),
    *("training_figure", "effect_figure", "search_figure"),
    *("zeros_figure", "gain_figure", "trials_figure"),
    # Of one precision, and drawn in tests/dose/test_dose_tables.py.
    *("dose_figure", "answer_figure", "s_figure", "dead_figure", "unit_figure"),
    *("mitigation_figure", "paper_figure"),
}


# seaborn 0.13 passes what matplotlib 3.11 is going to rename.
@pytest.mark.filterwarnings("ignore:vert. bool was deprecated")
@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_a_figure_shows_every_precision(draw):
    plt.close("all")  # what other tests left open
    figure = draw()
    figure.canvas.draw()  # what is wrong may show first here
    assert plt.get_fignums() == []
    shown = [t.get_text() for axes in figure.axes for t in (axes.title, *axes.get_xticklabels())]
    shown += [t.get_text() for axes in figure.axes for t in axes.get_yticklabels()]
    shown += [t.get_text() for legend in figure.legends for t in legend.get_texts()]
    shown += [t.get_text() for a in figure.axes if a.get_legend() for t in a.get_legend().texts]
    for precision in PRECISIONS:
        assert any(precision in text for text in shown)


def test_every_precision_has_a_colour_and_a_mark_of_its_own():
    for style in (figures.PRECISION_COLOURS, figures.PRECISION_MARKERS):
        assert style.keys() == set(PRECISIONS)
        assert len(set(style.values())) == len(style)


def test_every_form_of_a_layer_has_a_mark_of_its_own():
    assert mechanism_figures.FORM_MARKERS.keys() == set(FORMS)
    assert len(set(mechanism_figures.FORM_MARKERS.values())) == len(FORMS)


def test_no_figure_is_forgotten():
    """One that is added to a module of figures is drawn here, or said to have no precisions."""
    modules = (
        bifurcation_figures,
        dose_figures,
        volume_figures,
        learning_figures,
        mechanism_figures,
        search_figures,
        speed_figures,
    )
    files = {Path(module.__file__) for module in modules}
    assert files == {*(REPOSITORY / "reluprime").glob("*/figures.py")}
    found = {name for m in modules for name in vars(m) if name.endswith("_figure")}
    assert found == DRAWN.keys() | WITHOUT
