"""Images that are read from their files only when they are needed."""

from __future__ import annotations

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

from nni_robust.check import SettingError
from nni_robust.data.augment import Box, centre_box, random_box

_FORMATS = ("JPEG", "PNG")
_BATCHES_AHEAD = 2  # number of batches that are read while the one before them is in use
_READ_SIZE = 256  # number of images per batch when all are read at once
_TRIES = 10  # number of random boxes before the fallback that always fits


def read_image(path: str, size: int, choose_box: Callable[[int, int], Box]) -> Tensor:
    """Read one file, cut a box out of the image and resize it.

    Parameters
    ----------
    path
        A JPEG or PNG file.
    size
        Height and width of the result, in pixels.
    choose_box
        Returns the box for the width and height of the image.

    Returns
    -------
    x
        Bytes, shape (3, size, size).

    Raises
    ------
    SettingError
        If the file is missing or damaged, or has another format.
    """
    try:
        with Image.open(path, formats=_FORMATS) as file:
            image = file.convert("RGB")
    except Exception as error:  # a damaged image may raise nearly anything
        raise SettingError(
            f"{path!r} must be a whole JPEG or PNG image: {type(error).__name__}: {error}. "
            "Replace or remove the file."
        ) from error
    box = choose_box(*image.size)
    pixels = np.array(image.resize((size, size), Image.Resampling.BILINEAR, box=box))
    return torch.from_numpy(pixels).permute(2, 0, 1)


class ImageFiles:
    """Images in files, which can be indexed like a tensor of images.

    Indexing returns other ``ImageFiles`` and reads nothing. As many threads read the files as
    PyTorch may use. Grey images get three equal channels.

    Parameters
    ----------
    paths
        JPEG or PNG files; the images may have different sizes.
    size
        Height and width in pixels to which the images are resized.
    share
        Side of the centred square that is used, as a share of the shorter side, in (0, 1].
    """

    def __init__(self, paths: Sequence[str], *, size: int, share: float = 1.0) -> None:
        self.size = size
        self.share = share
        self._paths = np.array(paths, dtype=object)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the tensor of all images: (N, 3, size, size)."""
        return len(self._paths), 3, self.size, self.size

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: Tensor | slice) -> ImageFiles:
        chosen = self._paths[index if isinstance(index, slice) else index.numpy()]
        return ImageFiles(chosen.tolist(), size=self.size, share=self.share)

    def read(self) -> Tensor:
        """Return the centres of all images: bytes, shape (N, 3, size, size)."""
        return torch.cat(list(self.batches(torch.split(torch.arange(len(self)), _READ_SIZE))))

    def batches(self, indices: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield batches of the centres of images.

        Parameters
        ----------
        indices
            Indices of the images of each batch, shape (n,).

        Yields
        ------
        x
            Bytes, shape (n, 3, size, size).
        """
        return self._read(indices, repeat(repeat(partial(centre_box, share=self.share))))

    def random_batches(
        self, indices: Sequence[Tensor], *, least: float, generator: Generator
    ) -> Iterator[Tensor]:
        """Yield batches of random parts of images.

        Parameters
        ----------
        indices
            Indices of the images of each batch, shape (n,).
        least
            Smallest share of the area, in (0, 1]; see :func:`random_box`.
        generator
            Draws the parts.

        Yields
        ------
        x
            Bytes, shape (n, 3, size, size).
        """
        drawn = (torch.rand(len(index), _TRIES, 4, generator=generator) for index in indices)
        boxes = ([partial(random_box, draws=d, least=least) for d in x.tolist()] for x in drawn)
        return self._read(indices, boxes)

    def _read(
        self, indices: Iterable[Tensor], boxes: Iterable[Iterable[Callable[[int, int], Box]]]
    ) -> Iterator[Tensor]:
        """Yield batches while reading some ahead; stop reading when the caller stops."""
        pool = ThreadPoolExecutor(torch.get_num_threads())
        ahead: deque[Iterator[Tensor]] = deque()
        try:
            for index, choose_box in zip(indices, boxes):  # noqa: B905  # boxes may be endless
                paths = self._paths[index.numpy()]
                ahead.append(pool.map(read_image, paths, repeat(self.size), choose_box))
                if len(ahead) > _BATCHES_AHEAD:
                    yield torch.stack(list(ahead.popleft()))
            while ahead:
                yield torch.stack(list(ahead.popleft()))
        finally:
            pool.shutdown(cancel_futures=True)


StoredImages: TypeAlias = Tensor | ImageFiles
"""Images as they are stored: a tensor of bytes or of numbers in [0, 1], or files."""
