"""The strategy host under NNI's real manager: whole searches, stops, resumes, errors, the page."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from nnictl import Experiment, running_experiment
from webui import (
    best_metric,
    browser,
    lines_are_drawn,
    open_page,
    parallel_axes,
    trial_parameters,
    trial_rows,
)

from nni_robust.job.build import build_search
from nni_robust.record import Record, read_records
from nni_robust.space.edge import EDGES

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def config(**sections: Any) -> dict[str, Any]:
    """Return a small search on synthetic images; sections and keys of NNI replace its own."""
    class_args = {
        "data": {
            "name": "synthetic",
            "num_classes": 3,
            "image_shape": [1, 8, 8],
            "num_examples": 120,
            "batch_size": 32,
        },
        "space": {"name": "robnet", "num_cells": 2, "width": 4},
        "strategy": {"name": "robnet", "num_samples": 4, "num_candidates": 3, "num_shards": 1},
        "evaluator": {
            "name": "staged",
            "supernet_epochs": 2,
            "finetune_epochs": 1,
            "threat_model": {"epsilon": "8/255"},
            "train_attack": {"name": "pgd", "steps": 2, "step_size": "4/255"},
            "test_attacks": [{"name": "pgd", "steps": 4, "step_size": "4/255"}],
            "batch_norm_batches": 2,
            "probe_networks": 1,
        },
    }
    class_args.update({k: v for k, v in sections.items() if k in class_args})
    return {
        "experimentName": "host",
        "searchSpace": {},
        "trialCommand": "python3 -m nni_robust trial",
        "trialCodeDirectory": ".",
        "trialConcurrency": 2,
        "maxTrialNumber": 10,
        "trainingService": {"platform": "local"},
        "tuner": {
            "className": "nni_robust.StrategyHost",
            "codeDirectory": ".",
            "classArgs": class_args,
        },
        **{k: v for k, v in sections.items() if k not in class_args},
    }


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Experiment]]:
    """Start an experiment, and stop it when the test ends."""
    running = []

    def begin(**sections: Any) -> Experiment:
        experiment = running_experiment(config(**sections), tmp_path)
        started = experiment.__enter__()
        running.append(experiment)
        return Experiment.of(*started)

    yield begin
    for experiment in running:
        experiment.__exit__(None, None, None)


def train_supernet(directory: Path) -> Path:
    """Train weights to inherit."""
    sections = config()["tuner"]["classArgs"]
    sections["evaluator"]["supernet_epochs"] = 1
    space = build_search(sections, directory=directory).executable()
    default: dict[str, Any] = {}
    space.robust_default(default)
    space.freeze({**default, "stage": "supernet"}).execute()
    return directory / "supernet.pt"


def records_of(experiment: Experiment) -> list[Record]:
    return read_records(experiment.results / "records.jsonl")


def assert_every_network_was_evaluated_once(experiment: Experiment) -> None:
    """Check parameter ids of trials, and stages and networks of records."""
    ids = [trial.parameter_id for trial in experiment.trials()]
    assert sorted(ids) == list(range(len(ids)))
    records = records_of(experiment)
    done = Counter((record.stage, str(record.genotype)) for record in records)
    assert set(done.values()) == {1}, done


@pytest.mark.browser
def test_a_whole_search_ends_as_done_and_is_seen_on_the_page(start, tmp_path):
    experiment = start()
    outcome = experiment.end()
    assert (outcome.exit_status, outcome.status, outcome.succeeded) == (0, "DONE", 6)
    trials = experiment.trials()
    assert Counter(trial.stage for trial in trials) == {
        "supernet": 1,
        "screen": 1,
        "candidate": 3,
        "final": 1,
    }
    assert_every_network_was_evaluated_once(experiment)
    (chosen,) = experiment.results.glob("final/*")
    names = {path.name for path in chosen.iterdir()}
    assert {"genotype.json", "weights.pt", "network.onnx"} <= names
    candidates = [trial for trial in trials if trial.stage == "candidate"]
    button = experiment.entry.directory / "trials" / candidates[0].id
    assert list((button / "output" / "tensorboard").rglob("events.out.tfevents.*"))
    best = max(candidates, key=lambda trial: trial.default)
    assert (outcome.best.id, outcome.results) == (best.id, experiment.results)
    # A record keeps its key; NNI is told `default` of candidates only.
    assert [trial.id for trial in trials if trial.default is not None] == [
        trial.id for trial in candidates
    ]
    assert all("default" in record.metrics for record in records_of(experiment))

    exported = tmp_path / "export.json"
    experiment.nnictl(
        *("experiment", "export", experiment.entry.id, "--type", "json"),
        *("--filename", str(exported)),
    )
    assert len(json.loads(exported.read_text())) == 6

    with browser() as page:
        open_page(page, experiment.entry.port, "overview")
        assert best_metric(page) == round(best.default, 6)
        open_page(page, experiment.entry.port, "detail")
        rows = {row["ID"]: row for row in trial_rows(page)}
        assert [row["Status"] for row in rows.values()] == ["SUCCEEDED"] * 6
        ranked = {trial_id for trial_id, row in rows.items() if row["Default metric"] != "--"}
        assert ranked == {trial.id for trial in candidates}
        assert trial_parameters(page, candidates[0].id) == candidates[0].parameters
        axes = parallel_axes(page)
        edges = [f"edge_{source}_{target}" for source, target in EDGES]
        assert list(axes)[:16] == ["ops", "stage", *edges]
        assert {"default", "clean", "pgd4", "fsp", "density", "params_m"} <= set(axes)
        assert lines_are_drawn(page)


def test_a_search_that_is_stopped_among_the_candidates_continues(start):
    experiment = start(trialConcurrency=1)
    experiment.wait_until(lambda: "candidate" in experiment.stages("SUCCEEDED"))
    experiment.wait_until(lambda: "candidate" in experiment.stages("RUNNING"))
    before = [trial.parameter_id for trial in experiment.trials()]
    experiment.stop_and_resume()
    outcome = experiment.end()
    assert (outcome.exit_status, outcome.succeeded) == (0, 6)
    after = [trial.parameter_id for trial in experiment.trials()]
    assert after[: len(before)] == before
    assert_every_network_was_evaluated_once(experiment)


def test_a_supernet_that_is_stopped_continues_from_its_last_epoch(start):
    evaluator = {**config()["tuner"]["classArgs"]["evaluator"], "supernet_epochs": 25}
    experiment = start(evaluator=evaluator)
    experiment.wait_until(lambda: len(experiment.intermediates()) >= 4)
    experiment.stop_and_resume()
    outcome = experiment.end()
    assert (outcome.exit_status, outcome.succeeded) == (0, 6)
    # One report before the training and one after each epoch; only an interrupted epoch is
    # repeated.
    epochs = [report for report in experiment.intermediates() if "index" not in report]
    candidates = 3
    assert 26 <= len(epochs) - candidates <= 27
    assert_every_network_was_evaluated_once(experiment)


@pytest.mark.parametrize(
    "strategy",
    [
        {"name": "random", "seed": 0},
        {"name": "regularized_evolution", "population_size": 2, "sample_size": 2, "seed": 0},
    ],
    ids=lambda strategy: strategy["name"],
)
def test_nnis_strategies_search_with_inherited_weights(start, tmp_path, strategy):
    supernet = train_supernet(tmp_path / "supernet")
    evaluator = {**config()["tuner"]["classArgs"]["evaluator"], "supernet": str(supernet)}
    experiment = start(evaluator=evaluator, strategy=strategy, maxTrialNumber=5)
    experiment.wait_until(lambda: len(experiment.stages("SUCCEEDED")) >= 2)
    experiment.stop_and_resume()
    outcome = experiment.end()
    assert (outcome.exit_status, outcome.succeeded) == (0, 5)
    assert_every_network_was_evaluated_once(experiment)


def test_wrong_settings_end_the_experiment_at_once_with_their_path(start):
    space = {"name": "robnet", "num_cells": 2, "width": 4, "density": [0.9, 0.1]}
    experiment = start(space=space)
    outcome = experiment.end()
    assert (outcome.exit_status, outcome.status) == (1, "ERROR")
    assert "space.density must be two numbers" in outcome.message


def test_a_supernet_that_fails_ends_the_experiment_with_the_reason(start):
    evaluator = config()["tuner"]["classArgs"]["evaluator"]
    experiment = start(evaluator={**evaluator, "recipe": {"learning_rate": 1e12}})
    outcome = experiment.end()
    assert (outcome.exit_status, outcome.status) == (1, "ERROR")
    assert "the supernet's trial failed" in outcome.message
    (record,) = records_of(experiment)
    assert "training loss became" in record.error
