from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_manager import FakeManager, metric, serve, trial
from nnictl import free_port, running_experiment

from nni_robust.manager.experiments import ExperimentEntry, find_experiment
from nni_robust.manager.follow import follow
from nni_robust.space import reported


@pytest.fixture
def manager() -> FakeManager:
    return FakeManager()


@pytest.fixture
def experiment(manager: FakeManager, tmp_path: Path, monkeypatch) -> Iterator[ExperimentEntry]:
    monkeypatch.setenv("HOME", str(tmp_path))
    with serve(manager) as port:
        yield ExperimentEntry("exp1", "toy", port, "", tmp_path / "exp1")


def quick(experiment: ExperimentEntry, timeout: float | None = 20):
    return follow(experiment, poll=0.01, timeout=timeout, stream=io.StringIO())


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


# Outcomes.


def test_done_with_a_succeeded_trial_is_success(manager, experiment):
    manager.statuses = ["INITIALIZED", "RUNNING", "NO_MORE_TRIAL", "DONE"]
    manager.trials = [
        trial(0, "SUCCEEDED", final={"default": 0.25, "clean": 0.9}, parameters={"e02": "conv"}),
        trial(1, "SUCCEEDED", final={"default": 0.5, "clean": 0.8}, parameters={"e02": "none"}),
        trial(2, "FAILED"),
        trial(3, "USER_CANCELED"),
    ]
    outcome = quick(experiment)
    assert (outcome.exit_status, outcome.status) == (0, "DONE")
    assert (outcome.succeeded, outcome.failed, outcome.other) == (2, 1, 1)
    assert outcome.errors == ()
    assert outcome.best.id == "t1"
    assert outcome.best.parameters == {"e02": "none"}
    assert outcome.best.metrics == {"default": 0.5, "clean": 0.8}
    assert manager.polls == 6  # DONE three times: a tuner may be about to complain


def test_done_with_only_failed_trials_is_failure(manager, experiment, tmp_path):
    manager.trials = [trial(number, "FAILED", directory=tmp_path) for number in range(3)]
    (tmp_path / "t2").mkdir()
    log = tmp_path / "t2" / "trial.stderr"
    log.write_text("Traceback ...\nMemoryError: no memory\n\n")
    outcome = quick(experiment)
    assert outcome.exit_status == 1
    assert (outcome.succeeded, outcome.failed, outcome.best) == (0, 3, None)
    assert "0 of 3 trials succeeded" in outcome.message
    assert "trial 2 (t2) with 'MemoryError: no memory'" in outcome.message
    assert str(log) in outcome.message
    assert "\n" not in outcome.message


def test_a_failure_names_the_place_of_a_log_that_is_missing(manager, experiment, tmp_path):
    manager.trials = [trial(0, "FAILED", directory=tmp_path)]
    assert f"see {tmp_path / 't0' / 'trial.stderr'}." in quick(experiment).message


def test_done_without_any_trial_is_failure(manager, experiment):
    assert quick(experiment).exit_status == 1


def test_done_with_errors_is_failure(manager, experiment):
    manager.trials = [trial(0, "SUCCEEDED", final=0.5)]
    manager.errors = ["disk full"]
    outcome = quick(experiment)
    assert outcome.exit_status == 1
    assert outcome.errors == ("disk full",)


@pytest.mark.parametrize(
    ("error", "log"),
    [
        ("tuner_command_channel: Tuner did not connect in 10 seconds.", "dispatcher.log"),
        ("Dispatcher stream error,\ntuner may have crashed.", "dispatcher.log"),
        ("Training service error: no GPU", "nnimanager.log"),
    ],
)
def test_an_error_names_the_log_to_read(manager, experiment, error, log):
    manager.statuses = ["RUNNING", "ERROR"]
    manager.errors = [error]
    manager.trials = [trial(0, "SUCCEEDED", final=0.5)]
    outcome = quick(experiment)
    assert (outcome.exit_status, outcome.status) == (1, "ERROR")
    assert " ".join(error.split()) in outcome.message
    assert str(experiment.directory / "log" / log) in outcome.message
    assert "\n" not in outcome.message


