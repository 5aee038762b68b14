"""What an experiment looks like at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import requests

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
