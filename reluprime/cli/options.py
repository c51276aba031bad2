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

    return {name: yaml.safe_load(value) for name, value in options.parameters}
