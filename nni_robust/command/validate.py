"""Check a whole experiment file before NNI sees it."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import itertools
import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from nni.experiment.config import ExperimentConfig
from nni.nas.execution import ExecutionEngine

from nni_robust.data import RobustDataModule
from nni_robust.job.build import (
    Search,
    apply_parameters,
    build_search,
    build_training,
    check_multi_trial,
    check_one_shot,
    choose_scale,
    read_sections,
)
from nni_robust.job.transfer import check_attack
from nni_robust.manager.host import check_trials
from nni_robust.settings.grammar import did_you_mean

_RANGES = ("uniform", "loguniform", "quniform", "qloguniform", "randint")  # of lowest and highest

HOST = "nni_robust.StrategyHost"


def validate(path: Path) -> str:
    """Check an experiment file: NNI's keys by NNI's own schema, ours by building the search.

    Parameters
    ----------
    path
        What ``nnictl create --config`` would read; or what ``python -m nni_robust`` would, to
        ``search``, ``train`` or ``attack`` from the working folder.

    Returns
    -------
    str
        One line that says what will be done.

    Raises
    ------
    ValueError
        In one line, with the path of the key.
    """
    content = _read(path)
    if "evaluator" in content:  # no key of NNI's
        return _check_single(content, path)
    _check_keys(content, "", ExperimentConfig)
    _check_trials(content)
    config = _load(path)
    tuner = content.get("tuner") or {}
    class_name = tuner.get("className") if isinstance(tuner, Mapping) else None
    if class_name is not None:
        _check_importable(str(class_name))
    if class_name == HOST:
        return _check_search(content, path)
    if (run := _run_of(content)) is not None:
        return _check_runs(content, path, run)
    return f"{config.experiment_name or path.stem}: an experiment of NNI's own tuner"


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError("there is no such file.")
    try:
        content = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"must be YAML, but: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ValueError(f"must hold the keys of an NNI experiment, got {content!r}.")
    return content


def _check_keys(content: Mapping[str, Any], prefix: str, schema: type) -> None:
    known = {_camel(field.name) for field in dataclasses.fields(schema)}
    for key in content:
        if str(key) not in known and _camel(str(key)) not in known:
            hint = did_you_mean(key, known, cutoff=0.5)
            raise ValueError(f"{prefix}{key} is not a key of NNI's experiments.{hint}")
    tuner = content.get("tuner")
    if isinstance(tuner, Mapping):
        allowed = {"name", "className", "codeDirectory", "classArgs"}
        for key in tuner:
            if key not in allowed:
                hint = did_you_mean(key, allowed, cutoff=0.5)
                raise ValueError(f"tuner.{key} is not a key of NNI's tuners.{hint}")


def _check_trials(content: Mapping[str, Any]) -> None:
    for key in ("maxTrialNumber", "trialConcurrency"):
        value = content.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise ValueError(f"{key} must be a whole number, got {value!r}.")
        if value is not None and value < 1:
            raise ValueError(f"{key} must be at least 1, got {value!r}.")
    tuner = content.get("tuner")
    if isinstance(tuner, Mapping) and "className" in tuner and "codeDirectory" not in tuner:
        raise ValueError(
            "tuner.codeDirectory is missing: NNI demands it beside className, even for an "
            "installed class. Write `codeDirectory: .`."
        )
    service = content.get("trainingService")
    if not isinstance(service, Mapping) or "platform" not in service:
        raise ValueError(
            f"trainingService must be a mapping such as {{platform: local}}, got {service!r}."
        )
    if content.get("trialGpuNumber") and service["platform"] == "local":
        import torch

        if not torch.cuda.is_available():
            raise ValueError(
                f"trialGpuNumber must be 0 on this machine, which has no GPU that PyTorch can "
                f"use, got {content['trialGpuNumber']!r}: NNI's manager would die."
            )


def _load(path: Path) -> Any:
    try:
        config = ExperimentConfig.load(path)
        config.validate()
    except Exception as error:  # NNI raises whatever comes: AssertionError, AttributeError, ...
        text = " ".join(str(error).split()) or f"{type(error).__name__} in NNI's own check"
        raise ValueError(f"NNI refuses the file: {text}") from error
    return config


def _check_importable(class_name: str) -> None:
    module, _, attribute = class_name.rpartition(".")
    try:
        getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"tuner.className must name a class that can be imported, got {class_name!r}: "
            f"{error}.{did_you_mean(class_name, [HOST])}"
        ) from error


def _check_search(content: Mapping[str, Any], path: Path) -> str:
    if "nni_robust trial" not in str(content.get("trialCommand")):
        raise ValueError(
            "trialCommand must run this package's trials, such as "
            f"`python3 -m nni_robust trial`, got {content.get('trialCommand')!r}."
        )
    sections = content["tuner"].get("classArgs") or {}
    directory = sections.get("directory")
    if directory is not None and f"--directory {directory}" not in content["trialCommand"]:
        raise ValueError(
            f"trialCommand must end in `--directory {directory}`, since tuner.classArgs.directory "
            f"says so, got {content['trialCommand']!r}."
        )
    folder = path.absolute().parent / content.get("trialCodeDirectory", ".")
    # As in a trial: relative paths mean the same.
    with _working_directory(folder), _named("tuner.classArgs"):
        search = build_search(sections, directory=folder)
        check_multi_trial(search)
        _check_images(search.data)
    _check_number(content, search)
    with _named("tuner.classArgs"):
        search.strategy.initialize(search.executable(), ExecutionEngine())
    trials = getattr(search.strategy, "num_trials", content.get("maxTrialNumber", "any number of"))
    return f"{content.get('experimentName', path.stem)}: {search.strategy}, {trials} trials"


@dataclasses.dataclass(frozen=True)
class _Run:
    """What a trial command does by itself: a search, a training or an attack."""

    command: str
    file: str
    scale: str | None


def _run_of(content: Mapping[str, Any]) -> _Run | None:
    """Read a trial command; None if it is no whole search, training or attack of ours."""
    words = shlex.split(str(content.get("trialCommand")))
    rest = words[words.index("nni_robust") + 1 :] if "nni_robust" in words else []
    command = rest[0] if rest else None
    if command not in _RUNS:
        return None
    parser = argparse.ArgumentParser(exit_on_error=False, add_help=False)
    for option in ("--directory", "--scale"):
        parser.add_argument(option)
    parser.add_argument("file", nargs="?")
    options, _ = parser.parse_known_args(rest[1:])
    if options.file is None:
        raise ValueError(
            f"trialCommand must name the file of the {command}, such as "
            f"`python3 -m nni_robust {command} FILE`, got {content.get('trialCommand')!r}."
        )
    return _Run(command, options.file, options.scale)


def _check_single(content: Mapping[str, Any], path: Path) -> str:
    kinds = {"networks": "attack", "network": "train"}
    command = next((name for key, name in kinds.items() if key in content), "search")
    evaluator = content["evaluator"]
    if isinstance(evaluator, Mapping) and evaluator.get("name") == "train":
        command = "train"
    kind = _RUNS[command]
    return f"{path.stem}: one {kind.one}{kind.check(choose_scale(content, None), Path.cwd())}"


def _check_runs(content: Mapping[str, Any], path: Path, run: _Run) -> str:
    folder = path.absolute().parent / content.get("trialCodeDirectory", ".")
    kind = _RUNS[run.command]
    with _working_directory(folder):  # as in a trial: relative paths mean the same
        with _named(run.file):
            sections = read_sections(Path(run.file))
        for parameters in _single_parameters(content.get("searchSpace") or {}):
            changed = choose_scale(apply_parameters(sections, parameters), run.scale)
            with _named(run.file if not parameters else f"{run.file} with {parameters}"):
                name = kind.check(changed, folder)
    number = content.get("maxTrialNumber", "any number of")
    return f"{content.get('experimentName', path.stem)}: {number} {kind.more}{name}, one a trial"


def _check_images(data: RobustDataModule) -> None:
    with _named("data"):
        data.stored_examples("test", 1)


def _check_whole_search(sections: Mapping[str, Any], folder: Path) -> str:
    search = build_search(sections, directory=folder)
    check_one_shot(search)
    _check_images(search.data)
    return f" of {type(search.strategy).__name__}"


def _check_training(sections: Mapping[str, Any], folder: Path) -> str:
    _check_images(build_training(sections, directory=folder).measure.data)
    return ""


def _check_attack(sections: Mapping[str, Any], folder: Path) -> str:
    check_attack(sections)  # its networks may have yet to be trained
    return ""


@dataclasses.dataclass(frozen=True)
class _Kind:
    """What a command does: how its sections are checked, and how one and more are called."""

    check: Callable[[Mapping[str, Any], Path], str]
    one: str
    more: str


_RUNS = {
    "search": _Kind(_check_whole_search, "search", "searches"),
    "train": _Kind(_check_training, "training", "trainings"),
    "attack": _Kind(_check_attack, "attack", "attacks"),
}


def _single_parameters(space: Mapping[str, Any]) -> list[dict[str, Any]]:
    """List the parameters of a search space one by one, at each of their ends or choices."""
    return [{}, *({key: value} for key, domain in space.items() for value in _values(domain))]


def _values(domain: Mapping[str, Any]) -> list[Any]:
    """List what may come of a domain; of a choice of several parameters, all combinations."""
    kind, values = domain.get("_type"), domain.get("_value", [])
    if kind != "choice":
        return list(values[:2]) if kind in _RANGES else []
    found: list[Any] = []
    for value in values:
        if not (isinstance(value, Mapping) and "_name" in value):
            found.append(value)
            continue
        inner = {name: _values(item) for name, item in value.items() if name != "_name"}
        found += [
            {"_name": value["_name"], **dict(zip(inner, chosen, strict=True))}
            for chosen in itertools.product(*inner.values())
        ]
    return found


def _check_number(content: Mapping[str, Any], search: Search) -> None:
    limit = content.get("maxTrialNumber")
    endless = getattr(search.strategy, "num_trials", None) is None
    if endless and limit is None and "maxExperimentDuration" not in content:
        raise ValueError(
            "maxTrialNumber is missing: this strategy would go on for ever. Give it or "
            "maxExperimentDuration."
        )
    check_trials(search.strategy, limit)


@contextmanager
def _named(path: str) -> Iterator[None]:
    """Put the path before what is refused."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{path}.{' '.join(str(error).split())}") from error


@contextmanager
def _working_directory(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
