"""Finding NNI's manager of an experiment, and reading what it tells over REST."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

UNFINISHED = ("WAITING", "RUNNING", "UNKNOWN", "ADD_RESUMED")
"""Statuses of a trial that is not over."""

_REQUEST_TIMEOUT = 20.0
"""Seconds to wait for an answer; what NNI itself allows."""


@dataclass(frozen=True)
class ExperimentEntry:
    """Where an experiment is found: one entry of NNI's list of experiments.

    Parameters
    ----------
    id
        Identifier given by NNI.
    name
        The file's ``experimentName``, empty if it has none.
    port
        Port of the manager's web page and REST interface.
    url_prefix
        What ``nnictl create --url_prefix`` put before every path, without outer slashes.
    directory
        Folder with the logs, the database and the trials.
    """

    id: str
    name: str
    port: int
    url_prefix: str
    directory: Path

    @property
    def api(self) -> str:
        """The address of the REST interface, without a final slash."""
        parts = (f"http://127.0.0.1:{self.port}", self.url_prefix, "api/v1/nni")
        return "/".join(part for part in parts if part)


@dataclass(frozen=True)
class Trial:
    """A trial, as the manager tells of it.

    Parameters
    ----------
    id, number
        NNI's identifier, and the "Trial No." of the web page (which NNI gives twice after a
        resume).
    status
        ``WAITING``, ``RUNNING``, ``SUCCEEDED``, ``FAILED``, ``USER_CANCELED``, ...
    parameters
        What it was given. Of a trial that reported nothing, what NNI meant to give it.
    metrics
        The final report; a plain number stands under ``default``. Empty if there was none.
    directory
        Folder with its logs, None if the manager does not name one.
    """

    id: str
    number: int | None
    status: str
    parameters: dict[str, Any]
    metrics: dict[str, Any]
    directory: Path | None

    @property
    def finished(self) -> bool:
        """Whether it is over, well or not."""
        return self.status not in UNFINISHED

    @property
    def title(self) -> str:
        """How a message names it: number, identifier, and the stage of the search if it has one."""
        stage = self.parameters.get("stage")
        return f"trial {self.number} ({self.id}{f', {stage}' if stage else ''})"


@dataclass(frozen=True)
class Snapshot:
    """What one look at the manager saw.

    Parameters
    ----------
    status, errors
        The manager's status, and what it holds against the experiment.
    max_trials
        The ``maxTrialNumber`` of the moment, None if there is no limit.
    trials
        Every trial so far, in the order of their start.
    latest
        The last intermediate ``default`` of each trial that reported one, by its id.
    """

    status: str
    errors: tuple[str, ...]
    max_trials: int | None
    trials: tuple[Trial, ...]
    latest: dict[str, float]

    def count(self, status: str) -> int:
        """Count the trials of a status."""
        return sum(trial.status == status for trial in self.trials)

    @property
    def num_finished(self) -> int:
        """Count the trials that are over."""
        return sum(trial.finished for trial in self.trials)

    @property
    def best(self) -> Trial | None:
        """The succeeded trial with the largest ``default``."""
        ranked = [
            (value, trial)
            for trial in self.trials
            if trial.status == "SUCCEEDED" and (value := default_metric(trial.metrics)) is not None
        ]
        return max(ranked, key=lambda pair: pair[0])[1] if ranked else None


def find_experiment(experiment_id: str | None) -> ExperimentEntry:
    """Look up an experiment in NNI's list, ``~/nni-experiments/.experiment``.

    The file is read without NNI's lock, so that no other process can make this wait.

    Parameters
    ----------
    experiment_id
        Its identifier, or None for the newest experiment whose manager runs.
    """
    entries = read_manifest()
    alive = {key: entry for key, entry in entries.items() if _has_manager(entry)}
    if experiment_id is None:
        if not alive:
            raise ValueError(
                f"there must be an experiment whose manager runs, found none among "
                f"{sorted(entries)}. Start one with 'nnictl create --config FILE'."
            )
        experiment_id = max(alive, key=lambda key: alive[key].get("startTime") or 0)
    if experiment_id not in entries:
        raise ValueError(
            f"experiment_id must be one of {sorted(entries)}, the experiments that NNI knows of, "
            f"got {experiment_id!r}."
        )
    if experiment_id not in alive:
        raise ValueError(
            f"experiment {experiment_id!r} must have a manager that runs, but is stopped, or runs "
            f"within a Python program. 'nnictl resume {experiment_id}' goes on with a stopped one."
        )
    entry = entries[experiment_id]
    return ExperimentEntry(
        id=experiment_id,
        name=entry.get("experimentName") or "",
        port=entry["port"],
        url_prefix=(entry.get("prefixUrl") or "").strip("/"),
        directory=Path(entry["logDir"]) / experiment_id,
    )


def _has_manager(entry: dict[str, Any]) -> bool:
    """Whether a manager should answer: an experiment under NNI's sequential engine has none."""
    return entry.get("status") != "STOPPED" and isinstance(entry.get("port"), int)


