"""Checks of the files of single jobs: a search, a training, or an attack."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nni_robust.check import below
from nni_robust.data import RobustDataModule
from nni_robust.job.build import build_job
from nni_robust.job.one_shot import OneShotSearch
from nni_robust.settings.sections import resolve

NOUNS = {
    "search": ("search", "searches"),
    "train": ("training", "trainings"),
    "attack": ("attack", "attacks"),
}
"""What one job and several jobs of each command are called."""

_TELLING_KEYS = {"networks": "attack", "network": "train"}


def check_job_file(content: Mapping[str, Any]) -> str:
    """Check the file of one job by building it; return what the job does.

    Parameters
    ----------
    content
        The sections of the file.
    """
    command = next((name for key, name in _TELLING_KEYS.items() if key in content), "search")
    what = check_job(command, resolve(content), Path.cwd())
    return f"one {NOUNS[command][0]}{what}"


def check_job(command: str, sections: Mapping[str, Any], folder: Path) -> str:
    """Build a job and read one of its images; return what there is to say of it, or nothing.

    Parameters
    ----------
    command
        A key of :data:`~nni_robust.job.build.JOBS`.
    sections
        Sections of its file, with parameters and scale applied.
    folder
        Folder of the results; nothing is written to it.
    """
    job = build_job(command, sections, directory=folder)
    if job.data is not None:  # an attack may need networks that have yet to be trained
        check_images(job.data)
    return f" of {type(job.strategy).__name__}" if isinstance(job, OneShotSearch) else ""


def check_images(data: RobustDataModule) -> None:
    """Read one test image of a dataset; raise a SettingError if it is missing."""
    with below("data"):
        data.stored_examples("test", 1)