def test_a_stopped_experiment_is_failure(manager, experiment):
    manager.statuses = ["RUNNING", "STOPPED"]
    manager.trials = [trial(0, "SUCCEEDED", final=0.5)]
    outcome = quick(experiment)
    assert (outcome.exit_status, outcome.status) == (1, "STOPPED")
    assert "nnictl resume exp1" in outcome.message


def test_an_experiment_open_for_viewing_is_not_waited_for(manager, experiment):
    manager.statuses = ["VIEWED"]
    manager.trials = [trial(0, "SUCCEEDED", final=0.5)]
    outcome = quick(experiment)
    assert (outcome.exit_status, outcome.status) == (1, "VIEWED")


def test_a_manager_that_vanishes_is_failure(manager, experiment):
    manager.statuses = ["RUNNING", None]
    manager.trials = [trial(0, "SUCCEEDED", final=0.5), trial(1, "RUNNING")]
    outcome = quick(experiment)
    assert (outcome.exit_status, outcome.status) == (1, "GONE")
    assert (outcome.succeeded, outcome.other) == (1, 1)
    assert f"port {experiment.port}" in outcome.message
    assert str(experiment.directory / "log" / "nnimanager.log") in outcome.message


def test_a_manager_that_vanishes_after_nnictl_stop_was_stopped(manager, experiment, tmp_path):
    manager.statuses = ["RUNNING", None]
    manifest = tmp_path / "nni-experiments" / ".experiment"
    manifest.parent.mkdir()
    manifest.write_text(json.dumps({"exp1": {"status": "STOPPED"}}))
    assert quick(experiment).status == "STOPPED"


def test_one_missing_answer_is_not_the_end(manager, experiment):
    manager.statuses = ["RUNNING", None, "RUNNING", None, None, "DONE"]
    manager.trials = [trial(0, "SUCCEEDED", final=0.5)]
    assert quick(experiment).exit_status == 0


def test_an_experiment_that_never_answers_is_gone(experiment):
    silent = ExperimentEntry("exp1", "toy", free_port(), "", experiment.directory)
    assert quick(silent).status == "GONE"


def test_another_experiment_on_the_port_is_not_mistaken_for_it(manager, experiment):
    manager.experiment_id = "exp2"
    manager.trials = [trial(0, "SUCCEEDED", final=0.5)]
    assert quick(experiment).status == "GONE"


def test_a_tuner_without_more_trials_ends_when_the_last_trial_does(manager, experiment):
    manager.statuses = ["RUNNING", "TUNER_NO_MORE_TRIAL"]
    done = trial(0, "SUCCEEDED", final=0.5)
    manager.trials = lambda polls: [
        done,
        trial(1, "SUCCEEDED", final=0.75) if polls > 10 else trial(1, "RUNNING"),
    ]
    outcome = quick(experiment)
    assert (outcome.exit_status, outcome.status) == (0, "TUNER_NO_MORE_TRIAL")
    assert outcome.succeeded == 2


def test_a_trial_that_waits_unseen_in_the_manager_is_waited_for(manager, experiment):
    manager.statuses = ["TUNER_NO_MORE_TRIAL"]
    first, second = trial(0, "SUCCEEDED", final=0.5), trial(1, "SUCCEEDED", final=0.75)
    manager.trials = lambda polls: [first] if polls < 3 else [first, second]
    assert quick(experiment).succeeded == 2


def test_the_first_trial_of_an_exhausted_tuner_is_waited_for(manager, experiment):
    manager.statuses = ["TUNER_NO_MORE_TRIAL"]
    first = trial(0, "SUCCEEDED", final=0.5)
    manager.trials = lambda polls: [] if polls < 12 else [first]
    assert quick(experiment).succeeded == 1


def test_failed_trials_of_a_tuner_without_more_are_failure(manager, experiment):
    manager.statuses = ["TUNER_NO_MORE_TRIAL"]
    manager.trials = [trial(0, "FAILED")]
    assert quick(experiment).exit_status == 1


