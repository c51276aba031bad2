"""The commands that read records: scorecard, verify, plan, register."""

import argparse
import json
from pathlib import Path

from reluprime.cli.options import (
    add_parameters,
    add_store,
    at_least_one,
    filled_store,
    parameters,
    positive,
)


def add_commands(commands) -> None:
    """Add the commands to the subparsers of an ArgumentParser."""
    parser = commands.add_parser("scorecard", help="what the records say about every claim")
    parser.add_argument("--json", action="store_true", help="as JSON, one object a claim")
    add_store(parser, "records")
    parser.set_defaults(run=scorecard)

    parser = commands.add_parser("verify", help="whether a store holds what it says")
    parser.add_argument("--recompute", type=at_least_one, default=0, metavar="N", help=
        "compute N random cells again, and compare bits where device, versions and threads agree"
    )  # fmt: skip
    add_store(parser, "records")
    parser.set_defaults(run=verify)

    parser = commands.add_parser("plan", help="what a profile lacks, and what that costs")
    parser.add_argument("profile", nargs="?", default="paper", help="of notebooks/profiles (paper)")
    add_parameters(parser)
    parser.add_argument("--tflops", type=positive, help="rate that you expect of a GPU")
    parser.add_argument("--json", action="store_true", help="as JSON, one object a row")
    parser.add_argument("--out", type=Path, metavar="FILE", help="for `reluprime compute FILE`")
    add_store(parser, "records")
    parser.set_defaults(run=plan)

    parser = commands.add_parser("register", help="register rules that are new or changed")
    parser.add_argument("ids", nargs="*", metavar="ID", help="of these claims alone: P1 ... A1")
    parser.add_argument("--reason", default="", help="why a rule replaces its earlier one")
    parser.set_defaults(run=register)


def scorecard(options: argparse.Namespace) -> int:
    """Print every claim's verdict."""
    from reluprime import records
    from reluprime.report import scorecard

    judgements = scorecard.all_judged(records.Store(options.store))
    if options.json:
        print(json.dumps(judgements, indent=2, ensure_ascii=False))
    else:
        columns = ["id", "verdict", "chain", "injected", "registered"]
        print(scorecard.scorecard(judgements)[columns].to_string(index=False))
    return 0


def verify(options: argparse.Namespace) -> int:
    """Print what is wrong with a store; 1 if anything is."""
    from reluprime.records.verify import problems, recomputed
    from reluprime.report.studies import STUDIES

    store = filled_store(options.store)
    found = problems(store, STUDIES)
    lines = sum(len(store.lines(name)[0]) for name in store.studies())
    print("\n".join(found) or f"nothing is wrong with the {lines} records in {store.path}")
    again = recomputed(store, STUDIES, options.recompute) if options.recompute else ()
    for record, same in again:
        said = "the same bits" if same else "other bits than the record has"
        print(f"{record['key']} {record['study']}: {said}", flush=True)
        found += [] if same else [record["key"]]
    return 1 if found else 0


def plan(options: argparse.Namespace) -> int:
    """Print what is missing and what it costs, and write it to a file if one is named."""
    from reluprime import records
    from reluprime.report import plan

    store = records.Store(options.store)
    planned = plan.cells(options.profile, store, parameters(options), tuple(options.page))
    table = plan.cost(planned, store, options.tflops or plan.TFLOPS)
    if options.json:
        print(json.dumps(table.to_dict("records"), indent=2, ensure_ascii=False))
    else:
        print("nothing is missing" if table.empty else table.to_string(index=False))
    if options.out:
        plan.write(planned, options.out)
    return 0


def register(options: argparse.Namespace) -> int:
    """Register rules, and print which."""
    from reluprime.evidence import registry
    from reluprime.report.scorecard import CLAIMS, OURS

    claims = {claim.id: claim for claim in (*CLAIMS, *OURS)}
    if unknown := {*options.ids} - claims.keys():
        raise ValueError(f"no claim {', '.join(unknown)}; choose from {', '.join(claims)}")
    names = registry.register([claims[i] for i in options.ids or claims], options.reason)
    print("\n".join(names) or "every rule is registered")
    return 0
