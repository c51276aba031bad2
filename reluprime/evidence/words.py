"""Numbers as words of a sentence."""


def signed(value: float) -> str:
    """Two digits behind the point and the sign; what rounds to 0 is +0.00."""
    return f"{round(value, 2) + 0.0:+.2f}"


def calls_a_hit(rate: float) -> str:
    """How many calls there are to one hit, in two digits: 1,600, or 91 million; none: "no call"."""
    return rounded(1 / rate) if rate else "no call"


def rounded(count: float) -> str:
    """A number of things in two digits: 31, 1,600, or 91 million."""
    count = float(f"{count:.2g}")
    return f"{count / 1e6:,.10g} million" if count >= 1e6 else f"{count:,.0f}"