def test_no_more_trial_alone_is_not_the_end(manager, experiment):
    manager.statuses = ["NO_MORE_TRIAL"]
    manager.trials = [trial(0, "SUCCEEDED", final=0.5), trial(1, "RUNNING")]
    outcome = quick(experiment, timeout=0.2)
    assert (outcome.exit_status, outcome.status) == (3, "TIMEOUT")
    assert "1 of 4 trials have ended" in outcome.message


# The best trial and the results.


def test_the_best_trial_is_the_succeeded_one_with_the_largest_default(manager, experiment):
    manager.trials = [
        trial(0, "SUCCEEDED", final=0.25),  # a plain number is a default too
        trial(1, "SUCCEEDED", final={"default": float("nan")}),
        trial(2, "FAILED", final={"default": 0.9}),
        trial(3, "SUCCEEDED", final={"default": "high"}),
        trial(4, "SUCCEEDED"),
    ]
    outcome = quick(experiment)
    assert (outcome.best.id, outcome.best.metrics) == ("t0", {"default": 0.25})
    assert outcome.message == (
        "experiment exp1 is done: 4 of 5 trials succeeded. Best: trial 0 (t0), default metric "
        "0.25. Failed: trial 2 (t2); see /nowhere/t2/trial.stderr."
    )


def staged(number, stage, default):
    """A succeeded trial of a search by stages."""
    metrics = reported(stage, {"default": default, "clean": 0.875})
    return trial(number, "SUCCEEDED", final=metrics, parameters={"stage": stage})


def test_only_candidates_compete_in_a_search_by_stages(manager, experiment):
    manager.trials = [
        staged(0, "supernet", 0.763),
        staged(1, "screen", 0.7),
        staged(2, "candidate", 0.75),
        staged(3, "candidate", 0.76),
        staged(4, "final", 0.77),
    ]
    outcome = quick(experiment)
    assert outcome.best.id == "t3"
    assert outcome.message == (
        "experiment exp1 is done: 5 of 5 trials succeeded. Best candidate: trial 3 (t3), robust "
        "accuracy 0.76, clean accuracy 0.875 on validation images."
    )


def test_the_outcome_names_the_folder_of_the_results_if_it_exists(manager, experiment, tmp_path):
    manager.trials = [trial(0, "SUCCEEDED", final=0.5)]
    manager.params["trialCommand"] = f"python3 -m nni_robust trial --directory {tmp_path / 'out'}"
    assert quick(experiment).results is None
    (tmp_path / "out" / "exp1").mkdir(parents=True)
    assert quick(experiment).results == tmp_path / "out" / "exp1"


@pytest.mark.parametrize("poll", [0, -1.0, float("nan")])
def test_poll_must_be_positive(experiment, poll):
    with pytest.raises(ValueError, match="poll must be a positive number of seconds"):
        follow(experiment, poll=poll)


def test_timeout_must_not_be_negative(experiment):
    with pytest.raises(ValueError, match=r"timeout must be None or .* got -1"):
        follow(experiment, timeout=-1)


# What is shown.


def test_a_file_gets_one_line_per_finished_trial(manager, experiment):
    manager.statuses = ["RUNNING"] * 5 + ["DONE"]
    first = staged(0, "supernet", 0.5)
    manager.trials = lambda polls: [
        first,
        trial(1, "FAILED") if polls > 3 else trial(1, "RUNNING"),
        trial(2, "WAITING"),
    ]
    stream = io.StringIO()
    follow(experiment, poll=0.01, timeout=20, stream=stream)
    assert stream.getvalue() == (
        "1/4: trial 0 (t0, supernet) SUCCEEDED, robust accuracy 0.5\n2/4: trial 1 (t1) FAILED\n"
    )


def test_a_terminal_gets_a_bar_with_running_trials_and_the_best(manager, experiment):
    manager.statuses = ["RUNNING", "DONE"]
    manager.trials = [
        trial(0, "SUCCEEDED", final=0.5),
        trial(1, "RUNNING", parameters={"stage": "candidate"}),
    ]
    manager.metrics = [metric(1, "PERIODICAL", 0, 0.125)]
    stream = Terminal()
    follow(experiment, poll=0.01, timeout=20, stream=stream)
    shown = stream.getvalue()
    assert "RUNNING: 1/4" in shown
    assert "trial 1 (t1, candidate) 0.125; best 0.5" in shown
    assert "DONE: 1/4" in shown


