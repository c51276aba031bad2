"""Tables of searches: what their trials reached, and what searching s too gains (M23 4.5)."""

import math

import pandas as pd

from reluprime.evidence.paired import MLP_MARGIN, paired
from reluprime.instruments.activations import GRADIENT_RULES
from reluprime.records import published

# What makes two searches arms of one experiment.
SEARCH = ("architecture", "hidden_sizes", "width", "dataset", "n_train", "epochs", "n_trials")
TRAINED = SEARCH[:-1]  # those of the training
FIXED = "s and s_upper fixed at 0"
SEARCHED = {"chain": "searched, chain", "injected": "searched, injected"}
IGNORED = "searched, but ignored"
COMPARED, SAYS = "compared with a search fixed at 0", "what it says"  # columns
NO_KINK_MATTERED = "nothing: no trial met a zero that mattered"
NOT_REACHED = "nothing: s reaches no activation"
BEST_ALIKE = "nothing: the best trials are the same"


def searches(cells: pd.DataFrame) -> pd.DataFrame:
    """One row a search from rows of `tuning.search` cells that used ReLU6.

    Columns: SEARCH; arm (FIXED, one of SEARCHED or IGNORED); seed; best_accuracy (on the
    validation split); s, s_upper, lr, batch_size and epochs_done of the best trial; total_epochs
    (of all trials); and accuracies (of each trial).
    """
    columns = [*SEARCH, "arm", "seed", "best_accuracy", *_BEST, "total_epochs", "accuracies"]
    rows = [
        _search(cell)
        for cell in cells.to_dict("records")
        if cell["training"].get("activation") == "relu6"
    ]
    return pd.DataFrame(rows, columns=columns)


_BEST = ("s", "s_upper", "lr", "batch_size", "epochs_done")


def _search(cell: dict) -> dict:
    training, best = cell["training"], cell["trials"][cell["best"]]
    return {
        **{name: training[name] for name in TRAINED},
        "hidden_sizes": tuple(training["hidden_sizes"]),
        "n_trials": cell["n_trials"],
        "arm": _arm(cell),
        "seed": cell["seed"],
        "best_accuracy": best["validation_accuracy"],
        "s": best.get("s", 0.0),
        "s_upper": best.get("s_upper", 0.0),
        "lr": best["lr"],
        "batch_size": best["batch_size"],
        "epochs_done": best["epochs"],
        "total_epochs": sum(trial["epochs"] for trial in cell["trials"]),
        "accuracies": tuple(trial["validation_accuracy"] for trial in cell["trials"]),
    }


def _arm(cell: dict) -> str:
    if cell["space"]["s"] is None:
        return FIXED
    if cell["training"].get("activation_sites") == "none":
        return IGNORED
    return SEARCHED[cell["training"]["gradient_rule"]]


def gains(found: pd.DataFrame, arm: str) -> pd.Series:
    """Best accuracy of an arm's searches less that of FIXED, for each seed that has both.

    found: rows of :func:`searches` of one experiment.
    """
    by_seed = [found[found["arm"] == a].set_index("seed")["best_accuracy"] for a in (arm, FIXED)]
    return (by_seed[0] - by_seed[1]).dropna()


def luck(found: pd.DataFrame) -> pd.Series:
    """Differences of best accuracy between two searches of the same arm, FIXED, by luck alone.

    One for each pair of neighbouring seeds (1 less 0, 3 less 2, ...), so that no search counts
    twice.
    """
    best = _fixed(found).to_numpy()
    pairs = len(best) // 2
    return pd.Series(best[1 : 2 * pairs : 2] - best[0 : 2 * pairs : 2])


def luck_spread(found: pd.DataFrame) -> float:
    """Standard deviation of :func:`luck`, from the spread of all searches of FIXED."""
    return float(_fixed(found).std() * math.sqrt(2))


def _fixed(found: pd.DataFrame) -> pd.Series:
    return found[found["arm"] == FIXED].sort_values("seed")["best_accuracy"]


