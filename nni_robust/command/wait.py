"""Follow an experiment to its end.

The exit status is 0 if the experiment came to its end, 1 if it failed, and 3 after a timeout.
"""

from __future__ import annotations

import argparse
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    parser.add_argument("id", nargs="?", help="identifier of the experiment (default: the newest)")
    parser.add_argument("--timeout", type=float, help="seconds after which to give up")


def run(given: argparse.Namespace) -> int:
    """Run the command, and return its exit status."""
    from nni_robust.command.summary import results_summary
    from nni_robust.manager.experiments import find_experiment
    from nni_robust.manager.follow import follow

    experiment = find_experiment(given.id)
    print(f"experiment {experiment.id}: http://localhost:{experiment.port}", file=sys.stderr)
    outcome = follow(experiment, timeout=given.timeout)
    print(outcome.message)
    if outcome.results is not None:
        done = outcome.exit_status == 0
        print(f"\n{results_summary(outcome.results)}" if done else f"results: {outcome.results}")
    return outcome.exit_status
