"""NNI's list of the experiments of this user, and where an experiment keeps its results."""

from __future__ import annotations

import argparse
import json
import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nni_robust.check import SettingError


@dataclass(frozen=True)
class ExperimentEntry:
    """One entry of NNI's list: where an experiment is found.

    Attributes
    ----------
    id
        Identifier given by NNI.
    name
        The file's ``experimentName``, empty if it has none.
    port
        Port of the manager's web page and REST server.
    url_prefix
        What ``nnictl create --url_prefix`` put before every path, without outer slashes.
    directory
        Folder with the logs, the database and the trials.
    """

    id: str
    name: str
    port: int
    url_prefix: str
    directory: Path

    @property
    def address(self) -> str:
        """Address of the manager, without a final slash."""
        return f"http://127.0.0.1:{self.port}/{self.url_prefix}".removesuffix("/")


def find_experiment(experiment_id: str | None) -> ExperimentEntry:
    """Return an experiment of NNI's list, ``~/nni-experiments/.experiment``.

    The file is read without NNI's lock, so no other process can make this wait.

    Parameters
    ----------
    experiment_id
        Its identifier, or None for the newest experiment whose manager is running.

    Raises
    ------
    SettingError
        If there is no such experiment, or its manager is not running.
    """
    entries = read_manifest()
    alive = {key: entry for key, entry in entries.items() if _has_manager(entry)}
    if experiment_id is None:
        if not alive:
            raise SettingError(
                "there must be an experiment whose manager is running, found none among "
                f"{sorted(entries)}. Start one with 'nnictl create --config FILE'."
            )
        experiment_id = max(alive, key=lambda key: alive[key].get("startTime") or 0)
    if experiment_id not in entries:
        raise SettingError(
            f"must be one of {sorted(entries)}, the experiments that NNI knows, "
            f"got {experiment_id!r}.",
            "experiment_id",
        )
    if experiment_id not in alive:
        raise SettingError(
            f"experiment {experiment_id!r} must have a running manager, but it is stopped, or it "
            f"runs within a Python program. Continue a stopped one with 'nnictl resume "
            f"{experiment_id}'."
        )
    entry = entries[experiment_id]
    return ExperimentEntry(
        id=experiment_id,
        name=entry.get("experimentName") or "",
        port=entry["port"],
        url_prefix=(entry.get("prefixUrl") or "").strip("/"),
        directory=Path(entry["logDir"]) / experiment_id,
    )


def read_manifest() -> dict[str, dict[str, Any]]:
    """Read NNI's list of experiments; it may be half written, so try again for a while."""
    path = Path.home() / "nni-experiments" / ".experiment"
    if not path.exists():
        return {}
    for _ in range(20):
        try:
            entries = json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError:
            time.sleep(0.1)
        else:
            return {key: entry for key, entry in entries.items() if isinstance(entry, dict)}
    raise SettingError(f"{path} must hold JSON, NNI's list of experiments, but it is damaged.")


def _has_manager(entry: dict[str, Any]) -> bool:
    """Whether a manager should answer: an experiment under NNI's sequential engine has none."""
    return entry.get("status") != "STOPPED" and isinstance(entry.get("port"), int)


def results_folder(experiment_folder: Path, directory: str | None, experiment_id: str) -> Path:
    """Return the folder of an experiment's results.

    Parameters
    ----------
    experiment_folder
        NNI's folder of the experiment; results are in its ``results`` by default.
    directory
        Folder that the user wants instead, or None; each experiment gets a subfolder of it.
    experiment_id
        NNI's identifier.
    """
    if directory is None:
        return experiment_folder / "results"
    return Path(directory).expanduser().absolute() / experiment_id


def configured_results(entry: ExperimentEntry, profile: Mapping[str, Any]) -> Path:
    """Return the folder of an experiment's results, from outside the experiment.

    Parameters
    ----------
    entry
        The experiment.
    profile
        The manager's profile of it. Its trial command says ``--directory`` if the results are
        elsewhere; a relative path starts at the folder of the trial code.
    """
    params = profile["params"]
    parser = argparse.ArgumentParser(exit_on_error=False, add_help=False, allow_abbrev=False)
    parser.add_argument("--directory")
    try:
        words = shlex.split(str(params.get("trialCommand", "")))
        directory = parser.parse_known_args(words)[0].directory
    except (ValueError, argparse.ArgumentError):  # not a command line of ours
        directory = None
    if directory is not None:
        directory = str(Path(params.get("trialCodeDirectory", ""), Path(directory).expanduser()))
    return results_folder(entry.directory, directory, entry.id)
