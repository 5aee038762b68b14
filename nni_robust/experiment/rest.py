"""NNI's manager, through its REST interface, as the strategy host deals with it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlparse

import requests

_TIMEOUT = 30.0  # seconds; the manager answers in milliseconds, unless it is being stopped


@dataclass(frozen=True)
class PastTrial:
    """A trial of an experiment that is resumed.

    Attributes
    ----------
    parameter_id
        The number under which it was submitted.
    parameters
        What the web page shows.
    status
        NNI's word, such as ``RUNNING`` or ``SUCCEEDED``.
    intermediates, final
        What it has reported; ``final`` is None if it has not.
    """

    parameter_id: int
    parameters: dict[str, Any]
    status: str
    intermediates: list[Any]
    final: Any


class Manager:
    """The manager of the experiment that this process belongs to.

    Parameters
    ----------
    channel
        The URL of the tuner's command channel, ``ws://localhost:8080/tuner``.
    """

    def __init__(self, channel: str) -> None:
        url = urlparse(channel)
        self._base = f"http://{url.netloc}{url.path.removesuffix('/tuner')}/api/v1/nni"
        self._session = requests.Session()
        self._session.trust_env = False  # a proxy has no part in this machine's own addresses

    def experiment(self) -> dict[str, Any]:
        """Give the experiment's profile: its id, and the configuration in ``params``."""
        return dict(self._get("experiment"))

    def status(self) -> str:
        """Give the experiment's status, such as ``RUNNING``."""
        return str(self._get("check-status")["status"])

    def past_trials(self) -> list[PastTrial]:
        """List all trials with what they have reported, in the order of submission."""
        reported: dict[str, list[dict[str, Any]]] = {}
        for metric in self._get("metric-data"):
            reported.setdefault(metric["trialJobId"], []).append(metric)
        trials = [
            _read_trial(job, reported.get(job["trialJobId"], []))
            for job in self._get("trial-jobs")
            if job.get("hyperParameters")
        ]
        return sorted(trials, key=lambda trial: trial.parameter_id)

    def publish_search_space(self, search_space: dict[str, Any]) -> None:
        """Let the web page show these axes."""
        self._update("SEARCH_SPACE", searchSpace=search_space)

    def limit_trials(self, number: int) -> None:
        """Set ``maxTrialNumber``; when so many trials have ended, NNI is DONE."""
        self._update("MAX_TRIAL_NUM", maxTrialNumber=number)

    def _update(self, kind: str, **params: Any) -> None:
        profile = self.experiment()
        profile["params"].update(params)
        answer = self._session.put(
            f"{self._base}/experiment",
            params={"update_type": kind},
            json=profile,
            timeout=_TIMEOUT,
        )
        answer.raise_for_status()

    def _get(self, what: str) -> Any:
        answer = self._session.get(f"{self._base}/{what}", timeout=_TIMEOUT)
        answer.raise_for_status()
        return answer.json()


def _read_trial(job: dict[str, Any], metrics: list[dict[str, Any]]) -> PastTrial:
    record = json.loads(job["hyperParameters"][0])
    metrics = sorted(metrics, key=lambda metric: int(metric["sequence"]))
    finals = [_decode(m["data"]) for m in metrics if m["type"] == "FINAL"]
    return PastTrial(
        parameter_id=int(record["parameter_id"]),
        parameters=record["parameters"],
        status=job["status"],
        intermediates=[_decode(m["data"]) for m in metrics if m["type"] == "PERIODICAL"],
        final=finals[-1] if finals else None,
    )


def _decode(data: str) -> Any:
    return json.loads(json.loads(data))  # NNI encodes a report twice