def gain_table(found: pd.DataFrame) -> pd.DataFrame:
    """What searching s gains in every comparison, in points, for the page.

    Searches of one seed draw the same trials but for s, so that those of two arms can be compared
    one by one. Where the best of every pair are the same, the row says so instead of numbers.
    """
    rows = []
    for arm in (*SEARCHED.values(), IGNORED):
        differ, trials = trials_that_differ(found, arm)
        words = {"trials that differ": f"{differ} of {trials}"}
        gained = gains(found, arm)
        if len(gained) and (gained == 0).all():
            alike = BEST_ALIKE if differ else NO_KINK_MATTERED
            words[SAYS] = NOT_REACHED if arm == IGNORED else alike
            rows.append({COMPARED: arm, "pairs": len(gained)} | words)
        else:
            rows.append(_gain_row(arm, gained) | words)
    rows.append(_gain_row("two searches, both fixed at 0", luck(found)))
    columns = [COMPARED, "pairs", "trials that differ", SAYS]
    return pd.DataFrame(rows)[[*columns, *(n for n in rows[-1] if n not in columns)]].fillna("–")


def _gain_row(name: str, values: pd.Series) -> dict:
    found = paired(values, MLP_MARGIN)
    return {
        COMPARED: name,
        "pairs": len(values),
        SAYS: found.says(),
        "points of best accuracy": found.points(),
        "standard deviation": f"{100 * values.std():.2f}" if len(values) > 1 else "–",
    }


def trials_that_differ(found: pd.DataFrame, arm: str) -> tuple[int, int]:
    """How many trials of an arm's searches end elsewhere than those fixed at 0, and of how many."""
    own, fixed = (found[found["arm"] == a].set_index("seed")["accuracies"] for a in (arm, FIXED))
    pairs = [
        both
        for seed in own.index.intersection(fixed.index)
        for both in zip(own[seed], fixed[seed], strict=True)
    ]
    return sum(a != b for a, b in pairs), len(pairs)


def published_gain(network: str) -> float:
    """What M23's one search over s and s_upper lost or won against its one search without."""
    best = _published_trials(network).groupby("subgradient_searched")["val_accuracy"].max()
    return float(best[True] - best[False])


def _published_trials(network: str) -> pd.DataFrame:
    table = published("replication_tuning_trials.csv")
    return table[table["network"] == network]


def trials(cells: pd.DataFrame, network: str) -> pd.DataFrame:
    """One row a trial of :func:`searches` cells, and of M23's: arm, lr, validation_accuracy,
    epochs."""
    ours = [
        {"arm": _arm(cell), **{n: trial[n] for n in ("lr", "validation_accuracy", "epochs")}}
        for cell in cells.to_dict("records")
        for trial in cell["trials"]
    ]
    theirs = _published_trials(network).rename(columns={"val_accuracy": "validation_accuracy"})
    arm = theirs["subgradient_searched"].map(
        {True: "published, searched", False: "published, fixed"}
    )
    theirs = theirs.assign(arm=arm)[["arm", "lr", "validation_accuracy", "epochs"]]
    return pd.concat([pd.DataFrame(ours), theirs], ignore_index=True)


def search_trials(searches: pd.DataFrame) -> pd.DataFrame:
    """One row a trial of `tuning.search` cells: gradient_rule, s, lr, validation_accuracy."""
    rows = [
        {"gradient_rule": rule, "s": row["training"]["s"]} | trial
        for row in searches.to_dict("records")
        for rule in ([row["training"]["gradient_rule"]] if row["training"]["s"] else GRADIENT_RULES)
        for trial in row["trials"]
    ]
    return pd.DataFrame(rows, columns=["gradient_rule", "s", "lr", "validation_accuracy"])


def best_rates(searches: pd.DataFrame) -> dict[tuple[float, str], float]:
    """The learning rate that each `tuning.search` cell found, by its (s, gradient_rule)."""
    return {
        (row["training"]["s"], row["training"]["gradient_rule"]): row["trials"][row["best"]]["lr"]
        for row in searches.to_dict("records")
    }


def in_prose(found: pd.DataFrame, network: str, repeats: int) -> dict[str, float]:
    """The numbers in the prose of the page on MobileNet, by name.

    found: rows of :func:`searches`, `repeats` an arm; network: as in M23's released trials.
    """
    published = 100 * published_gain(network)
    return {
        "luck_spread": 100 * luck_spread(found),
        "published_gain": published,
        "published_loss": -published,
        "searches": repeats,
    }
