"""A search file becomes a search: data, space, strategy and evaluator."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nni.nas.evaluator import Evaluator
from nni.nas.nn.pytorch import ModelSpace
from nni.nas.space import ExecutableModelSpace, SimplifiedModelSpace
from nni.nas.strategy import Strategy

from nni_robust.data import DATASETS, RobustDataModule
from nni_robust.evaluator import EVALUATORS
from nni_robust.experiment.settings import build, build_threat_model
from nni_robust.experiment.stages import StagedEvaluator
from nni_robust.space import SPACES
from nni_robust.strategy import STRATEGIES

SECTIONS = ("data", "space", "strategy", "evaluator", "directory")
_THREAT_MODEL = "threat_model"


@dataclass(frozen=True)
class Search:
    """The parts of a search, built."""

    data: RobustDataModule
    space: ModelSpace
    strategy: Strategy
    evaluator: Evaluator

    def executable(self) -> ExecutableModelSpace:
        """Join space and evaluator in the form that strategies take."""
        return SimplifiedModelSpace.from_model(self.space, self.evaluator)


def build_search(sections: Mapping[str, Any], *, directory: str | Path) -> Search:
    """Build the parts that the sections of a search file describe.

    The number of classes and of image channels follow from the data, unless the space gives
    them.

    Parameters
    ----------
    sections
        ``data``, ``space``, ``strategy``, ``evaluator``, each with a ``name``.
    directory
        Folder of the results.

    Raises
    ------
    ValueError
        In one line, with the path of the key: ``evaluator.train_attack.steps must be ...``.
    """
    check_sections(sections)
    data = build(sections["data"], DATASETS, "data")
    space = build_space(sections["space"], data)
    strategy = build(sections["strategy"], STRATEGIES, "strategy")
    evaluator = build_evaluator(sections["evaluator"], data, directory)
    return Search(data, space, strategy, evaluator)


def check_sections(sections: Mapping[str, Any]) -> None:
    """Refuse sections that are unknown or missing."""
    for key in sections:
        if key not in SECTIONS:
            close = difflib.get_close_matches(str(key), SECTIONS, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"{key} is not a section; sections are {list(SECTIONS)}.{hint}")
    for key in SECTIONS[:-1]:
        if key not in sections:
            raise ValueError(f"{key} is missing: a search needs the sections {SECTIONS[:-1]}.")


def build_space(section: Any, data: RobustDataModule) -> ModelSpace:
    """Build a space for the images of a data module."""
    shape = {"num_classes": data.num_classes, "in_channels": data.image_shape[0]}
    for key, expected in shape.items():
        given = section.get(key, expected) if isinstance(section, Mapping) else expected
        if given != expected:
            raise ValueError(
                f"space.{key} must be {expected}, as the data have it, got {given!r}. Leave it out."
            )
    return build(section, SPACES, "space", **shape)


def build_evaluator(section: Any, data: RobustDataModule, directory: str | Path) -> Evaluator:
    """Build an evaluator; its ``threat_model`` is that of every attack without its own."""
    given: dict[str, Any] = {"data": data, "directory": str(directory)}
    if isinstance(section, Mapping) and _THREAT_MODEL in section:
        path = f"evaluator.{_THREAT_MODEL}"
        given[_THREAT_MODEL] = build_threat_model(section[_THREAT_MODEL], path)
        section = {key: value for key, value in section.items() if key != _THREAT_MODEL}
    table = {**EVALUATORS, "staged": StagedEvaluator}
    return build(section, table, "evaluator", **given)
