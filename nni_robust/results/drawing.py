"""Drawings of the networks that a search has chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from nni.nas.hub.pytorch.nasnet import NDS
from nni.nas.nn.pytorch import ModelSpace
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from nni_robust.report import Edge, save_cells
from nni_robust.results.chosen import chosen_folders, load_chosen, read_chosen
from nni_robust.results.files import tensorboard_directory
from nni_robust.space import PUBLISHED, PUBLISHED_DARTS, RACLSpace, RobNetSpace
from nni_robust.space.darts_genotype import SCOPES, chosen_edges, decode_darts
from nni_robust.space.robnet_genotype import decode_cell


def cells_of(space: ModelSpace, sample: Mapping[str, Any]) -> dict[str, list[Edge]]:
    """List the edges of every distinct cell of a network.

    Parameters
    ----------
    space
        The space of the network; ours, or a DARTS-like one of NNI's hub.
    sample
        From label to choice.

    Returns
    -------
    dict
        Empty for a space whose cells are not known.
    """
    if isinstance(space, RACLSpace):
        return {
            scope: [Edge(i, j, (operation,)) for i, j, operation in chosen_edges(sample, scope)]
            for scope in SCOPES
        }
    if isinstance(space, RobNetSpace):
        return {
            scope: [
                Edge(source, target, tuple(operations))
                for (source, target), operations in decode_cell(genotype).items()
            ]
            for scope, genotype in zip(space.macro.scopes, space.genotypes(sample), strict=True)
        }
    if isinstance(space, NDS):
        return {scope: _hub_edges(sample, f"{scope}/") for scope in SCOPES}
    return {}


def draw(network: str, output: Path | None) -> list[Path]:
    """Draw a published network, or every chosen network of a search.

    Parameters
    ----------
    network
        Name of a published network, or folder of a search's results or of one chosen network.
    output
        Files without their suffix; by default the name in the working folder, or ``cells`` beside
        the network.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    ValueError
        If there is no such network, or its cells are not known.
    """
    if network in PUBLISHED_DARTS:
        sample = decode_darts(PUBLISHED_DARTS[network].genotypes)
        return list(save_cells(output or Path(network), _darts_edges(sample), title=network))
    if network in PUBLISHED:
        genotypes = PUBLISHED[network].genotypes
        return list(save_cells(output or Path(network), _robnet_edges(genotypes), title=network))
    if not Path(network).is_dir():
        known = sorted({*PUBLISHED, *PUBLISHED_DARTS})
        raise ValueError(f"network must be a folder of results or one of {known}, got {network!r}.")
    folders = chosen_folders(Path(network))
    if output is not None and len(folders) > 1:
        raise ValueError(
            f"output must be left out where there are several networks, and {network!r} holds "
            f"{len(folders)}."
        )
    written: list[Path] = []
    for folder in folders:
        space, sample = load_chosen(folder), read_chosen(folder)["sample"]
        cells = cells_of(space, sample)
        if not cells:
            raise ValueError(
                f"{str(folder)!r} must hold a network of cells, got a {type(space).__name__}."
            )
        written.extend(save_cells(output or folder / "cells", cells))
    return written


def save_drawing(folder: Path, space: ModelSpace, sample: Mapping[str, Any]) -> None:
    """Draw a network's cells as ``cells.svg`` and ``cells.png``, where they are known.

    In a trial TensorBoard shows them as well.
    """
    cells = cells_of(space, sample)
    if not cells:
        return
    _, png = save_cells(folder / "cells", cells)
    if (tensorboard := tensorboard_directory()) is not None:
        with Image.open(png) as image, SummaryWriter(str(tensorboard)) as writer:
            writer.add_image("cells", np.asarray(image.convert("RGB")), dataformats="HWC")


def _darts_edges(sample: Mapping[str, Any]) -> dict[str, list[Edge]]:
    return {
        scope: [Edge(i, j, (operation,)) for i, j, operation in chosen_edges(sample, scope)]
        for scope in SCOPES
    }


def _robnet_edges(genotypes: Sequence[str]) -> dict[str, list[Edge]]:
    names = ["cell"] if len(genotypes) == 1 else [f"cell {i}" for i in range(len(genotypes))]
    return {
        name: [
            Edge(source, target, tuple(operations))
            for (source, target), operations in decode_cell(genotype).items()
        ]
        for name, genotype in zip(names, genotypes, strict=True)
    }


def _hub_edges(sample: Mapping[str, Any], scope: str) -> list[Edge]:
    edges = []
    for label, operation in sample.items():
        if label.startswith(f"{scope}op_"):
            target, place = label.removeprefix(f"{scope}op_").split("_")
            (source,) = sample[f"{scope}input_{target}_{place}"]
            edges.append(Edge(int(source), int(target), (str(operation),)))
    return edges
