"""What one trial has to do, as a file that the strategy host writes and the trial reads."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nni_robust.check import SettingError
from nni_robust.results.files import write_text


@dataclass(frozen=True, kw_only=True)
class TrialInput:
    """A sample, and the settings under which it is evaluated.

    Attributes
    ----------
    sample
        From label to choice, including the stage where there is one.
    settings
        The sections of the search file, as they were written.
    concurrency
        Number of trials that share the machine.

    Notes
    -----
    It is a file because NNI's page draws everything that is among a trial's parameters, and
    because NNI keeps the parameters on a resume and drops everything else.
    """

    sample: dict[str, Any]
    settings: dict[str, Any]
    concurrency: int

    def write(self, results: Path, parameter_id: int) -> None:
        """Write the file of a trial: completely, or not at all."""
        write_text(_path(results, parameter_id), json.dumps(asdict(self)))


def read_trial_input(results: Path, parameter_id: int) -> TrialInput:
    """Read what a trial has to do.

    Parameters
    ----------
    results
        Folder of the results.
    parameter_id
        The number under which the trial was submitted.

    Raises
    ------
    SettingError
        If there is no such file: on another machine, because the folder is not shared.
    """
    path = _path(results, parameter_id)
    if not path.is_file():
        raise SettingError(
            f"the trial's task must be in {str(path)!r}, but there is no such file. If "
            "`directory` is set in the experiment's file, the trial command must say the same: "
            "`python3 -m nni_robust trial --directory DIRECTORY`, on storage that all machines "
            "share."
        )
    return TrialInput(**json.loads(path.read_text()))


def submitted_ids(results: Path) -> list[int]:
    """Return the parameter ids of all trials that were submitted with these results."""
    return [int(path.stem) for path in (results / "tasks").glob("*.json")]


def _path(results: Path, parameter_id: int) -> Path:
    return results / "tasks" / f"{parameter_id}.json"
