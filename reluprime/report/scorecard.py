"""Every claim of the two papers, judged: the scorecard.

The rules stand with their topics, in `claims` of each. Each is registered; its card says whether
before its records.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import pandas as pd

from reluprime import records
from reluprime.bifurcation import claims as bifurcation_claims
from reluprime.dose import claims as dose_claims
from reluprime.evidence import registry
from reluprime.evidence.claim import Claim, Evidence
from reluprime.evidence.finding import NOT_TESTED, verdict
from reluprime.records.provenance import UNCOMMITTED
from reluprime.search import claims as search_claims
from reluprime.training import claims as training_claims
from reluprime.volume import claims as volume_claims

_MODULES = (
    bifurcation_claims,
    volume_claims,
    training_claims,
    search_claims,
)


def _place(claim: Claim) -> tuple[str, int]:
    return claim.id[0], int(claim.id[1:])


CLAIMS = tuple(sorted((c for module in _MODULES for c in module.CLAIMS), key=_place))
BY_ID = {claim.id: claim for claim in CLAIMS}
# Sentences of ours: registered and computed alike, in no scorecard.
OURS = (*volume_claims.OURS, *dose_claims.CLAIMS)
_BY_DOSE = {claim.id for claim in dose_claims.BY_DOSE.values()}
# Registered rules that no claim has any more, by claim and arithmetic, and why.
_ONLY_EPILOGUE = "the sentence is about `epilogue` alone; in this arithmetic it could not fail"
WITHDRAWN = {("A1", arithmetic): _ONLY_EPILOGUE for arithmetic in ("native", "separate")}
STUDIES = tuple({c.study: None for claim in CLAIMS for c in claim.cells()})


def load(store: records.Store, claims: Sequence[Claim] = CLAIMS) -> Evidence:
    """All records that the rules of claims may read."""
    studies = dict.fromkeys(records.study_name(c.study) for claim in claims for c in claim.cells())
    return Evidence.of_store(store, studies)


def judged(claim: Claim, evidence: Evidence, entries: list[dict]) -> dict:
    """One claim: id, statement, published, verdict, registered, scale, made_on, by, by_dose.

    by: for each gradient rule and arithmetic its outcome (None: records are missing) and value.
    made_on: the devices of the records, in words. Cells that are open or without occasion are
    named and decide nothing. by_dose: the same of the sentence that asks for this claim at the
    paper's own dose of kinks; None where there is none.
    """
    at_dose = dose_claims.BY_DOSE.get(claim.id)
    findings = {condition: claim.finding(evidence, condition) for condition in claim.conditions()}
    outcomes = {condition: finding.outcome for condition, finding in findings.items()}
    begun = {condition: claim.begun(evidence, condition) for condition in findings}
    flaw = claim.flaw() if claim.flaw else None
    return {
        "id": claim.id,
        "statement": claim.statement,
        "published": claim.published,
        "verdict": _verdict(claim, outcomes, flaw) + _so_far(outcomes, begun, flaw),
        "registered": registry.status(claim, evidence, entries),
        "scale": claim.scale,
        "made_on": ", ".join(sorted(_devices(claim, evidence))),
        "by": [
            {
                "gradient_rule": rule,
                "arithmetic": arithmetic,
                "outcome": finding.outcome,
                "value": "; ".join(filter(None, [finding.value, *begun[rule, arithmetic]])),
            }
            for (rule, arithmetic), finding in findings.items()
        ],
        "by_dose": judged(at_dose, evidence, entries) if at_dose else None,
    }


def _verdict(claim: Claim, outcomes: dict, flaw: str | None) -> str:
    word = verdict(outcomes, claim.inferred, flaw, claim.reduced)
    return f"{word}, by dose" if claim.id in _BY_DOSE and "reduced scale" in word else word


def _so_far(outcomes: dict, begun: dict, flaw: str | None) -> str:
    """What follows a verdict that may change with records that are missing.

    Those of an arithmetic, or of a second machine that has some of an arithmetic's.
    """
    missing = None in outcomes.values() or any(begun.values())
    return ", so far" if missing and any(outcomes.values()) and not flaw else ""


def _devices(claim: Claim, evidence: Evidence) -> set[str]:
    """The devices whose records the conditions of a claim are judged by."""
    return {record["provenance"]["device_name"] for _, record in _behind(claim, evidence)}


def _behind(claim: Claim, evidence: Evidence) -> Iterator[tuple[Callable, dict]]:
    """The records that the conditions of a claim are judged by, each with its study."""
    for grid in (claim.grid(*condition) for condition in claim.conditions()):
        for own in evidence.complete(grid).values() or [evidence.on_one_machine(grid)]:
            for cell in grid:
                yield from ((cell.study, record) for record in own.of(cell.study, cell.config))


def judged_on(store: records.Store, claims: Sequence[Claim]) -> list[pd.DataFrame]:
    """The records behind what :func:`judged` says of claims, at the paper's dose too.

    A frame a study, as of `records.table`.
    """
    evidence, found = load(store, claims), {}
    at_dose = (dose_claims.BY_DOSE.get(claim.id) for claim in claims)
    for claim in (*claims, *filter(None, at_dose)):
        for study, record in _behind(claim, evidence):
            found.setdefault(study, {})[record["key"]] = record
    return [records.frame(study, own.values()) for study, own in found.items()]


def all_judged(store: records.Store, claims: Sequence[Claim] = CLAIMS) -> list[dict]:
    """:func:`judged` of these claims, in that order."""
    evidence, entries = load(store, claims), registry.read()
    return [judged(claim, evidence, entries) for claim in claims]


def scorecard(judgements: Sequence[dict]) -> pd.DataFrame:
    """The scorecard as a table: one row a claim of :func:`all_judged`.

    Columns: id, verdict, figure, claim, published, chain, injected, registered, scale, source.
    """
    rows = []
    for row in judgements:
        claim = BY_ID[row["id"]]
        seen = any(cell["outcome"] for cell in row["by"])
        rows.append(
            {
                "id": claim.id,
                "verdict": row["verdict"],
                "figure": claim.figure,
                "claim": claim.statement,
                "published": claim.published,
                **{rule: _words(row["by"], rule, claim) for rule in ("chain", "injected")},
                "registered": row["registered"],
                "scale": f"{claim.scale}; on {row['made_on']}" if seen else "–",
                "source": claim.source,
            }
        )
    return pd.DataFrame(rows)


def _words(by: list[dict], gradient_rule: str, claim: Claim) -> str:
    """A rule's outcomes, each with its arithmetic but where `native` is the only one."""
    if claim.counts_zeros and gradient_rule == "injected" and _alike(by):
        return "the same: where a pre-activation is 0 does not depend on the rule"
    cells = [cell for cell in by if cell["gradient_rule"] == gradient_rule]
    texts = []
    for cell in cells:
        text = ": ".join(filter(None, (cell["outcome"] or NOT_TESTED, cell["value"])))
        texts.append(text if claim.arithmetics == ("native",) else f"{cell['arithmetic']} {text}")
    return "; ".join(texts)


