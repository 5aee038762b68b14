"""The engine that turns models into trials, with a client whose trials are made up."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
from nni.nas.evaluator import Evaluator
from nni.nas.space import ModelStatus, SimplifiedModelSpace

from nni_robust.check import SettingError
from nni_robust.manager.client import Status, Trial
from nni_robust.manager.engine import ManagerEngine, load_state
from nni_robust.manager.trial_input import read_trial_input
from nni_robust.space import RobNetSpace

SPACE = RobNetSpace(num_cells=1, width=2, num_classes=2, in_channels=1)
SAMPLES = [SPACE.sample([genotype]) for genotype in ("10" * 14, "01" * 14, "11" * 14, "1101" * 7)]


class FakeClient:
    """Has past trials, a status and a limit."""

    def __init__(self, past: list[Trial] | None = None) -> None:
        self.past = past or []

    def trials(self) -> list[Trial]:
        return self.past

    def status(self) -> Status:
        return Status("RUNNING", ())

    def profile(self) -> dict[str, Any]:
        return {"params": {"maxTrialNumber": 2}}


class FakeStrategy:
    """Has a state, and lists running models as NNI's strategies do."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {"draws": 3}
        self._running_models: list[Any] = []

    def state_dict(self) -> dict[str, Any]:
        return self.state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.state = state


class Bench:
    """An engine, what it sent, and the events it dispatched."""

    def __init__(self, results: Path, past: list[Trial] | None = None) -> None:
        self.sent: list[int] = []
        self.events: list[tuple[str, int]] = []
        self.strategy = FakeStrategy()
        self.engine = ManagerEngine(
            SimplifiedModelSpace.from_model(SPACE, Evaluator()),
            self.strategy,
            client=FakeClient(past),
            send=lambda parameter_id, shown: self.sent.append(parameter_id),
            results=results,
            settings={},
            concurrency=1,
        )
        for kind in ("final_metric", "intermediate_metric", "training_end"):
            self.engine.register_model_event_callback(
                kind,
                lambda event, kind=kind: self.events.append(
                    (kind, SAMPLES.index(event.model.sample))
                ),
            )

    def submit(self, *numbers: int) -> list[Any]:
        models = [self.engine.space.freeze(SAMPLES[number]) for number in numbers]
        self.engine.submit_models(*models)
        return models


def past(parameter_id: int, status: str, final: float | None = None) -> Trial:
    report = None if final is None else {"default": final}
    return Trial(f"t{parameter_id}", parameter_id, status, parameter_id, {}, final=report)


def test_a_submitted_model_is_an_input_file_and_a_trial(tmp_path):
    bench = Bench(tmp_path)
    bench.engine.add_workers(1)
    assert bench.engine.idle_worker_available()
    bench.submit(0, 1)
    assert bench.sent == [0, 1]
    assert [read_trial_input(tmp_path, i).sample for i in (0, 1)] == SAMPLES[:2]
    assert not bench.engine.idle_worker_available()
    assert not bench.engine.budget_available()  # two of two


def test_reports_become_the_events_of_their_models(tmp_path):
    bench = Bench(tmp_path)
    first, second = bench.submit(0, 1)
    bench.engine.metric_arrived(1, "PERIODICAL", {"default": 0.1})
    bench.engine.metric_arrived(1, "FINAL", {"default": 0.5, "clean": 0.9})
    bench.engine.trial_ended(1, "SUCCEEDED")
    bench.engine.trial_ended(0, "FAILED")
    assert bench.events == [
        ("intermediate_metric", 1),
        ("final_metric", 1),
        ("training_end", 1),
        ("training_end", 0),
    ]
    assert (second.metric, second.status) == (0.5, ModelStatus.Trained)
    assert (first.metric, first.status) == (None, ModelStatus.Failed)
    assert bench.engine.ended == {0, 1}


