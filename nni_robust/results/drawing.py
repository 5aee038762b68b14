"""Drawings of the networks that a search has chosen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from nni.nas.nn.pytorch import ModelSpace
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from nni_robust.report import save_cells
from nni_robust.results.files import tensorboard_directory
from nni_robust.space.hub import cell_edges


def save_drawing(folder: Path, space: ModelSpace, sample: Mapping[str, Any]) -> None:
    """Draw the cells of a network to ``cells.svg`` and ``cells.png``.

    In a trial the drawing is also written for TensorBoard. Nothing is drawn if the cells of the
    space are not known.
    """
    cells = cell_edges(space, sample)
    if not cells:
        return
    _, png = save_cells(folder / "cells", cells)
    if (tensorboard := tensorboard_directory()) is not None:
        with Image.open(png) as image, SummaryWriter(str(tensorboard)) as writer:
            writer.add_image("cells", np.asarray(image.convert("RGB")), dataformats="HWC")
