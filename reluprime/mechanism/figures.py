"""The figure of predicted and measured rates of exact zeros."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from reluprime.evidence.style import PRECISION_COLOURS, PUBLISHED, taken_from_pyplot

FORM_MARKERS = {  # every form of `kernels.LINEAR_FORMS`
    "native": "o",
    "fused": "s",
    "unfused": "^",
    "split": "v",
    "split-2": "<",
    "split-8": ">",
    "wide": "D",
    "tf32": "P",
    "tf32-unfused": "X",
    "sequential": "p",
    "blocks-8": "h",
    "blocks-32": "8",
    "blocks-128": "*",
}


def predicted_rate_figure(rates: pd.DataFrame) -> Figure:
    """Measured against predicted zeros a pre-activation, one point an activation of a condition.

    rates: `tables.forward_rates` with columns precision and form. Conditions without a zero
    stand at the upper end of their interval, as arrows that point down.
    """
    figure, axes = plt.subplots(figsize=(9, 5.5))
    for (precision, form), group in rates.groupby(["precision", "form"], sort=False):
        met = group[group["rate"] > 0]
        error = [met["rate"] - met["low"], met["high"] - met["rate"]]
        axes.errorbar(
            met["predicted"],
            met["rate"],
            yerr=error,
            fmt=FORM_MARKERS[form],
            color=PRECISION_COLOURS[precision],
            markeredgecolor="black",
            markeredgewidth=0.5,
            elinewidth=1,
            label=f"{precision}, {form}",
        )
        none = group[group["rate"] == 0]
        axes.plot(
            none["predicted"],
            none["high"],
            linestyle="none",
            marker="$\u2193$",
            color=PRECISION_COLOURS[precision],
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    ends = (rates["predicted"].min() / 2, rates["predicted"].max() * 2)
    axes.plot(ends, ends, ":", color=PUBLISHED, linewidth=0.8)
    axes.set(xlabel="predicted: density at 0 times width", ylabel="exact zeros a pre-activation")
    axes.legend(loc="upper left", ncols=2)
    return taken_from_pyplot(figure)
