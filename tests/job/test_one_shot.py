"""A whole one-shot search: in this process, and as trials of an NNI experiment."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from nni_robust.__main__ import main
from nni_robust.job.build import build_job, conditions_of
from nni_robust.job.callbacks import BestEpoch, MeasurePerEpoch
from nni_robust.record import read_records
from nni_robust.results.chosen import chosen_folders, load_chosen, read_chosen
from nni_robust.settings.sections import apply_parameters, read_sections

EXAMPLES = Path(__file__).parents[2] / "examples"

SECTIONS: dict[str, Any] = {
    "seed": 3,
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
        "search_epochs": 2,
        "derived": {"num_cells": 3, "width": 4},
        "retrain_epochs": 2,
        "retrain_recipe": {"schedule": "cosine", "learning_rate": 0.05, "max_norm": 5},
        "threat_model": {"epsilon": "8/255"},
        "train_attack": {"name": "fgsm"},
        "probe_attack": {"name": "fgsm"},
        "test_attacks": [{"name": "fgsm"}, {"name": "pgd", "steps": 2, "step_size": "4/255"}],
        "device": "cpu",
    },
}


def write(folder: Path, **changes: Any) -> Path:
    whole = {key: value for key, value in changes.items() if key in SECTIONS}
    parts = {key: value for key, value in changes.items() if key not in SECTIONS}
    sections = apply_parameters({**SECTIONS, **whole}, parts)
    path = folder / "search.yml"
    path.write_text(yaml.safe_dump(sections))
    return path


def run_search(path: Path, directory: str) -> dict[str, float]:
    return build_job("search", read_sections(path), directory=directory).run()


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("search")
    metrics = run_search(write(folder), str(folder / "results"))
    return folder / "results", metrics


def test_a_search_ends_in_a_network_with_its_files(done):
    results, metrics = done
    (final,) = chosen_folders(results)
    names = {path.name for path in final.iterdir()}
    assert names == {"genotype.json", "weights.pt", "network.onnx", "cells.svg", "cells.png"}
    network = load_chosen(final)
    assert sum(p.numel() for p in network.parameters()) == metrics["num_parameters"]
    assert {"default", "clean", "fgsm", "pgd2", "test", "test_clean", "bound", "c"} <= set(metrics)


def test_every_stage_is_on_record_with_seed_and_settings(done):
    results, metrics = done
    records = read_records(results / "records.jsonl")
    assert [record.stage for record in records] == ["search", "candidate", "final"]
    assert {record.seed for record in records} == {3}
    assert len({tuple(record.genotype or []) for record in records}) == 1
    search, candidate, final = records
    assert search.settings["strategy"]["learning_rate"] == 0.05
    assert search.settings["space"]["partial_channels"] == 2
    assert final.settings["space"]["partial_channels"] == 1  # the network's own
    assert candidate.metrics["default"] == metrics["default"]
    assert final.metrics["default"] == metrics["test"]


def test_a_chosen_network_is_evaluated_again_to_the_same_result(done, capsys):
    assert main(["verify", str(done[0])]) == 0


def test_validation_images_are_those_that_the_chosen_network_was_not_trained_on(done):
    results, metrics = done
    (final,) = chosen_folders(results)
    again = conditions_of(read_chosen(final)).accuracies(load_chosen(final), "validation")
    assert again == {name: metrics[name] for name in again}


def test_a_finished_search_is_not_done_again(done):
    results, metrics = done
    before = (results / "records.jsonl").read_text()
    again = run_search(results.parent / "search.yml", str(results))
    assert again == metrics
    assert (results / "records.jsonl").read_text() == before


@pytest.mark.usefixtures("no_onnx")
def test_a_search_that_was_stopped_goes_on_to_the_same_result(done, tmp_path, monkeypatch):
    _, metrics = done
    path, results = write(tmp_path), str(tmp_path / "results")
    for callback in (MeasurePerEpoch, BestEpoch):
        hook = callback.on_train_epoch_end

        def stop(self, trainer, module, hook=hook):
            if trainer.current_epoch == 1:
                raise RuntimeError("planted")
            hook(self, trainer, module)

        with monkeypatch.context() as patch:
            patch.setattr(callback, "on_train_epoch_end", stop)
            with pytest.raises(RuntimeError, match="planted"):
                run_search(path, results)
    assert run_search(path, results) == metrics
    stages = [(r.stage, r.error) for r in read_records(tmp_path / "results/records.jsonl")]
    planted = ("search", "RuntimeError: planted")
    assert stages == [planted, ("search", None), planted, ("candidate", None), ("final", None)]


@pytest.mark.usefixtures("no_onnx")
def test_a_search_that_was_stopped_after_its_last_epoch_goes_on(done, tmp_path, monkeypatch):
    _, metrics = done
    path, results = write(tmp_path), str(tmp_path / "results")
    with monkeypatch.context() as patch:
        patch.setattr("nni_robust.job.one_shot.write_text", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run_search(path, results)
    assert run_search(path, results) == metrics


@pytest.mark.filterwarnings("ignore:The network returns NaN logits")
def test_a_failed_search_is_on_record(tmp_path):
    path = write(
        tmp_path, **{"evaluator.search_recipe": {"learning_rate": 1e12}, "strategy.max_norm": None}
    )
    with pytest.raises(FloatingPointError):
        run_search(path, str(tmp_path / "results"))
    (record,) = read_records(tmp_path / "results/records.jsonl")
    assert record.stage == "search"
    assert "FloatingPointError" in str(record.error)


@pytest.fixture
def no_onnx(monkeypatch):
    """Leave out the slowest part, which another test has seen."""
    monkeypatch.setattr("nni_robust.results.export.export_onnx", lambda *_: None)


@pytest.mark.usefixtures("no_onnx")
def test_nnis_own_one_shot_strategies_are_searches_as_well(tmp_path):
    path = write(tmp_path, strategy={"name": "nni.nas.strategy:DARTS"})
    metrics = run_search(path, str(tmp_path / "results"))
    assert "c" not in metrics
    assert 0 <= metrics["test"] <= 1


@pytest.mark.usefixtures("no_onnx")
def test_spaces_of_the_hub_are_searched(tmp_path):
    changes = {
        "space": {
            "name": "nni.nas.hub.pytorch:DARTS",
            "width": 4,
            "num_cells": 3,
            "dataset": "cifar",
        },
        "data.num_classes": 10,
        "data.image_shape": [3, 8, 8],
    }
    run_search(write(tmp_path, **changes), str(tmp_path / "results"))
    (final,) = chosen_folders(tmp_path / "results")
    assert (final / "cells.svg").is_file()


def test_parameters_of_a_tuner_replace_keys():
    changed = apply_parameters(
        SECTIONS,
        {"strategy.confidence": 0.7, "seed": 5, "row": {"_name": "x", "strategy.rho": 0.1}},
    )
    assert changed["strategy"]["confidence"] == 0.7
    assert changed["strategy"]["rho"] == 0.1
    assert changed["seed"] == 5
    assert SECTIONS["seed"] == 3
    assert "confidence" not in SECTIONS["strategy"]


@pytest.mark.parametrize("key", ["confidence", "strategie.confidence", "strategy.name.x"])
def test_a_parameter_without_a_section_is_refused(key):
    with pytest.raises(ValueError, match=r"searchSpace\..* must be `seed` or name a key"):
        apply_parameters(SECTIONS, {key: 1})


def test_one_seed_reaches_data_strategy_and_evaluator(tmp_path):
    search = build_job("search", SECTIONS, directory=tmp_path)
    assert (search.data.seed, search.seed) == (3, 3)
    own = apply_parameters(SECTIONS, {"data.seed": 1})
    assert build_job("search", own, directory=tmp_path).data.seed == 1


@pytest.mark.parametrize("name", ["racl.yml", "racl_ablation.yml"])
def test_the_examples_are_valid(name, capsys):
    assert main(["validate", str(EXAMPLES / name)]) == 0
    assert "searches of RACL, one per trial" in capsys.readouterr().out


EXPERIMENT = {
    "experimentName": "wrong",
    "trialCommand": "python3 -m nni_robust search search.yml",
    "trialCodeDirectory": ".",
    "trialConcurrency": 1,
    "maxTrialNumber": 1,
    "searchSpace": {"strategy.confidence": {"_type": "uniform", "_value": [0.5, 0.9]}},
    "tuner": {"name": "GridSearch"},
    "trainingService": {"platform": "local"},
}


@pytest.mark.parametrize(
    ("sections", "experiment", "message"),
    [
        ({"strategy.confidence": 1.5}, {}, "strategy.confidence must lie strictly between 0 and 1"),
        ({"strategy.rho": 0}, {}, "search.yml: strategy.rho must be positive, got 0"),
        ({"strategy.etta": 0.9}, {}, "search.yml: strategy.etta is not known"),
        ({"strategy": {"name": "robnet"}}, {}, "strategy.name must be a one-shot strategy"),
        (
            {"evaluator.retrain_epochs": 0},
            {},
            "retrain_epochs must be a whole number of at least 1",
        ),
        ({"evaluator.derived": {"wdth": 4}}, {}, "evaluator.derived.wdth is not known"),
        ({"evaluator.derived": {"num_classes": 4}}, {}, "derived.num_classes must be left out"),
        ({"seed": -1}, {}, "search.yml: seed must be a whole number"),
        (
            {"evaluator.retrain_recipe": {"name": "racl_clean"}, "evaluator.train_attack": None},
            {},
            "drop_path and auxiliary_weight must be 0",
        ),
        (
            {
                "evaluator.retrain_recipe": {"objective": {"name": "trades"}},
                "evaluator.train_attack": None,
            },
            {},
            "must be an attack for the obj",
        ),
        (
            {"evaluator.search_recipe": {"objective": {"name": "free"}}},
            {},
            "search_recipe.objective must not be 'free'",
        ),
        (
            {},
            {"searchSpace": {"strategy.confidence": {"_type": "uniform", "_value": [0.5, 1.5]}}},
            "confidence must lie strictly between 0 and 1",
        ),
        (
            {},
            {"searchSpace": {"strategy.etta": {"_type": "choice", "_value": [0.5]}}},
            "strategy.etta is not known",
        ),
        (
            {},
            {"searchSpace": {"strategy.rho": 1}},
            "searchSpace.strategy.rho must be a mapping such as",
        ),
        (
            {},
            {"searchSpace": {"strategy.rho": {"_type": "choice", "_value": []}}},
            "searchSpace.strategy.rho must be a mapping such as",
        ),
        (
            {},
            {"searchSpace": {"eta": {"_type": "choice", "_value": [0.5]}}},
            "searchSpace.eta must be `seed` or name a key of a section",
        ),
        (
            {},
            {"trialCommand": "python3 -m nni_robust search other.yml"},
            "must be a settings file, but there is no such file: 'other.yml'",
        ),
    ],
    ids=str,
)
def test_wrong_input_is_one_line_and_starts_nothing(
    sections, experiment, message, tmp_path, capsys
):
    write(tmp_path, **sections)
    path = tmp_path / "experiment.yml"
    path.write_text(yaml.safe_dump({**EXPERIMENT, **experiment}))
    assert main(["validate", str(path)]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error


def test_a_one_shot_strategy_is_refused_by_the_host(tmp_path, capsys):
    content = yaml.safe_load((EXAMPLES / "robnet.yml").read_text())
    content["tuner"]["classArgs"]["strategy"] = {"name": "racl"}
    content["maxTrialNumber"] = 1
    path = tmp_path / "experiment.yml"
    path.write_text(yaml.safe_dump(content))
    assert main(["validate", str(path)]) == 2
    assert "whose whole search is one trial" in capsys.readouterr().err


def test_published_and_chosen_networks_are_drawn(done, tmp_path, capsys):
    assert main(["draw", "racl", "--output", str(tmp_path / "racl")]) == 0
    assert main(["draw", "robnet-large", "--output", str(tmp_path / "large")]) == 0
    assert main(["draw", str(done[0]), "--output", str(tmp_path / "own")]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{name}.{suffix}" for name in ("racl", "large", "own") for suffix in ("svg", "png")
    }
    assert main(["draw", "raccoon"]) == 2
    assert "network must be a folder of results or one of" in capsys.readouterr().err


def test_search_prints_what_it_found(done, capsys):
    results, metrics = done
    path = results.parent / "search.yml"
    assert main(["search", str(path), "--directory", str(results)]) == 0
    out = capsys.readouterr().out
    assert re.search(rf"worst of suite .*{100 * metrics['test']:.2f} %", out)
    assert f"nni-robust audit {results}" in out
    assert json.loads((results / "derived.json").read_text())
