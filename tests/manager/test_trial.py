"""The trial's side: what it asks of the manager, and where it may run."""

from __future__ import annotations

import json

import nni
import pytest
from fake_manager import FakeManager, serve, trial

from nni_robust.__main__ import main
from nni_robust.check import SettingError
from nni_robust.manager import trial as trial_module
from nni_robust.manager.trial import run_trial


def test_the_trial_command_outside_nni_says_what_to_run_instead(capsys):
    with pytest.raises(SettingError, match=r"only NNI's manager runs it.*nnictl create"):
        run_trial(None)
    assert main(["trial"]) == 2
    assert "nni-robust search FILE" in capsys.readouterr().err


@pytest.fixture
def manager(monkeypatch):
    """Stand in for NNI around a trial that has the id ``t1``."""
    manager = FakeManager()
    monkeypatch.setenv("NNI_PLATFORM", "local")
    monkeypatch.setattr(nni, "get_trial_id", lambda: "t1")
    monkeypatch.setattr(nni, "get_next_parameter", lambda: {"handed": "out"})
    monkeypatch.setattr(nni.trial, "_params", None)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with serve(manager, "/prefix") as port:
        channel = f"ws://127.0.0.1:{port}/prefix/env/local-env"
        monkeypatch.setenv("NNI_TRIAL_COMMAND_CHANNEL", channel)
        yield manager


def test_a_trial_takes_the_parameters_on_record_and_not_those_handed_out(manager):
    manager.trials = [trial(1, "RUNNING", parameters={"e02": "conv"})]
    assert trial_module._own_record()["parameters"] == {"e02": "conv"}
    assert nni.trial._params == json.loads(manager.trials[0]["hyperParameters"][0])


def test_a_trial_that_the_manager_does_not_know_gives_up(manager):
    manager.missing = {"trial-jobs/t1"}
    with pytest.raises(RuntimeError, match="no parameters on record for trial t1"):
        trial_module._own_record()


def test_a_trial_knows_how_many_share_its_machine(manager, monkeypatch):
    manager.params["trialConcurrency"] = 3
    assert trial_module._concurrency() == 3
    monkeypatch.setenv("NNI_PLATFORM", "remote")
    assert trial_module._concurrency() == 1
