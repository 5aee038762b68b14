"""The stages of a search, run one after the other in this process on synthetic images."""

from __future__ import annotations

import json
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

import nni
import numpy as np
import pytest
import torch
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.nn.pytorch import LayerChoice, ModelSpace
from nni.nas.space import SimplifiedModelSpace
from torch import nn
from torch.testing import assert_close

from nni_robust.__main__ import main
from nni_robust.attack import FGSM, PGD, ThreatModel
from nni_robust.data import Synthetic
from nni_robust.evaluator import attacked_accuracy
from nni_robust.job.base import Conditions
from nni_robust.job.callbacks import EpochCheckpoint
from nni_robust.job.measure import Screening
from nni_robust.job.staged import StagedSearch
from nni_robust.record import read_records
from nni_robust.results.chosen import load_chosen
from nni_robust.results.files import SearchFiles
from nni_robust.results.weights import load_weights, save_weights
from nni_robust.space import STAGE, RobNetSpace
from nni_robust.strategy import RobNet
from nni_robust.training import Recipe

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's advice and the ONNX exporter's

THREAT = ThreatModel(epsilon=0.05)
SUITE = [FGSM(threat_model=THREAT), PGD(threat_model=THREAT, steps=4, step_size=0.02)]
DATA = {"num_classes": 3, "image_shape": (1, 8, 8), "num_examples": 90, "batch_size": 30}


def evaluator(directory: Path, **arguments: Any) -> StagedSearch:
    settings: dict[str, Any] = {
        "data": Synthetic(**DATA),
        "directory": str(directory),
        "supernet_epochs": 2,
        "finetune_epochs": 1,
        "recipe": Recipe(learning_rate=0.05),
        "train_attack": PGD(threat_model=THREAT, steps=2, step_size=0.03),
        "test_attacks": SUITE,
        "batch_norm_batches": 2,
        "probe_networks": 1,
    }
    given = {**settings, **arguments}
    groups = {
        name: group(**{f.name: given.pop(f.name) for f in fields(group) if f.name in given})
        for name, group in (("conditions", Conditions), ("screening", Screening))
    }
    return StagedSearch(**groups, **given)


def robnet_space(**arguments: Any) -> RobNetSpace:
    return RobNetSpace(
        **{"num_cells": 2, "width": 4, "num_classes": 3, "in_channels": 1, **arguments}
    )