def read_manifest() -> dict[str, dict[str, Any]]:
    """Read NNI's list of experiments; a reader may meet it half written, so try again."""
    path = Path.home() / "nni-experiments" / ".experiment"
    if not path.exists():
        return {}
    for _ in range(20):
        try:
            entries = json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError:
            time.sleep(0.1)
        else:
            return {key: entry for key, entry in entries.items() if isinstance(entry, dict)}
    raise ValueError(f"{path} must hold JSON, NNI's list of experiments, but it is damaged.")


def look(experiment: ExperimentEntry) -> Snapshot | None:
    """Ask the manager once; None if it does not answer, or is another experiment's."""
    try:
        with local_session() as session:

            def get(path: str) -> Any:
                answer = session.get(f"{experiment.api}/{path}", timeout=_REQUEST_TIMEOUT)
                answer.raise_for_status()
                return answer.json()

            # The status comes first, so that the trials are never older than it.
            status, profile = get("check-status"), get("experiment")
            metrics, jobs = get("metric-data-latest"), get("trial-jobs")
    except requests.RequestException:
        return None
    if profile.get("id") != experiment.id:
        return None
    parameters = _parameters_of_trials(jobs, metrics)
    return Snapshot(
        status=status["status"],
        errors=tuple(status["errors"]),
        max_trials=profile["params"].get("maxTrialNumber"),
        trials=tuple(_trial(job, parameters[job["trialJobId"]]) for job in jobs),
        latest=_latest_intermediate(metrics),
    )


def _parameters_of_trials(
    jobs: list[dict[str, Any]], metrics: list[dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Give the parameters of each trial, by its id.

    NNI hands parameters to its trials in the order in which they ask, but notes them in the order
    in which it started them: of trials that start together, one may run the parameters noted for
    another. A trial's metrics carry the id of the parameters that it had, and that decides.
    """
    noted: dict[str, dict[str, Any]] = {}
    by_number: dict[str, dict[str, Any]] = {}
    for job in jobs:
        strings = job.get("hyperParameters")  # JSON strings inside JSON
        record = json.loads(strings[0]) if strings else {"parameter_id": None, "parameters": {}}
        noted[job["trialJobId"]] = record
        by_number[str(record["parameter_id"])] = record
    final = [metric for job in jobs for metric in job.get("finalMetricData", [])]
    for metric in metrics + final:
        record, number = noted[metric["trialJobId"]], metric["parameterId"]
        if number in by_number and number != str(record["parameter_id"]):
            noted[metric["trialJobId"]] = by_number[number]
    return {trial_id: record["parameters"] for trial_id, record in noted.items()}


def _trial(job: dict[str, Any], parameters: dict[str, Any]) -> Trial:
    """Read one element of ``/trial-jobs``."""
    final = job.get("finalMetricData")
    folder = job.get("logPath")
    return Trial(
        id=job["trialJobId"],
        number=job.get("sequenceId"),
        status=job["status"],
        parameters=parameters,
        metrics=_metrics(final[-1]["data"]) if final else {},
        directory=Path(folder) if folder else None,
    )


def local_session() -> requests.Session:
    """Open a session to a manager on this machine, in whose addresses a proxy has no part."""
    session = requests.Session()
    session.trust_env = False
    return session


def decode_report(data: str) -> Any:
    """Decode what a trial reported, which NNI encodes as JSON twice."""
    return json.loads(json.loads(data))


def _metrics(data: str) -> dict[str, Any]:
    """Decode a metric; a plain number stands under ``default``."""
    value = decode_report(data)
    return value if isinstance(value, dict) else {"default": value}


def default_metric(metrics: dict[str, Any]) -> float | None:
    """Give the metric that NNI ranks by, None if it is missing or no number."""
    value = metrics.get("default")
    return float(value) if isinstance(value, int | float) and not math.isnan(value) else None


def _latest_intermediate(metrics: list[dict[str, Any]]) -> dict[str, float]:
    """Give the last intermediate result of every trial that has one."""
    latest: dict[str, float] = {}
    for metric in sorted(metrics, key=lambda metric: metric["sequence"]):
        value = default_metric(_metrics(metric["data"])) if metric["type"] == "PERIODICAL" else None
        if value is not None:
            latest[metric["trialJobId"]] = value
    return latest
