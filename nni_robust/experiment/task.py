"""What one trial has to do, as a file that host and trial share."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

KEY = "task"
"""Key of the file's path in the parameters of a trial."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """A sample, and the settings under which it is evaluated.

    Attributes
    ----------
    sample
        From label to choice, with the stage where there is one.
    settings
        The sections of the search file, as they were written.
    directory
        Folder of the results.
    concurrency
        Trials that share the machine.

    Notes
    -----
    A file, since NNI's page shows a trial's parameters as they are, and since on a resume NNI
    keeps the parameters and drops all else.
    """

    sample: dict[str, Any]
    settings: dict[str, Any]
    directory: str
    concurrency: int

    def write(self, path: Path) -> None:
        """Write the file: whole, or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        scratch.write_text(json.dumps(asdict(self)))
        scratch.replace(path)


def read_task(parameters: Mapping[str, Any]) -> Task:
    """Read the task of a trial from the file that its parameters name.

    Raises
    ------
    ValueError
        If there is no file: on another machine, because the folder is not shared.
    """
    if KEY not in parameters:
        raise ValueError(
            f"the trial's parameters must name a {KEY!r} file, which only the strategy host "
            f"writes; got {sorted(parameters)}. Use nni_robust.experiment.host.StrategyHost as "
            "the tuner."
        )
    path = Path(parameters[KEY])
    if not path.is_file():
        raise ValueError(
            f"the trial's task must lie in {str(path)!r}, but there is no such file. On several "
            "machines set `directory` to a folder that all of them share."
        )
    return Task(**json.loads(path.read_text()))
