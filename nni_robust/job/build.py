"""A search file becomes a search: data, space, strategy and evaluator."""

from __future__ import annotations

import copy
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nni.nas.strategy  # noqa: F401  # before NNI's one-shot strategies
import yaml
from nni.nas.evaluator import Evaluator
from nni.nas.hub.pytorch.nasnet import NDS
from nni.nas.nn.pytorch import ModelSpace
from nni.nas.oneshot.pytorch.strategy import OneShotStrategy
from nni.nas.space import ExecutableModelSpace, SimplifiedModelSpace
from nni.nas.strategy import Strategy

from nni_robust.data import DATASETS, RobustDataModule
from nni_robust.evaluator import EVALUATORS
from nni_robust.job.network_training import NetworkTraining
from nni_robust.job.one_shot import OneShotSearch, derive
from nni_robust.job.staged import StagedEvaluator
from nni_robust.results.row import FULL
from nni_robust.settings.grammar import build, build_threat_model, did_you_mean
from nni_robust.settings.networks import build_network, check_fit
from nni_robust.space import SPACES
from nni_robust.strategy import STRATEGIES

SECTIONS = ("data", "space", "strategy", "evaluator")
TRAINING_SECTIONS = ("data", "network", "evaluator")
OPTIONS = ("directory", "seed", "table", "row", "scale", "scales")
"""What may stand beside the sections."""

_THREAT_MODEL = "threat_model"

SEARCHES: dict[str, Any] = {
    "staged": StagedEvaluator,
    "one_shot_search": OneShotSearch,
    "train": NetworkTraining,
}
"""Evaluators that hold more than one step: a search in stages, a whole one, a training."""


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
        ``data``, ``space``, ``strategy``, ``evaluator``, each with a ``name``; and ``seed``, that
        of every section that has none of its own.
    directory
        Folder of the results.

    Raises
    ------
    ValueError
        In one line, with the path of the key: ``evaluator.train_attack.steps must be ...``.
    """
    sections = at_scale(sections)
    check_sections(sections)
    seed = _given_seed(sections)
    data = build(sections["data"], DATASETS, "data", **seed)
    space = build_space(sections["space"], data)
    strategy = build(sections["strategy"], STRATEGIES, "strategy", **seed)
    evaluator = build_evaluator(sections["evaluator"], data, directory, **seed)
    return Search(data, space, strategy, evaluator)


def build_training(sections: Mapping[str, Any], *, directory: str | Path) -> NetworkTraining:
    """Build the training that the sections of a file describe, and check its network.

    Parameters
    ----------
    sections
        ``data``, ``network`` and ``evaluator``, the last one with the name ``train``; and ``seed``.
    directory
        Folder of the results.

    Raises
    ------
    ValueError
        In one line, with the path of the key.
    """
    sections = at_scale(sections)
    check_sections(sections, TRAINING_SECTIONS)
    seed = _given_seed(sections)
    data = build(sections["data"], DATASETS, "data", **seed)
    network = build_network(sections["network"], data)
    check_fit(network.eval(), data)  # before any work
    training = build_evaluator(sections["evaluator"], data, directory, **seed)
    if not isinstance(training, NetworkTraining):
        raise ValueError(
            f"evaluator.name must be 'train' in a training, got a {type(training).__name__}."
        )
    if training.recipe.drop_path and not hasattr(network, "set_drop_path_prob"):
        raise ValueError(
            "evaluator.recipe.drop_path must be 0 for a network without set_drop_path_prob, such "
            f"as a {type(network).__name__}, got {training.recipe.drop_path!r}."
        )
    return training


def apply_parameters(sections: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Put the parameters that an NNI tuner has chosen into the sections of a search file.

    Parameters
    ----------
    sections
        Of the file; left as they are.
    parameters
        ``strategy.confidence`` replaces the key ``confidence`` of ``strategy``, ``seed`` the seed.
        Where a choice of NNI's holds several parameters (a mapping with ``_name``), each counts,
        and the names of these choices are the option ``row``.

    Raises
    ------
    ValueError
        If a parameter names no section.
    """
    changed = copy.deepcopy(dict(sections))
    for key, value in parameters.items():
        if isinstance(value, Mapping) and "_name" in value:
            inner = {name: item for name, item in value.items() if name != "_name"}
            names = [changed["row"]] if "row" in changed else []
            changed["row"] = ", ".join([*names, str(value["_name"])])
            changed = apply_parameters(changed, inner)
            continue
        if not _replace(changed, str(key), value, OPTIONS):
            raise ValueError(
                f"searchSpace.{key} must be `seed` or name a key of a section, such as "
                f"`strategy.confidence`; sections are {list(SECTIONS)}."
            )
    return changed


