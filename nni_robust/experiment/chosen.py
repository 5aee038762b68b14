"""The networks that a search has chosen: find them, and rebuild them from their files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nni.nas.nn.pytorch import ModelSpace
from nni.nas.space import model_context
from torch import nn

from nni_robust.experiment.files import FORMAT, SearchFiles, load_weights
from nni_robust.experiment.settings import build
from nni_robust.space import SPACES


def chosen_folders(directory: Path) -> list[Path]:
    """List the folders of the chosen networks of a search, or of the searches in a folder.

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
    # The trials of an experiment of whole searches have a folder each.
    folders += [
        folder for trial in sorted(directory.glob("*")) for folder in SearchFiles(trial).finals()
    ]
    if not folders:
        raise ValueError(
            f"{str(directory)!r} must hold a chosen network, final/KEY/genotype.json, but there is "
            "none: the search has not ended, or this is not its folder."
        )
    return folders


def read_chosen(folder: Path) -> dict[str, Any]:
    """Read ``genotype.json``."""
    path = folder / "genotype.json"
    try:
        chosen: dict[str, Any] = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{str(path)!r} must be JSON, but it is damaged: {error}.") from error
    if chosen.get("format") != FORMAT:
        raise ValueError(f"{str(path)!r} must have format {FORMAT}, got {chosen.get('format')!r}.")
    return chosen


def load_chosen(folder: Path) -> nn.Module:
    """Build the chosen network of a search with its weights, in evaluation mode.

    Parameters
    ----------
    folder
        ``final/KEY`` in the results.
    """
    chosen = read_chosen(folder)
    with model_context(chosen["sample"]):
        network: ModelSpace = build(chosen["settings"]["space"], SPACES, "settings.space")
    network.load_state_dict(load_weights(folder / "weights.pt"))
    return network.eval()  # type: ignore[no-any-return]  # NNI is untyped
