"""The progress of an experiment, as text: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

from typing import TextIO

from tqdm import tqdm

from nni_robust.manager.client import Trial
from nni_robust.manager.snapshot import Snapshot


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
