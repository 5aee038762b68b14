from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from nnictl import free_port, running_experiment

from nni_robust.manager.experiments import ExperimentEntry, find_experiment, look
from nni_robust.manager.follow import follow

# The forms of NNI's answers, as its manager 3.0 sends them.


def trial(
    number: int,
    status: str,
    *,
    final: object = None,
    parameters: dict[str, Any] | None = None,
    directory: Path = Path("/nowhere"),
) -> dict[str, Any]:
    """One element of ``/trial-jobs``."""
    chosen = {
        "parameter_id": number,
        "parameter_source": "algorithm",
        "parameters": {} if parameters is None else parameters,
        "parameter_index": 0,
    }
    job = {
        "trialJobId": f"t{number}",
        "status": status,
        "hyperParameters": [json.dumps(chosen)],
        "startTime": 1_700_000_000_000,
        "logPath": str(directory / f"t{number}"),
        "sequenceId": number,
        "envId": "local-env",
    }
    if final is not None:
        job["finalMetricData"] = [metric(number, "FINAL", 0, final)]
    return job


def metric(number: int, kind: str, sequence: int, value: object) -> dict[str, Any]:
    """One element of ``/metric-data-latest``."""
    return {
        "timestamp": 1_700_000_000_000,
        "trialJobId": f"t{number}",
        "parameterId": str(number),
        "type": kind,
        "sequence": sequence,
        "data": json.dumps(json.dumps(value)),
    }


class Manager:
    """A REST server that stands in for NNI's.

    ``statuses`` are told one after the other, the last of them for ever; None stands for a manager
    that is no longer there. ``trials`` may be a function of the number of looks so far.
    """

    def __init__(self) -> None:
        self.experiment_id = "exp1"
        self.statuses: list[str | None] = ["DONE"]
        self.errors: list[str] = []
        self.trials: list[dict[str, Any]] | Callable[[int], list[dict[str, Any]]] = []
        self.metrics: list[dict[str, Any]] = []
        self.max_trials = 4
        self.looks = 0

    def answer(self, path: str) -> object:
        if path == "check-status":
            self.looks += 1
            status = self.statuses[min(self.looks, len(self.statuses)) - 1]
            return None if status is None else {"status": status, "errors": self.errors}
        if path == "experiment":
            return {"id": self.experiment_id, "params": {"maxTrialNumber": self.max_trials}}
        if path == "trial-jobs":
            return self.trials(self.looks) if callable(self.trials) else self.trials
        assert path == "metric-data-latest"
        return self.metrics


@pytest.fixture
def manager() -> Manager:
    return Manager()


@pytest.fixture
def experiment(manager: Manager, tmp_path: Path, monkeypatch) -> Iterator[ExperimentEntry]:
    monkeypatch.setenv("HOME", str(tmp_path))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = manager.answer(self.path.removeprefix("/api/v1/nni/"))
            if found is None:
                self.close_connection = True
                return
            body = json.dumps(found).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield ExperimentEntry("exp1", "toy", server.server_port, "", tmp_path / "exp1")
        server.shutdown()
        thread.join()


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
    assert manager.looks == 6  # DONE thrice: a tuner may be about to complain


def test_done_with_failed_trials_alone_is_failure(manager, experiment, tmp_path):
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


def test_a_failure_without_a_log_still_names_where_it_would_lie(manager, experiment, tmp_path):
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


def test_a_stopped_experiment_is_no_success(manager, experiment):
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
    write_manifest(tmp_path, exp1=entry(status="STOPPED"))
    assert quick(experiment).status == "STOPPED"


def test_one_unanswered_question_is_no_end(manager, experiment):
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
    manager.trials = lambda looks: [
        done,
        trial(1, "SUCCEEDED", final=0.75) if looks > 10 else trial(1, "RUNNING"),
    ]
    outcome = quick(experiment)
    assert (outcome.exit_status, outcome.status) == (0, "TUNER_NO_MORE_TRIAL")
    assert outcome.succeeded == 2


