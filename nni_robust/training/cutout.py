"""Cutout: black squares in training images."""

from __future__ import annotations

import torch
from torch import Generator, Tensor


def cutout(x: Tensor, size: int, generator: Generator) -> Tensor:
    """Return the images with one black square each, centred on a random pixel.

    Parameters
    ----------
    x
        Images, shape (N, C, H, W).
    size
        Side of the square in pixels. Near the border a part of the square falls outside.
    generator
        Draws the centres, uniformly.

    Notes
    -----
    DeVries and Taylor, *Improved Regularization of Convolutional Neural Networks with Cutout*,
    2017. They normalise the images first, so that their squares have the mean colour.
    """
    height, width = x.shape[2:]
    inside = []
    for length in (height, width):
        centre = torch.randint(length, (len(x), 1), generator=generator, device=generator.device)
        first = centre.to(x.device) - size // 2
        pixel = torch.arange(length, device=x.device)
        inside.append((pixel >= first) & (pixel < first + size))  # (N, length)
    rows, columns = inside
    hole = rows.view(-1, 1, height, 1) & columns.view(-1, 1, 1, width)
    return x.masked_fill(hole, 0.0)
