"""Batches of images: their order, their augmentation and their seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, distributed

from nni_robust.check import SettingError, check_count, check_seed
from nni_robust.data.augment import random_crop, random_flip
from nni_robust.data.image import ImageFiles, StoredImages


def as_float(x: StoredImages) -> Tensor:
    """Return images in [0, 1]: read files, divide bytes by 255, leave other numbers unchanged."""
    x = x.read() if isinstance(x, ImageFiles) else x
    return x.float().div_(255) if x.dtype == torch.uint8 else x


class Examples:
    """Images that are read and converted to [0, 1] when they are indexed.

    Parameters
    ----------
    stored
        Bytes, numbers in [0, 1], or files; shape (N, C, H, W).
    """

    def __init__(self, stored: StoredImages) -> None:
        self._stored = stored

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor of all images: (N, C, H, W)."""
        return tuple(self._stored.shape)

    def __len__(self) -> int:
        return len(self._stored)

    def __getitem__(self, index: slice | Sequence[int]) -> Tensor:
        chosen = index if isinstance(index, slice) else torch.tensor(index)
        return as_float(self._stored[chosen])


def _rank_and_world_size() -> tuple[int, int]:
    """Return the rank of this process and the number of processes that train together."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


class TensorLoader:
    """Batches of a dataset in memory or in image files, for plain loops and for Lightning.

    Every iteration is one epoch. Its order and augmentation depend only on ``(seed, epoch)``; the
    global random state is neither read nor changed. If several processes train together, each
    takes a share of the epoch. All shares have the same size, so one image per share may come
    twice. Without a seed, as in an evaluation, every process gets all images.

    Parameters
    ----------
    x
        Images, shape (N, C, H, W): bytes, numbers in [0, 1], or files.
    y
        Labels, shape (N,).
    batch_size
        Number of images per batch, at least 1. The last batch may be smaller.
    seed
        Seed of the shuffling and the augmentation, from 0 to 2^32 - 1, for training. The loader
        then drops a last batch with a single image, for which BatchNorm cannot compute a variance.
        None for all images, unchanged and in order.
    crop_padding
        Largest random shift in pixels, 0 for none. Needs ``seed``.
    crop_area
        Smallest share of the area for random parts of images, in (0, 1]; see
        :func:`nni_robust.data.augment.random_box`. None for the centre. Needs ``seed`` and files.
    flip
        Whether to mirror images at random. Needs ``seed``.
    read_again
        Returns ``x`` and ``y`` once more. A copy or a pickle of the loader then leaves them out,
        and reads them when they are first used.

    Raises
    ------
    SettingError
        If an argument is out of range, or augmentation is asked for without a seed.
    """

    #: Lightning calls ``set_epoch`` on a loader's sampler, and reads both names.
    batch_sampler: None = None

    def __init__(
        self,
        x: StoredImages,
        y: Tensor,
        *,
        batch_size: int,
        seed: int | None = None,
        crop_padding: int = 0,
        crop_area: float | None = None,
        flip: bool = False,
        read_again: Callable[[], tuple[StoredImages, Tensor]] | None = None,
    ) -> None:
        check_count("batch_size", batch_size)
        if seed is not None:
            check_seed(seed)
        elif crop_padding or crop_area or flip:
            raise SettingError(
                "must be given with crop_padding, crop_area or flip, which are random, got None.",
                "seed",
            )
        if crop_area is not None and not (isinstance(x, ImageFiles) and 0 < crop_area <= 1):
            raise SettingError(
                f"must lie in (0, 1] and needs ImageFiles, got {crop_area!r} with "
                f"{type(x).__name__}. For images in memory use crop_padding.",
                "crop_area",
            )
        self.batch_size = batch_size
        self.epoch = 0
        self._images: tuple[StoredImages, Tensor] | None = (x, y)
        self._read_again = read_again
        self._seed = seed
        self._crop_padding = crop_padding
        self._crop_area = crop_area
        self._flip = flip

    @property
    def _x(self) -> StoredImages:
        return self._read()[0]

    @property
    def _y(self) -> Tensor:
        return self._read()[1]

    def _read(self) -> tuple[StoredImages, Tensor]:
        if self._images is None:
            assert self._read_again is not None  # __getstate__ sees to it
            self._images = self._read_again()
        return self._images

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_images": None if self._read_again else self._images}

    @property
    def sampler(self) -> TensorLoader:
        """The loader itself, because it does the shuffling."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Make the next iteration that of epoch ``epoch``, for example to resume a training."""
        self.epoch = epoch

    def __len__(self) -> int:
        num_images = len(self._y)
        if self._seed is not None:
            num_images = -(-num_images // _rank_and_world_size()[1])  # rounded up
        full, rest = divmod(num_images, self.batch_size)
        dropped = self._seed is not None and rest == 1 and full > 0
        return full + (rest > 0) - dropped

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        # This runs when the first batch is requested: Lightning calls set_epoch after iter().
        epoch = self.epoch
        self.epoch += 1
        if self._seed is None:
            indices = torch.split(torch.arange(len(self._y)), self.batch_size)
            for x, index in zip(self._stored(indices), indices, strict=True):
                yield as_float(x), self._y[index]
            return
        state = np.random.SeedSequence([self._seed, epoch]).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(state[0]))
        rank, world_size = _rank_and_world_size()
        order = torch.randperm(len(self._y), generator=generator)
        order = torch.cat([order, order[: -len(order) % world_size]])[rank::world_size]
        indices = torch.split(order, self.batch_size)[: len(self)]
        for stored, index in zip(self._cropped(indices, generator), indices, strict=True):
            x = as_float(stored)
            if self._crop_padding:
                x = random_crop(x, self._crop_padding, generator)
            if self._flip:
                x = random_flip(x, generator)
            yield x, self._y[index]

    def _stored(self, indices: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield batches as they are stored."""
        if isinstance(self._x, ImageFiles):
            return self._x.batches(indices)
        return map(self._x.__getitem__, indices)

    def _cropped(self, indices: Sequence[Tensor], generator: Generator) -> Iterator[Tensor]:
        """Yield batches as they are stored or, with ``crop_area``, random parts of the images."""
        if self._crop_area is None or not isinstance(self._x, ImageFiles):
            return self._stored(indices)
        # A separate generator, so that reading ahead does not change the shifts and flips.
        seed = int(torch.randint(2**63 - 1, (), generator=generator))
        separate = torch.Generator().manual_seed(seed)
        return self._x.random_batches(indices, least=self._crop_area, generator=separate)