def test_a_trial_that_waits_unseen_in_the_manager_is_waited_for(manager, experiment):
    manager.statuses = ["TUNER_NO_MORE_TRIAL"]
    first, second = trial(0, "SUCCEEDED", final=0.5), trial(1, "SUCCEEDED", final=0.75)
    manager.trials = lambda looks: [first] if looks < 3 else [first, second]
    assert quick(experiment).succeeded == 2


def test_failed_trials_of_a_tuner_without_more_are_failure(manager, experiment):
    manager.statuses = ["TUNER_NO_MORE_TRIAL"]
    manager.trials = [trial(0, "FAILED")]
    assert quick(experiment).exit_status == 1


def test_no_more_trial_alone_is_not_the_end(manager, experiment):
    manager.statuses = ["NO_MORE_TRIAL"]
    manager.trials = [trial(0, "SUCCEEDED", final=0.5), trial(1, "RUNNING")]
    outcome = quick(experiment, timeout=0.2)
    assert (outcome.exit_status, outcome.status) == (3, "TIMEOUT")
    assert "1 of 4 trials are over" in outcome.message


# What is read.


def test_the_best_trial_is_the_succeeded_one_with_the_largest_default(manager, experiment):
    manager.trials = [
        trial(0, "SUCCEEDED", final=0.25),  # a plain number is a default too
        trial(1, "SUCCEEDED", final={"default": float("nan")}),
        trial(2, "FAILED", final={"default": 0.9}),
        trial(3, "SUCCEEDED", final={"default": "high"}),
        trial(4, "SUCCEEDED"),
    ]
    best = quick(experiment).best
    assert (best.id, best.metrics) == ("t0", {"default": 0.25})


def test_the_last_intermediate_result_of_each_trial_is_read(manager, experiment):
    manager.trials = [trial(number, "RUNNING") for number in range(3)]
    manager.metrics = [
        metric(1, "PERIODICAL", 10, {"default": 0.4, "clean": 0.9}),
        metric(0, "PERIODICAL", 1, 0.2),
        metric(0, "PERIODICAL", 0, 0.1),
        metric(0, "FINAL", 0, 0.7),
        metric(2, "PERIODICAL", 0, {"clean": 0.9}),
    ]
    assert look(experiment).latest == {"t0": 0.2, "t1": 0.4}


def test_a_trial_has_the_parameters_that_its_metrics_name(manager, experiment):
    # As seen: of trials that start together, NNI's local service serves the first to ask.
    manager.trials = [
        trial(0, "SUCCEEDED", final=0.5, parameters={"e02": "conv"}),
        trial(1, "RUNNING", parameters={"e02": "none"}),
        trial(2, "FAILED", parameters={"e02": "identity"}),
    ]
    manager.trials[0]["finalMetricData"][0]["parameterId"] = "1"
    manager.metrics = [{**metric(1, "PERIODICAL", 0, 0.25), "parameterId": "0"}]
    parameters = [found.parameters["e02"] for found in look(experiment).trials]
    assert parameters == ["none", "conv", "identity"]
    assert quick(experiment).best.parameters == {"e02": "none"}


def test_a_url_prefix_is_part_of_every_address(tmp_path):
    entry = ExperimentEntry("exp1", "toy", 8080, "a/b", tmp_path)
    assert entry.api == "http://127.0.0.1:8080/a/b/api/v1/nni"


@pytest.mark.parametrize("poll", [0, -1.0, float("nan")])
def test_poll_must_be_positive(experiment, poll):
    with pytest.raises(ValueError, match="poll must be a positive number of seconds"):
        follow(experiment, poll=poll)


def test_timeout_must_not_be_negative(experiment):
    with pytest.raises(ValueError, match=r"timeout must be None or .* got -1"):
        follow(experiment, timeout=-1)


# What is shown.


