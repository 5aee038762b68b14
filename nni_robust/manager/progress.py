"""The progress of an experiment: snapshots of it, shown as a bar on a terminal or as lines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import requests
from tqdm import tqdm

from nni_robust.manager.client import Client, Trial
from nni_robust.manager.experiments import ExperimentEntry, configured_results


@dataclass(frozen=True)
class Snapshot:
    """An experiment as its manager described it at one moment.

    Attributes
    ----------
    status, errors
        The manager's status, and its errors.
    max_trials
        ``maxTrialNumber`` at that moment, None if there is no limit.
    trials
        All trials so far, in the order in which they were started.
    results
        Folder of the experiment's results, whether or not it exists; None if it is not known.
    """

    status: str = "UNKNOWN"
    errors: tuple[str, ...] = ()
    max_trials: int | None = None
    trials: tuple[Trial, ...] = ()
    results: Path | None = None

    def count(self, status: str) -> int:
        """Return the number of trials of a status."""
        return sum(trial.status == status for trial in self.trials)

    @property
    def num_finished(self) -> int:
        """Number of trials that have ended."""
        return sum(trial.finished for trial in self.trials)

    @property
    def best(self) -> Trial | None:
        """The succeeded trial with the largest final ``default``, None if there is none.

        In a search by stages only candidates report ``default``; see
        :func:`nni_robust.space.stage.reported`.
        """
        ranked = [
            (trial.default, trial)
            for trial in self.trials
            if trial.status == "SUCCEEDED" and trial.default is not None
        ]
        return max(ranked, key=lambda pair: pair[0])[1] if ranked else None


def take_snapshot(experiment: ExperimentEntry) -> Snapshot | None:
    """Return a snapshot; None if the manager does not answer, or manages another experiment."""
    client = Client(experiment.address)
    try:
        status = client.status()  # first: the trials are never older than the status
        profile = client.profile()
        trials = client.trials()
    except requests.RequestException:
        return None
    if profile.get("id") != experiment.id:
        return None
    return Snapshot(
        status=status.name,
        errors=status.errors,
        max_trials=profile["params"].get("maxTrialNumber"),
        trials=tuple(trials),
        results=configured_results(experiment, profile),
    )


class ProgressBar:
    """Progress on a terminal: one line that is rewritten.

    Parameters
    ----------
    stream
        The terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        # No rate and no remaining time: the trials of a search differ too much in length.
        self._bar = tqdm(
            file=stream, bar_format="{desc}: {n_fmt}/{total_fmt} |{bar}| {elapsed}{postfix}"
        )

    def show(self, seen: Snapshot) -> None:
        """Show the running trials and the best result so far."""
        parts = [
            f"{trial_title(trial)} {format_metric(trial.latest)}".rstrip()
            for trial in seen.trials
            if trial.status == "RUNNING"
        ]
        if seen.best is not None:
            parts.append(f"best {format_metric(seen.best.default)}")
        self._bar.total = seen.max_trials
        self._bar.n = seen.num_finished
        self._bar.set_description_str(seen.status, refresh=False)
        self._bar.set_postfix_str("; ".join(parts))

    def close(self) -> None:
        """Leave the line as it is."""
        self._bar.close()


class ProgressLines:
    """Progress in a file or a pipe, where lines cannot be rewritten: one per finished trial.

    Parameters
    ----------
    stream
        The file.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._told: set[str] = set()

    def show(self, seen: Snapshot) -> None:
        """Write a line for each trial that has ended since the last call."""
        for trial in seen.trials:
            if trial.finished and trial.id not in self._told:
                self._told.add(trial.id)
                metric = format_metric(trial.latest)
                label = "robust accuracy" if trial.stage else "default"
                self._stream.write(
                    f"{len(self._told)}/{seen.max_trials or '?'}: {trial_title(trial)} "
                    f"{trial.status}{f', {label} {metric}' if metric else ''}\n"
                )
        self._stream.flush()

    def close(self) -> None:
        """Write what is buffered."""
        self._stream.flush()


def trial_title(trial: Trial) -> str:
    """Return number, identifier and, if there is one, stage of a trial, for messages."""
    stage = f", {trial.stage}" if trial.stage else ""
    return f"trial {trial.number} ({trial.id}{stage})"


def format_metric(value: float | None) -> str:
    """Return a metric with four digits, and an empty text for None."""
    return "" if value is None else f"{value:.4g}"
