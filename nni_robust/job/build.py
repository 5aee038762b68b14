"""Settings files as jobs and searches: which sections each kind of file has, and what they build.

There are two kinds of files. The *search* of a strategy host divides into trials
(:func:`build_search`). Every other file is one job (:func:`build_job`): a one-shot search, a
training, or an attack on a trained network. Each kind has its own table of evaluators.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import nni.nas.strategy  # noqa: F401  # before NNI's one-shot strategies
from nni.nas.evaluator import Evaluator
from nni.nas.nn.pytorch import ModelSpace
from nni.nas.oneshot.pytorch.strategy import OneShotStrategy
from nni.nas.space import ExecutableModelSpace, SimplifiedModelSpace
from nni.nas.strategy import Strategy

from nni_robust.check import SettingError, check_seed
from nni_robust.data import DATASETS, RobustDataModule
from nni_robust.evaluator import EVALUATORS
from nni_robust.job.base import Conditions, Job
from nni_robust.job.network_attack import NetworkAttack
from nni_robust.job.network_training import NetworkTraining
from nni_robust.job.one_shot import OneShotSearch
from nni_robust.job.staged import StagedSearch
from nni_robust.results.chosen import chosen_data
from nni_robust.settings.grammar import build, build_threat_model
from nni_robust.settings.sections import check_sections
from nni_robust.space import SPACES
from nni_robust.strategy import STRATEGIES

HOSTED: dict[str, Any] = {**EVALUATORS, "staged": StagedSearch}
"""Evaluators of a search that a strategy host divides into trials."""

ONE_SHOT = {"one_shot_search": OneShotSearch}
TRAININGS = {"train": NetworkTraining}
ATTACKERS = {"attack": NetworkAttack}

_THREAT_MODEL = "threat_model"


@dataclass(frozen=True)
class Search:
    """The parts of a search under a strategy host."""

    data: RobustDataModule
    space: ModelSpace
    strategy: Strategy
    evaluator: Evaluator

    def executable(self) -> ExecutableModelSpace:
        """Join space and evaluator in the form that strategies take."""
        return SimplifiedModelSpace.from_model(self.space, self.evaluator)


def build_search(sections: Mapping[str, Any], *, directory: str | Path) -> Search:
    """Build the parts of a search that a strategy host divides into trials.

    The number of classes and of image channels come from the data.

    Parameters
    ----------
    sections
        ``data``, ``space``, ``strategy`` and ``evaluator``, each with a ``name``; ``seed``, the
        seed of every section that has none; ``tags``. Parameters and scale are applied; see
        :func:`~nni_robust.settings.sections.resolve`.
    directory
        Folder of the results.

    Raises
    ------
    SettingError
        With the path of the key: ``evaluator.train_attack.steps must be ...``.
    """
    check_sections(sections, ("data", "space", "strategy", "evaluator"))
    data, space, strategy = _search_parts(sections)
    if isinstance(strategy, OneShotStrategy):
        raise SettingError(
            f"must be a strategy of several trials, such as 'robnet', got "
            f"{type(strategy).__name__}, whose whole search is one trial: use the trial command "
            "`python3 -m nni_robust search FILE`.",
            *("strategy", "name"),
        )
    given = {"data": data, **_given(sections, directory)}
    evaluator: Evaluator = _build_evaluator(sections, HOSTED, **given)
    return Search(data, space, strategy, evaluator)


def build_job(command: str, sections: Mapping[str, Any], *, directory: str | Path) -> Job:
    """Build the job of a settings file.

    Parameters
    ----------
    command
        A key of :data:`JOBS`: ``search``, ``train`` or ``attack``.
    sections
        Sections of the file, with parameters and scale applied; see
        :func:`~nni_robust.settings.sections.resolve`.
    directory
        Folder of the results.

    Raises
    ------
    SettingError
        With the path of the key.
    """
    return JOBS[command](sections, directory)


def _build_one_shot(sections: Mapping[str, Any], directory: str | Path) -> Job:
    check_sections(sections, ("data", "space", "strategy", "evaluator"))
    data, space, strategy = _search_parts(sections)
    job: Job = _build_evaluator(
        sections,
        ONE_SHOT,
        data=data,
        space=space,
        strategy=strategy,
        strategy_settings=sections["strategy"],
        **_given(sections, directory),
    )
    return job


def _build_training(sections: Mapping[str, Any], directory: str | Path) -> Job:
    check_sections(sections, ("data", "network", "evaluator"))
    given = _given(sections, directory)
    data = build(sections["data"], DATASETS, "data", **_seed(sections))
    given |= {"data": data, "network": sections["network"]}
    job: Job = _build_evaluator(sections, TRAININGS, **given)
    return job


def _build_attack(sections: Mapping[str, Any], directory: str | Path) -> Job:
    check_sections(sections, ("networks", "target", "evaluator"), optional=("source",))
    if not isinstance(sections["networks"], str):
        raise SettingError(f"must be a folder, got {sections['networks']!r}.", "networks")
    evaluator = sections["evaluator"]
    if not isinstance(evaluator, Mapping):
        raise SettingError(
            f"must be a mapping with the key 'attacks', got {evaluator!r}.", "evaluator"
        )
    named = {**sections, "evaluator": {"name": "attack", **evaluator}}
    given = {key: sections[key] for key in ("networks", "target", "source") if key in sections}
    job: Job = _build_evaluator(named, ATTACKERS, **given, **_given(sections, directory))
    return job


JOBS: dict[str, Callable[[Mapping[str, Any], str | Path], Job]] = {
    "search": _build_one_shot,
    "train": _build_training,
    "attack": _build_attack,
}
"""Commands that run one job, and the functions that build it from the sections of a file."""


def conditions_of(chosen: Mapping[str, Any]) -> Conditions:
    """Return the conditions under which a chosen network was tested.

    Its data module splits the images as in the training of that very network, so its validation
    images are images that the network has not seen.

    Parameters
    ----------
    chosen
        From :func:`~nni_robust.results.chosen.read_chosen`.
    """
    evaluator = chosen["settings"]["evaluator"]
    data = chosen_data(chosen)
    if "retrain_validation_split" in evaluator:
        data = data.with_validation_split(evaluator["retrain_validation_split"])
    names = {field.name for field in fields(Conditions)} - {"data", "tags"}
    section = {key: value for key, value in evaluator.items() if key in names}
    table = {"conditions": Conditions}
    path = ("settings", "evaluator")
    conditions: Conditions = build({"name": "conditions", **section}, table, *path, data=data)
    return conditions


def _search_parts(sections: Mapping[str, Any]) -> tuple[RobustDataModule, ModelSpace, Strategy]:
    seed = _seed(sections)
    data = build(sections["data"], DATASETS, "data", **seed)
    space = _build_space(sections["space"], data)
    strategy = build(sections["strategy"], STRATEGIES, "strategy", **seed)
    return data, space, strategy


def _build_space(section: Any, data: RobustDataModule) -> ModelSpace:
    """Build a space for the images of a data module."""
    shape = {"num_classes": data.num_classes, "in_channels": data.image_shape[0]}
    for key, expected in shape.items():
        given = section.get(key, expected) if isinstance(section, Mapping) else expected
        if given != expected:
            raise SettingError(
                f"must be {expected}, as in the data, got {given!r}. Leave it out.",
                *("space", key),
            )
    return build(section, SPACES, "space", **shape)


def _build_evaluator(sections: Mapping[str, Any], table: Mapping[str, Any], **given: Any) -> Any:
    """Build the section ``evaluator``; its ``threat_model`` holds for every attack in it."""
    section = sections["evaluator"]
    if isinstance(section, Mapping) and _THREAT_MODEL in section:
        threat_model = section[_THREAT_MODEL]
        given[_THREAT_MODEL] = build_threat_model(threat_model, "evaluator", _THREAT_MODEL)
        section = {key: value for key, value in section.items() if key != _THREAT_MODEL}
    return build(section, table, "evaluator", **given)


def _given(sections: Mapping[str, Any], directory: str | Path) -> dict[str, Any]:
    tags = dict(sections.get("tags", {}))
    return {"directory": str(directory), "tags": tags, **_seed(sections)}


def _seed(sections: Mapping[str, Any]) -> dict[str, int]:
    if "seed" not in sections:
        return {}
    check_seed(sections["seed"])
    return {"seed": sections["seed"]}
