"""The command `wait`: follow an experiment to its end."""

from __future__ import annotations

import argparse
import sys

from nni_robust.command.summary import results_summary
from nni_robust.manager.experiments import find_experiment
from nni_robust.manager.follow import follow


def run(given: argparse.Namespace) -> int:
    """Follow an experiment, print its results, and return the exit status of its outcome."""
    experiment = find_experiment(given.id)
    print(f"experiment {experiment.id}: http://localhost:{experiment.port}", file=sys.stderr)
    outcome = follow(experiment, timeout=given.timeout)
    print(outcome.message)
    if outcome.results is not None:
        done = outcome.exit_status == 0
        print(f"\n{results_summary(outcome.results)}" if done else f"results: {outcome.results}")
    return outcome.exit_status
