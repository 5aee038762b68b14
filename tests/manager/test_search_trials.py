"""Whole searches as the trials of NNI's own tuners, under its real manager."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from nnictl import Experiment, running_experiment
from webui import browser, lines_are_drawn, open_page, parallel_axes, trial_rows

from nni_robust.record import read_records

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

SECTIONS: dict[str, Any] = {
    "data": {
        "name": "synthetic",
        "num_classes": 3,
        "image_shape": [1, 8, 8],
        "num_examples": 60,
        "batch_size": 16,
        "validation_split": 0.5,
    },
    "space": {"name": "racl", "num_cells": 3, "width": 4, "partial_channels": 2},
    "strategy": {"name": "racl", "warmup_epochs": 1, "refresh_every": 2, "learning_rate": 0.05},
    "evaluator": {
        "name": "one_shot_search",
        "search_epochs": 12,
        "derived": {"num_cells": 3, "width": 4},
        "retrain_epochs": 2,
        "retrain_recipe": {"schedule": "cosine", "learning_rate": 0.05, "max_norm": 5},
        "threat_model": {"epsilon": "8/255"},
        "train_attack": {"name": "fgsm"},
        "probe_attack": {"name": "fgsm"},
        "test_attacks": [{"name": "fgsm"}],
    },
}

EXPERIMENT: dict[str, Any] = {
    "experimentName": "searches",
    "trialCommand": "python3 -m nni_robust search search.yml",
    "trialCodeDirectory": ".",
    "trialConcurrency": 2,
    "maxTrialNumber": 2,
    "searchSpace": {
        "row": {
            "_type": "choice",
            "_value": [
                {
                    "_name": "loose",
                    "strategy.confidence": {"_type": "choice", "_value": [0.7]},
                    "seed": {"_type": "choice", "_value": [1]},
                },
                {
                    "_name": "without CL",
                    "strategy.confidence_learning": {"_type": "choice", "_value": [False]},
                },
            ],
        }
    },
    "tuner": {"name": "GridSearch"},
    "trainingService": {"platform": "local"},
}


@pytest.mark.browser
def test_searches_are_stopped_resumed_and_seen_on_the_page(tmp_path: Path):
    (tmp_path / "search.yml").write_text(yaml.safe_dump(SECTIONS))
    with running_experiment(EXPERIMENT, tmp_path) as started:
        experiment = Experiment.of(*started)
        # Stop in the middle of both supernets, after three epochs or more.
        experiment.wait_until(lambda: len(experiment.intermediates()) >= 6)
        experiment.stop_and_resume()
        outcome = experiment.end()
        assert (outcome.exit_status, outcome.status, outcome.succeeded) == (0, "DONE", 2)

        records = {
            trial.parameters["row"]["_name"]: read_records(
                experiment.results / trial.id / "records.jsonl"
            )
            for trial in experiment.trials()
        }
        # A trial that was killed while it worked has left a record that says so.
        done = {name: [r for r in stages if r.error is None] for name, stages in records.items()}
        for name, stages in done.items():
            assert [record.stage for record in stages] == ["search", "candidate", "final"], name
        (loose, bare) = (done[name][0] for name in ("loose", "without CL"))
        assert (loose.seed, bare.seed) == (1, 0)
        assert loose.settings["strategy"]["confidence"] == 0.7
        assert loose.metrics["var"] > 0
        assert bare.metrics["var"] == 0

        epochs = experiment.intermediates()
        supernet = [report for report in epochs if "c" in report]
        # Only an interrupted epoch is trained twice, and none is left out.
        assert 24 <= len(supernet) <= 28
        assert {"default", "clean", "loss", "c", "mu", "var", "dual", "H", "sure"} <= set(
            supernet[0]
        )
        assert {"skip_connect", "sep_conv_3x3"} <= set(supernet[0])

        with browser() as page:
            open_page(page, experiment.entry.port, "detail")
            assert [row["Status"] for row in trial_rows(page)] == ["SUCCEEDED"] * 2
            axes = parallel_axes(page)
            assert {"default", "clean", "test", "bound", "mu", "dual"} <= set(axes)
            assert lines_are_drawn(page)
