"""The commands `search`, `train`, `attack` and `trial`: run one job in this process."""

from __future__ import annotations

import argparse

from nni_robust.command.summary import results_summary
from nni_robust.manager.trial import in_trial, run_job, run_trial


def run(given: argparse.Namespace) -> int:
    """Run a trial, or the job of a settings file, and print the results of a job."""
    if given.command == "trial":
        run_trial(given.directory)
        return 0
    results = run_job(given.command, given.file, given.directory, given.scale)
    if not in_trial():
        print(results_summary(results))
    return 0
