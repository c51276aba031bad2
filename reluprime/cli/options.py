"""Options that several commands have."""

import argparse
from typing import Any

MINE = "_build/mine"  # a reader's own records: the committed ones change only when named


def add_store(parser: argparse.ArgumentParser, default: str) -> None:
    """Add --store."""
    parser.add_argument(
        "--store",
        default=default,
        help=f"folder of the records; a relative one starts at the repository ({default})",
    )


def filled_store(folder: str):
    """The store in a folder; raises ValueError where it has no records, as after a slip."""
    from reluprime.records import Store

    store = Store(folder)
    if not store.studies():
        raise ValueError(f"there are no records in {store.path}")
    return store


def add_parameters(parser: argparse.ArgumentParser) -> None:
    """Add --page and -p."""
    parser.add_argument("--page", nargs="+", default=[""], help="pages whose names start so (all)")
    parser.add_argument(
        "-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), dest="parameters",
        help="a parameter's value, as YAML, in the place of the profile's",
    )  # fmt: skip


def parameters(options: argparse.Namespace) -> dict[str, Any]:
    """{name: value} of the -p of a command."""
    import yaml

    found = {}
    for name, value in options.parameters:
        try:
            found[name] = yaml.safe_load(value)
        except (yaml.YAMLError, RecursionError) as error:
            raise ValueError(f"-p {name}: the value is not YAML: {error}") from error
    return found


def at_least_one(text: str) -> int:
    """The type of an option that counts something."""
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


def seconds(text: str) -> float:
    """The type of an option that says how long."""
    number = _number(text)
    if not number >= 0:
        raise argparse.ArgumentTypeError(f"{text} is not 0 or more")
    return number


def positive(text: str) -> float:
    """The type of an option that is more than 0."""
    number = _number(text)
    if not number > 0:
        raise argparse.ArgumentTypeError(f"{text} is not more than 0")
    return number


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
