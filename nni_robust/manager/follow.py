"""Follow an experiment of NNI's manager to its end, and say how it ended.

``nnictl create`` returns 0 whatever comes of the experiment, and the manager's ``DONE`` may mean
that every trial failed. :func:`follow` watches an experiment to its end and judges it.
"""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from nni_robust.check import SettingError, one_line
from nni_robust.manager.client import Trial
from nni_robust.manager.experiments import ExperimentEntry, read_manifest
from nni_robust.manager.progress import (
    ProgressBar,
    ProgressLines,
    Snapshot,
    format_metric,
    take_snapshot,
    trial_title,
)

_ENDED = ("ERROR", "STOPPED", "VIEWED")
"""Statuses of the manager after which nothing more happens."""

_PATIENCE = 3
"""Polls in a row without an answer, or with ``DONE``, that count as the end."""

_UNSEEN = 15
"""Polls in a row with an exhausted tuner and no unfinished trial that count as the end.

The manager does not list a trial before it has started it, which may take seconds on a busy
machine.
"""

_REPORT = "Report error to NNI manager: "
"""What NNI writes into the tuner's log before an error."""


@dataclass(frozen=True)
class Outcome:
    """How an experiment ended.

    Attributes
    ----------
    status
        The manager's last status, or ``GONE`` if it vanished, or ``TIMEOUT``.
    succeeded, failed, other
        Numbers of trials; *other* counts those cancelled, stopped early, or unfinished.
    errors
        The manager's errors.
    best
        The succeeded trial with the largest final ``default``, None if there is none. In a search
        by stages it is the best candidate on validation images.
    message
        One line: what came of the experiment, and which log to read if it failed.
    results
        Folder of the results, None if there is none.
    """

    status: str
    succeeded: int
    failed: int
    other: int
    errors: tuple[str, ...]
    best: Trial | None
    message: str
    results: Path | None

    @property
    def exit_status(self) -> int:
        """0 if the experiment ended with at least one succeeded trial; 3 on timeout; else 1."""
        if self.status == "TIMEOUT":
            return 3
        ended = self.status in ("DONE", "TUNER_NO_MORE_TRIAL")
        return 0 if ended and self.succeeded > 0 and not self.errors else 1


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
    ``TUNER_NO_MORE_TRIAL`` forever; once no trial is running, that is also the end.
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
                return _outcome(experiment, last, last.status)
            if silent >= _PATIENCE:
                return _outcome(experiment, last, _status_of_a_lost_manager(experiment))
            if time.monotonic() >= deadline:
                return _outcome(experiment, last, "TIMEOUT")
            time.sleep(max(0.0, min(poll, deadline - time.monotonic())))
    finally:
        progress.close()


def _idle(seen: Snapshot) -> bool:
    """Whether nothing is left to do, unless the tuner is about to complain of too few trials."""
    return seen.status == "DONE" or (
        seen.status == "TUNER_NO_MORE_TRIAL" and seen.num_finished == len(seen.trials)
    )


def _status_of_a_lost_manager(experiment: ExperimentEntry) -> str:
    """Return STOPPED if NNI's list says that the manager was stopped, else GONE."""
    entry = read_manifest().get(experiment.id, {})
    return "STOPPED" if entry.get("status") in ("STOPPING", "STOPPED") else "GONE"


def _outcome(experiment: ExperimentEntry, last: Snapshot, status: str) -> Outcome:
    succeeded, failed = last.count("SUCCEEDED"), last.count("FAILED")
    return Outcome(
        status=status,
        succeeded=succeeded,
        failed=failed,
        other=len(last.trials) - succeeded - failed,
        errors=last.errors,
        best=last.best,
        message=_message(experiment, last, status),
        results=last.results if last.results is not None and last.results.is_dir() else None,
    )


def _message(experiment: ExperimentEntry, last: Snapshot, status: str) -> str:
    name = f"experiment {experiment.id}"
    manager_log = experiment.directory / "log" / "nnimanager.log"
    counts = f"{last.count('SUCCEEDED')} of {len(last.trials)} trials succeeded"
    if status == "GONE":
        return f"{name}: its manager does not answer on port {experiment.port}; see {manager_log}."
    if status == "STOPPED":
        return f"{name} was stopped: {counts}; continue it with 'nnictl resume {experiment.id}'."
    if status == "VIEWED":
        return f"{name} is open for viewing only: {counts}."
    if status == "TIMEOUT":
        limit = "" if last.max_trials is None else f" of {last.max_trials}"
        return (
            f"{name} is still running, status {last.status}: "
            f"{last.num_finished}{limit} trials have ended."
        )
    if status == "ERROR" or last.errors:
        log = _log_of(experiment, last.errors)
        return f"{name} failed: {_reason(_told_by_tuner(log) or last.errors)} See {log}."
    if last.count("SUCCEEDED") == 0:
        return f"{name} failed: {counts}.{_last_failure(last)}"
    return f"{name} is done: {counts}.{_praise(last.best)}{_last_failure(last)}"


def _praise(best: Trial | None) -> str:
    """Name the best trial and its metric."""
    if best is None:
        return ""
    default = format_metric(best.default)
    if best.stage != "candidate":
        return f" Best: {trial_title(best)}, default metric {default}."
    clean = best.metrics.get("clean")
    return (
        f" Best candidate: trial {best.number} ({best.id}), robust accuracy {default}"
        f"{f', clean accuracy {format_metric(clean)}' if clean is not None else ''} "
        "on validation images."
    )


def _reason(errors: tuple[str, ...]) -> str:
    """Join errors in one line that ends with a full stop."""
    text = one_line(" ".join(errors)) or "the manager gives no reason"
    return text if text.endswith(".") else f"{text}."


def _told_by_tuner(log: Path) -> tuple[str, ...]:
    """Return the last error that the tuner reported, which NNI keeps only in the log."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    return tuple(line.split(_REPORT)[1] for line in lines if _REPORT in line)[-1:]


def _log_of(experiment: ExperimentEntry, errors: tuple[str, ...]) -> Path:
    """Choose the log to read: the tuner's if the manager blames it, else the manager's own."""
    text = " ".join(errors).lower()
    tuner = "tuner" in text or "dispatcher" in text
    return experiment.directory / "log" / ("dispatcher.log" if tuner else "nnimanager.log")


def _last_failure(last: Snapshot) -> str:
    """Name the last failed trial, the last line of its log, and the log; else return nothing."""
    failed = [trial for trial in last.trials if trial.status == "FAILED"]
    if not failed:
        return ""
    trial = failed[-1]
    if trial.directory is None:
        return f" Failed: {trial_title(trial)}; its log is on the web page."
    log = trial.directory / "trial.stderr"
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.exists() else []
    words = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f" Failed: {trial_title(trial)}{f' with {words!r}' if words else ''}; see {log}."
