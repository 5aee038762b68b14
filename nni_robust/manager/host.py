"""The strategy host: any nni.nas strategy as the tuner of an experiment under nnictl."""

from __future__ import annotations

import json
import logging
import os
import pickle
import threading
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nni
from nni.runtime.env_vars import dispatcher_env_vars
from nni.runtime.msg_dispatcher_base import MsgDispatcherBase
from nni.runtime.tuner_command_channel import CommandType

from nni_robust.atomic import replacing

# NNI gives a tuner ten seconds to connect, less than torch may take to load: it is imported when
# NNI says `initialize`.
if TYPE_CHECKING:
    from nni_robust.job.build import Search
    from nni_robust.manager.engine import ManagerEngine

_logger = logging.getLogger(__name__)

_STATE_FORMAT = 1


class StrategyHost(MsgDispatcherBase):  # type: ignore[misc]  # NNI is untyped
    """Run an ``nni.nas`` strategy, NNI's or ours, in an experiment that ``nnictl`` starts.

    Stands as ``className`` in an experiment's file; ``classArgs`` are its sections. What the
    strategy submits becomes trials; the web page shows the space as words; when the strategy has
    ended, the experiment is DONE. Errors become those of the experiment, which NNI then shows.
    On ``nnictl resume`` trials that ended are not repeated.

    Parameters
    ----------
    **sections
        ``data``, ``space``, ``strategy``, ``evaluator``, and ``directory``, where results go:
        by default ``results`` in the experiment's folder, otherwise a folder of the experiment's
        own in this one.
    """

    def __init__(self, **sections: Any) -> None:
        super().__init__()  # connects
        self.sections = sections
        self._search: Search | None = None
        self._engine: ManagerEngine | None = None
        self._thread: threading.Thread | None = None
        self._run_again: set[int] = set()
        self._lock = threading.Lock()

    # What NNI calls.

    def enqueue_command(self, command: CommandType, data: Any) -> None:
        """Keep one queue: in NNI's two, a trial's end overtakes its last metric."""
        self.default_command_queue.put((command, data))

    def process_command(self, command: CommandType, data: Any) -> None:
        """Carry out a command; an error becomes the experiment's."""
        try:
            super().process_command(command, data)
        except Exception as error:
            self._report(error)
            raise

    def handle_initialize(self, data: Any) -> None:
        """Build the search, and on a resume take up what has ended."""
        from nni_robust.job.build import build_search
        from nni_robust.manager.client import Manager
        from nni_robust.manager.engine import ManagerEngine
        from nni_robust.manager.trial_input import results_folder
        from nni_robust.settings.sections import resolve

        self._manager = Manager(dispatcher_env_vars.NNI_TUNER_COMMAND_CHANNEL)
        profile = self._manager.experiment()
        os.chdir(profile["params"]["trialCodeDirectory"])  # as in trials: what paths start from
        self._results: Path = results_folder(
            Path(dispatcher_env_vars.NNI_LOG_DIRECTORY).parent,
            self.sections.get("directory"),
            profile["id"],
        )
        self._results.mkdir(parents=True, exist_ok=True)
        self._concurrency = int(profile["params"]["trialConcurrency"])
        self.sections = resolve(self.sections)
        search = build_search(self.sections, directory=self._results)
        engine = ManagerEngine(
            search.executable(),
            manager=self._manager,
            send=self._send_trial,
            task=self._task,
            results=self._results,
        )
        check_trials(search.strategy, profile["params"].get("maxTrialNumber"))
        search.strategy.initialize(engine.space, engine)
        engine.register_model_event_callback("training_end", lambda event: self._save())
        if dispatcher_env_vars.NNI_MODE == "resume":
            pending = engine.load_past_trials(self._load(search))
            _keep_running(search.strategy, pending)
        self._manager.publish_search_space(engine.display.search_space())
        self._search, self._engine = search, engine
        self.send(CommandType.Initialized, "")

    def handle_request_trial_jobs(self, data: int) -> None:
        """Let the strategy go on; the first request starts it."""
        self._running_engine.add_workers(data)
        if self._thread is None:
            self._running_engine.go_on(self._run_again)
            self._thread = threading.Thread(target=self._run_strategy, daemon=True)
            self._thread.start()

    def handle_report_metric_data(self, data: dict[str, Any]) -> None:
        """Pass on a metric."""
        value = nni.load(data["value"])
        self._running_engine.metric_arrived(data["parameter_id"], data["type"], value)

    def handle_trial_end(self, data: dict[str, Any]) -> None:
        """Pass on that a trial is over."""
        parameter_id = json.loads(data["hyper_params"])["parameter_id"]
        self._running_engine.trial_ended(parameter_id, data["event"])

    def handle_update_search_space(self, data: Any) -> None:
        """Do nothing: the space is that of the settings, and NNI's page is told of it."""

    def handle_import_data(self, data: Any) -> None:
        """Do nothing: past trials, failed ones included, are read from the manager."""

    def handle_add_customized_trial(self, data: list[dict[str, Any]]) -> None:
        """Note which interrupted trials NNI runs again by itself."""
        self._run_again = {trial["parameter_id"] for trial in data}

    def load_checkpoint(self) -> None:
        """Do nothing: the state is loaded when there is a strategy to load it."""

    # The strategy's thread.

    @property
    def _running_engine(self) -> ManagerEngine:
        assert self._engine is not None, "NNI initializes a tuner before all else"
        return self._engine

    def _run_strategy(self) -> None:
        assert self._search is not None
        try:
            self._search.strategy.run()
            engine = self._running_engine
            engine.wait_models(*engine.list_models())
            self._save()
            number = len(list(engine.list_models()))
            _logger.info("The strategy has ended after %d trials.", number)
            # NNI is DONE once as many trials have ended as it may run.
            self._manager.limit_trials(number)
        except Exception as error:
            self._report(error)
            raise

    def _send_trial(self, parameter_id: int, parameters: dict[str, Any]) -> None:
        trial = {
            "parameter_id": parameter_id,
            "parameter_source": "algorithm",
            "parameter_index": 0,
            "parameters": parameters,
        }
        self.send(CommandType.NewTrialJob, json.dumps(trial))
        self._save()

    def _task(self, sample: dict[str, Any]) -> Any:
        from nni_robust.manager.trial_input import Task

        return Task(
            sample=sample,
            settings=self.sections,
            concurrency=self._concurrency,
        )

    def _report(self, error: Exception) -> None:
        _logger.error("%s", traceback.format_exc())
        self.report_error(f"{type(error).__name__}: {error}")

    # State, for `nnictl resume`.

    @property
    def _state_file(self) -> Path:
        return self._results / "strategy.pkl"

    def _save(self) -> None:
        """Write the strategy's state: whole, or not at all."""
        if self._search is None:  # the past trials of a resume are just being read
            return
        with self._lock:
            state = {
                "format": _STATE_FORMAT,
                "strategy": self._search.strategy.state_dict(),
                "ended": self._running_engine.ended,
            }
            with replacing(self._state_file) as scratch:
                scratch.write_bytes(pickle.dumps(state))

    def _load(self, search: Search) -> set[int]:
        """Load the strategy's state; give the parameter ids of the ends that it knows."""
        if not self._state_file.is_file():
            return set()
        # A pickle, since NNI's strategies keep objects of their own in their state. It is this
        # experiment's own file.
        try:
            state = pickle.loads(self._state_file.read_bytes())
        except Exception as error:  # unpickling raises whatever the bytes lead it to
            raise ValueError(
                f"{str(self._state_file)!r} must be the state of this experiment's strategy, but "
                f"it cannot be read: {error}. Delete it to go on from the trials alone."
            ) from error
        if state.get("format") != _STATE_FORMAT:
            raise ValueError(
                f"{str(self._state_file)!r} must have format {_STATE_FORMAT}, "
                f"got {state.get('format')!r}."
            )
        search.strategy.load_state_dict(state["strategy"])
        return set(state["ended"])


def check_trials(strategy: Any, limit: int | None) -> None:
    """Refuse a ``maxTrialNumber`` that cuts a search of known length short."""
    needed = getattr(strategy, "num_trials", None)
    if needed is not None and limit is not None and limit < needed:
        raise ValueError(
            f"maxTrialNumber must be at least {needed}, the trials of all stages of {strategy}, "
            f"got {limit}."
        )


def _keep_running(strategy: Any, pending: list[Any]) -> None:
    """Tell a strategy of NNI's which trials are not over: it would ignore their results."""
    running = getattr(strategy, "_running_models", None)
    if isinstance(running, list):
        running.extend(pending)