def search(space: ModelSpace, judge: StagedSearch, **arguments: Any) -> RobNet:
    strategy = RobNet(**{"num_samples": 4, "num_candidates": 2, "num_shards": 2, **arguments})
    strategy(SimplifiedModelSpace.from_model(space, judge), SequentialExecutionEngine())
    return strategy


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A finished search."""
    directory = tmp_path_factory.mktemp("search")
    search(robnet_space(), evaluator(directory))
    return directory


def test_a_search_leaves_a_record_of_every_evaluated_network(finished):
    records = read_records(finished / "records.jsonl")
    stages = [record.stage for record in records]
    assert stages == ["screen"] * 4 + ["candidate"] * 2 + ["final"]
    for record in records:
        assert 0 <= record.metrics["default"] <= record.metrics["clean"] <= 1
        assert {"density", "num_parameters", "num_convolutions"} <= set(record.metrics)
        assert record.settings["space"]["width"] == 4
        assert record.settings["evaluator"]["attack_mode"] == "train"  # a default, written down
        assert record.versions["nni"] == "3.0"


def test_screened_networks_are_measured_by_fsp_cell_by_cell(finished):
    for record in read_records(finished / "records.jsonl")[:4]:
        assert len(record.details["fsp_unit"]) == 2
        assert record.metrics["fsp"] == pytest.approx(np.mean(record.details["fsp_unit"]))


def test_the_chosen_network_is_the_candidate_of_the_highest_validation_accuracy(finished):
    records = read_records(finished / "records.jsonl")
    candidates = [record for record in records if record.stage == "candidate"]
    best = max(candidates, key=lambda record: record.metrics["default"])
    assert records[-1].genotype == best.genotype


def test_the_chosen_network_is_rebuilt_from_its_files_with_the_same_accuracies(finished, capsys):
    assert main(["verify", str(finished)]) == 0
    table = capsys.readouterr().out
    assert "worst of suite" in table
    assert "pgd4" in table


def test_accuracies_that_are_not_those_on_record_give_a_failing_status(finished, tmp_path):
    folder = SearchFiles(finished).finals()[0]
    content = json.loads((folder / "genotype.json").read_text())
    content["metrics"]["clean"] += 0.1
    (tmp_path / "genotype.json").write_text(json.dumps(content))
    (tmp_path / "weights.pt").write_bytes((folder / "weights.pt").read_bytes())
    assert main(["verify", str(tmp_path)]) == 1


def test_the_test_accuracy_is_that_of_the_test_images(finished):
    network = load_chosen(SearchFiles(finished).finals()[0])
    x, y = Synthetic(**DATA).examples("test")
    accuracy = attacked_accuracy(network, x, y, attacks=SUITE)
    record = read_records(finished / "records.jsonl")[-1]
    assert record.metrics["default"] == accuracy["robust"]
    assert record.metrics["clean"] == accuracy["clean"]


def test_the_exported_onnx_network_gives_the_same_logits(finished):
    runtime = pytest.importorskip("onnxruntime")
    folder = SearchFiles(finished).finals()[0]
    session = runtime.InferenceSession(str(folder / "network.onnx"))
    x = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    (logits,) = session.run(None, {"x": x.numpy()})
    with torch.no_grad():
        expected = load_chosen(folder)(x)
    assert_close(torch.from_numpy(logits), expected, atol=1e-5, rtol=1e-4)


def supernet_trial(judge: StagedSearch) -> None:
    space = SimplifiedModelSpace.from_model(robnet_space(), judge)
    default: dict[str, Any] = {}
    space.robust_default(default)
    space.freeze({**default, STAGE: "supernet"}).execute()


@pytest.mark.parametrize("after", [1, 2])
def test_a_supernet_that_was_interrupted_ends_as_if_it_was_not(tmp_path, monkeypatch, after):
    epochs = {"supernet_epochs": 3, "recipe": Recipe(learning_rate=0.05, schedule="cosine")}
    supernet_trial(evaluator(tmp_path / "whole", **epochs))

    with monkeypatch.context() as patch:
        original = EpochCheckpoint.on_train_epoch_end

        def interrupt(self, trainer, module):
            original(self, trainer, module)
            if trainer.current_epoch == after - 1:
                raise RuntimeError("interrupted")

        patch.setattr(EpochCheckpoint, "on_train_epoch_end", interrupt)
        with pytest.raises(RuntimeError, match="interrupted"):
            supernet_trial(evaluator(tmp_path / "parts", **epochs))
    supernet_trial(evaluator(tmp_path / "parts", **epochs))

    parts = load_weights(tmp_path / "parts" / "supernet.pt")
    for name, value in load_weights(tmp_path / "whole" / "supernet.pt").items():
        assert_close(parts[name], value, msg=name)


def test_a_damaged_checkpoint_is_named(tmp_path):
    (tmp_path / "supernet.ckpt").write_bytes(b"damaged")
    with pytest.raises(
        ValueError, match=r"supernet\.ckpt' must hold tensors and plain values, but it is damaged"
    ):
        supernet_trial(evaluator(tmp_path))


def test_a_trial_that_was_done_when_it_was_interrupted_is_not_done_again(finished, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    (copy / "settings.json").unlink()
    before = (copy / "records.jsonl").read_text()
    weights = {path: path.stat().st_mtime_ns for path in copy.glob("candidates/*.pt")}
    search(robnet_space(), evaluator(copy))
    assert (copy / "records.jsonl").read_text() == before
    assert {path: path.stat().st_mtime_ns for path in copy.glob("candidates/*.pt")} == weights


def test_a_folder_with_another_search_is_refused(finished):
    before = (finished / "records.jsonl").read_text()
    with pytest.raises(ValueError, match=r"directory must be empty.*differs in evaluator.seed"):
        search(robnet_space(), evaluator(finished, seed=7))
    assert (finished / "records.jsonl").read_text() == before


def test_without_a_supernet_candidates_are_trained_from_scratch(tmp_path):
    space = SimplifiedModelSpace.from_model(robnet_space(), evaluator(tmp_path))
    sample = {**robnet_space().sample(["11" * 14]), STAGE: "candidate"}
    space.freeze(sample).execute()
    (record,) = read_records(tmp_path / "records.jsonl")
    assert "inherited" not in record.metrics


def test_a_search_of_cells_of_their_own_has_a_genotype_for_each(tmp_path):
    judge = evaluator(tmp_path)
    search(robnet_space(cell_free=True), judge, fsp_quantile=0.5, num_candidates=1)
    record = read_records(tmp_path / "records.jsonl")[-1]
    assert len(record.genotype) == 2
    assert main(["verify", str(tmp_path)]) == 0


def test_an_evaluator_of_nnis_random_strategy_gets_candidates(finished, tmp_path):
    from nni.nas.strategy import Random

    judge = evaluator(tmp_path, supernet=str(finished / "supernet.pt"), finetune_epochs=0)
    space = SimplifiedModelSpace.from_model(robnet_space(), judge)
    Random(seed=0)(space, SequentialExecutionEngine(max_model_count=2))
    records = read_records(tmp_path / "records.jsonl")
    assert [record.stage for record in records] == ["candidate"] * 2
    assert all(r.metrics["inherited"] == r.metrics["default"] for r in records)


class UserSpace(ModelSpace):
    """A user's own space of NNI's choices: no cells, no genotype."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.body = LayerChoice([nn.Conv2d(4, 4, 3, padding=1), nn.Identity()], label="body")
        self.head = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.body(self.stem(x))).mean((2, 3)))


