"""Attack trained networks, also with images made on another network."""

from __future__ import annotations

import argparse

from nni_robust.command.options import add_job_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    add_job_arguments(parser, "networks, target, source and evaluator")


def run(given: argparse.Namespace) -> int:
    """Run the command, and return its exit status."""
    from nni_robust.command.summary import run_and_summarize

    run_and_summarize("attack", given)
    return 0
