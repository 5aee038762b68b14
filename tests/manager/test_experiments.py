from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from nni_robust.manager.experiments import (
    ExperimentEntry,
    configured_results,
    find_experiment,
    results_folder,
)


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
    with pytest.raises(ValueError, match=r"'a' must have a running manager, .*nnictl resume a'"):
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


# Where results are.


def test_results_are_in_nnis_folder_unless_a_directory_is_given(tmp_path):
    assert results_folder(tmp_path, None, "exp1") == tmp_path / "results"
    assert results_folder(tmp_path, "/data", "exp1") == Path("/data/exp1")


@pytest.mark.parametrize(
    ("command", "folder"),
    [
        ("python3 -m nni_robust trial", "/nni/exp1/results"),
        ("python3 -m nni_robust trial --directory /data", "/data/exp1"),
        ("python3 -m nni_robust search a.yml --directory=out --scale small", "/code/out/exp1"),
        ("python3 train.py 'unbalanced", "/nni/exp1/results"),
    ],
)
def test_the_trial_command_says_where_results_are(command, folder):
    entry = ExperimentEntry("exp1", "toy", 8080, "", Path("/nni/exp1"))
    profile = {"params": {"trialCommand": command, "trialCodeDirectory": "/code"}}
    assert configured_results(entry, profile) == Path(folder)
