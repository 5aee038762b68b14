"""The command `draw`: draw the cells of networks."""

from __future__ import annotations

import argparse
from pathlib import Path

from nni_robust.check import SettingError
from nni_robust.report import save_cells
from nni_robust.results.chosen import chosen_folders, load_chosen, read_chosen
from nni_robust.space import PUBLISHED, published_names
from nni_robust.space.hub import cell_edges


def run(given: argparse.Namespace) -> int:
    """Draw the cells of a network, and print the paths of the files."""
    if not given.network:
        raise SettingError("must be a folder of results or a published network, got ''.", "network")
    for path in draw(given.network, given.output):
        print(path)
    return 0


def draw(network: str, output: Path | None) -> list[Path]:
    """Draw the cells of a published network, or of every chosen network in a folder of results.

    Parameters
    ----------
    network
        Name of a published network of our spaces; or the folder of a search's results or of one
        chosen network.
    output
        The files without their suffix; missing folders are created. By default the name of the
        published network in the working folder, or ``cells`` in the folder of the chosen network.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    SettingError
        If there is no such network, or its cells are not known.
    """
    # The drawing concatenates all nodes, which is not true for every architecture of NNI's hub.
    known = published_names("robnet", "darts")
    if network in known and not Path(network).is_dir():
        cells = PUBLISHED[network].edges()
        return list(save_cells(output or Path(network), cells, title=network))
    if not Path(network).is_dir():
        raise SettingError(
            f"must be a folder of results or one of {sorted(known)}, got {network!r}.", "network"
        )
    folders = chosen_folders(Path(network))
    if output is not None and len(folders) > 1:
        raise SettingError(
            f"must be left out, because {network!r} contains {len(folders)} networks.", "output"
        )
    written: list[Path] = []
    for folder in folders:
        space, sample = load_chosen(folder), read_chosen(folder)["sample"]
        cells = cell_edges(space, sample)
        if not cells:
            raise SettingError(
                f"{str(folder)!r} must contain a network of cells, got a {type(space).__name__}."
            )
        written.extend(save_cells(output or folder / "cells", cells))
    return written
