"""The command line: `nni-robust` or `python -m nni_robust`.

:mod:`nni_robust.command.arguments` lists the commands. Only the module of the command that runs is
imported, because torch and NNI take seconds to load.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence

from nni_robust.check import SettingError
from nni_robust.command.arguments import WRONG_INPUT, parser

_MODULES = {**dict.fromkeys(("search", "train", "attack", "trial"), "job"), "plot": "report"}
"""Modules of commands that do not have one of their own name."""

# Exit statuses: 0 success; 1 the experiment, the comparison or a check failed; 2 wrong input;
# 3 timeout; 130 interrupted; 143 terminated.
_INTERRUPTED = 130
_TERMINATED = 143


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, and return its exit status."""
    given = parser().parse_args(arguments)
    # NNI warns about every class of torch that is newer than NNI.
    warnings.filterwarnings("ignore", ".*is found to be not a nn.Module")
    module = _MODULES.get(given.command, given.command)
    try:
        status: int = importlib.import_module(f"nni_robust.command.{module}").run(given)
        return status
    except (SettingError, OSError, FloatingPointError) as error:  # the last: a loss became NaN
        print(f"nni-robust {given.command}: {error}", file=sys.stderr)
        return WRONG_INPUT
    except KeyboardInterrupt:
        print(f"nni-robust {given.command}: interrupted", file=sys.stderr)
        return _INTERRUPTED
    except SystemExit as end:
        # Lightning ends a terminated training without a status, which NNI takes for a success.
        if end.code is not None:
            raise
        return _TERMINATED


if __name__ == "__main__":
    sys.exit(main())