# NNI's own manager.

TRIAL = """
import nni, time
parameters = nni.get_next_parameter()
nni.report_intermediate_result({"default": parameters["width"] / 200})
if parameters["width"] > 100:
    time.sleep(60)
if parameters["width"] < 0:
    raise ValueError("negative width")
nni.report_final_result({"default": parameters["width"] / 100, "clean": 0.75})
"""


def toy(folder: Path, widths: list[int], **changes: object) -> dict[str, Any]:
    """Settings of an experiment whose trials report a hundredth of their width.

    NNI's Random never proposes a width twice.
    """
    (folder / "trial.py").write_text(TRIAL)
    return {
        "experimentName": "toy",
        "searchSpace": {"width": {"_type": "choice", "_value": widths}},
        "trialCommand": "python3 trial.py",
        "trialCodeDirectory": ".",
        "trialConcurrency": 2,
        "maxTrialNumber": 3,
        "tuner": {"name": "Random", "classArgs": {"seed": 0}},
        "trainingService": {"platform": "local"},
        **changes,
    }


@pytest.fixture
def real(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path


@pytest.mark.slow
def test_a_real_experiment_ends_in_success(real):
    with running_experiment(toy(real, [10, 30, 50]), real) as (_, experiment_id, port):
        experiment = find_experiment(None)
        outcome = follow(experiment, timeout=120)
    assert (experiment.id, experiment.port, experiment.name) == (experiment_id, port, "toy")
    assert (experiment.directory / "log" / "nnimanager.log").exists()
    assert (outcome.exit_status, outcome.status, outcome.succeeded) == (0, "DONE", 3)
    assert outcome.best.parameters == {"width": 50}
    assert outcome.best.metrics == {"default": 0.5, "clean": 0.75}


@pytest.mark.slow
def test_a_real_experiment_whose_trials_all_fail_is_failure(real):
    with running_experiment(toy(real, [-1, -2, -3]), real) as (_, experiment_id, _):
        outcome = follow(find_experiment(experiment_id), timeout=120)
    assert (outcome.exit_status, outcome.status, outcome.failed) == (1, "DONE", 3)
    assert "'ValueError: negative width'; see " in outcome.message
    assert Path(outcome.message.split("see ")[1].removesuffix(".")).exists()


@pytest.mark.slow
def test_a_real_tuner_without_more_trials_ends_the_experiment(real):
    config = toy(real, [50, 75], maxTrialNumber=5, tuner={"name": "GridSearch"})
    with running_experiment(config, real):
        outcome = follow(find_experiment(None), timeout=120)
    assert (outcome.exit_status, outcome.status) == (0, "TUNER_NO_MORE_TRIAL")
    assert (outcome.succeeded, outcome.best.metrics["default"]) == (2, 0.75)


@pytest.mark.slow
def test_a_real_experiment_that_is_stopped_is_failure(real):
    with running_experiment(toy(real, [1000]), real) as (nnictl, experiment_id, _):
        experiment = find_experiment(None)
        assert follow(experiment, timeout=3).status == "TIMEOUT"
        stop = threading.Thread(target=nnictl, args=("stop", experiment_id))
        stop.start()
        outcome = follow(experiment, timeout=120)
        stop.join()
    assert (outcome.exit_status, outcome.status) == (1, "STOPPED")


@pytest.mark.slow
def test_a_real_tuner_that_cannot_start_is_an_error(real):
    config = toy(real, [50], tuner={"name": "Random", "classArgs": {"unknown": 1}})
    with running_experiment(config, real):
        outcome = follow(find_experiment(None), timeout=120)
    assert (outcome.exit_status, outcome.status) == (1, "ERROR")
    assert outcome.message.endswith("dispatcher.log.")