def _alike(by: list[dict]) -> bool:
    """Whether the two rules answer the same in each arithmetic, and in one at least."""
    if not any(cell["outcome"] for cell in by):
        return False
    found = {
        rule: [(c["outcome"], c["value"]) for c in by if c["gradient_rule"] == rule]
        for rule in ("chain", "injected")
    }
    return found["chain"] == found["injected"]


def replaced_rules() -> pd.DataFrame:
    """Registrations that a later one replaced or that were withdrawn, and why."""
    entries, rows = registry.read(), []
    for claim in (*CLAIMS, *OURS):
        for condition in claim.conditions():
            known = registry.of_condition(entries, claim.id, condition)
            for old, new in pairwise(known):
                if not registry.adds_to(old, new):
                    words = {"id": claim.id, "registered": old["utc"][:10], "rule": old["rule"]}
                    rows.append(words | {"replaced because": new["reason"]})
    rows += [
        {"id": e["claim"], "registered": e["utc"][:10], "rule": e["rule"]}
        | {"replaced because": f"withdrawn in {e['arithmetic']}: {reason}"}
        for e in entries
        if (reason := WITHDRAWN.get((e["claim"], e["arithmetic"])))
    ]
    columns = ["id", "registered", "rule", "replaced because"]
    return pd.DataFrame(rows, columns=columns).drop_duplicates(ignore_index=True)


def rows(card: pd.DataFrame, *ids: str) -> pd.DataFrame:
    """The claims of a scorecard with these ids, without their sources."""
    return card[card["id"].isin(ids)].drop(columns=["source"])


def in_prose(judgements: Sequence[dict], studies: Sequence[pd.DataFrame]) -> dict[str, int | str]:
    """The numbers in the prose about the scorecard, by name; studies: its records by study.

    For each claim, gradient rule and arithmetic what was found: "P1_injected_native".
    """
    found = {
        f"{row['id']}_{cell['gradient_rule']}_{cell['arithmetic']}": cell["value"]
        for row in judgements
        for cell in row["by"]
    }
    made = [how for own in studies if len(own) for how in own["provenance"]]
    return found | {
        "n_claims": len(judgements),
        "n_untested": sum(row["verdict"] == NOT_TESTED for row in judgements),
        "devices": " and ".join(sorted({how["device_name"] for how in made})),
        "records": len(made),
        "uncommitted": sum(how["commit"].endswith(UNCOMMITTED) for how in made),
    }
