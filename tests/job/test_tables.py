"""The experiments of examples/tables: scales, rows, attacks on what was trained before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nni
import pytest
import torch
import yaml
from nni.algorithms.hpo.gridsearch_tuner import GridSearchTuner
from torch import nn

from nni_robust.__main__ import main
from nni_robust.attack import FGSM, ThreatModel
from nni_robust.data import Synthetic
from nni_robust.evaluator import attacked_accuracy
from nni_robust.job.build import build_job
from nni_robust.manager import trial
from nni_robust.record import read_records
from nni_robust.report.published import TABLES
from nni_robust.results.tags import tagged_records
from nni_robust.results.weights import load_weights
from nni_robust.settings.networks import NETWORKS, build_network
from nni_robust.settings.sections import apply_parameters, resolve

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's advice

FOLDER = Path(__file__).parents[2] / "examples" / "tables"
EXPERIMENTS = sorted(p for p in FOLDER.glob("*.yml") if not p.stem.endswith("_rows"))
OF_ROWS = [p for p in EXPERIMENTS if p.stem not in ("r_fig5", "r_fig7")]

SECTIONS: dict[str, Any] = {
    "data": {"name": "cifar10", "root": "data"},
    "network": {"name": "resnet18"},
    "evaluator": {"epochs": 200, "recipe": {"name": "paper"}},
    "scales": {"small": {"data": {"name": "digits"}, "evaluator.epochs": 2, "network.size": 0.5}},
}


def content(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(path.read_text())
    return loaded


def small(path: Path, folder: Path) -> Path:
    """Write an experiment at small scale, whose trials still run in the folder of the tables."""
    changed = content(path)
    changed["trialCodeDirectory"] = str(FOLDER)
    changed["trialCommand"] = changed["trialCommand"].replace("--scale full", "--scale small")
    if "classArgs" in changed["tuner"]:
        changed["tuner"]["classArgs"]["scale"] = "small"
    file = folder / path.name
    file.write_text(yaml.safe_dump(changed))
    return file


def trials(path: Path) -> list[dict[str, Any]]:
    """List the parameters of all trials, as NNI's own tuner gives them out."""
    tuner = GridSearchTuner()
    tuner.update_search_space(content(path)["searchSpace"])
    found = []
    while True:
        try:
            found.append(tuner.generate_parameters(len(found)))
        except nni.NoMoreTrialError:
            return found


# Scales.


def test_a_scale_replaces_keys_and_whole_sections():
    changed = resolve(SECTIONS, scale="small")
    assert changed == {
        "data": {"name": "digits"},
        "network": {"name": "resnet18", "size": 0.5},
        "evaluator": {"epochs": 2, "recipe": {"name": "paper"}},
        "tags": {"scale": "small"},
    }
    assert SECTIONS["evaluator"]["epochs"] == 200


@pytest.mark.parametrize("scale", [None, "full"])
def test_the_full_scale_is_what_is_written(scale):
    changed = resolve(SECTIONS, scale=scale)
    assert {key: changed[key] for key in ("data", "network", "evaluator")} == {
        key: SECTIONS[key] for key in ("data", "network", "evaluator")
    }


@pytest.mark.parametrize(
    ("sections", "scale", "message"),
    [
        (SECTIONS, "smal", r"scale must be one of \['full', 'small'\], got 'smal'"),
        ({"data": {}}, "small", r"scale must be one of \['full'\], got 'small'"),
        (
            {"data": {}, "scales": {"small": {"dta.limit": 1}}},
            "small",
            r"scales\.small\.dta\.limit must be a section or name a key",
        ),
        ({"data": {}, "scales": ["small"]}, "small", "scales must map names to keys"),
    ],
    ids=str,
)
def test_a_scale_that_cannot_be_is_refused(sections, scale, message):
    with pytest.raises(ValueError, match=message):
        resolve(sections, scale=scale)


# Rows.


def test_the_names_of_choices_are_the_row():
    parameters = {
        "data": {"_name": "SVHN", "data.name": "svhn"},
        "network": {"_name": "ResNet-18", "network.name": "resnet18"},
        "seed": 1,
    }
    changed = apply_parameters({**SECTIONS, "tags": {"table": "r-tab3"}}, parameters)
    assert changed["data"]["name"] == "svhn"
    assert changed["tags"] == {"table": "r-tab3", "row": "SVHN, ResNet-18"}
    assert changed["seed"] == 1


