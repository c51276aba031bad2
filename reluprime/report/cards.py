"""The verdicts as HTML: the matrix of all claims, and a card for each."""

import html
import re
from collections.abc import Sequence

from IPython.display import HTML

from reluprime.evidence.claim import Claim
from reluprime.evidence.finding import FAILS, HOLDS, NO_OCCASION, NOT_TESTED, OPEN
from reluprime.evidence.style import RULE_NAMES

CODE = re.compile("`([^`]+)`")  # in a statement
OURS = "ours"  # the source of sentences that neither paper has
# Icon beside the word, so that no colour has to be seen; the colours are in book/_static.
ICONS = {HOLDS: "✓", FAILS: "✕", OPEN: "?", NO_OCCASION: "○", NOT_TESTED: "–"}


def badge(word: str, icon: str = "") -> str:
    """A verdict or outcome in a frame, with its icon."""
    kind = word.split(",")[0].replace(" at reduced scale", "").replace(" ", "-")
    sign = f'<span aria-hidden="true">{icon}</span> ' if icon else ""
    return f'<span class="verdict {html.escape(kind)}">{sign}{html.escape(word)}</span>'


def matrix(claims: Sequence[Claim], rows: Sequence[dict], scorecard: str = "") -> HTML:
    """A line a claim: its id, verdict and statement, and what each gradient rule gives.

    Arithmetics that answer differently under a rule are named beside their answers.

    rows: `scorecard.judged` of these claims. scorecard: the address of the page with the cards;
    empty on that page itself.
    """
    lines = [_line(claim, row, scorecard) for claim, row in zip(claims, rows, strict=True)]
    names = ("", "verdict", "claim", *RULE_NAMES.values())
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    body = f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody>"
    return HTML(f'<table class="matrix">{body}</table>')


def _line(claim: Claim, row: dict, scorecard: str) -> str:
    found = {
        name: _answers([cell for cell in row["by"] if cell["gradient_rule"] == rule])
        for rule, name in RULE_NAMES.items()
    }
    verdict = f'<td data-label="verdict">{badge(row["verdict"])}</td>'
    link = f'<th scope="row"><a href="{scorecard}#{claim.id.lower()}">{claim.id}</a></th>'
    words = f"<td>{html.escape(claim.statement)}{_only(claim)}</td>"
    cells = (f'<td data-label="{name}">{text}</td>' for name, text in found.items())
    return f"<tr>{link}{verdict}{words}{''.join(cells)}</tr>"


def _answers(cells: Sequence[dict]) -> str:
    """The outcomes of one gradient rule, each once; where they differ, with their arithmetics."""
    found: dict[str, list[str]] = {}
    for cell in cells:
        found.setdefault(cell["outcome"] or NOT_TESTED, []).append(cell["arithmetic"])
    answers = ""
    for word, arithmetics in found.items():
        names = f" <small>{', '.join(arithmetics)}</small>" if len(found) > 1 else ""
        answers += f"<div>{badge(word, ICONS[word])}{names}</div>"
    return answers


def links(claims: Sequence[Claim], rows: Sequence[dict]) -> HTML:
    """One line of claims and verdicts, each a link to its card on the scorecard.

    Where a verdict rests on some arithmetics alone, they stand behind it.
    """
    words = (
        f'<a href="00_scorecard.html#{claim.id.lower()}" title="{html.escape(claim.statement)}">'
        f"{claim.id}</a> {badge(row['verdict'])}{_decided_in(claim, row)}"
        for claim, row in zip(claims, rows, strict=True)
    )
    return HTML(f'<p class="verdicts">Claims: {"; ".join(words)}</p>')


