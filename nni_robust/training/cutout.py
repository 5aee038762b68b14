"""Images with a hole."""

from __future__ import annotations

import torch
from torch import Generator, Tensor


def cutout(x: Tensor, size: int, generator: Generator) -> Tensor:
    """Blacken a square of every image, its centre uniform among the pixels.

    Parameters
    ----------
    x
        Images, shape (N, C, H, W).
    size
        Side of the square in pixels; at the border a part of it falls outside.
    generator
        Draws the centres.

    Notes
    -----
    DeVries and Taylor, *Improved Regularization of Convolutional Neural Networks with Cutout*,
    2017. There images are normalised, so that the hole is of the mean colour.
    """
    height, width = x.shape[2:]
    inside = []
    for length in (height, width):
        centre = torch.randint(length, (len(x), 1), generator=generator, device=generator.device)
        first = centre.to(x.device) - size // 2
        place = torch.arange(length, device=x.device)
        inside.append((place >= first) & (place < first + size))  # (N, length)
    rows, columns = inside
    hole = rows.view(-1, 1, height, 1) & columns.view(-1, 1, 1, width)
    return x.masked_fill(hole, 0.0)
