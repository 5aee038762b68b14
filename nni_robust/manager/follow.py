"""Following an experiment of NNI's manager to its end.

``nnictl create`` returns 0 whatever comes of the experiment, and the manager's ``DONE`` may mean
that every trial failed. :func:`follow` watches an experiment to its end and judges it.
"""

from __future__ import annotations

import math
import sys
import time
from typing import TextIO

from nni_robust.check import SettingError
from nni_robust.manager.experiments import ExperimentEntry, read_manifest
from nni_robust.manager.outcome import Outcome, outcome_of
from nni_robust.manager.progress import ProgressBar, ProgressLines
from nni_robust.manager.snapshot import Snapshot, take_snapshot

_ENDED = ("ERROR", "STOPPED", "VIEWED")
"""Statuses of the manager after which nothing more happens."""

_PATIENCE = 3
"""Polls in a row without an answer, or with ``DONE``, that count as the end."""

_UNSEEN = 15
"""Polls in a row with an exhausted tuner and no unfinished trial that count as the end.

The manager does not list a trial before it has started it, which may take seconds on a busy
machine.
"""


def follow(
    experiment: ExperimentEntry,
    *,
    timeout: float | None = None,
    poll: float = 1.0,
    stream: TextIO | None = None,
) -> Outcome:
    """Watch an experiment until it ends, and return how it ended.

    Parameters
    ----------
    experiment
        What to watch; see :func:`nni_robust.manager.experiments.find_experiment`.
    timeout
        Seconds after which to give up, None for never. The experiment itself continues.
    poll
        Seconds between two polls of the manager.
    stream
        Where progress is shown, None for standard error: a bar on a terminal, else one line per
        finished trial.

    Notes
    -----
    A tuner that has no more trials before ``maxTrialNumber`` leaves the manager in
    ``TUNER_NO_MORE_TRIAL`` forever; once no trial is running, that is the end as well.
    """
    if not poll > 0:
        raise SettingError(f"must be a positive number of seconds, got {poll!r}.", "poll")
    if timeout is not None and not timeout >= 0:
        raise SettingError(f"must be None or a number of seconds >= 0, got {timeout!r}.", "timeout")
    deadline = math.inf if timeout is None else time.monotonic() + timeout
    stream = sys.stderr if stream is None else stream
    last = Snapshot()
    silent = settled = 0  # polls in a row without answer, or without anything left to wait for
    progress = ProgressBar(stream) if stream.isatty() else ProgressLines(stream)
    try:
        while True:
            seen = take_snapshot(experiment)
            silent = 0 if seen is not None else silent + 1
            if seen is not None:
                settled = settled + 1 if _idle(seen) and len(seen.trials) == len(last.trials) else 0
                last = seen
                progress.show(last)
            patience = _PATIENCE if last.status == "DONE" else _UNSEEN
            if last.status in _ENDED or settled >= patience:
                return outcome_of(experiment, last, last.status)
            if silent >= _PATIENCE:
                return outcome_of(experiment, last, _status_of_a_lost_manager(experiment))
            if time.monotonic() >= deadline:
                return outcome_of(experiment, last, "TIMEOUT")
            time.sleep(max(0.0, min(poll, deadline - time.monotonic())))
    finally:
        progress.close()


def _idle(seen: Snapshot) -> bool:
    """Whether nothing is left to do, unless the tuner is about to complain of too few trials."""
    return seen.status == "DONE" or (
        seen.status == "TUNER_NO_MORE_TRIAL" and seen.num_finished == len(seen.trials)
    )


def _status_of_a_lost_manager(experiment: ExperimentEntry) -> str:
    """Tell a manager that was stopped, which writes so into the manifest, from one that died."""
    entry = read_manifest().get(experiment.id, {})
    return "STOPPED" if entry.get("status") in ("STOPPING", "STOPPED") else "GONE"
