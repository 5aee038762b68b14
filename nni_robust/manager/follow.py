"""Following an experiment of NNI's manager to its end, with a true exit status.

``nnictl create`` returns 0 whatever comes of the experiment, and the manager's ``DONE`` may mean
that every trial failed. Here an experiment is watched to its end (`follow`) and judged (`Outcome`).
"""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

from nni_robust.manager.experiments import (
    ExperimentEntry,
    Snapshot,
    Trial,
    default_metric,
    look,
    read_manifest,
)

_ENDED = ("ERROR", "STOPPED", "VIEWED")
"""Statuses of the manager after which nothing more happens."""

_REPORT = "Report error to NNI manager: "
"""What NNI writes into the tuner's log before the reason."""

_PATIENCE = 3
"""Polls in a row that must agree before silence, or a tuner without trials, counts as the end.

The manager starts a waiting trial within half a second, unseen over REST until then.
"""


@dataclass(frozen=True)
class Outcome:
    """How an experiment ended.

    Parameters
    ----------
    status
        The manager's last status, or ``GONE`` if it vanished, or ``TIMEOUT``.
    succeeded, failed, other
        Numbers of trials; *other* are cancelled, stopped early, or not over.
    errors
        What the manager holds against the experiment.
    best
        The succeeded trial with the largest ``default``, None if there is none.
    message
        One line for the reader: what came of it, and where to look if it failed.
    """

    status: str
    succeeded: int
    failed: int
    other: int
    errors: tuple[str, ...]
    best: Trial | None
    message: str

    @property
    def exit_status(self) -> int:
        """0 if the experiment came to its end with a succeeded trial; 3 on timeout; else 1."""
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
    """Watch an experiment until it ends, and say how it ended.

    Parameters
    ----------
    experiment
        What to watch; see `nni_robust.manager.experiments.find_experiment`.
    timeout
        Seconds after which to give up, None for never. The experiment itself goes on.
    poll
        Seconds between two looks.
    stream
        Where progress is shown, None for standard error: a bar on a terminal, else one line a
        finished trial.

    Notes
    -----
    A tuner that has no more trials before ``maxTrialNumber`` leaves the manager in
    ``TUNER_NO_MORE_TRIAL`` for ever; once no trial is running, that is the end as well.
    """
    if not poll > 0:
        raise ValueError(f"poll must be a positive number of seconds, got {poll!r}.")
    if timeout is not None and not timeout >= 0:
        raise ValueError(f"timeout must be None or a number of seconds >= 0, got {timeout!r}.")
    deadline = math.inf if timeout is None else time.monotonic() + timeout
    stream = sys.stderr if stream is None else stream
    last = Snapshot("UNKNOWN", (), None, (), {})
    silent = settled = 0  # polls in a row without answer, or without anything left to wait for
    progress = _Bar(stream) if stream.isatty() else _Lines(stream)
    try:
        while True:
            seen = look(experiment)
            silent = 0 if seen is not None else silent + 1
            if seen is not None:
                settled = settled + 1 if _idle(seen) and len(seen.trials) == len(last.trials) else 0
                last = seen
                progress.show(last)
            if last.status in _ENDED or settled >= _PATIENCE:
                return _outcome(experiment, last, last.status)
            if silent >= _PATIENCE:
                return _outcome(experiment, last, _status_of_a_lost_manager(experiment))
            if time.monotonic() >= deadline:
                return _outcome(experiment, last, "TIMEOUT")
            time.sleep(max(0.0, min(poll, deadline - time.monotonic())))
    finally:
        progress.close()


def _idle(seen: Snapshot) -> bool:
    """Whether nothing is left to do, unless the tuner is about to say that too little was done."""
    return seen.status == "DONE" or (
        seen.status == "TUNER_NO_MORE_TRIAL" and seen.num_finished == len(seen.trials)
    )


def _status_of_a_lost_manager(experiment: ExperimentEntry) -> str:
    """Tell a manager that was stopped, which writes so into the manifest, from one that died."""
    entry = read_manifest().get(experiment.id, {})
    return "STOPPED" if entry.get("status") in ("STOPPING", "STOPPED") else "GONE"