@pytest.mark.parametrize("path", OF_ROWS, ids=lambda path: path.stem)
def test_the_trials_of_an_experiment_are_the_rows_of_its_table(path):
    words = content(path)["trialCommand"].split()
    sections = content(FOLDER / words[words.index("nni_robust") + 2])
    given = trials(path)
    assert len(given) == content(path)["maxTrialNumber"]
    applied = [apply_parameters(sections, parameters) for parameters in given]
    rows = {trial["tags"]["row"] for trial in applied}
    assert len({(trial["tags"]["row"], trial["seed"]) for trial in applied}) == len(given)
    if sections["tags"]["table"] == "a-tab2-source":  # a row of no table
        return
    table = TABLES[sections["tags"]["table"]]
    assert rows <= set(table.rows)
    # What no trial of this experiment gives is another table's, or was never published.
    left = set(table.rows) - rows
    others = {row for name in table.shares for row in TABLES[name].rows}
    quoted = {"ResNet-18", "DenseNet-121", "RobNet-small"} if path.stem == "a_tab1" else set()
    assert left <= {"RobNet-medium", *quoted, *others}


def columns_of(path: Path, parameters: dict[str, Any]) -> set[str]:
    words = content(path)["trialCommand"].split()
    sections = apply_parameters(content(FOLDER / words[words.index("nni_robust") + 2]), parameters)
    attacks = sections["evaluator"].get("test_attacks") or sections["evaluator"]["attacks"]
    given = "transfer_" if "source" in sections else ""
    default = {"mim": 20, "deepfool": 50}
    names = [f"{a['name']}{a.get('steps', default.get(a['name'], ''))}" for a in attacks]
    return {f"{given}{name}" for name in names}


@pytest.mark.parametrize("path", OF_ROWS, ids=lambda path: path.stem)
def test_every_column_is_measured(path):
    words = content(path)["trialCommand"].split()
    name = content(FOLDER / words[words.index("nni_robust") + 2])["tags"]["table"]
    if name in TABLES:
        columns = set(TABLES[name].columns) - {"num_parameters", "clean"}
        for parameters in trials(path)[:1]:
            assert columns <= columns_of(path, parameters)


def test_every_network_of_a_table_has_a_name():
    for path in OF_ROWS:
        for parameters in trials(path):
            for choice in parameters.values():
                if isinstance(choice, dict) and "network.name" in choice:
                    assert choice["network.name"] in NETWORKS