@pytest.mark.parametrize("parameter_id", [None, 7])
def test_a_trial_that_nobody_submitted_is_ignored(tmp_path, parameter_id):
    bench = Bench(tmp_path)
    bench.submit(0)
    bench.engine.metric_arrived(parameter_id, "FINAL", 1.0)
    bench.engine.trial_ended(parameter_id, "SUCCEEDED")
    assert bench.events == []


def interrupted(results: Path, submitted: int, *ended: int) -> None:
    """Leave the files of an experiment that was stopped."""
    bench = Bench(results)
    bench.submit(*range(submitted))
    for parameter_id in ended:
        bench.engine.trial_ended(parameter_id, "SUCCEEDED")


def test_a_resume_loses_nothing_and_repeats_nothing(tmp_path):
    interrupted(tmp_path, 4, 0)
    bench = Bench(
        tmp_path,
        [
            past(0, "SUCCEEDED", 0.5),  # the strategy's saved state knows it
            past(1, "SUCCEEDED", 0.6),  # ended while the experiment was being stopped
            past(2, "RUNNING"),  # NNI runs it again
        ],  # 3 was submitted and never started
    )
    bench.engine.load_past_trials()
    pending = bench.strategy._running_models
    assert [SAMPLES.index(model.sample) for model in pending] == [1, 2, 3]
    bench.engine.continue_past_trials({2})
    assert bench.events == [("final_metric", 1), ("training_end", 1)]
    assert bench.sent == [3]
    models = list(bench.engine.list_models())
    assert [model.metric for model in models] == [0.5, 0.6, None, None]
    bench.engine.trial_ended(2, "SUCCEEDED")
    assert bench.engine.ended == {0, 1, 2}


def test_a_past_trial_that_nni_cannot_rank_has_no_metric(tmp_path):
    interrupted(tmp_path, 1, 0)
    bench = Bench(tmp_path, [Trial("t0", 0, "SUCCEEDED", 0, {}, final={"robust": 0.7})])
    bench.engine.load_past_trials()
    (model,) = bench.engine.list_models()
    assert (model.metric, model.status) == (None, ModelStatus.Trained)


def test_the_state_is_saved_after_every_submission_and_every_end(tmp_path):
    bench = Bench(tmp_path)
    for draws, change in enumerate(
        [lambda: bench.submit(0), lambda: bench.engine.trial_ended(0, "SUCCEEDED")]
    ):
        bench.strategy.state = {"draws": draws}
        change()
        restored = FakeStrategy()
        assert load_state(tmp_path / "strategy.pkl", restored) == bench.engine.ended
        assert restored.state == {"draws": draws}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no pickle", r"strategy\.pkl' must be the state .* Delete it to continue"),
        (pickle.dumps({"format": 0}), r"strategy\.pkl' must have format 1, got 0"),
    ],
)
def test_a_state_that_cannot_be_read_is_named(tmp_path, content, message):
    (tmp_path / "strategy.pkl").write_bytes(content)
    with pytest.raises(SettingError, match=message):
        Bench(tmp_path).engine.load_past_trials()


@pytest.mark.parametrize("status", ["ADD_RESUMED", "UNKNOWN", "WAITING"])
def test_a_trial_that_an_earlier_resume_left_hanging_is_submitted_again(tmp_path, status):
    interrupted(tmp_path, 1)
    bench = Bench(tmp_path, [past(0, status)])
    bench.engine.load_past_trials()
    bench.engine.continue_past_trials(set())
    assert bench.sent == [0]


def test_new_trials_get_new_numbers_after_a_resume(tmp_path):
    interrupted(tmp_path, 2, 0, 1)
    bench = Bench(tmp_path, [past(0, "SUCCEEDED", 0.5), past(1, "FAILED")])
    bench.engine.load_past_trials()
    bench.engine.continue_past_trials(set())
    bench.submit(2)
    assert bench.sent == [2]


def test_a_missing_input_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"task must be in .*9\.json.*--directory DIRECTORY"):
        read_trial_input(tmp_path, 9)
