"""Checks of the files that hold one job: a search, a training, or an attack."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nni_robust.check import below
from nni_robust.data import RobustDataModule
from nni_robust.job.build import build_search, build_training, check_one_shot, choose_scale
from nni_robust.job.transfer import check_attack


def check_job(content: Mapping[str, Any]) -> str:
    """Check the file of one job by building it, and say what the job does.

    Parameters
    ----------
    content
        The sections of the file.
    """
    kinds = {"networks": "attack", "network": "train"}
    command = next((name for key, name in kinds.items() if key in content), "search")
    evaluator = content["evaluator"]
    if isinstance(evaluator, Mapping) and evaluator.get("name") == "train":
        command = "train"
    kind = KINDS[command]
    return f"one {kind.one}{kind.check(choose_scale(content, None), Path.cwd())}"


def check_images(data: RobustDataModule) -> None:
    """Read one test image of a dataset; raise a SettingError if it is missing."""
    with below("data"):
        data.stored_examples("test", 1)


def _check_search(sections: Mapping[str, Any], folder: Path) -> str:
    search = build_search(sections, directory=folder)
    check_one_shot(search)
    check_images(search.data)
    return f" of {type(search.strategy).__name__}"


def _check_training(sections: Mapping[str, Any], folder: Path) -> str:
    check_images(build_training(sections, directory=folder).measure.data)
    return ""


def _check_attack(sections: Mapping[str, Any], folder: Path) -> str:
    check_attack(sections)  # its networks may have to be trained first
    return ""


@dataclass(frozen=True)
class Kind:
    """A kind of job: how its sections are checked, and what one and several are called."""

    check: Callable[[Mapping[str, Any], Path], str]
    one: str
    several: str


KINDS = {
    "search": Kind(_check_search, "search", "searches"),
    "train": Kind(_check_training, "training", "trainings"),
    "attack": Kind(_check_attack, "attack", "attacks"),
}
"""By the command that carries out the job."""
