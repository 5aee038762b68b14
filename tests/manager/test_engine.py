"""The engine that turns models into trials, against a manager whose trials are made up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from nni.nas.evaluator import Evaluator
from nni.nas.space import ModelStatus, SimplifiedModelSpace

from nni_robust.manager.client import PastTrial
from nni_robust.manager.engine import ManagerEngine
from nni_robust.manager.trial_input import Task, read_task
from nni_robust.space import RobNetSpace

SPACE = RobNetSpace(num_cells=1, width=2, num_classes=2, in_channels=1)
SAMPLES = [SPACE.sample([genotype]) for genotype in ("10" * 14, "01" * 14, "11" * 14, "1101" * 7)]


class FakeManager:
    """Has past trials, a status and a limit."""

    def __init__(self, past: list[PastTrial] | None = None) -> None:
        self.past = past or []

    def past_trials(self) -> list[PastTrial]:
        return self.past

    def status(self) -> str:
        return "RUNNING"

    def experiment(self) -> dict[str, Any]:
        return {"params": {"maxTrialNumber": 2}}


class Bench:
    """An engine, what it sent, and the events it gave."""

    def __init__(self, results: Path, past: list[PastTrial] | None = None) -> None:
        self.sent: list[int] = []
        self.events: list[tuple[str, int]] = []
        self.results = results
        self.engine = ManagerEngine(
            SimplifiedModelSpace.from_model(SPACE, Evaluator()),
            manager=FakeManager(past),
            send=lambda parameter_id, shown: self.sent.append(parameter_id),
            task=lambda sample: Task(sample=sample, settings={}, concurrency=1),
            results=results,
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


def past(parameter_id: int, status: str, final: float | None = None) -> PastTrial:
    return PastTrial(parameter_id, status, [], None if final is None else {"default": final})


def test_a_submitted_model_is_a_task_and_a_trial(tmp_path):
    bench = Bench(tmp_path)
    bench.engine.add_workers(1)
    assert bench.engine.idle_worker_available()
    bench.submit(0, 1)
    assert bench.sent == [0, 1]
    assert [read_task(tmp_path, i).sample for i in (0, 1)] == SAMPLES[:2]
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
def test_a_trial_that_nobody_submitted_is_let_be(tmp_path, parameter_id):
    bench = Bench(tmp_path)
    bench.submit(0)
    bench.engine.metric_arrived(parameter_id, "FINAL", 1.0)
    bench.engine.trial_ended(parameter_id, "SUCCEEDED")
    assert bench.events == []


def test_a_resume_loses_nothing_and_repeats_nothing(tmp_path):
    Bench(tmp_path).submit(0, 1, 2, 3)
    bench = Bench(
        tmp_path,
        [
            past(0, "SUCCEEDED", 0.5),  # the strategy's saved state knows it
            past(1, "SUCCEEDED", 0.6),  # ended while the experiment was being stopped
            past(2, "RUNNING"),  # NNI runs it again
        ],  # 3 was submitted and never started
    )
    pending = bench.engine.load_past_trials({0})
    assert [SAMPLES.index(model.sample) for model in pending] == [1, 2, 3]
    bench.engine.go_on({2})
    assert bench.events == [("final_metric", 1), ("training_end", 1)]
    assert bench.sent == [3]
    models = list(bench.engine.list_models())
    assert [model.metric for model in models] == [0.5, 0.6, None, None]
    bench.engine.trial_ended(2, "SUCCEEDED")
    assert bench.engine.ended == {0, 1, 2}


@pytest.mark.parametrize("status", ["ADD_RESUMED", "UNKNOWN", "WAITING"])
def test_a_trial_that_a_former_resume_left_hanging_is_submitted_again(tmp_path, status):
    Bench(tmp_path).submit(0)
    bench = Bench(tmp_path, [past(0, status)])
    bench.engine.load_past_trials(set())
    bench.engine.go_on(set())
    assert bench.sent == [0]


def test_new_trials_get_new_numbers_after_a_resume(tmp_path):
    Bench(tmp_path).submit(0, 1)
    bench = Bench(tmp_path, [past(0, "SUCCEEDED", 0.5), past(1, "FAILED")])
    bench.engine.load_past_trials({0, 1})
    bench.engine.go_on(set())
    bench.submit(2)
    assert bench.sent == [2]


def test_a_task_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"task must lie in .*9\.json.*--directory DIRECTORY"):
        read_task(tmp_path, 9)
