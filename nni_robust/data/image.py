"""Images that stay in their files until they are asked for."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import repeat
from typing import TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Generator, Tensor

#: Left, top, right and bottom, in pixels of the image as stored.
Box: TypeAlias = tuple[float, float, float, float]

FORMATS = ("JPEG", "PNG")
BATCHES_AHEAD = 2  # read while the batch before them is in use
READ_SIZE = 256  # images a batch where all are read at once
TRIES = 10  # random boxes before one that is sure to fit
WIDEST = 4 / 3  # width by height of a random box; the narrowest is its inverse


def centre_box(width: int, height: int, *, share: float = 1.0) -> Box:
    """Give the square in the middle whose side is ``share`` of the shorter side of the image.

    Examples
    --------
    >>> centre_box(500, 300, share=0.5)
    (175.0, 75.0, 325.0, 225.0)
    """
    side = share * min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def random_box(width: int, height: int, *, draws: Sequence[Sequence[float]], least: float) -> Box:
    """Choose a part of an image, as the training of ImageNet networks is used to.

    Its share of the area is uniform between ``least`` and 1, the logarithm of its width by height
    between those of 3/4 and 4/3, and its place uniform among those inside the image.

    Parameters
    ----------
    width, height
        Of the image, in pixels.
    draws
        Numbers from [0, 1): four a try, for area, shape, left and top. The first box that fits
        counts; if none does, the largest square in the middle.
    least
        Smallest share of the area, in (0, 1].
    """
    for area, shape, left, top in draws:
        pixels = (least + (1 - least) * area) * width * height
        ratio = WIDEST ** (2 * shape - 1)
        box_width, box_height = math.sqrt(pixels * ratio), math.sqrt(pixels / ratio)
        if box_width <= width and box_height <= height:
            x, y = left * (width - box_width), top * (height - box_height)
            return x, y, min(x + box_width, width), min(y + box_height, height)
    return centre_box(width, height)


def read_image(path: str, size: int, choose_box: Callable[[int, int], Box]) -> Tensor:
    """Read one file, cut a box out of the image and resize it: bytes, shape (3, size, size)."""
    try:
        with Image.open(path, formats=FORMATS) as file:
            image = file.convert("RGB")
    except Exception as error:  # a damaged image may raise nearly anything
        raise ValueError(
            f"{path!r} must be a whole JPEG or PNG image: {type(error).__name__}: {error}."
        ) from error
    box = choose_box(*image.size)
    pixels = np.array(image.resize((size, size), Image.Resampling.BILINEAR, box=box))
    return torch.from_numpy(pixels).permute(2, 0, 1)


class ImageFiles:
    """Images in files, which a dataset cuts and orders as it does a tensor of images.

    An index gives other ``ImageFiles`` and reads nothing. Files are read in as many threads as
    PyTorch may use; grey images become coloured ones.

    Parameters
    ----------
    paths
        The files, JPEG or PNG, of any size each.
    size
        Height and width that the images are brought to.
    share
        Side of the square in the middle that is kept, as a share of the shorter side.
    """

    def __init__(self, paths: Sequence[str], *, size: int, share: float = 1.0) -> None:
        self.size = size
        self.share = share
        self._paths = np.array(paths, dtype=object)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of the tensor that all the images make: (N, 3, size, size)."""
        return len(self._paths), 3, self.size, self.size

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: Tensor | slice) -> ImageFiles:
        chosen = self._paths[index if isinstance(index, slice) else index.numpy()]
        return ImageFiles(chosen.tolist(), size=self.size, share=self.share)

    def read(self) -> Tensor:
        """Read all images, cut in the middle: bytes, shape (N, 3, size, size)."""
        return torch.cat(list(self.batches(torch.split(torch.arange(len(self)), READ_SIZE))))

    def batches(self, indices: Iterable[Tensor]) -> Iterator[Tensor]:
        """Read the images of one index after another, cut in the middle."""
        return self._read(indices, repeat(repeat(partial(centre_box, share=self.share))))

    def random_batches(
        self, indices: Sequence[Tensor], *, least: float, generator: Generator
    ) -> Iterator[Tensor]:
        """Read the images of one index after another, of each a random part.

        Parameters
        ----------
        indices
            Places of the images, shape (n,), a batch each.
        least, generator
            Smallest share of the area, and what draws the parts; see :func:`random_box`.
        """
        drawn = (torch.rand(len(index), TRIES, 4, generator=generator) for index in indices)
        boxes = ([partial(random_box, draws=d, least=least) for d in x.tolist()] for x in drawn)
        return self._read(indices, boxes)

    def _read(
        self, indices: Iterable[Tensor], boxes: Iterable[Iterable[Callable[[int, int], Box]]]
    ) -> Iterator[Tensor]:
        """Read some batches ahead; stop reading where the caller stops asking."""
        pool = ThreadPoolExecutor(torch.get_num_threads())
        ahead: deque[Iterator[Tensor]] = deque()
        try:
            for index, choose_box in zip(indices, boxes):  # noqa: B905  # boxes may be endless
                paths = self._paths[index.numpy()]
                ahead.append(pool.map(read_image, paths, repeat(self.size), choose_box))
                if len(ahead) > BATCHES_AHEAD:
                    yield torch.stack(list(ahead.popleft()))
            while ahead:
                yield torch.stack(list(ahead.popleft()))
        finally:
            pool.shutdown(cancel_futures=True)


Images: TypeAlias = Tensor | ImageFiles