def test_the_search_works_on_a_users_own_space(tmp_path):
    strategy = search(UserSpace(), evaluator(tmp_path), num_samples=2, num_candidates=1)
    (model,) = strategy.list_models()
    assert set(model.sample) == {"body", STAGE}
    assert main(["verify", str(tmp_path)]) == 0


def test_an_fsp_filter_needs_cells(tmp_path):
    with pytest.raises(RuntimeError, match="fsp_quantile and fsp_maximum need"):
        search(UserSpace(), evaluator(tmp_path), num_samples=2, num_candidates=1, fsp_quantile=0.5)


def test_a_trial_that_fails_says_why_in_the_records(tmp_path):
    judge = evaluator(tmp_path, recipe=Recipe(learning_rate=1e12))
    with pytest.raises(FloatingPointError):
        search(robnet_space(), judge)
    (record,) = read_records(tmp_path / "records.jsonl")
    assert record.stage == "supernet"
    assert "training loss became" in record.error


def test_nni_stores_the_evaluator_by_name_and_arguments(tmp_path):
    judge = evaluator(tmp_path)
    loaded = nni.load(nni.dump(judge))
    assert loaded.screen.attack == judge.screen.attack
    assert loaded.conditions.files.directory == judge.conditions.files.directory


def test_damaged_and_missing_weights_are_named(tmp_path):
    path = tmp_path / "weights.pt"
    with pytest.raises(ValueError, match="weights must be a file, but there is none at"):
        load_weights(path)
    save_weights(path, nn.Linear(2, 2))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match="is damaged or holds other objects"):
        load_weights(path)
    torch.save({"format": 7}, path)
    with pytest.raises(ValueError, match="must have format 1, got 7"):
        load_weights(path)


def test_a_folder_without_a_chosen_network_is_refused(tmp_path, capsys):
    assert main(["verify", str(tmp_path)]) == 2
    assert "must hold a chosen network" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"supernet_epochs": -1}, "supernet_epochs must be a whole number of at least 0, got -1"),
        (
            {"batch_norm_batches": 0},
            "batch_norm_batches must be a whole number of at least 1, got 0",
        ),
        ({"test_attacks": []}, "test_attacks must hold at least one attack"),
        ({"test_attacks": [PGD(), PGD(step_size=0.1)]}, "test_attacks must differ in name"),
        ({"last_cells": 0}, "last_cells must be a whole number of at least 1, got 0"),
        ({"supernet": "nowhere.pt"}, "supernet must be a file of weights, got 'nowhere.pt'"),
    ],
)
def test_wrong_arguments_are_refused(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        evaluator(tmp_path, **arguments)
