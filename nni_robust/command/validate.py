"""Check a settings file before anything is started.

The file may be an experiment, for `nnictl create --config`, or the file of one search, training or
attack. Nothing is trained, and no trial is started.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from nni_robust.check import SettingError, one_line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    parser.add_argument("file", type=Path, help="experiment, or file of a search or training")


def run(given: argparse.Namespace) -> int:
    """Run the command, and return its exit status."""
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
    from nni_robust.command.experiment_file import check_experiment
    from nni_robust.command.job_file import check_job_file

    content = _read(path)
    if "evaluator" in content:  # no key of NNI's
        return f"{path.stem}: {check_job_file(content)}"
    name = content.get("experimentName", path.stem)
    return f"{name}: {check_experiment(content, path)}"


def _read(path: Path) -> dict[str, Any]:
    import yaml

    if not path.is_file():
        raise SettingError("there is no such file.")
    try:
        content = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingError(f"must be YAML, but: {one_line(error)}") from error
    if not isinstance(content, dict):
        raise SettingError(f"must hold the keys of an NNI experiment, got {content!r}.")
    return content
