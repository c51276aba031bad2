"""What was tried, and what held."""

import pandas as pd

GOOD = ("harmless", "refused")
BAD = ("unnamed", "late", "lost", "silent", "outside")


COLUMNS = ["what", "tries", *GOOD, "went wrong", "slowest refusal, s"]


def table(frame: pd.DataFrame) -> pd.DataFrame:
    """A line a family, from rows of :func:`campaign`, and one of all together."""
    if frame.empty:
        return pd.DataFrame(columns=COLUMNS)
    wrong = frame[[*BAD]].sum(axis=1)
    lines = frame[["family", "tried", *GOOD]].assign(wrong=wrong, slowest=frame["slowest_seconds"])
    lines = lines.set_axis(COLUMNS, axis=1)
    total = lines.drop(columns="what").sum().to_dict() | {"what": "all"}
    total[COLUMNS[-1]] = lines[COLUMNS[-1]].max()
    found = pd.concat([lines, pd.DataFrame([total])], ignore_index=True)
    return found.astype(dict.fromkeys(COLUMNS[1:-1], int))


def failures(frame: pd.DataFrame) -> pd.DataFrame:
    """A line for each kind of failure that was kept in words, at most ten a family."""
    lines = [
        {"what": row["family"], "failure": words}
        for _, row in frame.iterrows()
        for words in row["failures"]
    ]
    return pd.DataFrame(lines, columns=["what", "failure"])


def bad(frame: pd.DataFrame) -> int:
    """How many tries went wrong."""
    return int(frame[[*BAD]].to_numpy().sum()) if len(frame) else 0


def in_prose(frame: pd.DataFrame) -> dict[str, int | str]:
    """The numbers in the prose about them, by name."""
    if frame.empty:
        return dict.fromkeys(("trust_tries", "trust_kills", "trust_bad", "trust_date"), 0)
    kills = frame["tried"][frame["family"].str.endswith("killed")]
    days = sorted({how["utc"][:10] for how in frame["provenance"]})
    return {
        "trust_tries": int(frame["tried"].sum()),
        "trust_kills": int(kills.sum()),
        "trust_bad": bad(frame),
        "trust_date": days[-1],
    }
