"""An execution engine whose models become trials of NNI's manager."""

from __future__ import annotations

import logging
import pickle
import threading
from collections.abc import Callable, Iterable, Mapping, Set
from pathlib import Path
from typing import Any

from nni.nas.execution import ExecutionEngine
from nni.nas.execution.event import FinalMetricEvent, IntermediateMetricEvent, TrainingEndEvent
from nni.nas.space import ExecutableModelSpace, ModelStatus
from nni.nas.strategy import Strategy

from nni_robust.atomic import replacing
from nni_robust.check import SettingError
from nni_robust.manager.client import Client, Trial
from nni_robust.manager.page_axes import PageAxes
from nni_robust.manager.trial_input import TrialInput, read_trial_input, submitted_ids

_STATE_FORMAT = 1

_logger = logging.getLogger(__name__)


class ManagerEngine(ExecutionEngine):  # type: ignore[misc]  # NNI is untyped
    """Turn submitted models into trials, and the reports of trials into events of models.

    Whenever a trial is submitted or has ended, the strategy's state is saved.

    Parameters
    ----------
    space
        The simplified space, with its evaluator.
    strategy
        The strategy whose models these are.
    client
        The manager, which is asked for its budget and for past trials.
    send
        Sends a new trial to the manager: ``send(parameter_id, parameters)``.
    results
        Folder of the results, including the inputs of the trials.
    settings
        The sections of the search file, which every trial gets.
    concurrency
        Number of trials that share the machine.
    """

    def __init__(
        self,
        space: ExecutableModelSpace,
        strategy: Strategy,
        *,
        client: Client,
        send: Callable[[int, dict[str, Any]], None],
        results: Path,
        settings: Mapping[str, Any],
        concurrency: int,
    ) -> None:
        super().__init__()
        self.space = space
        self.strategy = strategy
        self.axes = PageAxes(space)
        self._client = client
        self._send = send
        self._results = results
        self._settings = dict(settings)
        self._concurrency = concurrency
        self._models: dict[int, ExecutableModelSpace] = {}
        self._past: dict[int, Trial] = {}
        self._ended: set[int] = set()
        self._workers = 0
        self._lock = threading.Lock()  # trials end in one thread, and are submitted in another

    def submit_models(self, *models: ExecutableModelSpace) -> None:
        """Send each model as a trial."""
        for model in models:
            parameter_id = max(self._models, default=-1) + 1
            TrialInput(
                sample=dict(model.sample), settings=self._settings, concurrency=self._concurrency
            ).write(self._results, parameter_id)
            self._models[parameter_id] = model
            model.status = ModelStatus.Training
            self._submit(parameter_id)

    def list_models(self, status: ModelStatus | None = None) -> Iterable[ExecutableModelSpace]:
        """Return the models submitted so far, optionally only those of a status."""
        models = list(self._models.values())
        return [model for model in models if status is None or model.status == status]

    def idle_worker_available(self) -> bool:
        """Whether the manager has asked for more trials than it got."""
        return self._workers > 0

    def budget_available(self) -> bool:
        """Whether the manager would still run a new trial."""
        if self._client.status().name not in ("INITIALIZED", "RUNNING", "TUNER_NO_MORE_TRIAL"):
            return False
        limit = self._client.profile()["params"].get("maxTrialNumber")
        return limit is None or len(self._models) < limit

    def add_workers(self, number: int) -> None:
        """Note that the manager asks for so many trials."""
        self._workers += number

    @property
    def ended(self) -> set[int]:
        """Parameter ids of the trials whose end the strategy knows."""
        return set(self._ended)

    def load_past_trials(self) -> None:
        """Read the strategy's state and the trials of an experiment that is resumed."""
        known = load_state(self._state_file, self.strategy)
        # A resume may leave two trials of one parameter id: take the one that has ended.
        trials = sorted(self._client.trials(), key=lambda trial: trial.finished)
        self._past = {t.parameter_id: t for t in trials if t.parameter_id is not None}
        submitted = sorted({*self._past, *submitted_ids(self._results)})
        for parameter_id in submitted:
            model = self.space.freeze(read_trial_input(self._results, parameter_id).sample)
            model.status = ModelStatus.Training
            self._models[parameter_id] = model
        for parameter_id in known & set(submitted):
            past = self._past[parameter_id]
            model = self._models[parameter_id]
            if past.default is not None:
                model.metrics.final = past.final
            model.status = _model_status(past.status)
            self._ended.add(parameter_id)
        # A strategy of NNI would ignore the results of trials that it does not list as running.
        running = getattr(self.strategy, "_running_models", None)
        if isinstance(running, list):
            running.extend(self._models[i] for i in submitted if i not in known)

    def continue_past_trials(self, run_again: set[int]) -> None:
        """Continue the past trials whose end the strategy does not know.

        Those that have ended get their events. Those that have neither ended nor are run again by
        NNI are submitted again, under their old parameter ids.

        Parameters
        ----------
        run_again
            Parameter ids of the interrupted trials that NNI runs again by itself.
        """
        for parameter_id in sorted(set(self._models) - self._ended - run_again):
            past = self._past.get(parameter_id)
            if past is None or not past.finished:
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
        """Pass on that a trial has ended."""
        model = self._models.get(parameter_id)  # type: ignore[arg-type]  # None is nobody's
        if parameter_id is None or model is None:
            _logger.warning("The end of parameters %s, which nobody submitted.", parameter_id)
            return
        _logger.info("Trial of parameters %d ended: %s.", parameter_id, status)
        self._ended.add(parameter_id)
        self.dispatch_model_event(TrainingEndEvent(model, _model_status(status)))
        self.save()

    def save(self) -> None:
        """Write the strategy's state."""
        with self._lock:
            save_state(self._state_file, self.strategy, self.ended)

    def shutdown(self) -> None:
        """Do nothing: the manager ends the trials."""

    @property
    def _state_file(self) -> Path:
        return self._results / "strategy.pkl"

    def _submit(self, parameter_id: int) -> None:
        self._workers -= 1
        self._send(parameter_id, self.axes.parameters(self._models[parameter_id].sample))
        self.save()


def _model_status(status: str) -> ModelStatus:
    return ModelStatus.Trained if status == "SUCCEEDED" else ModelStatus.Failed


def save_state(path: Path, strategy: Strategy, ended: Set[int]) -> None:
    """Write a strategy's state: completely, or not at all.

    Parameters
    ----------
    path
        The file.
    strategy
        The strategy.
    ended
        Parameter ids of the trials whose end the strategy knows.
    """
    state = {"format": _STATE_FORMAT, "strategy": strategy.state_dict(), "ended": set(ended)}
    with replacing(path) as scratch:
        scratch.write_bytes(pickle.dumps(state))


def load_state(path: Path, strategy: Strategy) -> set[int]:
    """Load a strategy's state, if there is one, and return the parameter ids of known ends.

    Raises
    ------
    SettingError
        If the file is damaged, or has another format.
    """
    if not path.is_file():
        return set()
    # A pickle, because NNI's strategies keep objects of their own in their state. The file was
    # written by this very experiment.
    try:
        state = pickle.loads(path.read_bytes())
    except Exception as error:  # unpickling may raise anything
        raise SettingError(
            f"{str(path)!r} must be the state of this experiment's strategy, but it cannot be "
            f"read: {error}. Delete it to continue from the trials alone."
        ) from error
    if state.get("format") != _STATE_FORMAT:
        raise SettingError(
            f"{str(path)!r} must have format {_STATE_FORMAT}, got {state.get('format')!r}."
        )
    strategy.load_state_dict(state["strategy"])
    return set(state["ended"])
