"""One network trained by a file, in this process, on synthetic images."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import nni
import pytest
import torch
import yaml
from torch import nn
from torch.testing import assert_close

from nni_robust.__main__ import main
from nni_robust.attack import FGSM, PGD, ThreatModel
from nni_robust.data import Synthetic
from nni_robust.evaluator import attacked_accuracy
from nni_robust.job.base import Conditions
from nni_robust.job.callbacks import EpochCheckpoint
from nni_robust.job.network_training import NetworkTraining
from nni_robust.manager import trial
from nni_robust.record import read_records
from nni_robust.results.chosen import chosen_folders, load_chosen
from nni_robust.results.weights import load_weights
from nni_robust.settings.networks import build_network
from nni_robust.training import RECIPES, Recipe
from nni_robust.training.objective import Fast, Free

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's advice

DATA = {"num_classes": 3, "image_shape": (1, 8, 8), "num_examples": 120, "batch_size": 30}
THREAT = ThreatModel(epsilon=0.05)
SUITE = [FGSM(threat_model=THREAT), PGD(threat_model=THREAT, steps=4, step_size=0.02)]
PROBE = PGD(threat_model=THREAT, steps=2, step_size=0.03)


class Small(nn.Module):
    """A network that draws while it is trained."""

    def __init__(self, num_classes: int, in_channels: int, width: int = 6) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, width, 3, stride=2),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(width * 9, num_classes),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


@pytest.fixture
def small(monkeypatch) -> dict[str, str]:
    """The section of the network, by a module that can be imported."""
    import sys

    monkeypatch.setitem(sys.modules, "a_users_networks", sys.modules[Small.__module__])
    return {"name": "a_users_networks:Small"}


def training(directory: Path, network: dict[str, Any], **arguments: Any) -> NetworkTraining:
    settings: dict[str, Any] = {
        "data": Synthetic(**DATA),
        "directory": str(directory),
        "epochs": 3,
        "recipe": Recipe(learning_rate=0.05),
        "train_attack": PROBE,
        "probe_attack": PROBE,
        "test_attacks": SUITE,
    }
    given = {**settings, **arguments}
    names = [field.name for field in fields(Conditions) if field.name in given]
    conditions = Conditions(**{name: given.pop(name) for name in names})
    return NetworkTraining(network=network, conditions=conditions, **given)


def rebuilt(section: dict[str, Any], weights: Path) -> nn.Module:
    network = build_network(section, Synthetic(**DATA))
    network.load_state_dict(load_weights(weights))
    return network.eval()


def accuracy(network: nn.Module, split: str, attacks: list[Any]) -> dict[str, float]:
    x, y = Synthetic(**DATA).examples(split)
    return attacked_accuracy(network, x, y, attacks=attacks)


@pytest.fixture
def epochs(monkeypatch) -> list[dict[str, torch.Tensor]]:
    """State dicts after every epoch of the trainings that a test does."""
    states: list[dict[str, torch.Tensor]] = []
    original = EpochCheckpoint.on_train_epoch_end

    def keep(self, trainer, module):
        original(self, trainer, module)
        states.append({k: v.clone() for k, v in module.model.state_dict().items()})

    monkeypatch.setattr(EpochCheckpoint, "on_train_epoch_end", keep)
    return states


def test_the_epoch_of_the_highest_validation_accuracy_is_kept_and_tested(tmp_path, small, epochs):
    metrics = training(tmp_path, small, recipe=Recipe(learning_rate=0.4)).run()
    network = build_network(small, Synthetic(**DATA)).eval()
    measured = []
    for state in epochs:
        network.load_state_dict(state)
        measured.append(accuracy(network, "validation", [PROBE])["robust"])
    assert metrics["best"] == max(measured)
    assert metrics["best_epoch"] == measured.index(max(measured))
    assert metrics["last"] == measured[-1]
    best = rebuilt(small, tmp_path / "best.pt")
    for name, value in epochs[metrics["best_epoch"]].items():
        assert torch.equal(best.state_dict()[name], value)
    for name, value in load_weights(tmp_path / "last.pt").items():
        assert torch.equal(value, epochs[-1][name])
    tested = accuracy(best, "test", SUITE)
    assert (metrics["test"], metrics["test_clean"]) == (tested["robust"], tested["clean"])


def test_a_training_leaves_records_with_settings(tmp_path, small):
    metrics = training(tmp_path, small, recipe=RECIPES["modern"], epochs=1).run()
    final, whole = read_records(tmp_path / "records.jsonl")
    assert (final.stage, whole.stage) == ("final", "train")
    assert final.metrics["default"] == metrics["test"]
    assert {"clean", "fgsm", "pgd4", "num_parameters"} <= set(final.metrics)
    assert final.settings["network"] == small
    recipe = final.settings["evaluator"]["recipe"]
    assert (recipe["ema"], recipe["awp"]) == (0.9995, 0.005)
    assert recipe["objective"] == {"name": "trades", "beta": 6.0}


def test_a_training_that_is_complete_is_not_done_again(tmp_path, small):
    first = training(tmp_path, small, epochs=1).run()
    before = (tmp_path / "records.jsonl").read_text()
    assert training(tmp_path, small, epochs=1).run() == first
    assert (tmp_path / "records.jsonl").read_text() == before


def test_a_training_goes_on_in_a_folder_that_was_moved(tmp_path, small):
    first = training(tmp_path / "here", small, epochs=1).run()
    before = (tmp_path / "here/records.jsonl").read_text()
    (tmp_path / "here").rename(tmp_path / "there")
    assert training(tmp_path / "there", small, epochs=1).run() == first
    assert (tmp_path / "there/records.jsonl").read_text() == before


def test_weights_that_were_lost_are_written_again(tmp_path, small):
    first = training(tmp_path, small, epochs=1).run()
    (weights,) = tmp_path.glob("final/*/weights.pt")
    weights.unlink()
    assert training(tmp_path, small, epochs=1).run() == first
    assert weights.is_file()


def test_a_folder_with_another_training_is_refused(tmp_path, small):
    training(tmp_path, small, epochs=1).run()
    with pytest.raises(ValueError, match=r"directory must be empty.*differs in evaluator.epochs"):
        training(tmp_path, small, epochs=2).run()


RESUMED = {
    "averaged": Recipe(schedule="cosine", ema=0.9, awp=0.01, cutout=3, learning_rate=0.05),
    "free": Recipe(objective=Free(replays=2), learning_rate=0.05),
    "fast": Recipe(objective=Fast(), learning_rate=0.05),
}


@pytest.mark.parametrize("recipe", RESUMED.values(), ids=RESUMED)
@pytest.mark.parametrize("after", [1, 3])
def test_a_training_that_was_interrupted_ends_as_if_it_was_not(
    tmp_path, monkeypatch, small, recipe, after
):
    whole = training(tmp_path / "whole", small, recipe=recipe).run()
    with monkeypatch.context() as patch:
        original = EpochCheckpoint.on_train_epoch_end

        def interrupt(self, trainer, module):
            original(self, trainer, module)
            if trainer.current_epoch == after - 1:
                raise RuntimeError("interrupted")

        patch.setattr(EpochCheckpoint, "on_train_epoch_end", interrupt)
        with pytest.raises(RuntimeError, match="interrupted"):
            training(tmp_path / "parts", small, recipe=recipe).run()
    torch.rand(7)  # whatever else the process has drawn
    assert training(tmp_path / "parts", small, recipe=recipe).run() == whole
    for file in ("best.pt", "last.pt"):
        parts = load_weights(tmp_path / "parts" / file)
        for name, value in load_weights(tmp_path / "whole" / file).items():
            assert_close(parts[name], value, msg=f"{file} {name}")
    assert "interrupted" in read_records(tmp_path / "parts" / "records.jsonl")[0].error


SECTIONS: dict[str, Any] = {
    "seed": 1,
    "data": {"name": "synthetic", **DATA, "image_shape": [1, 8, 8]},
    "network": {"name": "resnet18", "width": 0.05, "activation": "silu"},
    "evaluator": {
        "name": "train",
        "epochs": 1,
        "recipe": {"name": "paper", "objective": {"name": "trades", "beta": 5}, "ema": 0.9},
        "threat_model": {"epsilon": "12/255"},
        "train_attack": {"name": "pgd", "steps": 1, "step_size": "12/255"},
        "probe_attack": {"name": "pgd", "steps": 1, "step_size": "12/255"},
        "test_attacks": [{"name": "fgsm"}],
        "device": "cpu",
    },
}


def file_of(directory: Path, **changed: Any) -> Path:
    file = directory / "train.yml"
    sections = {**SECTIONS, **changed}
    file.write_text(yaml.safe_dump({k: v for k, v in sections.items() if v is not None}))
    return file


def test_the_command_line_trains_the_network_of_a_file(tmp_path, capsys):
    results = tmp_path / "results"
    assert main(["train", str(file_of(tmp_path)), "--directory", str(results)]) == 0
    assert "worst of suite" in capsys.readouterr().out
    record = read_records(results / "records.jsonl")[0]
    assert record.seed == 1
    assert record.settings["evaluator"]["recipe"]["objective"] == {"name": "trades", "beta": 5}
    assert record.settings["evaluator"]["train_attack"]["threat_model"]["epsilon"] == 12 / 255
    network = build_network(SECTIONS["network"], Synthetic(**DATA))
    assert any(isinstance(module, nn.SiLU) for module in network.modules())
    network.load_state_dict(load_weights(results / "best.pt"))


def test_a_trained_network_is_evaluated_again_from_its_folder(tmp_path, small, capsys):
    found = training(tmp_path, small).run()
    (folder,) = chosen_folders(tmp_path)
    assert folder == tmp_path / "final" / "Small"
    assert accuracy(load_chosen(folder), "test", SUITE)["robust"] == found["test"]
    assert main(["verify", str(tmp_path)]) == 0
    assert main(["evaluate", str(tmp_path), "--attacks", "fgsm", "--limit", "10"]) == 0
    assert "Small: 10 test images of synthetic" in capsys.readouterr().out


def test_a_training_that_is_terminated_is_no_success(tmp_path):
    file = file_of(tmp_path, **evaluator(epochs=1000))
    command = [sys.executable, "-m", "nni_robust", "train", str(file)]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not list(tmp_path.rglob("network.ckpt")) and time.monotonic() < deadline:
            time.sleep(0.2)
        process.terminate()
        assert process.wait(timeout=30) == 143


def test_a_trial_takes_its_parameters_and_reports(tmp_path, monkeypatch):
    output = tmp_path / "exp" / "environments" / "local-env" / "trials" / "trial"
    monkeypatch.setenv("NNI_TRIAL_JOB_ID", "trial")
    monkeypatch.setenv("NNI_OUTPUT_DIR", str(output))
    monkeypatch.setattr(nni, "get_trial_id", lambda: "trial")
    parameters = {"seed": 4, "evaluator.recipe.objective.beta": 2, "network.width": 0.06}
    monkeypatch.setattr(trial, "_own_record", lambda: {"parameters": parameters})
    monkeypatch.setattr(trial, "_results", lambda directory: tmp_path / "results")
    monkeypatch.setattr(trial, "_concurrency", lambda: 2)
    monkeypatch.setattr(trial, "_share_cores", lambda trials: None)
    monkeypatch.setattr(nni, "get_current_parameter", lambda: parameters)
    intermediate: list[dict[str, float]] = []
    final: list[dict[str, float]] = []
    monkeypatch.setattr(nni, "report_intermediate_result", intermediate.append)
    monkeypatch.setattr(nni, "report_final_result", final.append)

    assert main(["train", str(file_of(tmp_path))]) == 0
    record = read_records(tmp_path / "results" / "trial" / "records.jsonl")[0]
    assert record.seed == 4
    assert record.settings["network"]["width"] == 0.06
    assert record.settings["evaluator"]["recipe"]["objective"]["beta"] == 2
    assert len(intermediate) == 1
    assert {"default", "clean", "best", "loss"} <= set(intermediate[0])
    assert final[0]["test"] == record.metrics["default"]


def evaluator(**changed: Any) -> dict[str, Any]:
    return {"evaluator": {**SECTIONS["evaluator"], **changed}}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"network": None}, "network is missing: the file needs data, network"),
        ({"space": {"name": "racl"}}, "space is not a section"),
        ({"seed": -1}, r"seed must be a whole number from 0 to 2\^32 - 1, got -1"),
        ({"network": {"name": "resnet19"}}, r"network\.name must be one of .*'resnet18'"),
        ({"network": {"name": "resnet18", "wdth": 1}}, r"network is not valid: .*'wdth'"),
        ({"network": {"name": "resnet18", "activation": "selu"}}, r"network\.activation must be"),
        ({"network": {"name": "racl-hub"}}, r"network.* must not be a .*'racl'"),
        ({"network": {"name": "collections:OrderedDict"}}, r"network must be a torch\.nn\.Module"),
        (
            {"network": {"name": "racl", "num_classes": 2}},
            r"network must return 3 logits per image",
        ),
        ({"network": "resnet18"}, ": network must be a mapping with a name"),
        ({"network": {"name": "nni_robust.op:Zero", "channels": 1}}, ": network must "),
        ({"evaluator": {"name": "staged"}}, r"evaluator\.name must be one of \['train'\]"),
        (evaluator(epochs=True), r"evaluator\.epochs must be a number, got True"),
        (evaluator(batch_size=0), r"evaluator\.batch_size must be a whole number of at least 1"),
        (evaluator(probe_examples=0), r"evaluator\.probe_examples must be a whole number of at"),
        (evaluator(recipe="racl_clean"), r"recipe\.drop_path must be 0 for a network"),
        (evaluator(epochs=0), r"evaluator\.epochs must be a whole number of at least 1, got 0"),
        (evaluator(recipe={"objective": {"name": "tardes"}}), r"evaluator\.recipe\.objective"),
        (evaluator(recipe={"ema": 1}), r"evaluator\.recipe\.ema must lie in \[0, 1\)"),
        (evaluator(train_attack=None), r"evaluator\.train_attack must be an attack for the obj"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(tmp_path, capsys, changed, message):
    import re

    file = file_of(tmp_path, **changed)
    if changed.get("evaluator", {}).get("train_attack", 0) is None:
        sections = {**SECTIONS, **changed}
        file.write_text(yaml.safe_dump(sections))
    assert main(["train", str(file), "--directory", str(tmp_path / "results")]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert error.count("\n") == 1


@pytest.mark.parametrize("name", ["robnet-large", "racl"])
def test_published_architectures_are_networks_to_train(name):
    network = build_network({"name": name, "width": 8, "num_cells": 20}, Synthetic(**DATA))
    assert network(torch.rand(2, 1, 8, 8)).shape == (2, 3)


def test_the_clean_recipe_of_racl_trains_a_network_of_nnis_hub(tmp_path):
    data = Synthetic(image_shape=(3, 32, 32), num_examples=20, batch_size=8)
    network = {"name": "racl-hub", "width": 4, "num_cells": 3}
    recipe = RECIPES["racl_clean"]
    metrics = training(tmp_path, network, data=data, epochs=2, recipe=recipe).run()
    assert 0 <= metrics["test"] <= metrics["test_clean"] <= 1


def test_settings_are_written_as_json(tmp_path, small):
    training(tmp_path, small, epochs=1).run()
    settings = json.loads((tmp_path / "settings.json").read_text())
    assert settings["evaluator.recipe.learning_rate"] == 0.05
    assert settings["network.name"] == small["name"]
