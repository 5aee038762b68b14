"""Batches of images: their order, their augmentation and their seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, distributed
from torch.nn.functional import pad

from nni_robust.data.image import ImageFiles, Images


def check_count(name: str, value: int, least: int) -> None:
    """Refuse an argument that is not a whole number of at least ``least``."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got {value!r}.")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value!r}.")


def random_crop(x: Tensor, padding: int, generator: Generator) -> Tensor:
    """Shift every image of a batch by up to ``padding`` pixels each way, filling with black."""
    n, channels, height, width = x.shape
    top, left = torch.randint(0, 2 * padding + 1, (2, n, 1), generator=generator)
    rows = (top + torch.arange(height)).view(n, 1, height, 1)
    columns = (left + torch.arange(width)).view(n, 1, 1, width)
    image = torch.arange(n).view(n, 1, 1, 1)
    channel = torch.arange(channels).view(1, channels, 1, 1)
    padded: Tensor = pad(x, (padding,) * 4)
    return padded[image, channel, rows, columns]


def random_flip(x: Tensor, generator: Generator) -> Tensor:
    """Mirror every image of a batch left to right with probability one half."""
    flipped = torch.rand(len(x), 1, 1, 1, generator=generator) < 0.5
    return torch.where(flipped, x.flip(-1), x)


def as_float(x: Images) -> Tensor:
    """Read files, and bring bytes to [0, 1]; floating-point images are there already."""
    x = x.read() if isinstance(x, ImageFiles) else x
    return x.float().div_(255) if x.dtype == torch.uint8 else x


class Examples:
    """Images that are read, and made floating-point, when they are asked for.

    Parameters
    ----------
    stored
        Bytes, floating-point numbers in [0, 1], or files; shape (N, C, H, W).
    """

    def __init__(self, stored: Images) -> None:
        self._stored = stored

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the tensor that all the images make: (N, C, H, W)."""
        return tuple(self._stored.shape)

    def __len__(self) -> int:
        return len(self._stored)

    def __getitem__(self, index: slice | Sequence[int]) -> Tensor:
        chosen = index if isinstance(index, slice) else torch.tensor(index)
        return as_float(self._stored[chosen])


def _place() -> tuple[int, int]:
    """Tell which of how many processes that train together this one is."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


class TensorLoader:
    """Batches of a dataset that lies in memory or in image files, for plain loops and Lightning.

    Every iteration is one epoch. Its order and its augmentation follow from ``(seed, epoch)``
    alone; the global random state is neither read nor changed. Where several processes train
    together, each draws its share of the epoch, of equal size: up to one image of a share comes
    twice. Images without a seed, those of an evaluation, come whole in each of them.

    Parameters
    ----------
    x
        Images, shape (N, C, H, W): bytes, floating-point numbers in [0, 1], or files.
    y
        Labels, shape (N,).
    batch_size
        Images a batch. The last batch may be shorter.
    seed
        Seed of the shuffling and the augmentation: a training loader. It leaves out a last batch
        of a single image, of which BatchNorm can take no variance. Without a seed, the images come
        unchanged, in order and all of them.
    crop_padding
        Random shift in pixels, 0 for none. Needs ``seed``.
    crop_area
        Smallest share of an image's area that a random part of it has, in (0, 1], or None for the
        middle; see :func:`nni_robust.data.image.random_box`. Needs ``seed`` and files.
    flip
        Whether to mirror images at random. Needs ``seed``.
    read_again
        Returns ``x`` and ``y`` once more. A copy or a pickle of the loader then leaves them out,
        and reads them when they are first used.
    """

    #: Lightning tells the epoch to what a loader names as its sampler, and asks for both names.
    batch_sampler: None = None

    def __init__(
        self,
        x: Images,
        y: Tensor,
        *,
        batch_size: int,
        seed: int | None = None,
        crop_padding: int = 0,
        crop_area: float | None = None,
        flip: bool = False,
        read_again: Callable[[], tuple[Images, Tensor]] | None = None,
    ) -> None:
        check_count("batch_size", batch_size, 1)
        if seed is None and (crop_padding or crop_area or flip):
            raise ValueError(
                "crop_padding, crop_area and flip are random and need a seed, got seed=None."
            )
        if crop_area is not None and not (isinstance(x, ImageFiles) and 0 < crop_area <= 1):
            raise ValueError(
                f"crop_area must lie in (0, 1] and goes with ImageFiles, got {crop_area!r} with "
                f"{type(x).__name__}. Images in memory are shifted by crop_padding instead."
            )
        self.batch_size = batch_size
        self.epoch = 0
        self._images: tuple[Images, Tensor] | None = (x, y)
        self._read_again = read_again
        self._seed = seed
        self._crop_padding = crop_padding
        self._crop_area = crop_area
        self._flip = flip

    @property
    def _x(self) -> Images:
        return self._read()[0]

    @property
    def _y(self) -> Tensor:
        return self._read()[1]

    def _read(self) -> tuple[Images, Tensor]:
        if self._images is None:
            assert self._read_again is not None  # __getstate__ sees to it
            self._images = self._read_again()
        return self._images

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_images": None if self._read_again else self._images}

    @property
    def sampler(self) -> TensorLoader:
        """The loader itself, which shuffles on its own."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Let the next iteration be that of epoch ``epoch``, as a resumed training needs it."""
        self.epoch = epoch

    def __len__(self) -> int:
        num_images = len(self._y) if self._seed is None else -(-len(self._y) // _place()[1])
        full, rest = divmod(num_images, self.batch_size)
        lone = self._seed is not None and rest == 1 and full > 0
        return full + (rest > 0) - lone

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        # The epoch is read when the first batch is asked for: Lightning calls set_epoch between.
        epoch = self.epoch
        self.epoch += 1
        if self._seed is None:
            indices = torch.split(torch.arange(len(self._y)), self.batch_size)
            for x, index in zip(self._stored(indices), indices, strict=True):
                yield as_float(x), self._y[index]
            return
        state = np.random.SeedSequence([self._seed, epoch]).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(state[0]))
        rank, world_size = _place()
        order = torch.randperm(len(self._y), generator=generator)
        order = torch.cat([order, order[: -len(order) % world_size]])[rank::world_size]
        indices = torch.split(order, self.batch_size)[: len(self)]
        for stored, index in zip(self._drawn(indices, generator), indices, strict=True):
            x = as_float(stored)
            if self._crop_padding:
                x = random_crop(x, self._crop_padding, generator)
            if self._flip:
                x = random_flip(x, generator)
            yield x, self._y[index]

    def _stored(self, indices: Sequence[Tensor]) -> Iterator[Tensor]:
        """Give batches as they are stored."""
        if isinstance(self._x, ImageFiles):
            return self._x.batches(indices)
        return map(self._x.__getitem__, indices)

    def _drawn(self, indices: Sequence[Tensor], generator: Generator) -> Iterator[Tensor]:
        """Give batches as they are stored, or where set of each image a random part."""
        if self._crop_area is None or not isinstance(self._x, ImageFiles):
            return self._stored(indices)
        # A generator of its own: how far files are read ahead must not change shifts and flips.
        seed = int(torch.randint(2**63 - 1, (), generator=generator))
        own = torch.Generator().manual_seed(seed)
        return self._x.random_batches(indices, least=self._crop_area, generator=own)
