"""How an experiment ended, in one line for the reader and one exit status for the shell."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nni_robust.check import one_line
from nni_robust.manager.client import Trial
from nni_robust.manager.experiments import ExperimentEntry
from nni_robust.manager.progress import format_metric, trial_title
from nni_robust.manager.snapshot import Snapshot

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


def outcome_of(experiment: ExperimentEntry, last: Snapshot, status: str) -> Outcome:
    """Return the outcome of an experiment.

    Parameters
    ----------
    experiment
        The experiment.
    last
        The last snapshot of it.
    status
        Its last status, ``GONE`` or ``TIMEOUT``.
    """
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
