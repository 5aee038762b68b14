"""Run a whole one-shot search, or one trial that is such a search."""

from __future__ import annotations

import argparse

from nni_robust.command.options import add_job_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    add_job_arguments(parser, "data, space, strategy and evaluator")


def run(given: argparse.Namespace) -> int:
    """Run the command, and return its exit status."""
    from nni_robust.command.summary import print_job_summary
    from nni_robust.manager.trial import run_search

    run_search(given.file, given.directory, given.scale)
    print_job_summary(given.file, given.directory)
    return 0