def at_scale(sections: Mapping[str, Any]) -> dict[str, Any]:
    """Replace what the chosen scale of a file replaces.

    Parameters
    ----------
    sections
        Left as they are. ``scales`` maps the name of a scale to keys such as ``evaluator.epochs``,
        or whole sections, and their values; ``scale`` chooses one, and is ``full``, which replaces
        nothing, unless given.

    Returns
    -------
    dict
        The sections without ``scales``.

    Raises
    ------
    ValueError
        If there is no such scale, or it replaces what is in no section.
    """
    changed = copy.deepcopy(dict(sections))
    scales = changed.pop("scales", None)
    if scales is None:
        return changed
    if not isinstance(scales, Mapping) or not all(isinstance(v, Mapping) for v in scales.values()):
        raise ValueError(f"scales must map names to keys and their values, got {scales!r}.")
    scale = changed.get("scale", FULL)
    if scale not in (FULL, *scales):
        raise ValueError(f"scale must be one of {[FULL, *scales]}, got {scale!r}.")
    for key, value in scales.get(scale, {}).items():
        if not _replace(changed, str(key), value, changed):
            raise ValueError(
                f"scales.{scale}.{key} must be a section or name a key of one, such as "
                f"`data.limit`; sections are {list(changed)}."
            )
    return changed


def choose_scale(sections: Mapping[str, Any], scale: str | None) -> dict[str, Any]:
    """Put the scale that a command line asks for, if any, into the sections of a file."""
    if scale is None:
        return dict(sections)
    return {"scales": {}, **sections, "scale": scale}


def _replace(sections: dict[str, Any], key: str, value: Any, whole: Container[str]) -> bool:
    """Replace a key within a section, or one of *whole*; tell whether there is such a place."""
    *path, last = key.split(".")
    place: Any = sections
    for name in path:
        place = place.get(name) if isinstance(place, Mapping) else None
    if not isinstance(place, dict) or (not path and last not in whole):
        return False
    place[last] = copy.deepcopy(value)
    return True


def read_sections(file: Path) -> dict[str, Any]:
    """Read the sections of a search file.

    Raises
    ------
    ValueError
        If there is no such file, or it is no mapping in YAML.
    """
    if not file.is_file():
        raise ValueError(f"{str(file)!r} must be a search file, but there is no such file.")
    try:
        content = yaml.safe_load(file.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{str(file)!r} must be YAML, but: {' '.join(str(error).split())}"
        ) from error
    if not isinstance(content, dict):
        raise ValueError(
            f"{str(file)!r} must be a mapping with the sections {SECTIONS}, got {content!r}."
        )
    return content


def check_one_shot(search: Search) -> None:
    """Refuse a search of which one trial cannot do the whole: one-shot, and what comes of it."""
    if not isinstance(search.evaluator, OneShotSearch):
        raise ValueError(
            f"evaluator.name must be 'one_shot_search' in a search that is one trial, got a "
            f"{type(search.evaluator).__name__}."
        )
    if not isinstance(search.strategy, OneShotStrategy):
        raise ValueError(
            f"strategy.name must be a one-shot strategy, such as 'racl', got a "
            f"{type(search.strategy).__name__}. Others run under the strategy host."
        )
    choices = search.space.simplify()
    if not choices:
        raise ValueError(
            f"space must have choices to search, but {type(search.space).__name__} has none."
        )
    sample = {label: leaf.default() for label, leaf in choices.items()}
    network = derive(search.space, sample, search.evaluator.derived)
    recipe = search.evaluator.retrain_recipe
    if (recipe.drop_path or recipe.auxiliary_weight) and not isinstance(network, NDS):
        raise ValueError(
            "evaluator.retrain_recipe.drop_path and auxiliary_weight must be 0, since a "
            f"{type(network).__name__} drops no paths and has no auxiliary head. Train the derived "
            "cell by NNI's hub."
        )


def check_multi_trial(search: Search) -> None:
    """Refuse a search that the strategy host cannot divide into trials."""
    if isinstance(search.strategy, OneShotStrategy):
        raise ValueError(
            f"strategy.name must be a strategy of several trials, such as 'robnet', got "
            f"{type(search.strategy).__name__}, whose whole search is one trial: run it by the "
            "trial command `python3 -m nni_robust search FILE`."
        )


def check_sections(sections: Mapping[str, Any], expected: Sequence[str] = SECTIONS) -> None:
    """Refuse sections that are unknown or missing.

    Parameters
    ----------
    sections
        Of a file.
    expected
        Their names.
    """
    known = [*expected, *OPTIONS]
    for key in sections:
        if key not in known:
            hint = did_you_mean(key, known)
            raise ValueError(f"{key} is not a section; sections are {known}.{hint}")
    for key in expected:
        if key not in sections:
            raise ValueError(f"{key} is missing: needed are the sections {tuple(expected)}.")


def _given_seed(sections: Mapping[str, Any]) -> dict[str, int]:
    return {"seed": _seed(sections["seed"])} if "seed" in sections else {}


def _seed(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise ValueError(f"seed must be a whole number of at least 0, below 2^63, got {value!r}.")
    return value


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


def build_evaluator(
    section: Any, data: RobustDataModule, directory: str | Path, **seed: int
) -> Evaluator:
    """Build an evaluator; its ``threat_model`` is that of every attack without its own."""
    given: dict[str, Any] = {"data": data, "directory": str(directory), **seed}
    if isinstance(section, Mapping) and _THREAT_MODEL in section:
        path = f"evaluator.{_THREAT_MODEL}"
        given[_THREAT_MODEL] = build_threat_model(section[_THREAT_MODEL], path)
        section = {key: value for key, value in section.items() if key != _THREAT_MODEL}
    return build(section, {**EVALUATORS, **SEARCHES}, "evaluator", **given)
