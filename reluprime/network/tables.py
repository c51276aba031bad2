"""Tables of checked networks, for the page "Does it matter for your network?"."""

from typing import Any

import pandas as pd
import torch

from reluprime.instruments.activations import relu
from reluprime.testing import assert_derivative_at_kinks


def name(config: dict) -> str:
    """A network in words."""
    trained = config.get("trained")
    if not isinstance(trained, dict):
        return config["network"]
    epochs = trained["epochs"]
    words = f"{trained['architecture']} trained on {trained['dataset']}"
    return f"{words}, {epochs} epoch{'s' * (epochs > 1)}"


def table(cells: pd.DataFrame) -> pd.DataFrame:
    """A row a network and condition: what the check says, and what it cost."""
    rows = []
    for cell in cells.to_dict("records"):
        own, n = cell["summary"], cell["n_batches"]
        rounding = own["by_rounding"]
        rows.append(
            {"network": name(cell), "precision": precision_in_words(cell)}
            | {"arithmetic": or_else(cell.get("arithmetic"), "native")}
            | {"mini-batches that depend on s": f"{own['affected']} of {n}"}
            | {"by (of the gradient's length)": share_in_words(own["relative_l2"])}
            | {"another mini-batch changes it by": share_in_words(own["next_batch"])}
            | {
                "calls": number_in_words(own["calls"]),
                "at a kink by rounding": number_in_words(rounding),
            }
            | {"also in fp64": number_in_words(own["structural"])}
            | {"seconds": f"{cell['check_seconds']:.0f}"}
        )
    return pd.DataFrame(rows)


def precision_in_words(cell: dict) -> str:
    """The precision of a cell, and whether it is that of autocast."""
    return f"{cell['precision']} autocast" if cell.get("autocast") is True else cell["precision"]


def or_else(value: Any, word: str) -> Any:
    """The value, or a word where there is none (None, or NaN of an older record)."""
    return word if value is None or value != value else value


def number_in_words(value: Any) -> str:
    """A whole number with commas; a name as it is, and a dash for nothing."""
    value = or_else(value, "–")
    return value if isinstance(value, str) else f"{value:,.0f}"


def share_in_words(value: float | None) -> str:
    """A share in percent; a dash for none."""
    if value is None or value != value:
        return "–"
    return f"{value:.2%}" if value >= 5e-5 or value == 0 else "less than 0.01%"


def answers(cells: pd.DataFrame) -> pd.DataFrame:
    """The check's sentence on each network, in its first condition."""
    first = cells.drop_duplicates("network")
    return pd.DataFrame(
        {"network": name(cell), "answer": cell["answer"]} for cell in first.to_dict("records")
    )


def in_prose(cells: pd.DataFrame) -> dict[str, int]:
    """The numbers in the prose about networks at initialisation: how many depend on s.

    networks: those checked; depend_fp32, depend_bf16: those of which some mini-batch's gradient
    depends on the derivative at a kink, in some arithmetic; smooth: those that call no
    function with a kink that the check knows.
    """
    affected = cells["summary"].map(lambda own: own["affected"] > 0)
    smooth = cells["summary"].map(lambda own: own["calls"] == 0)
    return {
        "networks": cells["network"].nunique(),
        "smooth": cells["network"][smooth].nunique(),
        **{
            f"depend_{precision}": cells["network"][
                affected & (cells["precision"] == precision)
            ].nunique()
            for precision in ("fp32", "bf16")
        },
    }


def sites(cells: pd.DataFrame) -> pd.DataFrame:
    """Each call site of a network, in its first condition."""
    (cell,) = cells.head(1).to_dict("records")
    words = {"by_rounding": "by rounding", "dead_units": "dead units", "structural": "also in fp64"}
    columns = ["module", "function", "calls", "hits", *words, "units"]
    rows = [{c: number_in_words(site[c]) for c in columns} for site in cell["sites"]]
    return pd.DataFrame(rows, dtype=object).rename(columns=words)


class ReleasedRule(torch.autograd.Function):
    """ReLU whose gradient at 0 is the number 1, whatever comes from upstream.

    Our own words for what both releases compute.
    """

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, upstream):
        (x,) = ctx.saved_tensors
        return torch.where(x == 0, 1.0, upstream * (x > 0)).to(upstream.dtype)


def tried_rules() -> pd.DataFrame:
    """What `assert_derivative_at_kinks` says of PyTorch's ReLU, ours and the released rule."""
    functions = {
        "torch.relu": torch.relu,
        "reluprime.relu, s=0.5": lambda x: relu(x, s=0.5),
        "the released rule, s=1": ReleasedRule.apply,
        "reluprime.relu with the released rule, s=1": lambda x: relu(
            x, s=1.0, gradient_rule="injected"
        ),
    }
    return pd.DataFrame(
        {"function": n, "it says": answer_of_assertion(f)} for n, f in functions.items()
    )


def answer_of_assertion(function) -> str:
    """What the assertion says of a function, or "passes"."""
    try:
        assert_derivative_at_kinks(function)
    except AssertionError as error:
        return str(error)
    return "passes"
