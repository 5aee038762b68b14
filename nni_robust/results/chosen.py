"""The networks that searches have chosen, or trainings left: find and rebuild them from files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nni.nas.space import model_context
from torch import nn

from nni_robust.check import SettingError
from nni_robust.data import DATASETS, RobustDataModule
from nni_robust.record import renamed_metrics
from nni_robust.results.files import FORMAT, SearchFiles
from nni_robust.results.weights import load_weights
from nni_robust.settings.grammar import build
from nni_robust.settings.networks import build_network
from nni_robust.space import SPACES


def chosen_folders(directory: Path) -> list[Path]:
    """List the folders of the chosen networks of a search or training, or of those in a folder.

    Parameters
    ----------
    directory
        Folder of the results, or of one chosen network.

    Raises
    ------
    ValueError
        If there is none.
    """
    if (directory / "genotype.json").is_file():
        return [directory]
    folders = SearchFiles(directory).finals()
    # The trials of an experiment of whole searches or trainings have a folder each.
    folders += [
        folder for trial in sorted(directory.glob("*")) for folder in SearchFiles(trial).finals()
    ]
    if not folders:
        raise SettingError(
            f"{str(directory)!r} must hold a chosen network, final/KEY/genotype.json, but there is "
            "none: the search or training has not ended, or this is not its folder."
        )
    return folders


def read_chosen(folder: Path) -> dict[str, Any]:
    """Read ``genotype.json``."""
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
            raise SettingError(f"{str(path)!r} must tell of a chosen network, but lacks {key!r}.")
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
    """Give the images that a chosen network was trained and tested on.

    Parameters
    ----------
    chosen
        As :func:`read_chosen` gives it.
    """
    data: RobustDataModule = build(
        chosen["settings"]["evaluator"]["data"], DATASETS, "settings", "data"
    )
    return data