@pytest.mark.parametrize(
    "name", ["r_tab2", "r_tab4", "r_tab8", "r_fig7", "r_fig10", "a_tab2", "a_tab5", "a_fig3"]
)
def test_an_experiment_is_valid_at_small_scale(name, tmp_path, capsys):
    assert main(["validate", str(small(FOLDER / f"{name}.yml", tmp_path))]) == 0
    assert name.replace("_", "-") in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_every_experiment_is_valid_at_small_scale(path, tmp_path):
    assert main(["validate", str(small(path, tmp_path))]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("path", OF_ROWS, ids=lambda path: path.stem)
def test_every_experiment_is_valid_at_full_scale(path, tmp_path, monkeypatch):
    from nni_robust.data import Examples, RobustDataModule

    def examples(data: RobustDataModule, split: str, limit: int | None = None) -> Any:
        return Examples(torch.zeros(1, *data.image_shape)), torch.zeros(1, dtype=torch.long)

    monkeypatch.setattr(RobustDataModule, "stored_examples", examples)  # they are not at hand
    changed = {**content(path), "trialCodeDirectory": str(FOLDER)}
    file = tmp_path / path.name
    file.write_text(yaml.safe_dump(changed))
    assert main(["validate", str(file)]) == 0


def experiment(folder: Path, command: str, row: dict[str, Any]) -> Path:
    path = folder / "x.yml"
    choices = {key: {"_type": "choice", "_value": [value]} for key, value in row.items()}
    path.write_text(
        yaml.safe_dump(
            {
                "trialCommand": f"python3 -m nni_robust {command}",
                "trialCodeDirectory": str(FOLDER),
                "trialConcurrency": 1,
                "searchSpace": {
                    "row": {"_type": "choice", "_value": [{"_name": "X", **choices}]},
                },
                "tuner": {"name": "GridSearch"},
                "trainingService": {"platform": "local"},
            }
        )
    )
    return path


@pytest.mark.parametrize(
    ("command", "row", "message"),
    [
        ("train r_tab4_rows.yml --scale tiny", {}, "scale must be one of ['full', 'small']"),
        ("train --scale small", {}, "trialCommand must name the file of the train"),
        (
            "train r_tab4_rows.yml --scale small",
            {"network.name": "robnet-medium"},
            "network.name must be one of",
        ),
        ("train r_tab4_rows.yml --scale full", {"data.root": "no"}, "root must be a folder"),
        (
            "attack r_tab2_rows.yml",
            {"evaluator.limt": 1},
            "evaluator.limt is not known",
        ),
        ("attack r_tab2_rows.yml", {"target.sed": 1}, "target must be a mapping with the keys"),
        ("attack r_tab4_rows.yml", {}, "data is not a section"),
    ],
    ids=str,
)
def test_a_wrong_row_is_refused_in_one_line(tmp_path, capsys, command, row, message):
    assert main(["validate", str(experiment(tmp_path, command, row))]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


# Trainings, and attacks on what they have left.


DATA = {"name": "synthetic", "num_classes": 3, "image_shape": [1, 8, 8], "num_examples": 60}
PROBE = {"name": "fgsm", "threat_model": {"epsilon": 0.02}}
TRAINING: dict[str, Any] = {
    "tags": {"table": "t"},
    "data": {**DATA, "batch_size": 30},
    "network": {"name": "resnet18"},
    "evaluator": {
        "name": "train",
        "epochs": 9,
        "train_attack": PROBE,
        "probe_attack": PROBE,
        "test_attacks": [PROBE],
        "device": "cpu",
    },
    "scales": {"small": {"network.size": 0.03, "evaluator.epochs": 1}},
}
ATTACK: dict[str, Any] = {
    "tags": {"table": "t2", "row": "one, other"},
    "networks": "trained",
    "target": {"table": "t", "row": "one", "seed": 0},
    "source": {"table": "t", "row": "other", "seed": 1},
    "evaluator": {"threat_model": {"epsilon": 0.1}, "attacks": [{"name": "fgsm"}]},
    "scales": {"small": {}},
}


def write(path: Path, sections: dict[str, Any]) -> str:
    path.write_text(yaml.safe_dump(sections))
    return str(path)


def train(row: str, seed: int, directory: str) -> None:
    file = write(Path("train.yml"), {**TRAINING, "tags": {"table": "t", "row": row}, "seed": seed})
    assert main(["train", file, "--directory", directory, "--scale", "small"]) == 0


@pytest.fixture
def trained(tmp_path, monkeypatch) -> Path:
    """A folder with two trainings, in which the test works."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "nni_robust.job.network_attack.choose_device", lambda _: torch.device("cpu")
    )
    train("one", 0, "trained/exp/a")
    train("other", 1, "trained/exp/b")
    return tmp_path


def network(folder: Path) -> nn.Module:
    network = build_network(
        {"name": "resnet18", "width": 0.03}, Synthetic(num_classes=3, image_shape=(1, 8, 8))
    )
    network.load_state_dict(load_weights(folder / "best.pt"))
    return network.eval()


def test_a_network_is_attacked_with_images_made_on_another(trained, capsys):
    found = {folder: record for folder, record in tagged_records(Path("trained"))}
    assert found[Path("trained/exp/b")].tags == {"table": "t", "row": "other", "scale": "small"}
    file = write(Path("attack.yml"), {**ATTACK, "scales": {"small": {}}})
    assert main(["attack", file, "--directory", "results", "--scale", "small"]) == 0
    assert "transfer_fgsm" in capsys.readouterr().out
    (record,) = read_records("results/records.jsonl")
    one, other = network(Path("trained/exp/a")), network(Path("trained/exp/b"))
    x, y = Synthetic(num_classes=3, image_shape=(1, 8, 8), num_examples=60).examples("test")
    x_adv = FGSM(threat_model=ThreatModel(epsilon=0.1))(other, x, y)
    with torch.no_grad():
        clean, moved = (one(images).argmax(1) == y for images in (x, x_adv))
    assert record.metrics["clean"] == pytest.approx(clean.float().mean().item())
    # An image that is misclassified before counts as fooled.
    assert record.metrics["transfer_fgsm"] == pytest.approx((clean & moved).float().mean().item())
    assert record.details["num_images"] == 60
    assert record.tags == {"table": "t2", "row": "one, other", "scale": "small"}


def test_a_network_without_a_source_is_attacked_by_itself(trained):
    sections = {key: value for key, value in ATTACK.items() if key != "source"}
    file = write(Path("attack.yml"), {**sections, "scale": "small"})
    assert main(["attack", file, "--directory", "results"]) == 0
    (record,) = read_records("results/records.jsonl")
    x, y = Synthetic(num_classes=3, image_shape=(1, 8, 8), num_examples=60).examples("test")
    attack = FGSM(threat_model=ThreatModel(epsilon=0.1))
    measured = attacked_accuracy(network(Path("trained/exp/a")), x, y, attacks=[attack])
    assert record.metrics["fgsm"] == measured["fgsm"]


def test_a_trial_that_attacks_reports(trained, monkeypatch):
    reported: list[dict[str, float]] = []
    parameters = {"row": {"_name": "one", "source.row": "one", "source.seed": 0}}
    monkeypatch.setenv("NNI_TRIAL_JOB_ID", "trial")
    monkeypatch.setenv("NNI_OUTPUT_DIR", "output")
    monkeypatch.setattr(nni, "get_trial_id", lambda: "trial")
    monkeypatch.setattr(nni, "get_current_parameter", lambda: parameters)
    monkeypatch.setattr(nni, "report_final_result", reported.append)
    monkeypatch.setattr(trial, "_own_record", lambda: {"parameters": parameters})
    monkeypatch.setattr(trial, "_results", lambda directory: Path("results"))
    monkeypatch.setattr(trial, "_concurrency", lambda: 1)
    monkeypatch.setattr(trial, "_share_cores", lambda trials: None)
    sections = {**ATTACK, "tags": {"table": "t2"}}
    assert main(["attack", write(Path("attack.yml"), {**sections, "scale": "small"})]) == 0
    (record,) = read_records("results/trial/records.jsonl")
    assert reported == [record.metrics]
    assert record.tags["row"] == "one"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"scale": "full"}, "target must be a finished training below 'trained', but there is"),
        ({"source": {"table": "t", "row": "one", "seed": 7}}, "source must be a finished"),
    ],
    ids=str,
)
def test_a_network_that_was_not_trained_is_refused(trained, capsys, changed, message):
    file = write(Path("attack.yml"), {**ATTACK, "scale": "small", **changed})
    assert main(["attack", file, "--directory", "results"]) == 2
    assert message in capsys.readouterr().err


def test_two_trainings_of_one_row_are_refused(trained, capsys):
    train("one", 0, "trained/again")
    file = write(Path("attack.yml"), {**ATTACK, "scale": "small"})
    assert main(["attack", file, "--directory", "results"]) == 2
    assert (
        "target must be one training, but there are 2 of row 'one' of table 't'"
        in capsys.readouterr().err
    )


def test_a_folder_keeps_the_row_of_what_lies_in_it(trained, capsys):
    rows = tagged_records(Path("trained"))
    file = write(Path("train.yml"), {**TRAINING, "tags": {"table": "t", "row": "3"}, "seed": 4})
    assert main(["train", file, "--directory", "trained/exp/a", "--scale", "small"]) == 2
    assert "differs in" in capsys.readouterr().err
    assert tagged_records(Path("trained")) == rows


def test_an_attack_has_its_folder_alone_and_is_not_done_twice(trained, capsys):
    sections = {key: value for key, value in ATTACK.items() if key != "source"}
    file = write(Path("attack.yml"), {**sections, "scale": "small"})
    for _ in range(2):
        assert main(["attack", file, "--directory", "results"]) == 0
    assert len(read_records("results/records.jsonl")) == 1
    tags = {"table": "t2", "row": "another"}
    other = {**sections, "target": ATTACK["source"], "tags": tags, "scale": "small"}
    file = write(Path("attack.yml"), other)
    assert main(["attack", file, "--directory", "results"]) == 2
    assert ", target. Choose another directory" in capsys.readouterr().err
    assert [r.tags["row"] for _, r in tagged_records(Path("results"))] == ["one, other"]


def test_results_of_before_keep_their_row_in_a_file(trained):
    records = tagged_records(Path("trained"))
    for folder in {folder for folder, _ in records}:
        path = folder / "records.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        tags = lines[0].pop("tags")
        path.write_text("".join(json.dumps({**line, "tags": {}}) + "\n" for line in lines))
        former = {"table": tags["table"], "row": tags["row"], "seed": 0, "scale": "small"}
        (folder / "row.json").write_text(json.dumps(former))
    assert tagged_records(Path("trained")) == records
    (Path("trained/exp/a") / "row.json").write_text('{"table": "t"}')
    with pytest.raises(ValueError, match=r"row\.json' must name a row of a table, but it is dam"):
        tagged_records(Path("trained"))


def test_a_training_says_on_how_many_images_it_was_tested(trained):
    final = next(r for r in read_records("trained/exp/a/records.jsonl") if r.stage == "final")
    assert final.details["num_images"] == 60


def test_a_scale_reaches_the_training(tmp_path):
    training = build_job("train", resolve(TRAINING, scale="small"), directory=tmp_path)
    assert training.epochs == 1
