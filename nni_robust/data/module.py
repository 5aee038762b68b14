"""What every dataset shares: splits, loaders and settings."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pytorch_lightning import LightningDataModule
from torch import Tensor

from nni_robust.data.image import Images
from nni_robust.data.loader import Examples, TensorLoader, check_count
from nni_robust.data.split import FIXED_SEED, stratified_order

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing from Python 3.11 on

SplitName = Literal["train", "validation", "test"]


def _check_share(share: float) -> float:
    if not 0 < share < 1:
        raise ValueError(
            f"validation_split must lie between 0 and 1, got {share!r}. "
            "It is the share of the training images that is held out."
        )
    return share


def absolute(path: str) -> str:
    """Write a path so that it means the same from every folder."""
    return str(Path(path).expanduser().absolute())


class RobustDataModule(LightningDataModule, ABC):  # type: ignore[misc]  # Lightning is untyped
    """A dataset, divided into training, validation and test images.

    No image is read before the first batch is asked for, and a copy or a pickle carries the
    settings without the images. A subclass sets ``num_classes`` and ``image_shape`` and writes
    ``_load``; ``crop_padding``, ``crop_area`` and ``flip`` say what its augmentation is, as in
    ``TensorLoader``, and ``augmented`` whether it is usual.

    Parameters
    ----------
    batch_size
        Images a batch, of all three loaders.
    validation_split
        Share of the training images that is held out for validation, in (0, 1).
    seed
        Seed of the split, the shuffling and the augmentation; not of the test set.
    augment
        Whether training images are augmented; None for what is usual for the dataset.
    limit
        Use this many training and validation images together, and at most as many test images,
        both stratified. At least one a class; None for all.
    """

    num_classes: int
    image_shape: tuple[int, int, int]
    augmented: bool = False
    crop_padding: int = 0
    crop_area: float | None = None
    flip: bool = False

    def __init__(
        self,
        *,
        batch_size: int = 128,
        validation_split: float = 0.1,
        seed: int = 0,
        augment: bool | None = None,
        limit: int | None = None,
    ) -> None:
        super().__init__()
        check_count("batch_size", batch_size, 1)
        check_count("seed", seed, 0)
        if limit is not None:
            check_count("limit", limit, self.num_classes)
        self.batch_size = batch_size
        self.validation_split = _check_share(validation_split)
        self.seed = seed
        self.augment = self.augmented if augment is None else augment
        self.limit = limit
        self._splits: dict[str, tuple[Images, Tensor]] | None = None

    def train_dataloader(self) -> TensorLoader:
        """Make a loader of shuffled, and where set augmented, training images."""
        return self._training_loader("train")

    def architecture_dataloader(self) -> TensorLoader:
        """Make a loader of the validation images as if they were for training.

        For searches that train weights on training images and the architecture on these.
        """
        return self._training_loader("validation")

    def val_dataloader(self) -> TensorLoader:
        """Make a loader of the validation images, always in the same order."""
        return self._loader("validation")

    def test_dataloader(self) -> TensorLoader:
        """Make a loader of the test images, always in the same order."""
        return self._loader("test")

    def examples(self, split: SplitName, limit: int | None = None) -> tuple[Tensor, Tensor]:
        """Give the images and labels of one split in memory, without augmentation.

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
        x, y = self.stored_examples(split, limit)
        return x[:], y

    def stored_examples(
        self, split: SplitName, limit: int | None = None
    ) -> tuple[Examples, Tensor]:
        """Give the same images and labels, the images in memory or in files as they are stored.

        Parameters
        ----------
        split, limit
            As for :meth:`examples`.

        Returns
        -------
        x, y
            What gives images in [0, 1] for an index, and labels, shape (N,).
        """
        if limit is not None:
            check_count("limit", limit, 1)
        x, y = self._split(split)
        return Examples(x[:limit]), y[:limit]

    def with_validation_split(self, share: float) -> Self:
        """Give the same dataset with another share held out.

        Parameters
        ----------
        share
            In (0, 1). The smaller of two validation sets is part of the larger one.
        """
        other = copy.copy(self)
        other.validation_split = _check_share(share)
        return other

    @abstractmethod
    def _load(self) -> tuple[Images, Tensor, Images, Tensor]:
        """Give training images and labels, then test images and labels.

        Images are floating-point numbers in [0, 1], bytes, or files where they do not fit in
        memory.
        """

    def _training_loader(self, name: str) -> TensorLoader:
        return self._loader(
            name,
            seed=self.seed,
            crop_padding=self.crop_padding if self.augment else 0,
            crop_area=self.crop_area if self.augment else None,
            flip=self.flip and self.augment,
        )

    def _loader(self, name: str, **options: Any) -> TensorLoader:
        """Return a loader of one split, which is pickled without its images."""
        return TensorLoader(
            *self._split(name),
            batch_size=self.batch_size,
            read_again=partial(self._split, name),
            **options,
        )

    def _split(self, name: str) -> tuple[Images, Tensor]:
        """Give one split as stored, every prefix of it stratified; read the dataset if need be."""
        if self._splits is None:
            self._splits = self._divide(*self._load())
        if name not in self._splits:
            raise ValueError(f"split must be one of {', '.join(self._splits)}, got {name!r}.")
        return self._splits[name]

    def _divide(
        self, x: Images, y: Tensor, x_test: Images, y_test: Tensor
    ) -> dict[str, tuple[Images, Tensor]]:
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

    def _check(self, x: Images, y: Tensor) -> None:
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


class StoredDataModule(RobustDataModule):
    """A dataset in files under one folder.

    Parameters
    ----------
    root
        Folder that holds the files, as the dataset says.
    batch_size, validation_split, seed, augment, limit
        As ``RobustDataModule``.
    """

    def __init__(
        self,
        *,
        root: str,
        batch_size: int = 128,
        validation_split: float = 0.1,
        seed: int = 0,
        augment: bool | None = None,
        limit: int | None = None,
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            validation_split=validation_split,
            seed=seed,
            augment=augment,
            limit=limit,
        )
        self.root = absolute(root)