class _Bar:
    """Progress on a terminal."""

    def __init__(self, stream: TextIO) -> None:
        # No rate and no time left: the trials of a search differ too much in length.
        self._bar = tqdm(
            file=stream, bar_format="{desc}: {n_fmt}/{total_fmt} |{bar}| {elapsed}{postfix}"
        )

    def show(self, seen: Snapshot) -> None:
        parts = []
        for trial in seen.trials:
            if trial.status == "RUNNING":
                parts.append(f"{trial.title} {_number(seen.latest.get(trial.id))}".rstrip())
        if seen.best is not None:
            parts.append(f"best {_number(default_metric(seen.best.metrics))}")
        self._bar.total = seen.max_trials
        self._bar.n = seen.num_finished
        self._bar.set_description_str(seen.status, refresh=False)
        self._bar.set_postfix_str("; ".join(parts))

    def close(self) -> None:
        self._bar.close()


class _Lines:
    """Progress where lines cannot be rewritten: a file, a pipe."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._told: set[str] = set()

    def show(self, seen: Snapshot) -> None:
        for trial in seen.trials:
            if trial.finished and trial.id not in self._told:
                self._told.add(trial.id)
                default = _number(default_metric(trial.metrics))
                self._stream.write(
                    f"{len(self._told)}/{seen.max_trials or '?'}: {trial.title} {trial.status}"
                    f"{f', default {default}' if default else ''}\n"
                )
        self._stream.flush()

    def close(self) -> None:
        self._stream.flush()


def _number(value: float | None) -> str:
    """Write a metric with four digits, and a missing one as nothing."""
    return "" if value is None else f"{value:.4g}"


def _outcome(experiment: ExperimentEntry, last: Snapshot, status: str) -> Outcome:
    """Sum up what was seen last."""
    succeeded, failed = last.count("SUCCEEDED"), last.count("FAILED")
    return Outcome(
        status=status,
        succeeded=succeeded,
        failed=failed,
        other=len(last.trials) - succeeded - failed,
        errors=last.errors,
        best=last.best,
        message=_message(experiment, last, status),
    )


def _message(experiment: ExperimentEntry, last: Snapshot, status: str) -> str:
    """Say in one line what came of the experiment, and where the reason lies if it failed."""
    name = f"experiment {experiment.id}"
    manager_log = experiment.directory / "log" / "nnimanager.log"
    counts = f"{last.count('SUCCEEDED')} of {len(last.trials)} trials succeeded"
    if status == "GONE":
        return f"{name}: its manager does not answer on port {experiment.port}; see {manager_log}."
    if status == "STOPPED":
        return f"{name} was stopped: {counts}; 'nnictl resume {experiment.id}' goes on with it."
    if status == "VIEWED":
        return f"{name} is open for viewing only: {counts}."
    if status == "TIMEOUT":
        limit = "" if last.max_trials is None else f" of {last.max_trials}"
        return f"{name} goes on, status {last.status}: {last.num_finished}{limit} trials are over."
    if status == "ERROR" or last.errors:
        log = _log_of(experiment, last.errors)
        return f"{name} failed: {_one_line(_told_by_tuner(log) or last.errors)} See {log}."
    if last.count("SUCCEEDED") == 0:
        return f"{name} failed: {counts}.{_failure_of_a_trial(last)}"
    best = last.best
    praise = (
        f", the best {best.title}, default {_number(default_metric(best.metrics))}" if best else ""
    )
    return f"{name} is done: {counts}{praise}.{_failure_of_a_trial(last)}"


def _one_line(errors: tuple[str, ...]) -> str:
    """Join the manager's errors in one line that ends with a full stop."""
    text = " ".join(" ".join(errors).split()) or "the manager gives no reason"
    return text if text.endswith(".") else f"{text}."


def _told_by_tuner(log: Path) -> tuple[str, ...]:
    """Find what the tuner gave as its reason, which NNI keeps in the log alone."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    return tuple(line.split(_REPORT)[1] for line in lines if _REPORT in line)[-1:]


def _log_of(experiment: ExperimentEntry, errors: tuple[str, ...]) -> Path:
    """Choose the log to read: the tuner's if the manager blames it, else the manager's own."""
    text = " ".join(errors).lower()
    tuner = "tuner" in text or "dispatcher" in text
    return experiment.directory / "log" / ("dispatcher.log" if tuner else "nnimanager.log")


def _failure_of_a_trial(last: Snapshot) -> str:
    """Name the last failed trial, its last words and its log; nothing if none failed."""
    failed = [trial for trial in last.trials if trial.status == "FAILED"]
    if not failed:
        return ""
    trial = failed[-1]
    if trial.directory is None:
        return f" Failed: {trial.title}; its log is on the web page."
    log = trial.directory / "trial.stderr"
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.exists() else []
    words = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f" Failed: {trial.title}{f' with {words!r}' if words else ''}; see {log}."
