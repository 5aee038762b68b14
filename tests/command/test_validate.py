"""The command `validate`: every kind of file with every name, and what a refusal leaves behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from nni_robust.__main__ import main
from nni_robust.check import SettingError
from nni_robust.command.nni_keys import single_parameters
from nni_robust.command.validate import validate
from nni_robust.evaluator import EVALUATORS

EXAMPLES = Path(__file__).parents[2] / "examples"

# Jobs, and evaluators of single networks; each fits into some kinds of files only.
NAMES = ["staged", "one_shot_search", "train", *EVALUATORS]


def written(path: Path, content: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(content))
    return path


def answer(path: Path, capsys) -> str:
    """Validate a file: ``OK``, or the one line that refuses it."""
    status = main(["validate", str(path)])
    captured = capsys.readouterr()
    if status == 0:
        assert captured.out.count("\n") == 1
        return "OK"
    assert status == 2
    assert captured.err.count("\n") == 1
    assert captured.err.startswith(f"nni-robust validate: {path}: ")
    return captured.err


@pytest.mark.parametrize("strategy", ["robnet", "random"])
@pytest.mark.parametrize("name", NAMES)
def test_a_search_in_stages_takes_evaluators_of_its_trials_only(name, strategy, tmp_path, capsys):
    content = yaml.safe_load((EXAMPLES / "robnet.yml").read_text())
    sections = content["tuner"]["classArgs"]
    if strategy == "random":
        sections["strategy"] = {"name": "random"}
    if name != "staged":
        sections["evaluator"] = {"name": name}
    said = answer(written(tmp_path / "x.yml", content), capsys)
    if name == "staged":
        assert said == "OK"
    elif name in ("train", "one_shot_search") or strategy == "robnet":
        assert "tuner.classArgs.evaluator" in said


@pytest.mark.parametrize(("file", "fits"), [("racl_search.yml", "one_shot_search")])
@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_one_search_takes_its_own_job_only(file, fits, name, tmp_path, capsys):
    content = yaml.safe_load((EXAMPLES / file).read_text())
    if name != fits:
        content["evaluator"] = {"name": name}
    said = answer(written(tmp_path / "x.yml", content), capsys)
    assert said == "OK" if name == fits else said != "OK"


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_one_training_takes_its_own_job_only(name, tmp_path, capsys):
    content = yaml.safe_load((EXAMPLES / "train.yml").read_text())
    if name != "train":
        content["evaluator"] = {"name": name}
    said = answer(written(tmp_path / "x.yml", content), capsys)
    assert said == "OK" if name == "train" else "evaluator" in said


def test_a_refused_file_does_not_spoil_the_next_one(tmp_path):
    content = yaml.safe_load((EXAMPLES / "robnet.yml").read_text())
    refused = written(tmp_path / "x.yml", {**content, "maxExperimentDuration": "10 minutes"})
    with pytest.raises(SettingError, match="NNI refuses the file"):
        validate(refused)
    assert "12 trials" in validate(EXAMPLES / "robnet.yml")


@pytest.mark.parametrize(
    "name", ["nni_robust.StrategyHost", "nni_robust.manager.host.StrategyHost"]
)
def test_the_strategy_host_has_a_short_and_a_long_name(name, tmp_path):
    content = yaml.safe_load((EXAMPLES / "robnet.yml").read_text())
    content["tuner"]["className"] = name
    content["trialCommand"] = "nni-robust trial"
    assert "RobNet(" in validate(written(tmp_path / "x.yml", content))


def test_a_choice_of_several_parameters_is_tried_in_all_combinations():
    inner = {
        "a": {"_type": "choice", "_value": [1, 2]},
        "b": {"_type": "uniform", "_value": [0, 1]},
    }
    space = {"row": {"_type": "choice", "_value": [{"_name": "x", **inner}]}}
    rows = [{"_name": "x", "a": a, "b": b} for a in (1, 2) for b in (0, 1)]
    assert single_parameters(space) == [{}, *({"row": row} for row in rows)]
