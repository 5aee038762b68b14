"""The strategy host: any nni.nas strategy as the tuner of an experiment under nnictl."""

from __future__ import annotations

import json
import logging
import os
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nni
from nni.runtime.env_vars import dispatcher_env_vars
from nni.runtime.msg_dispatcher_base import MsgDispatcherBase
from nni.runtime.tuner_command_channel import CommandType

from nni_robust.check import SettingError
from nni_robust.manager.client import Client
from nni_robust.manager.experiments import results_folder

# NNI gives a tuner ten seconds to connect, and torch may take longer than that to load: what needs
# it is imported when NNI says `initialize`.
if TYPE_CHECKING:
    from nni_robust.manager.engine import ManagerEngine

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Session:
    """What the command ``initialize`` has built.

    Attributes
    ----------
    client
        The manager.
    engine
        Runs the strategy's models as trials; it also holds the strategy.
    """

    client: Client
    engine: ManagerEngine

    def run(self) -> None:
        """Run the strategy to its end, which is the end of the experiment."""
        self.engine.strategy.run()
        self.engine.wait_models(*self.engine.list_models())
        self.engine.save()
        number = len(list(self.engine.list_models()))
        _logger.info("The strategy has ended after %d trials.", number)
        # NNI is DONE once as many trials have ended as it may run.
        self.client.limit_trials(number)


class StrategyHost(MsgDispatcherBase):  # type: ignore[misc]  # NNI is untyped
    """Run an ``nni.nas`` strategy, NNI's or ours, in an experiment that ``nnictl`` starts.

    It is the ``className`` in an experiment's file; ``classArgs`` are its sections. What the
    strategy submits becomes trials, and the web page shows the space in words. When the strategy
    has ended, the experiment is DONE. Errors become those of the experiment, which NNI then shows.
    ``nnictl resume`` does not repeat trials that have ended.

    Parameters
    ----------
    **sections
        ``data``, ``space``, ``strategy``, ``evaluator``, and ``directory``, the folder that gets
        a subfolder with the results of each experiment. Without ``directory`` the results are
        saved to ``results`` in NNI's folder of the experiment.
    """

    def __init__(self, **sections: Any) -> None:
        super().__init__()  # connects
        self.sections = sections
        self._session: _Session | None = None
        self._thread: threading.Thread | None = None
        self._run_again: set[int] = set()

    # What NNI calls.

    def enqueue_command(self, command: CommandType, data: Any) -> None:
        """Keep one queue: in NNI's two, the end of a trial overtakes its last metric."""
        self.default_command_queue.put((command, data))

    def process_command(self, command: CommandType, data: Any) -> None:
        """Carry out a command; an error becomes the experiment's."""
        try:
            super().process_command(command, data)
        except Exception as error:
            self._report(error)
            raise

    def handle_initialize(self, data: Any) -> None:
        """Build the search, and on a resume read what has ended."""
        self._session = _open_session(self.sections, self._send_trial)
        self.send(CommandType.Initialized, "")

    def handle_request_trial_jobs(self, data: int) -> None:
        """Let the strategy continue; the first request starts it."""
        self._engine.add_workers(data)
        if self._thread is None:
            self._engine.continue_past_trials(self._run_again)
            self._thread = threading.Thread(target=self._run_strategy, daemon=True)
            self._thread.start()

    def handle_report_metric_data(self, data: dict[str, Any]) -> None:
        """Pass on a metric."""
        value = nni.load(data["value"])
        self._engine.metric_arrived(data["parameter_id"], data["type"], value)

    def handle_trial_end(self, data: dict[str, Any]) -> None:
        """Pass on that a trial has ended."""
        parameter_id = json.loads(data["hyper_params"])["parameter_id"]
        self._engine.trial_ended(parameter_id, data["event"])

    def handle_update_search_space(self, data: Any) -> None:
        """Do nothing: the settings define the space."""

    def handle_import_data(self, data: Any) -> None:
        """Do nothing: past trials, including failed ones, are read from the manager."""

    def handle_add_customized_trial(self, data: list[dict[str, Any]]) -> None:
        """Note which interrupted trials NNI runs again by itself."""
        self._run_again = {trial["parameter_id"] for trial in data}

    def load_checkpoint(self) -> None:
        """Do nothing: the state is loaded once there is a strategy to load it."""

    # Our side.

    @property
    def _engine(self) -> ManagerEngine:
        assert self._session is not None, "NNI initializes a tuner before anything else"
        return self._session.engine

    def _run_strategy(self) -> None:
        assert self._session is not None
        try:
            self._session.run()
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

    def _report(self, error: Exception) -> None:
        _logger.error("%s", traceback.format_exc())
        self.report_error(f"{type(error).__name__}: {error}")


def _open_session(
    sections: dict[str, Any], send: Callable[[int, dict[str, Any]], None]
) -> _Session:
    """Build the search in the manager's current state; ``send`` sends a new trial."""
    from nni_robust.job.build import build_search
    from nni_robust.manager.engine import ManagerEngine
    from nni_robust.settings.sections import resolve

    client = Client.of_channel(dispatcher_env_vars.NNI_TUNER_COMMAND_CHANNEL)
    profile = client.profile()
    params = profile["params"]
    os.chdir(params["trialCodeDirectory"])  # relative paths start there, as in trials
    experiment = Path(dispatcher_env_vars.NNI_LOG_DIRECTORY).parent
    results = results_folder(experiment, sections.get("directory"), profile["id"])
    results.mkdir(parents=True, exist_ok=True)
    sections = resolve(sections)
    search = build_search(sections, directory=results)
    check_trials(search.strategy, params.get("maxTrialNumber"))
    engine = ManagerEngine(
        search.executable(),
        search.strategy,
        client=client,
        send=send,
        results=results,
        settings=sections,
        concurrency=int(params["trialConcurrency"]),
    )
    search.strategy.initialize(engine.space, engine)
    if dispatcher_env_vars.NNI_MODE == "resume":
        engine.load_past_trials()
    client.publish_search_space(engine.axes.search_space())
    return _Session(client, engine)


def check_trials(strategy: Any, limit: int | None) -> None:
    """Raise a SettingError if ``maxTrialNumber`` cuts short a search of known length."""
    needed = getattr(strategy, "num_trials", None)
    if needed is not None and limit is not None and limit < needed:
        raise SettingError(
            f"must be at least {needed}, the trials of all stages of {strategy}, got {limit}.",
            "maxTrialNumber",
        )
