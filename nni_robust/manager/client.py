"""The one client of NNI's REST server: what a manager knows of an experiment and its trials."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlparse

import requests
from nni.experiment.data import TrialMetricData

_TIMEOUT = 30.0  # seconds; a manager answers in milliseconds unless it is being stopped
_UNFINISHED = ("WAITING", "RUNNING", "UNKNOWN", "ADD_RESUMED")


@dataclass(frozen=True)
class Trial:
    """A trial as the manager describes it.

    Attributes
    ----------
    id, number
        NNI's identifier, and the "Trial No." of the web page (which NNI assigns twice after a
        resume).
    status
        ``WAITING``, ``RUNNING``, ``SUCCEEDED``, ``FAILED``, ``USER_CANCELED``, ...
    parameter_id, parameters
        The parameters it runs, and the number under which a tuner submitted them. If the trial
        has reported nothing, those that NNI meant to give it. None and empty for a trial without
        parameters.
    intermediates
        The intermediate reports, in order.
    final
        The final report, None if there is none.
    directory
        Folder with its logs, None if the manager does not name one.
    """

    id: str
    number: int | None
    status: str
    parameter_id: int | None
    parameters: dict[str, Any]
    intermediates: tuple[Any, ...] = ()
    final: Any = None
    directory: Path | None = None

    @property
    def finished(self) -> bool:
        """Whether it has ended, successfully or not."""
        return self.status not in _UNFINISHED

    @property
    def stage(self) -> str | None:
        """Stage of the search that the trial carries out, None if its search has no stages."""
        return self.parameters.get("stage")

    @property
    def metrics(self) -> dict[str, Any]:
        """The final report; a plain number is ``default``. Empty if there is none."""
        return _as_dict(self.final)

    @property
    def default(self) -> float | None:
        """The final metric that NNI ranks trials by, None if it is missing or not a number."""
        return _as_number(self.metrics.get("default"))

    @property
    def latest(self) -> float | None:
        """The ``default`` or ``robust`` of the latest report that has one, None if none has."""
        for report in reversed([*self.intermediates, self.final]):
            metrics = _as_dict(report)
            value = _as_number(metrics.get("default", metrics.get("robust")))
            if value is not None:
                return value
        return None


class Status(NamedTuple):
    """State of a manager: NNI's word, such as ``RUNNING`` or ``DONE``, and its errors."""

    name: str
    errors: tuple[str, ...]


@dataclass(frozen=True)
class Client:
    """Connection to the manager of one experiment.

    Parameters
    ----------
    address
        Where the manager listens: ``http://localhost:8080``, plus ``/PREFIX`` if ``nnictl create``
        was given a ``--url_prefix``.
    """

    address: str

    @classmethod
    def of_channel(cls, channel: str) -> Client:
        """Return the client that belongs to a command channel that NNI gave this process.

        Parameters
        ----------
        channel
            ``ws://localhost:8080/tuner`` in a tuner, ``ws://localhost:8080/env/ID`` in a trial.
        """
        url = urlparse(channel)
        return cls(f"http://{url.netloc}{url.path.removesuffix('/tuner').split('/env/')[0]}")

    def status(self) -> Status:
        """Return the state of the experiment."""
        answer = self._get("check-status")
        return Status(answer["status"], tuple(answer["errors"]))

    def profile(self) -> dict[str, Any]:
        """Return the experiment's profile: its ``id``, and its configuration in ``params``."""
        return dict(self._get("experiment"))

    def trials(self) -> list[Trial]:
        """Return all trials in the order in which they were started."""
        jobs = self._get("trial-jobs")  # first: a trial that has ended has sent its reports
        reports: dict[str, list[TrialMetricData]] = {}
        metrics = [TrialMetricData(**metric) for metric in self._get("metric-data")]
        for metric in sorted(metrics, key=lambda metric: int(metric.sequence)):
            reports.setdefault(metric.trialJobId, []).append(metric)
        records = {record["parameter_id"]: record for record in filter(None, map(_record, jobs))}
        return [_trial(job, reports.get(job["trialJobId"], []), records) for job in jobs]

    def record(self, trial_id: str) -> dict[str, Any] | None:
        """Return ``parameter_id`` and ``parameters`` of a trial, None if not yet on record."""
        try:
            return _record(self._get(f"trial-jobs/{trial_id}"))
        except requests.HTTPError:
            return None

    def publish_search_space(self, search_space: dict[str, Any]) -> None:
        """Set the axes that the web page shows."""
        self._update("SEARCH_SPACE", searchSpace=search_space)

    def limit_trials(self, number: int) -> None:
        """Set ``maxTrialNumber``; the experiment is DONE once that many trials have ended."""
        self._update("MAX_TRIAL_NUM", maxTrialNumber=number)

    def _update(self, kind: str, **params: Any) -> None:
        profile = self.profile()
        profile["params"].update(params)
        self._request("PUT", "experiment", params={"update_type": kind}, json=profile)

    def _get(self, path: str) -> Any:
        return self._request("GET", path).json()

    def _request(self, method: str, path: str, **arguments: Any) -> requests.Response:
        url = f"{self.address}/api/v1/nni/{path}"
        with requests.Session() as session:
            session.trust_env = False  # the manager is local: a proxy would not find it
            answer = session.request(method, url, timeout=_TIMEOUT, **arguments)
        answer.raise_for_status()
        return answer


def _record(job: dict[str, Any]) -> dict[str, Any] | None:
    """Return what NNI noted as a trial's parameters; None if a user added it without any."""
    noted = job.get("hyperParameters")  # JSON strings inside JSON
    return json.loads(noted[0]) if noted else None


def _trial(
    job: dict[str, Any], reports: list[TrialMetricData], records: dict[int, dict[str, Any]]
) -> Trial:
    """Read one element of ``/trial-jobs``.

    NNI hands out parameters in the order in which trials ask for them, but notes them in the
    order in which it started the trials: of trials that start together, one may run the
    parameters noted for another. Reports carry the id of the parameters actually run.
    """
    noted = _record(job) or {"parameter_id": None, "parameters": {}}
    ran = [records[int(r.parameterId)] for r in reports if _names(r.parameterId, records)]
    record = ran[-1] if ran else noted
    finals = [report.data for report in reports if report.type == "FINAL"]
    folder = job.get("logPath")
    return Trial(
        id=job["trialJobId"],
        number=job.get("sequenceId"),
        status=job["status"],
        parameter_id=record["parameter_id"],
        parameters=record["parameters"],
        intermediates=tuple(report.data for report in reports if report.type == "PERIODICAL"),
        final=finals[-1] if finals else None,
        directory=Path(folder) if folder else None,
    )


def _names(parameter_id: Any, records: dict[int, dict[str, Any]]) -> bool:
    """Whether a report names parameters that are on record."""
    return str(parameter_id).isdecimal() and int(parameter_id) in records


def _as_dict(report: Any) -> dict[str, Any]:
    """Return a report as a dict; a plain number is its ``default``."""
    if isinstance(report, dict):
        return report
    return {} if report is None else {"default": report}


def _as_number(value: Any) -> float | None:
    """Return a finite number as float, None for anything else."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
