"""Data modules: a dataset, its splits and its loaders."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from pytorch_lightning import LightningDataModule
from torch import Tensor

from nni_robust.check import SettingError, check_choice, check_count, check_seed, check_share
from nni_robust.data.image import StoredImages
from nni_robust.data.loader import Examples, TensorLoader
from nni_robust.data.split import FIXED_SEED, stratified_order

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing since Python 3.11

SplitName = Literal["train", "validation", "test"]


def absolute(path: str) -> str:
    """Return a path as an absolute path, with ``~`` expanded."""
    return str(Path(path).expanduser().absolute())


@dataclass(kw_only=True, eq=False, repr=False)
class RobustDataModule(LightningDataModule, ABC):  # type: ignore[misc]  # Lightning is untyped
    """A dataset, divided into training, validation and test images.

    The images are read when the first batch is requested. A copy or a pickle contains the settings
    but not the images.

    A subclass sets ``num_classes`` and ``image_shape`` and implements ``_load``. The class
    variables ``crop_padding``, ``crop_area`` and ``flip`` say what its augmentation does, as in
    ``TensorLoader``; ``augmented`` says whether augmentation is usual for the dataset. The fields
    of a dataclass are inherited: a subclass with further arguments declares only those.

    Parameters
    ----------
    batch_size
        Number of images per batch, at least 1, in all loaders.
    validation_split
        Share of the training images that is held out for validation, in (0, 1).
    seed
        Seed of the split, the shuffling and the augmentation, from 0 to 2^32 - 1. The test set
        does not depend on it.
    augment
        Whether training images are augmented. None for what is usual for the dataset.
    limit
        Use this many training and validation images together, and at most this many test images,
        both stratified; at least ``num_classes``. None for all images.

    Attributes
    ----------
    num_classes
        Number of classes, at least 2.
    image_shape
        Channels, height and width of an image.

    Raises
    ------
    SettingError
        If an argument is out of range. Later, when images are requested: if files are missing or
        damaged, or a split would be empty.
    """

    augmented: ClassVar[bool] = False
    crop_padding: ClassVar[int] = 0
    crop_area: ClassVar[float | None] = None
    flip: ClassVar[bool] = False

    num_classes: int = field(init=False)
    image_shape: tuple[int, int, int] = field(init=False)
    batch_size: int = 128
    validation_split: float = 0.1
    seed: int = 0
    augment: bool | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        super().__init__()
        check_count("batch_size", self.batch_size)
        check_share("validation_split", self.validation_split)
        check_seed(self.seed)
        if self.limit is not None:
            check_count("limit", self.limit, least=self.num_classes)
        if self.augment is None:
            self.augment = self.augmented
        self._splits: dict[str, tuple[StoredImages, Tensor]] | None = None

    def train_dataloader(self) -> TensorLoader:
        """Return a loader of the training images: shuffled, and augmented if ``augment`` is set."""
        return self._training_loader("train")

    def architecture_dataloader(self) -> TensorLoader:
        """Return a loader of the validation images, shuffled and augmented as for training.

        One-shot searches train the weights on training images and the architecture on these.
        """
        return self._training_loader("validation")

    def val_dataloader(self) -> TensorLoader:
        """Return a loader of the unchanged validation images, always in the same order."""
        return self._loader("validation")

    def test_dataloader(self) -> TensorLoader:
        """Return a loader of the unchanged test images, always in the same order."""
        return self._loader("test")

    def examples(self, split: SplitName, limit: int | None = None) -> tuple[Tensor, Tensor]:
        """Return the images and labels of a split in memory, without augmentation.

        Parameters
        ----------
        split
            ``train``, ``validation`` or ``test``.
        limit
            Largest number of images, at least 1, stratified. A larger limit returns the same
            images first. None for all images.

        Returns
        -------
        x, y
            Images in [0, 1], shape (N, C, H, W), float32, and labels, shape (N,), int64.
        """
        x, y = self.stored_examples(split, limit)
        return x[:], y

    def stored_examples(
        self, split: SplitName, limit: int | None = None
    ) -> tuple[Examples, Tensor]:
        """Return the same examples, but read and convert images only when they are indexed.

        Parameters
        ----------
        split, limit
            As for :meth:`examples`.

        Returns
        -------
        x, y
            Images that return values in [0, 1] when indexed, and labels, shape (N,), int64.
        """
        if limit is not None:
            check_count("limit", limit)
        x, y = self._split(split)
        return Examples(x[:limit]), y[:limit]

    def with_validation_split(self, share: float) -> Self:
        """Return the same dataset with another share of validation images.

        Parameters
        ----------
        share
            In (0, 1). The smaller of two validation sets is a part of the larger one.
        """
        check_share("validation_split", share)
        other = copy.copy(self)
        other.validation_split = share
        return other

    @abstractmethod
    def _load(self) -> tuple[StoredImages, Tensor, StoredImages, Tensor]:
        """Return training images, training labels, test images and test labels.

        The images are floating-point numbers in [0, 1], bytes, or files if they do not fit in
        memory.
        """

    def _training_loader(self, split: SplitName) -> TensorLoader:
        return self._loader(
            split,
            seed=self.seed,
            crop_padding=self.crop_padding if self.augment else 0,
            crop_area=self.crop_area if self.augment else None,
            flip=bool(self.flip and self.augment),
        )

    def _loader(self, split: SplitName, **options: Any) -> TensorLoader:
        """Return a loader of a split, which is pickled without its images."""
        return TensorLoader(
            *self._split(split),
            batch_size=self.batch_size,
            read_again=partial(self._split, split),
            **options,
        )

    def _split(self, split: SplitName) -> tuple[StoredImages, Tensor]:
        """Return a split as stored, with every prefix stratified; read the dataset if necessary."""
        check_choice("split", split, get_args(SplitName))
        if self._splits is None:
            self._splits = self._divide(*self._load())
        return self._splits[split]

    def _divide(
        self, x: StoredImages, y: Tensor, x_test: StoredImages, y_test: Tensor
    ) -> dict[str, tuple[StoredImages, Tensor]]:
        """Return the splits: cut the dataset to ``limit`` and hold out the validation images."""
        self._check(x, y)
        self._check(x_test, y_test)
        order = stratified_order(y, self.seed)[: self.limit]
        order = order[stratified_order(y[order], self.seed)]  # by the class shares after the cut
        num_held_out = round(self.validation_split * len(order))
        if not 0 < num_held_out < len(order):
            raise SettingError(
                "must leave images both for training and for validation, got "
                f"{self.validation_split!r} of {len(order)} images. Change it or use more images.",
                "validation_split",
            )
        held_out, kept = order[:num_held_out], order[num_held_out:]
        test = stratified_order(y_test, FIXED_SEED)[: self.limit]
        return {
            "train": (x[kept], y[kept]),
            "validation": (x[held_out], y[held_out]),
            "test": (x_test[test], y_test[test]),
        }

    def _check(self, x: StoredImages, y: Tensor) -> None:
        """Raise a SettingError if the files contain something other than this dataset."""
        if x.shape != (len(y), *self.image_shape):
            raise SettingError(
                f"{type(self).__name__} must have one image of shape {self.image_shape} per label, "
                f"got images of shape {tuple(x.shape)} and {len(y)} labels."
            )
        if len(y) == 0 or y.min() < 0 or y.max() >= self.num_classes:
            raise SettingError(
                f"{type(self).__name__} must have labels from 0 to {self.num_classes - 1}, "
                f"got {sorted(set(y.tolist()))}."
            )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_splits": None, "trainer": None}


@dataclass(kw_only=True, eq=False, repr=False)
class StoredDataModule(RobustDataModule):
    """A dataset in files under one folder.

    Parameters
    ----------
    root
        Folder with the files; each dataset says which ones. ``~`` is expanded.
    batch_size, validation_split, seed, augment, limit
        As for :class:`RobustDataModule`.
    """

    root: str

    def __post_init__(self) -> None:
        super().__post_init__()
        self.root = absolute(self.root)
