"""What a chosen network is saved as: weights, drawing, ONNX."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nni.nas.nn.pytorch import ModelSpace
from PIL import Image
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from nni_robust.report import save_cells
from nni_robust.results.weights import save_weights
from nni_robust.space.hub import cell_edges


def save_network(
    folder: Path,
    network: nn.Module,
    space: ModelSpace,
    sample: Mapping[str, Any],
    image_shape: tuple[int, int, int],
) -> None:
    """Save a chosen network as ``weights.pt``, ``cells.svg``, ``cells.png`` and ``network.onnx``.

    Parameters
    ----------
    folder
        ``final/KEY`` in the results.
    network
        Moved to the CPU and set to evaluation mode.
    space, sample
        What the drawing shows.
    image_shape
        (C, H, W) of the images.
    """
    save_weights(folder / "weights.pt", network)
    save_drawing(folder, space, sample)
    export_onnx(folder / "network.onnx", network, image_shape)


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


def export_onnx(path: Path, network: nn.Module, image_shape: tuple[int, int, int]) -> None:
    """Save a network as ONNX, for batches of any size.

    Parameters
    ----------
    path
        The file.
    network
        Set to evaluation mode, on the CPU.
    image_shape
        (C, H, W).
    """
    network = network.cpu().eval()
    # A batch of two, because the exporter takes a size of one for a constant.
    example = torch.zeros(2, *image_shape)
    with _errors_only("torch.onnx"):  # it reports that torchvision is not installed
        program = torch.onnx.export(
            network,
            (example,),
            input_names=["x"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    program.save(str(path))


@contextmanager
def _errors_only(name: str) -> Iterator[None]:
    """Let a logger print only errors during the block."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def tensorboard_directory() -> Path | None:
    """Return the folder that the TensorBoard button of NNI's page reads for the current trial.

    None outside a trial of NNI's local training service.
    """
    output, trial = os.environ.get("NNI_OUTPUT_DIR"), os.environ.get("NNI_TRIAL_JOB_ID")
    if os.environ.get("NNI_PLATFORM") != "local" or not output or not trial:
        return None
    # The trial's folder is EXPERIMENT/environments/local-env/trials/TRIAL; the button reads
    # another one.
    experiment = Path(output).absolute().parents[3]
    return experiment / "trials" / trial / "output" / "tensorboard"
