"""The command line: `reluprime COMMAND ...`, or `python -m reluprime COMMAND ...`.

Each command imports what it needs when it runs: `check` works with the package's own dependencies,
the others say which extra is missing.
"""

import argparse
import sys

from reluprime.cli import check, computing, reading


def main(arguments: list[str] | None = None) -> int:
    """Run the command that `arguments` (by default those of the shell) ask for.

    Returns the exit status: 0, 1 where a command found something wrong, 2 for what cannot be done
    as asked; the message is then on stderr.
    """
    parser = argparse.ArgumentParser("reluprime", description="Does ReLU'(0) matter?")
    commands = parser.add_subparsers(dest="command", required=True)
    for module in (check, reading, computing):
        module.add_commands(commands)
    options = parser.parse_args(arguments)
    try:
        return options.run(options)
    except ModuleNotFoundError as error:
        _fail(options.command, f"{error.name} is missing: pip install -e '.[report]' in a clone")
    except (ValueError, OSError) as error:
        _fail(options.command, "\n".join([str(error), *getattr(error, "__notes__", [])]))
    return 2


def _fail(command: str, message: str) -> None:
    print(f"reluprime {command}: {message}", file=sys.stderr)
