"""The command `validate`: check a settings file before anything is started."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from nni.nas.execution import ExecutionEngine

from nni_robust.check import SettingError, below, one_line
from nni_robust.command.nni_keys import check_nni_keys, imported_class, single_parameters
from nni_robust.data import RobustDataModule
from nni_robust.job.build import ATTACKERS, JOBS, TRAININGS, Search, build_job, build_search
from nni_robust.job.one_shot import OneShotSearch
from nni_robust.manager.host import StrategyHost, check_trials
from nni_robust.settings.sections import read_yaml, resolve

HOST = "nni_robust.StrategyHost"

_NOUNS = {
    "search": ("search", "searches"),
    "train": ("training", "trainings"),
    "attack": ("attack", "attacks"),
}
"""What one job and several jobs of each command are called."""


def run(given: argparse.Namespace) -> int:
    """Print what a settings file does."""
    try:
        print(f"{given.file}: {validate(given.file)}")
    except SettingError as error:
        raise SettingError(f"{given.file}: {error}") from error
    return 0


def validate(path: Path) -> str:
    """Check a settings file: NNI's keys by NNI's own schema, ours by building the job.

    Parameters
    ----------
    path
        An experiment, or the file of one search, training or attack. Relative paths in an
        experiment start at its ``trialCodeDirectory``, those in another file at the working folder.

    Returns
    -------
    str
        One line that says what the file does.

    Raises
    ------
    SettingError
        With the path of the key.
    """
    content = _read(path)
    if "evaluator" in content:  # no key of NNI's
        command = _command_of(content)
        what = _check_job(command, resolve(content), Path.cwd())
        return f"{path.stem}: one {_NOUNS[command][0]}{what}"
    name = content.get("experimentName", path.stem)
    return f"{name}: {_check_experiment(content, path)}"


def _command_of(content: Mapping[str, Any]) -> str:
    """Return the command that runs a file with one job."""
    evaluator = content["evaluator"]
    name = evaluator.get("name") if isinstance(evaluator, Mapping) else None
    if name in TRAININGS or "network" in content:
        return "train"
    return "attack" if name in ATTACKERS or "networks" in content else "search"


def _read(path: Path) -> dict[str, Any]:
    """Read a file; unlike :func:`read_yaml`, leave its path to :func:`run`."""
    if not path.is_file():
        raise SettingError("there is no such file.")
    try:
        content = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingError(f"must be YAML, but: {one_line(error)}") from error
    if not isinstance(content, dict):
        raise SettingError(f"must hold the keys of an NNI experiment, got {content!r}.")
    return content


def _check_experiment(content: Mapping[str, Any], path: Path) -> str:
    """Check the file of an NNI experiment, and say what its trials do."""
    check_nni_keys(content, path)
    tuner = content.get("tuner")
    class_name = tuner.get("className") if isinstance(tuner, Mapping) else None
    folder = path.absolute().parent / content.get("trialCodeDirectory", ".")
    with _working_directory(folder):  # relative paths mean the same as in a trial
        if class_name is not None and imported_class(str(class_name), like=HOST) is StrategyHost:
            return _check_search(content, folder)
        if (job := _job_of_trial(content)) is not None:
            return _check_jobs(content, folder, job)
    return "an experiment of NNI's own tuner"


def _check_search(content: Mapping[str, Any], folder: Path) -> str:
    """Check a search whose strategy runs in the strategy host."""
    command = str(content.get("trialCommand"))
    if _own_command(command)[:1] != ["trial"]:
        raise SettingError(
            "must run this package's trials, such as `python3 -m nni_robust trial`, got "
            f"{content.get('trialCommand')!r}.",
            "trialCommand",
        )
    sections = content["tuner"].get("classArgs") or {}
    directory = sections.get("directory")
    if directory is not None and f"--directory {directory}" not in command:
        raise SettingError(
            f"must end in `--directory {directory}`, because tuner.classArgs.directory says so, "
            f"got {command!r}.",
            "trialCommand",
        )
    with below("tuner", "classArgs"):
        search = build_search(resolve(sections), directory=folder)
        _check_images(search.data)
    _check_number(content, search)
    with below("tuner", "classArgs"):
        search.strategy.initialize(search.executable(), ExecutionEngine())
    trials = getattr(search.strategy, "num_trials", content.get("maxTrialNumber", "any number of"))
    return f"{search.strategy}, {trials} trials"


@dataclass(frozen=True)
class _Job:
    """What a trial command runs: the command, its file, and the scale."""

    command: str
    file: str
    scale: str | None


def _job_of_trial(content: Mapping[str, Any]) -> _Job | None:
    """Read a trial command; None if it is not one of our jobs."""
    command, *rest = [*_own_command(str(content.get("trialCommand"))), ""]
    if command not in JOBS:
        return None
    parser = argparse.ArgumentParser(exit_on_error=False, add_help=False)
    for option in ("--directory", "--scale"):
        parser.add_argument(option)
    parser.add_argument("file", nargs="?")
    given, _ = parser.parse_known_args(list(filter(None, rest)))
    if given.file is None:
        raise SettingError(
            f"must name the file of the {command}, such as `python3 -m nni_robust {command} FILE`, "
            f"got {content.get('trialCommand')!r}.",
            "trialCommand",
        )
    return _Job(command, given.file, given.scale)


def _own_command(trial_command: str) -> list[str]:
    """Return the words of a trial command that follow the name of this package."""
    words = shlex.split(trial_command)
    for index, word in enumerate(words):
        if word == "nni_robust" or Path(word).name == "nni-robust":
            return words[index + 1 :]
    return []


def _check_jobs(content: Mapping[str, Any], folder: Path, job: _Job) -> str:
    """Check the job of each trial, at every end or choice of the search space."""
    sections = read_yaml(Path(job.file))
    what = ""
    for parameters in single_parameters(content.get("searchSpace") or {}):
        with _named(job.file, parameters):
            changed = resolve(sections, parameters=parameters, scale=job.scale)
            what = _check_job(job.command, changed, folder)
    number = content.get("maxTrialNumber", "any number of")
    return f"{number} {_NOUNS[job.command][1]}{what}, one per trial"


def _check_job(command: str, sections: Mapping[str, Any], folder: Path) -> str:
    """Build a job and read one of its images; say what is special about it, or nothing."""
    job = build_job(command, sections, directory=folder)
    if job.data is not None:  # an attack may need networks that have yet to be trained
        _check_images(job.data)
    return f" of {type(job.strategy).__name__}" if isinstance(job, OneShotSearch) else ""


def _check_images(data: RobustDataModule) -> None:
    """Read one test image of a dataset; raise a SettingError if it is missing."""
    with below("data"):
        data.stored_examples("test", 1)


def _check_number(content: Mapping[str, Any], search: Search) -> None:
    """Require an end of the experiment, after all stages of the search."""
    limit = content.get("maxTrialNumber")
    endless = getattr(search.strategy, "num_trials", None) is None
    if endless and limit is None and "maxExperimentDuration" not in content:
        raise SettingError(
            "is missing: this strategy never ends by itself. Give it or maxExperimentDuration.",
            "maxTrialNumber",
        )
    check_trials(search.strategy, limit)


@contextmanager
def _named(file: str, parameters: Mapping[str, Any]) -> Iterator[None]:
    """Put a file, and the parameters of a trial, before the message of every SettingError."""
    try:
        yield
    except SettingError as error:
        place = f"{file} with {parameters}" if parameters else file
        raise SettingError(f"{place}: {error}") from error


@contextmanager
def _working_directory(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
