"""An execution engine whose models become trials of NNI's manager."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from nni.nas.execution import ExecutionEngine
from nni.nas.execution.event import FinalMetricEvent, IntermediateMetricEvent, TrainingEndEvent
from nni.nas.space import ExecutableModelSpace, ModelStatus

from nni_robust.manager.client import Manager, PastTrial
from nni_robust.manager.display import Display
from nni_robust.manager.trial_input import Task, read_task, submitted_tasks

_logger = logging.getLogger(__name__)


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
        self._past: dict[int, PastTrial] = {}
        self._ended: set[int] = set()
        self._workers = 0

    def submit_models(self, *models: ExecutableModelSpace) -> None:
        """Send each model as a trial."""
        for model in models:
            parameter_id = max(self._models, default=-1) + 1
            self._task(dict(model.sample)).write(self._results, parameter_id)
            self._models[parameter_id] = model
            model.status = ModelStatus.Training
            self._submit(parameter_id)

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

    @property
    def ended(self) -> set[int]:
        """Parameter ids of the trials whose end the strategy has been told of."""
        return set(self._ended)

    def load_past_trials(self, told: set[int]) -> list[ExecutableModelSpace]:
        """Read the trials of an experiment that is resumed.

        Parameters
        ----------
        told
            Parameter ids of the trials whose end the strategy's loaded state knows.

        Returns
        -------
        list of models
            The submitted models whose end the strategy has still to be told of.
        """
        # Of two trials of one parameter id, as a resume may leave them, the one that is over.
        trials = sorted(self._manager.past_trials(), key=lambda trial: trial.over)
        self._past = {trial.parameter_id: trial for trial in trials}
        submitted = sorted({*self._past, *submitted_tasks(self._results)})
        for parameter_id in submitted:
            model = self.space.freeze(read_task(self._results, parameter_id).sample)
            model.status = ModelStatus.Training
            self._models[parameter_id] = model
        for parameter_id in told & set(submitted):
            past = self._past[parameter_id]
            model = self._models[parameter_id]
            if past.final is not None:
                model.metrics.final = past.final
            model.status = _status(past.status)
            self._ended.add(parameter_id)
        return [self._models[i] for i in submitted if i not in told]

    def go_on(self, run_again: set[int]) -> None:
        """Take up the past trials that the strategy has still to be told of.

        Those that ended get their events; those that neither ended nor are run again by NNI are
        submitted again, under their old parameter ids.

        Parameters
        ----------
        run_again
            Parameter ids of the interrupted trials that NNI runs again by itself.
        """
        for parameter_id in sorted(set(self._models) - self._ended - run_again):
            past = self._past.get(parameter_id)
            if past is None or not past.over:
                self._submit(parameter_id)
                continue
            for metric in past.intermediates:
                self.metric_arrived(parameter_id, "PERIODICAL", metric)
            if past.final is not None:
                self.metric_arrived(parameter_id, "FINAL", past.final)
            self.trial_ended(parameter_id, past.status)

    def metric_arrived(self, parameter_id: int | None, kind: str, value: Any) -> None:
        """Pass on what a trial reported; ``kind`` is NNI's PERIODICAL or FINAL."""
        model = self._models.get(parameter_id)  # type: ignore[arg-type]  # None is nobody's
        if model is None:  # a trial that a user added by hand on NNI's page
            _logger.warning("A report of parameters %s, which nobody submitted.", parameter_id)
            return
        event = IntermediateMetricEvent if kind == "PERIODICAL" else FinalMetricEvent
        self.dispatch_model_event(event(model, value))

    def trial_ended(self, parameter_id: int | None, status: str) -> None:
        """Pass on that a trial is over."""
        model = self._models.get(parameter_id)  # type: ignore[arg-type]  # None is nobody's
        if parameter_id is None or model is None:
            _logger.warning("The end of parameters %s, which nobody submitted.", parameter_id)
            return
        _logger.info("Trial of parameters %d ended: %s.", parameter_id, status)
        self._ended.add(parameter_id)
        self.dispatch_model_event(TrainingEndEvent(model, _status(status)))

    def _submit(self, parameter_id: int) -> None:
        self._workers -= 1
        self._send(parameter_id, self.display.parameters(self._models[parameter_id].sample))

    def shutdown(self) -> None:
        """Do nothing: the manager ends the trials."""


def _status(status: str) -> ModelStatus:
    return ModelStatus.Trained if status == "SUCCEEDED" else ModelStatus.Failed
