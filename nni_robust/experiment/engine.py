"""An execution engine whose models become trials of NNI's manager."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from nni.nas.execution import ExecutionEngine
from nni.nas.execution.event import FinalMetricEvent, IntermediateMetricEvent, TrainingEndEvent
from nni.nas.space import ExecutableModelSpace, ModelStatus

from nni_robust.experiment.display import Display
from nni_robust.experiment.rest import Manager
from nni_robust.experiment.task import Task, read_task

_logger = logging.getLogger(__name__)

_ACTIVE = ("WAITING", "RUNNING", "UNKNOWN", "ADD_RESUMED")


class ManagerEngine(ExecutionEngine):  # type: ignore[misc]  # NNI is untyped
    """Turn submitted models into trials, and what trials report into the events of models.

    Parameters
    ----------
    space
        The simplified space, with its evaluator.
    manager
        The manager, asked for its budget and for past trials.
    send
        Sends a new trial to the manager: ``send(parameter_id, parameters)``.
    task
        Makes the task of a sample.
    results
        Folder of the results, tasks included.
    """

    def __init__(
        self,
        space: ExecutableModelSpace,
        *,
        manager: Manager,
        send: Callable[[int, dict[str, Any]], None],
        task: Callable[[dict[str, Any]], Task],
        results: Path,
    ) -> None:
        super().__init__()
        self.space = space
        self.display = Display(space)
        self._manager = manager
        self._send = send
        self._task = task
        self._results = results
        self._models: dict[int, ExecutableModelSpace] = {}
        self._workers = 0

    def submit_models(self, *models: ExecutableModelSpace) -> None:
        """Send each model as a trial."""
        for model in models:
            # One more than the largest: a trial that a stop cut off before its start left a gap.
            parameter_id = max(self._models, default=-1) + 1
            self._task(dict(model.sample)).write(self._results, parameter_id)
            self._models[parameter_id] = model
            model.status = ModelStatus.Training
            self._workers -= 1
            self._send(parameter_id, self.display.parameters(model.sample))

    def list_models(self, status: ModelStatus | None = None) -> Iterable[ExecutableModelSpace]:
        """List the models submitted so far, by those of a status."""
        models = list(self._models.values())
        return [model for model in models if status is None or model.status == status]

    def idle_worker_available(self) -> bool:
        """Whether the manager has asked for more trials than it got."""
        return self._workers > 0

    def budget_available(self) -> bool:
        """Whether the manager would still run a new trial."""
        if self._manager.status() not in ("INITIALIZED", "RUNNING", "TUNER_NO_MORE_TRIAL"):
            return False
        limit = self._manager.experiment()["params"].get("maxTrialNumber")
        return limit is None or len(self._models) < limit

    def add_workers(self, number: int) -> None:
        """Note that the manager asks for so many trials."""
        self._workers += number

    def recover(self) -> None:
        """Take up the trials of an experiment that is resumed.

        Trials that ended get their events again, so that whoever listens knows them; those that
        NNI runs again stay in training.
        """
        for job in self._manager.past_trials():
            model = self.space.freeze(read_task(self._results, job.parameter_id).sample)
            model.status = ModelStatus.Training
            self._models[job.parameter_id] = model
            if job.status in _ACTIVE:
                continue
            for metric in job.intermediates:
                self.dispatch_model_event(IntermediateMetricEvent(model, metric))
            if job.final is not None:
                self.dispatch_model_event(FinalMetricEvent(model, job.final))
            self.dispatch_model_event(TrainingEndEvent(model, _status(job.status)))

    def metric_arrived(self, parameter_id: int, kind: str, value: Any) -> None:
        """Pass on what a trial reported; ``kind`` is NNI's PERIODICAL or FINAL."""
        model = self._models[parameter_id]
        event = IntermediateMetricEvent if kind == "PERIODICAL" else FinalMetricEvent
        self.dispatch_model_event(event(model, value))

    def trial_ended(self, parameter_id: int, status: str) -> None:
        """Pass on that a trial is over."""
        _logger.info("Trial %d ended: %s.", parameter_id, status)
        event = TrainingEndEvent(self._models[parameter_id], _status(status))
        self.dispatch_model_event(event)

    def shutdown(self) -> None:
        """Do nothing: the manager ends the trials."""


def _status(status: str) -> ModelStatus:
    return ModelStatus.Trained if status == "SUCCEEDED" else ModelStatus.Failed
