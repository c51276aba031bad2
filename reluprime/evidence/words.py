"""Numbers as words of a sentence."""


def signed(value: float) -> str:
    """Two digits behind the point and the sign; what rounds to 0 is +0.00."""
    return f"{round(value, 2) + 0.0:+.2f}"


def calls_a_hit(rate: float) -> str:
    """How many calls there are to one hit, in two digits: 1,600, or 91 million; none: "no call"."""
    if not rate:
        return "no call"
    calls = float(f"{1 / rate:.2g}")
    return f"{calls / 1e6:,.10g} million" if calls >= 1e6 else f"{calls:,.0f}"
