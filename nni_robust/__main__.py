"""The command line: `nni-robust` or `python -m nni_robust`.

Each command is a module of :mod:`nni_robust.command`. Importing those loads neither torch nor NNI,
which take seconds: only running a command does.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from types import ModuleType
from typing import NoReturn

from nni_robust.check import SettingError
from nni_robust.command import (
    attack,
    audit,
    draw,
    evaluate,
    plot,
    report,
    schema,
    search,
    train,
    trial,
    validate,
    verify,
    wait,
)

COMMANDS: dict[str, ModuleType] = {
    "validate": validate,
    "wait": wait,
    "search": search,
    "train": train,
    "attack": attack,
    "evaluate": evaluate,
    "verify": verify,
    "audit": audit,
    "report": report,
    "plot": plot,
    "draw": draw,
    "schema": schema,
    "trial": trial,
}

# Exit statuses: 0 success; 1 the experiment, the comparison or a check failed; 2 wrong input;
# 3 timeout; 130 interrupted; 143 terminated.
_WRONG_INPUT = 2
_INTERRUPTED = 130
_TERMINATED = 143


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, and return its exit status."""
    given = _parser().parse_args(arguments)
    # NNI warns of every class of torch that is newer than NNI.
    warnings.filterwarnings("ignore", ".*is found to be not a nn.Module")
    try:
        status: int = COMMANDS[given.command].run(given)
        return status
    except (SettingError, OSError, FloatingPointError) as error:  # the last: a loss became NaN
        print(f"nni-robust {given.command}: {error}", file=sys.stderr)
        return _WRONG_INPUT
    except KeyboardInterrupt:
        print(f"nni-robust {given.command}: interrupted", file=sys.stderr)
        return _INTERRUPTED
    except SystemExit as end:
        # Lightning ends a terminated training without a status, which NNI takes for a success.
        if end.code is not None:
            raise
        return _TERMINATED


class _Parser(argparse.ArgumentParser):
    """A parser that refuses wrong arguments in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(_WRONG_INPUT, f"{self.prog}: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="nni-robust", description="Find, evaluate and audit robust networks.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, module in COMMANDS.items():
        description = str(module.__doc__)
        command = commands.add_parser(
            name,
            help=description.partition("\n")[0],
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
    return parser


if __name__ == "__main__":
    sys.exit(main())
