"""NNI's manager, through its REST interface, as the strategy host deals with it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlparse

from nni_robust.manager.experiments import UNFINISHED, decode_report, local_session

_TIMEOUT = 30.0  # seconds; the manager answers in milliseconds, unless it is being stopped


@dataclass(frozen=True)
class PastTrial:
    """A trial of an experiment that is resumed.

    Attributes
    ----------
    parameter_id
        The number under which it was submitted.
    status
        NNI's word, such as ``RUNNING`` or ``SUCCEEDED``.
    intermediates, final
        What it has reported; ``final`` is None if it has not.
    """

    parameter_id: int
    status: str
    intermediates: list[Any]
    final: Any

    @property
    def over(self) -> bool:
        """Whether it came to its end, well or not."""
        return self.status not in UNFINISHED


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
        self._session = local_session()

    def experiment(self) -> dict[str, Any]:
        """Give the experiment's profile: its id, and the configuration in ``params``."""
        return dict(self._get("experiment"))

    def status(self) -> str:
        """Give the experiment's status, such as ``RUNNING``."""
        return str(self._get("check-status")["status"])

    def past_trials(self) -> list[PastTrial]:
        """List the trials of submitted parameters, with what they have reported."""
        reported: dict[str, list[dict[str, Any]]] = {}
        for metric in self._get("metric-data"):
            reported.setdefault(metric["trialJobId"], []).append(metric)
        jobs = [job for job in self._get("trial-jobs") if _parameter_id(job) is not None]
        return [_read_trial(job, reported.get(job["trialJobId"], [])) for job in jobs]

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


def _parameter_id(job: dict[str, Any]) -> int | None:
    """Read the parameter id, None for a trial that a user added by hand on NNI's page."""
    parameters = job.get("hyperParameters")
    return json.loads(parameters[0])["parameter_id"] if parameters else None


def _read_trial(job: dict[str, Any], metrics: list[dict[str, Any]]) -> PastTrial:
    metrics = sorted(metrics, key=lambda metric: int(metric["sequence"]))
    finals = [decode_report(m["data"]) for m in metrics if m["type"] == "FINAL"]
    return PastTrial(
        parameter_id=int(_parameter_id(job) or 0),
        status=job["status"],
        intermediates=[decode_report(m["data"]) for m in metrics if m["type"] == "PERIODICAL"],
        final=finals[-1] if finals else None,
    )
