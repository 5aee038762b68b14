"""Run one trial; NNI's manager calls this."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    parser.add_argument("--directory", help="folder of the results, as in the experiment's file")


def run(given: argparse.Namespace) -> int:
    """Run the command, and return its exit status."""
    from nni_robust.manager.trial import run_trial

    run_trial(given.directory)
    return 0
