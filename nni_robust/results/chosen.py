"""The networks that searches chose and trainings trained: write them, find them, load them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nni.nas.space import model_context
from torch import nn

from nni_robust.check import SettingError
from nni_robust.data import DATASETS, RobustDataModule
from nni_robust.record import Record, renamed_metrics
from nni_robust.results.files import FORMAT, SearchFiles, write_text
from nni_robust.results.weights import load_weights
from nni_robust.settings.grammar import build
from nni_robust.settings.networks import build_network
from nni_robust.space import SPACES


def write_chosen(folder: Path, record: Record) -> None:
    """Write ``genotype.json``: what the network is and how it was measured."""
    content = {
        "format": FORMAT,
        "genotype": record.genotype,
        "sample": record.sample,
        "settings": record.settings,
        "metrics": record.metrics,
        "seed": record.seed,
        "versions": record.versions,
    }
    write_text(folder / "genotype.json", json.dumps(content, indent=1))


def chosen_folders(directory: Path) -> list[Path]:
    """List the folders of the chosen networks below a folder of results.

    Parameters
    ----------
    directory
        Folder of the results of one search or training, folder of several such folders, or folder
        of one chosen network.

    Raises
    ------
    SettingError
        If there is none.
    """
    if (directory / "genotype.json").is_file():
        return [directory]
    folders = SearchFiles(directory).finals()
    # In an experiment whose trials are whole searches or trainings, each trial has a folder.
    folders += [
        folder for trial in sorted(directory.glob("*")) for folder in SearchFiles(trial).finals()
    ]
    if not folders:
        raise SettingError(
            f"{str(directory)!r} must hold a chosen network, final/KEY/genotype.json, but has "
            "none: the search or training has not ended, or this is not its folder."
        )
    return folders


def read_chosen(folder: Path) -> dict[str, Any]:
    """Return the content of ``genotype.json``.

    Raises
    ------
    SettingError
        If it is damaged or has another format.
    """
    path = folder / "genotype.json"
    try:
        chosen: dict[str, Any] = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise SettingError(f"{str(path)!r} must be JSON, but it is damaged: {error}.") from error
    version = chosen.get("format") if isinstance(chosen, dict) else None
    if version != FORMAT:
        raise SettingError(f"{str(path)!r} must have format {FORMAT}, got {version!r}.")
    for key in ("settings", "sample", "genotype", "metrics"):
        if key not in chosen:
            raise SettingError(f"{str(path)!r} must describe a chosen network, but lacks {key!r}.")
    return {**chosen, "metrics": renamed_metrics(chosen["metrics"])}


def load_chosen(folder: Path) -> nn.Module:
    """Build a chosen network with its weights, in evaluation mode.

    Parameters
    ----------
    folder
        ``final/KEY`` in the results.
    """
    chosen = read_chosen(folder)
    settings = chosen["settings"]
    network: nn.Module
    if "space" in settings:
        with model_context(chosen["sample"]):
            network = build(settings["space"], SPACES, "settings", "space")
    else:
        network = build_network(settings["network"], chosen_data(chosen))
    network.load_state_dict(load_weights(folder / "weights.pt"))
    return network.eval()


def chosen_data(chosen: Mapping[str, Any]) -> RobustDataModule:
    """Return the images that a chosen network was trained and tested on.

    Parameters
    ----------
    chosen
        From :func:`read_chosen`.
    """
    data: RobustDataModule = build(
        chosen["settings"]["evaluator"]["data"], DATASETS, "settings", "data"
    )
    return data
