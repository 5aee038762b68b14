"""What every dataset shares: splits, loaders, augmentation and seeds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from torch import Generator, Tensor
from torch.nn.functional import pad

SplitName = Literal["train", "validation", "test"]

#: Seed of what must not depend on the user's seed, so that every run has the same test set.
FIXED_SEED = 0


def check_count(name: str, value: int, least: int) -> None:
    """Refuse an argument that is not a whole number of at least ``least``."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got {value!r}.")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value!r}.")


def stratified_order(y: Tensor, seed: int) -> Tensor:
    """Draw an order of the images whose every prefix is stratified.

    The k-th image of a class of n takes the place (k - 1/2) / n of the way; the images are sorted
    by place, ties at random. A prefix so shares its length among the classes as Sainte-Laguë's
    method shares seats among parties, in nearly all cases within one image of proportion.

    Parameters
    ----------
    y
        Labels, shape (N,).
    seed
        Decides which images of a class come first.

    Returns
    -------
    order
        A permutation of ``0 ... N - 1``, shape (N,).

    Examples
    --------
    >>> y = torch.tensor([0, 0, 0, 0, 1, 1])
    >>> y[stratified_order(y, seed=3)][:3].sum().item()
    1
    """
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    place = torch.empty(len(y), dtype=torch.float64)
    for label in range(int(y.max()) + 1):
        members = (y[order] == label).nonzero().squeeze(1)
        place[members] = (torch.arange(len(members), dtype=torch.float64) + 0.5) / len(members)
    return order[place.argsort(stable=True)]


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


def as_float(x: Tensor) -> Tensor:
    """Bring bytes to [0, 1]; floating-point images are there already."""
    return x.float().div_(255) if x.dtype == torch.uint8 else x


class TensorLoader:
    """Batches of a dataset that lies in memory, for plain loops and for Lightning.

    Every iteration is one epoch. Its order and its augmentation follow from ``(seed, epoch)``
    alone; the global random state is neither read nor changed.

    Parameters
    ----------
    x
        Images, shape (N, C, H, W), bytes or floating-point numbers in [0, 1].
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
    flip
        Whether to mirror images at random. Needs ``seed``.
    """

    #: Lightning tells the epoch to what a loader names as its sampler, and asks for both names.
    batch_sampler: None = None

    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        *,
        batch_size: int,
        seed: int | None = None,
        crop_padding: int = 0,
        flip: bool = False,
    ) -> None:
        check_count("batch_size", batch_size, 1)
        if seed is None and (crop_padding or flip):
            raise ValueError("crop_padding and flip are random and need a seed, got seed=None.")
        self.batch_size = batch_size
        self.epoch = 0
        self._x = x
        self._y = y
        self._seed = seed
        self._crop_padding = crop_padding
        self._flip = flip

    @property
    def sampler(self) -> TensorLoader:
        """The loader itself, which shuffles on its own."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Let the next iteration be that of epoch ``epoch``, as a resumed training needs it."""
        self.epoch = epoch

    def __len__(self) -> int:
        full, rest = divmod(len(self._x), self.batch_size)
        lone = self._seed is not None and rest == 1 and full > 0
        return full + (rest > 0) - lone

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        # The epoch is read when the first batch is asked for: Lightning calls set_epoch between.
        epoch = self.epoch
        self.epoch += 1
        if self._seed is None:
            for i in range(len(self)):
                batch = slice(i * self.batch_size, (i + 1) * self.batch_size)
                yield as_float(self._x[batch]), self._y[batch]
            return
        state = np.random.SeedSequence([self._seed, epoch]).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(state[0]))
        order = torch.randperm(len(self._x), generator=generator)
        for i in range(len(self)):
            index = order[i * self.batch_size : (i + 1) * self.batch_size]
            x = as_float(self._x[index])
            if self._crop_padding:
                x = random_crop(x, self._crop_padding, generator)
            if self._flip:
                x = random_flip(x, generator)
            yield x, self._y[index]