def _decided_in(claim: Claim, row: dict) -> str:
    """The arithmetics that a verdict rests on, unless they are all that there are for the claim."""
    if "as released" in row["verdict"]:
        decided = ("injected", HOLDS)
    elif row["verdict"].startswith(("reproduced", "supported")):
        decided = ("chain", HOLDS)
    else:
        return _only(claim)
    own = [c for c in row["by"] if (c["gradient_rule"], c["outcome"]) == decided]
    names = [cell["arithmetic"] for cell in own]
    if len(names) == len(claim.arithmetics):
        return _only(claim)
    return f" <small>({', '.join(names)})</small>"


def _only(claim: Claim) -> str:
    """The one arithmetic that a claim is judged in, if it is an emulated one."""
    (only, *others) = claim.arithmetics
    return f" <small>({only})</small>" if not others and only != "native" else ""


def cards(claims: Sequence[Claim], rows: Sequence[dict]) -> HTML:
    """A folded card a claim, with the anchor ``#p7``: what was published and found, and the rule.

    rows: `scorecard.judged` of these claims, or of sentences of ours, which have no verdict.
    """
    return HTML("".join(_card(claim, row) for claim, row in zip(claims, rows, strict=True)))


def _card(claim: Claim, row: dict) -> str:
    notebook, _, heading = claim.figure.partition("#")
    lines = {
        "published": "" if claim.source == OURS else html.escape(claim.published),
        "source": html.escape(claim.source),
        "found": "<br>".join(_outcome(cell, claim) for cell in row["by"]),
        "by dose": _at_dose(claim, row.get("by_dose")),
        "rule": html.escape(claim.rule),
        "on the papers' own data": html.escape(_on_published(claim)),
        "scale": html.escape(claim.scale + (f"; on {row['made_on']}" if row["made_on"] else "")),
        "registered": html.escape(row["registered"]),
        "where": f'<a href="{notebook}.html#{html.escape(heading)}">figure and numbers</a>',
    }
    details = "".join(f"<dt>{name}</dt><dd>{text}</dd>" for name, text in lines.items() if text)
    statement = CODE.sub(r"<code>\1</code>", html.escape(claim.statement))
    words = f"<strong>{claim.id}</strong> {statement}"
    summary = f"<summary>{words} {_heading_badges(claim, row)}</summary>"
    return f'<details class="claim" id="{claim.id.lower()}">{summary}<dl>{details}</dl></details>'


def _at_dose(claim: Claim, row: dict | None) -> str:
    """What the sentence gives that asks for the claim at the paper's own dose of kinks."""
    if row is None:
        return ""
    link = f'<a href="19_published_doses.html#{row["id"].lower()}">{row["id"]}</a>'
    found = [_outcome(cell, claim) for cell in row["by"]]
    how = html.escape(f"{row['scale']}; registered {row['registered']}")
    return "<br>".join([f"{badge(row['verdict'])} {link}", *found, how])


def _heading_badges(claim: Claim, row: dict) -> str:
    """The verdict; of a sentence of ours, which neither paper has, what each rule gives."""
    if claim.source != OURS:
        return badge(row["verdict"])
    found = (
        (RULE_NAMES[cell["gradient_rule"]], cell["outcome"] or NOT_TESTED) for cell in row["by"]
    )
    return " ".join(f"{name} {badge(word, ICONS[word])}" for name, word in found)


def _on_published(claim: Claim) -> str:
    if claim.on_published is None:
        return "" if claim.source == OURS else "the rule was not run on them"
    own = claim.on_published()
    return f"{own.outcome}: {own.value}"


def _outcome(cell: dict, claim: Claim) -> str:
    word = cell["outcome"] or NOT_TESTED
    where = RULE_NAMES[cell["gradient_rule"]]
    if claim.arithmetics != ("native",):
        where += f", {cell['arithmetic']}"
    value = f": {cell['value']}" if cell["value"] else ""
    if claim.counts_zeros and cell["gradient_rule"] == "injected":
        value += " (cannot differ: both rules see the same zeros)"
    return f"{badge(word, ICONS[word])} {html.escape(where + value)}"
