"""Search files: what they build, and what they are refused for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from nni_robust.attack import FGSM, MIM, PGD, ThreatModel
from nni_robust.command.validate import validate
from nni_robust.data import DATASETS, Digits, Synthetic
from nni_robust.job.base import Job
from nni_robust.job.build import HOSTED, ONE_SHOT, TRAININGS, build_search
from nni_robust.settings.description import describe, describe_arguments, describe_call, flatten
from nni_robust.settings.grammar import build, build_threat_model
from nni_robust.space import RACLSpace, RobNetSpace
from nni_robust.strategy import RACL, RobNet
from nni_robust.training import RECIPES

EXAMPLES = Path(__file__).parents[2] / "examples"
EPSILON = ThreatModel(epsilon=32 / 255)
GIVEN = {
    "space": RACLSpace(num_cells=3, width=4, num_classes=3, in_channels=1, partial_channels=2),
    "strategy": RACL(),
    "network": {"name": "resnet18", "width": 0.05},
}


@pytest.fixture
def content() -> dict[str, Any]:
    """Give the example that the README starts with."""
    return yaml.safe_load((EXAMPLES / "robnet.yml").read_text())


def write(content: dict[str, Any], folder: Path) -> Path:
    path = folder / "search.yml"
    path.write_text(yaml.safe_dump(content))
    return path


def at(content: dict[str, Any], path: str) -> tuple[Any, str]:
    """Find the mapping or list that holds the last key of a path."""
    *parents, last = path.split(".")
    for key in parents:
        content = content[int(key)] if key.isdigit() else content[key]
    return content, last


def test_the_example_builds_what_it_says(content, tmp_path):
    search = build_search(content["tuner"]["classArgs"], directory=tmp_path)
    assert isinstance(search.data, Digits)
    assert isinstance(search.strategy, RobNet)
    assert isinstance(search.space, RobNetSpace)
    assert search.space.layout.in_channels == 1
    assert search.evaluator.screen.attack == PGD(threat_model=EPSILON, steps=7, step_size=8 / 255)
    assert search.evaluator.conditions.test_attacks == [
        FGSM(threat_model=EPSILON),
        PGD(threat_model=EPSILON, steps=20, step_size=8 / 255),
    ]
    assert search.evaluator.recipe == replace(
        RECIPES["paper"], schedule="cosine", warmup=0.2, max_norm=5.0
    )
    assert content["maxTrialNumber"] >= search.strategy.num_trials


def test_an_attack_may_have_a_threat_model_of_its_own(content, tmp_path):
    sections = content["tuner"]["classArgs"]
    sections["evaluator"]["test_attacks"].append(
        {"name": "mim", "threat_model": {"norm": "l2", "epsilon": 0.5}}
    )
    search = build_search(sections, directory=tmp_path)
    attacks = search.evaluator.conditions.test_attacks
    assert attacks[2] == MIM(threat_model=ThreatModel(norm="l2", epsilon=0.5))


@pytest.mark.parametrize(
    "value",
    [
        PGD(steps=3, step_size=0.2, restarts=2, threat_model=ThreatModel(norm="l2", epsilon=0.5)),
        FGSM(threat_model=EPSILON),
    ],
    ids=repr,
)
def test_an_attack_that_is_described_is_built_the_same(value):
    from nni_robust.attack import ATTACKS

    assert build(describe(value), ATTACKS, "attack") == value


def test_a_step_that_follows_the_radius_is_described_by_its_length():
    assert describe(PGD(threat_model=ThreatModel(epsilon=0.1)))["step_size"] == 0.025


@pytest.mark.parametrize(
    "section",
    [
        {"name": "train"},
        {"name": "train", "probe_attack": {"name": "pgd", "steps": 2}},
        {"name": "one_shot_search"},
        {"name": "staged"},
        {"name": "robust_accuracy"},
        {"name": "fsp_distance"},
    ],
    ids=str,
)
def test_a_threat_model_holds_for_attacks_that_are_left_out(section, tmp_path):
    data = Synthetic(num_classes=3, image_shape=(1, 4, 4), num_examples=50)
    model = build_threat_model({"norm": "l2", "epsilon": 0.25})
    given = {"data": data, "directory": str(tmp_path), "threat_model": model, **GIVEN}
    evaluator = build(section, {**HOSTED, **ONE_SHOT, **TRAININGS}, "evaluator", **given)
    describe_all = describe_arguments if isinstance(evaluator, Job) else describe_call
    settings = flatten({**describe_all(evaluator), "space": None})
    for key, expected in {"threat_model.norm": "l2", "step_size": 0.0625}.items():
        assert {value for name, value in settings.items() if name.endswith(key)} == {expected}


def test_a_data_module_that_is_described_is_built_the_same():
    data = Synthetic(num_classes=3, image_shape=(1, 4, 4), num_examples=50, seed=3)
    rebuilt = build(describe(data), DATASETS, "data")
    assert describe(rebuilt) == describe(data)
    assert rebuilt.examples("test")[0].equal(data.examples("test")[0])


class Shifted(Synthetic):
    """A data module from outside, with a constructor of its own."""

    def __init__(self, *, shift: float, batch_size: int = 16) -> None:
        super().__init__(num_classes=3, num_examples=50, batch_size=batch_size)
        self.shift = shift


def test_the_arguments_of_a_data_module_from_outside_are_converted_and_checked():
    data = build({"name": "shifted", "shift": "1/4"}, {"shifted": Shifted}, "data")
    assert (data.shift, data.batch_size, data.num_classes) == (0.25, 16, 3)
    with pytest.raises(ValueError, match=r"data\.shift must be of type float, got 'far'"):
        build({"name": "shifted", "shift": "far"}, {"shifted": Shifted}, "data")


def test_a_class_from_outside_needs_no_table():
    attack = build({"name": "nni_robust.attack:PGD", "steps": 3}, {}, "attack")
    assert attack == PGD(steps=3)


def test_the_example_is_valid():
    assert "RobNet(num_samples=24, num_candidates=8" in validate(EXAMPLES / "robnet.yml")


def test_a_file_of_one_search_or_training_is_checked_as_well(tmp_path):
    assert validate(EXAMPLES / "racl_search.yml") == "racl_search: one search of RACL"
    assert validate(EXAMPLES / "train.yml") == "train: one training"
    sections = yaml.safe_load((EXAMPLES / "train.yml").read_text())
    sections["evaluator"]["epoch"] = 3
    path = tmp_path / "train.yml"
    path.write_text(yaml.safe_dump(sections))
    with pytest.raises(ValueError, match=r"^evaluator\.epoch is not known.*'epochs'"):
        validate(path)
    del sections["evaluator"]["epoch"]
    path.write_text(yaml.safe_dump({**sections, "data": {"name": "cifar10", "root": "none"}}))
    with pytest.raises(ValueError, match=r"^data\.root must be a folder that holds cifar-10"):
        validate(path)


ARGS = "tuner.classArgs"

# Path of the key, what is written there, and the one line that answers.
MISTAKES = [
    (
        f"{ARGS}.strategy.num_sample",
        3,
        r"tuner\.classArgs\.strategy\.num_sample is not known\. Did you mean 'num_samples'\?",
    ),
    (
        f"{ARGS}.strategy.num_samples",
        "many",
        r"tuner\.classArgs\.strategy\.num_samples must be of type int, got 'many'",
    ),
    (
        f"{ARGS}.strategy.num_samples",
        0,
        r"num_samples must be a whole number of at least 1",
    ),
    (f"{ARGS}.strategy.name", "robnets", r"strategy\.name must be one of \['racl'.*'robnets'"),
    (f"{ARGS}.strategy.name", "no.such:Thing", r"strategy\.name must name a class that can be imp"),
    (f"{ARGS}.space.density", [0.9, 0.1], r"space\.density must be two numbers"),
    (
        f"{ARGS}.space.density",
        "a",
        r"space\.density must be of type tuple\[float, float\].* 'a'",
    ),
    (f"{ARGS}.seed", 2**40, r"classArgs\.seed must be a whole number from 0 to 2\^32 - 1"),
    (
        f"{ARGS}.evaluator.seed",
        2**40,
        r"evaluator\.seed must be a whole number from 0 to",
    ),
    (f"{ARGS}.strategy.seed", 2**40, r"classArgs\.strategy\.seed must be"),
    (f"{ARGS}.evaluator.name", "stagd", r"evaluator\.name must be one of .*Did you mean 'staged'"),
    (f"{ARGS}.evaluator.name", "train", r"evaluator\.name must be one of .*'staged'\] or"),
    (f"{ARGS}.evaluator.directory", "elsewhere", r"evaluator\.directory is not known"),
    (f"{ARGS}.evaluator.recipe", {"max_norm": -1}, r"recipe\.max_norm must be positive or None"),
    (f"{ARGS}.evaluator.recipe", {"milestones": [2, 3]}, r"recipe\.milestones must be shares"),
    (f"{ARGS}.table", "r-tab1", r"table is now a tag: write `tags: \{table: ...\}`"),
    (f"{ARGS}.tags", "r-tab1", r"tags must be a mapping, such as \{table: r-tab1\}, got"),
    (f"{ARGS}.space.density", 0.5, r"space\.density must be of type .*got 0\.5"),
    (f"{ARGS}.space.parameters", [1, 10], r"space\.constraints must leave architectures"),
    (f"{ARGS}.space.in_channels", 3, r"space\.in_channels must be 1, as in the data, got 3"),
    (
        f"{ARGS}.evaluator.threat_model.epsilon",
        8,
        r"evaluator\.threat_model\.epsilon must lie in \[0, 1\].*got 8\.0.*write 8/255, not 8",
    ),
    (f"{ARGS}.evaluator.threat_model.norm", "l7", r"evaluator\.threat_model\.norm must be"),
    (
        f"{ARGS}.evaluator.test_attacks.1.steps",
        0,
        r"evaluator\.test_attacks\[1\]\.steps must be a whole number of at least 1, got 0",
    ),
    (f"{ARGS}.evaluator.test_attacks.1.step", 1, r"test_attacks\[1\]\.step is not known"),
    (f"{ARGS}.evaluator.test_attacks", [], r"evaluator\.test_attacks must be a list of attacks"),
    (f"{ARGS}.evaluator.recipe", "best", r"evaluator\.recipe\.name must be one of"),
    (f"{ARGS}.evaluator.train_attack", "pgd", r"evaluator\.train_attack must be a mapping"),
    (f"{ARGS}.data", {"name": "cifar10", "root": "nowhere"}, r"tuner\.classArgs\..*nowhere"),
    (f"{ARGS}.data", {"name": "cifar10"}, r"data\.root is missing: cifar10 needs it"),
    (f"{ARGS}.evaluator.threat_model.epsilon", "8/0", r"threat_model\.epsilon must be of type flo"),
    (f"{ARGS}.evaluator.supernet", "no.pt", r"evaluator\.supernet must be a file of weights"),
    (f"{ARGS}.evaluator.test_attacks.0", {"name": "pgd"}, r"test_attacks must differ in name"),
    (
        f"{ARGS}.evaluator",
        {"name": "robust_accuracy"},
        r"evaluator must hold the stage of the sear",
    ),
    (f"{ARGS}.strategy.budgets", {"none": [15, 20]}, r"budgets\['none'\] must be a range"),
    (f"{ARGS}.datta", {}, r"datta is not a section.*Did you mean 'data'\?"),
    ("maxtrialnumber", 3, r"maxtrialnumber is not a key.*Did you mean 'maxTrialNumber'\?"),
    ("tuner.classArg", {}, r"tuner\.classArg is not a key.*Did you mean 'classArgs'\?"),
    ("trialConcurrency", "two", r"trialConcurrency must be a whole number, got 'two'"),
    ("maxTrialNumber", 5, r"maxTrialNumber must be at least 12, the trials of all stages.*got 5"),
    (
        "tuner.className",
        "nni_robust.StrategyHots",
        r"tuner\.className must name a class that can be imported.*Did you mean 'nni_robust\.",
    ),
    ("trialCommand", "python3 train.py", r"trialCommand must run this package's trials"),
    ("trainingService", {"platform": "moon"}, r"NNI refuses the file"),
    ("trialGpuNumber", 1, r"trialGpuNumber must be 0 on this machine"),
    ("maxExperimentDuration", "10 minutes", r"NNI refuses the file"),
]


@pytest.mark.parametrize(("path", "value", "message"), MISTAKES, ids=lambda v: str(v)[:40])
def test_a_mistake_is_answered_by_one_line_with_its_path(
    content, tmp_path, monkeypatch, path, value, message
):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    holder, key = at(content, path)
    holder[int(key) if key.isdigit() else key] = value
    with pytest.raises(ValueError, match=message) as error:
        validate(write(content, tmp_path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("key", ["strategy", "evaluator", "space", "data"])
def test_a_missing_section_is_named(content, tmp_path, key):
    del content["tuner"]["classArgs"][key]
    with pytest.raises(ValueError, match=rf"{key} is missing: the file needs data, space"):
        validate(write(content, tmp_path))


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "must hold the keys"), ("a: [", "must be YAML"), ("- a", "must hold the keys")],
)
def test_a_file_that_is_no_experiment_is_refused(tmp_path, text, message):
    path = tmp_path / "search.yml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        validate(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match="there is no such file"):
        validate(tmp_path / "search.yml")


def test_a_strategy_without_an_end_needs_a_limit(content, tmp_path):
    content["tuner"]["classArgs"]["strategy"] = {"name": "random"}
    del content["maxTrialNumber"]
    with pytest.raises(ValueError, match="maxTrialNumber is missing"):
        validate(write(content, tmp_path))
