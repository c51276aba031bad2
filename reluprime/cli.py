"""The command line: `reluprime check ...`, or `python -m reluprime check ...`."""

import argparse

from reluprime.check import command


def main(arguments: list[str] | None = None) -> int:
    """Run the command that `arguments` (by default those of the shell) ask for; its exit status."""
    parser = argparse.ArgumentParser("reluprime", description="Does ReLU'(0) matter?")
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser(
        "check", help="does it matter for a model?", description=command.DOC
    )
    command.add_options(check)
    return command.main(parser.parse_args(arguments))
