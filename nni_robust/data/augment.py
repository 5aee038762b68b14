"""Random changes to training images: shifts, mirroring and crops."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Generator, Tensor
from torch.nn.functional import pad

Box: TypeAlias = tuple[float, float, float, float]
"""Left, top, right and bottom edge, in pixels of the stored image."""

_WIDEST = 4 / 3  # largest ratio of width to height of a random box; the smallest is its inverse


def random_crop(x: Tensor, padding: int, generator: Generator) -> Tensor:
    """Shift every image by a random number of pixels and fill the gap with black.

    Parameters
    ----------
    x
        Images, shape (N, C, H, W).
    padding
        Largest shift in pixels, at least 0, in each direction.
    generator
        Draws the shifts, uniformly.

    Returns
    -------
    x
        Shifted images, same shape, in new memory.
    """
    n, channels, height, width = x.shape
    top, left = torch.randint(0, 2 * padding + 1, (2, n, 1), generator=generator)
    rows = (top + torch.arange(height)).view(n, 1, height, 1)
    columns = (left + torch.arange(width)).view(n, 1, 1, width)
    image = torch.arange(n).view(n, 1, 1, 1)
    channel = torch.arange(channels).view(1, channels, 1, 1)
    padded: Tensor = pad(x, (padding,) * 4)
    return padded[image, channel, rows, columns]


def random_flip(x: Tensor, generator: Generator) -> Tensor:
    """Mirror every image left to right with probability one half.

    Parameters
    ----------
    x
        Images, shape (N, C, H, W).
    generator
        Decides which images are mirrored.

    Returns
    -------
    x
        Images of the same shape, in new memory.
    """
    flipped = torch.rand(len(x), 1, 1, 1, generator=generator) < 0.5
    return torch.where(flipped, x.flip(-1), x)


def centre_box(width: int, height: int, *, share: float = 1.0) -> Box:
    """Return the centred square whose side is ``share`` of the shorter side of the image.

    Examples
    --------
    >>> centre_box(500, 300, share=0.5)
    (175.0, 75.0, 325.0, 225.0)
    """
    side = share * min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def random_box(width: int, height: int, *, draws: Sequence[Sequence[float]], least: float) -> Box:
    """Return a random part of an image, as is usual when ImageNet networks are trained.

    Its share of the area is uniform between ``least`` and 1. The logarithm of its ratio of width to
    height is uniform between ln(3/4) and ln(4/3). Its position is uniform inside the image.

    Parameters
    ----------
    width, height
        Size of the image, in pixels.
    draws
        Uniform numbers in [0, 1), four per try: for area, ratio, left and top. The first box that
        fits is returned; if none fits, the largest centred square.
    least
        Smallest share of the area, in (0, 1].

    Returns
    -------
    box
        Left, top, right and bottom edge, in pixels.
    """
    for area, shape, left, top in draws:
        pixels = (least + (1 - least) * area) * width * height
        ratio = _WIDEST ** (2 * shape - 1)
        box_width, box_height = math.sqrt(pixels * ratio), math.sqrt(pixels / ratio)
        if box_width <= width and box_height <= height:
            x, y = left * (width - box_width), top * (height - box_height)
            return x, y, min(x + box_width, width), min(y + box_height, height)
    return centre_box(width, height)
