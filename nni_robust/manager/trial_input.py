"""What one trial has to do, as a file that host and trial share."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nni_robust.results.files import write_text


@dataclass(frozen=True, kw_only=True)
class Task:
    """A sample, and the settings under which it is evaluated.

    Attributes
    ----------
    sample
        From label to choice, with the stage where there is one.
    settings
        The sections of the search file, as they were written.
    concurrency
        Trials that share the machine.

    Notes
    -----
    A file, since NNI's page draws whatever is among a trial's parameters, and since on a resume
    NNI keeps the parameters and drops all else.
    """

    sample: dict[str, Any]
    settings: dict[str, Any]
    concurrency: int

    def write(self, results: Path, parameter_id: int) -> None:
        """Write the file of a trial: whole, or not at all."""
        write_text(_path(results, parameter_id), json.dumps(asdict(self)))


def read_task(results: Path, parameter_id: int) -> Task:
    """Read what a trial has to do.

    Parameters
    ----------
    results
        Folder of the results.
    parameter_id
        The number under which the trial was submitted.

    Raises
    ------
    ValueError
        If there is no file: on another machine, because the folder is not shared.
    """
    path = _path(results, parameter_id)
    if not path.is_file():
        raise ValueError(
            f"the trial's task must lie in {str(path)!r}, but there is no such file. Where "
            "`directory` is set in the experiment's file, the trial command must say the same: "
            "`python3 -m nni_robust trial --directory DIRECTORY`, on storage that all machines "
            "share."
        )
    return Task(**json.loads(path.read_text()))


def submitted_tasks(results: Path) -> list[int]:
    """List the parameter ids of all tasks in a folder of results."""
    return [int(path.stem) for path in (results / "tasks").glob("*.json")]


def results_folder(experiment_folder: Path, directory: str | None, experiment_id: str) -> Path:
    """Folder of an experiment's results.

    Parameters
    ----------
    experiment_folder
        NNI's folder of the experiment, where results lie by default.
    directory
        Where the user wants them instead: each experiment gets a folder of its own in it.
    experiment_id
        NNI's identifier.
    """
    if directory is None:
        return experiment_folder / "results"
    return Path(directory).expanduser().absolute() / experiment_id


def _path(results: Path, parameter_id: int) -> Path:
    return results / "tasks" / f"{parameter_id}.json"