class RobustDataModule(LightningDataModule, ABC):  # type: ignore[misc]  # Lightning is untyped
    """A dataset in memory, divided into training, validation and test images.

    Nothing is read before the first batch is asked for, and a copy or a pickle carries the
    settings without the images. A subclass sets ``num_classes`` and ``image_shape`` and writes
    ``_load``; ``crop_padding`` and ``flip`` say what its augmentation is.

    Parameters
    ----------
    batch_size
        Images a batch, of all three loaders.
    validation_split
        Share of the training images that is held out for validation, in (0, 1).
    seed
        Seed of the split, the shuffling and the augmentation; not of the test set.
    augment
        Whether training images are augmented.
    limit
        Use this many training and validation images together, and at most as many test images,
        both stratified. At least one a class; None for all.
    """

    num_classes: int
    image_shape: tuple[int, int, int]
    crop_padding: int = 0
    flip: bool = False

    def __init__(
        self,
        *,
        batch_size: int = 128,
        validation_split: float = 0.1,
        seed: int = 0,
        augment: bool = False,
        limit: int | None = None,
    ) -> None:
        super().__init__()
        check_count("batch_size", batch_size, 1)
        check_count("seed", seed, 0)
        if limit is not None:
            check_count("limit", limit, self.num_classes)
        if not 0 < validation_split < 1:
            raise ValueError(
                f"validation_split must lie between 0 and 1, got {validation_split!r}. "
                "It is the share of the training images that is held out."
            )
        self.batch_size = batch_size
        self.validation_split = validation_split
        self.seed = seed
        self.augment = augment
        self.limit = limit
        self._splits: dict[str, tuple[Tensor, Tensor]] | None = None

    def train_dataloader(self) -> TensorLoader:
        """Make a loader of shuffled, and where set augmented, training images."""
        return TensorLoader(
            *self._split("train"),
            batch_size=self.batch_size,
            seed=self.seed,
            crop_padding=self.crop_padding if self.augment else 0,
            flip=self.flip and self.augment,
        )

    def val_dataloader(self) -> TensorLoader:
        """Make a loader of the validation images, always in the same order."""
        return TensorLoader(*self._split("validation"), batch_size=self.batch_size)

    def test_dataloader(self) -> TensorLoader:
        """Make a loader of the test images, always in the same order."""
        return TensorLoader(*self._split("test"), batch_size=self.batch_size)

    def examples(self, split: SplitName, limit: int | None = None) -> tuple[Tensor, Tensor]:
        """Give the images and labels of one split, without augmentation.

        Parameters
        ----------
        split
            ``train``, ``validation`` or ``test``.
        limit
            Give at most this many, stratified: always the same ones, and the first of those that
            a larger limit gives.

        Returns
        -------
        x, y
            Images in [0, 1], shape (N, C, H, W), and labels, shape (N,).
        """
        if limit is not None:
            check_count("limit", limit, 1)
        x, y = self._split(split)
        return as_float(x[:limit]), y[:limit]

    @abstractmethod
    def _load(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Read training images and labels, then test images and labels; images may be bytes."""

    def _split(self, name: str) -> tuple[Tensor, Tensor]:
        """Give one split as stored, every prefix of it stratified; read the dataset if need be."""
        if self._splits is None:
            self._splits = self._divide(*self._load())
        if name not in self._splits:
            raise ValueError(f"split must be one of {', '.join(self._splits)}, got {name!r}.")
        return self._splits[name]

    def _divide(
        self, x: Tensor, y: Tensor, x_test: Tensor, y_test: Tensor
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """Cut the dataset to ``limit`` and hold out the validation images."""
        self._check(x, y)
        self._check(x_test, y_test)
        order = stratified_order(y, self.seed)[: self.limit]
        order = order[stratified_order(y[order], self.seed)]  # in the shares that the cut left
        num_held_out = round(self.validation_split * len(order))
        if not 0 < num_held_out < len(order):
            raise ValueError(
                f"validation_split={self.validation_split!r} of {len(order)} images leaves no "
                "image for training or none for validation. Raise limit or move the split."
            )
        held_out, kept = order[:num_held_out], order[num_held_out:]
        test = stratified_order(y_test, FIXED_SEED)[: self.limit]
        return {
            "train": (x[kept], y[kept]),
            "validation": (x[held_out], y[held_out]),
            "test": (x_test[test], y_test[test]),
        }

    def _check(self, x: Tensor, y: Tensor) -> None:
        """Refuse files that hold something else than this dataset."""
        if x.shape != (len(y), *self.image_shape):
            raise ValueError(
                f"{type(self).__name__} must have one image of shape {self.image_shape} a label, "
                f"got images of shape {tuple(x.shape)} and {len(y)} labels."
            )
        if len(y) == 0 or y.min() < 0 or y.max() >= self.num_classes:
            raise ValueError(
                f"{type(self).__name__} must have labels from 0 to {self.num_classes - 1}, "
                f"got {sorted(set(y.tolist()))}."
            )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_splits": None, "trainer": None}