def test_a_file_gets_one_line_a_finished_trial(manager, experiment):
    manager.statuses = ["RUNNING"] * 5 + ["DONE"]
    first = trial(0, "SUCCEEDED", final=0.5, parameters={"stage": "supernet"})
    manager.trials = lambda looks: [
        first,
        trial(1, "FAILED") if looks > 3 else trial(1, "RUNNING"),
        trial(2, "WAITING"),
    ]
    stream = io.StringIO()
    follow(experiment, poll=0.01, timeout=20, stream=stream)
    assert stream.getvalue() == (
        "1/4: trial 0 (t0, supernet) SUCCEEDED, default 0.5\n2/4: trial 1 (t1) FAILED\n"
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


# NNI's list of experiments.


def entry(**changes: object) -> dict[str, object]:
    """One entry of ``~/nni-experiments/.experiment``."""
    return {
        "id": "exp1",
        "port": 8080,
        "startTime": 1_700_000_000_000,
        "endTime": "N/A",
        "status": "RUNNING",
        "platform": "local",
        "experimentName": "toy",
        "tag": [],
        "pid": 1,
        "webuiUrl": [],
        "logDir": "/data/nni",
        "prefixUrl": None,
        **changes,
    }


def write_manifest(home: Path, **entries: dict[str, object]) -> None:
    folder = home / "nni-experiments"
    folder.mkdir()
    (folder / ".experiment").write_text(json.dumps(entries))


@pytest.fixture
def home(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_without_an_id_the_newest_experiment_with_a_manager_is_found(home):
    write_manifest(
        home,
        old=entry(startTime=1),
        new=entry(startTime=3, port=8081, prefixUrl="/nni/", logDir="/data/other"),
        middle=entry(startTime=2),
        stopped=entry(startTime=4, status="STOPPED"),
        within_python=entry(startTime=5, port="N/A", platform="N/A"),
    )
    found = find_experiment(None)
    assert found == ExperimentEntry("new", "toy", 8081, "nni", Path("/data/other/new"))


def test_an_id_finds_its_experiment(home):
    write_manifest(home, old=entry(startTime=1), new=entry(startTime=2))
    assert find_experiment("old").id == "old"


def test_an_unknown_id_lists_the_known_ones(home):
    write_manifest(home, b=entry(), a=entry(status="STOPPED"))
    with pytest.raises(ValueError, match=r"one of \['a', 'b'\].*got 'c'"):
        find_experiment("c")


def test_a_stopped_experiment_is_not_followed(home):
    stopped = entry(status="STOPPED")
    del stopped["port"]  # as NNI leaves the entry of a manager that crashed
    write_manifest(home, a=stopped)
    with pytest.raises(ValueError, match=r"'a' must have a manager that runs, .*nnictl resume a'"):
        find_experiment("a")
    with pytest.raises(ValueError, match=r"found none among \['a'\]"):
        find_experiment(None)


def test_without_a_manifest_no_experiment_is_found(home):
    with pytest.raises(ValueError, match=r"found none among \[\]"):
        find_experiment(None)


def test_neither_a_lock_nor_a_half_written_manifest_hangs_the_reader(home):
    folder = home / "nni-experiments"
    folder.mkdir()
    (folder / ".experiment.lock.12345").touch()
    (folder / ".experiment").write_text('{"exp1": {"id"')
    writer = threading.Timer(
        0.3, lambda: (folder / ".experiment").write_text(json.dumps({"exp1": entry()}))
    )
    writer.start()
    assert find_experiment(None).id == "exp1"
    writer.join()


def test_a_damaged_manifest_is_named(home, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    folder = home / "nni-experiments"
    folder.mkdir()
    (folder / ".experiment").write_text("{")
    with pytest.raises(ValueError, match=r"nni-experiments/\.experiment must hold JSON"):
        find_experiment(None)


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
def test_a_real_experiment_that_is_stopped_is_no_success(real):
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
