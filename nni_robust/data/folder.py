"""Images in folders, one folder per class."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from nni_robust.check import SettingError, below, check_count
from nni_robust.data.image import ImageFiles, StoredImages
from nni_robust.data.module import StoredDataModule, absolute
from nni_robust.data.split import set_test_aside

_SUFFIXES = (".jpeg", ".jpg", ".png")


def class_names(folder: Path) -> list[str]:
    """Return the sorted names of the folders in a folder, except hidden ones.

    Raises
    ------
    SettingError
        If there are fewer than two.
    """
    paths = folder.iterdir() if folder.is_dir() else ()
    names = sorted(path.name for path in paths if path.is_dir() and path.name[0] != ".")
    if len(names) < 2:
        raise SettingError(
            f"{str(folder)!r} must be a folder that holds a folder of images for each of two or "
            f"more classes, got {len(names)} of them. Sort loose images into folders first."
        )
    return names


def check_class_names(folder: Path, expected: Sequence[str]) -> None:
    """Raise a SettingError unless a folder has the same classes as the training images."""
    different = sorted(set(class_names(folder)) ^ set(expected))
    if different:
        raise SettingError(
            f"{str(folder)!r} must hold folders of the same classes as the training images, got "
            f"{len(different)} that only one of the two has, such as {different[0]!r}."
        )


def image_paths(folder: Path) -> list[str]:
    """Return the sorted paths of the JPEG and PNG files in a folder, except hidden ones.

    Raises
    ------
    SettingError
        If there are none.
    """
    entries = os.scandir(folder) if folder.is_dir() else ()
    paths = sorted(
        entry.path
        for entry in entries
        if entry.name.lower().endswith(_SUFFIXES) and entry.name[0] != "."
    )
    if not paths:
        raise SettingError(
            f"{str(folder)!r} must be a folder that holds the images of a class "
            f"({', '.join(_SUFFIXES)}), got none. Add images or remove the folder."
        )
    return paths


def labelled_images(
    folder: Path, names: Sequence[str], *, size: int, share: float = 1.0, inner: str = ""
) -> tuple[ImageFiles, Tensor]:
    """Return the images of every class and their labels, without reading an image.

    Parameters
    ----------
    folder
        Contains one folder per class.
    names
        The names of those folders; the index of a name is its label.
    size, share
        As for :class:`ImageFiles`.
    inner
        Folder inside each class folder that contains the images.

    Returns
    -------
    x, y
        The images and their labels, shape (N,).
    """
    paths = [image_paths(folder / name / inner) for name in names]
    sizes = torch.tensor([len(of_class) for of_class in paths])
    x = ImageFiles(list(chain(*paths)), size=size, share=share)
    return x, torch.arange(len(names)).repeat_interleave(sizes)


@dataclass(kw_only=True, eq=False, repr=False)
class ImageFolder(StoredDataModule):
    """Colour photographs of any size, JPEG or PNG, in one folder per class.

    The classes are numbered in the alphabetical order of their folders. The centred square of each
    image is resized to ``image_size``. Augmentation, on by default, resizes a random part of at
    least 8 % of the area instead, and mirrors images. Every use reads the images from their files.

    Parameters
    ----------
    root
        Folder that contains one folder of images per class.
    test_root
        Folder with the same class folders for the test images. None to set aside a stratified
        fifth of the images under ``root``, the same for every seed.
    image_size
        Height and width of the resized images, in pixels, at least 8.
    batch_size, validation_split, seed, augment, limit
        As for :class:`RobustDataModule`.
    """

    augmented = True
    crop_area = 0.08
    flip = True

    test_root: str | None = None
    image_size: int = 224

    def __post_init__(self) -> None:
        check_count("image_size", self.image_size, least=8)
        with below("root"):
            self.num_classes = len(class_names(Path(absolute(self.root))))
        self.image_shape = (3, self.image_size, self.image_size)
        super().__post_init__()
        if self.test_root is not None:
            self.test_root = absolute(self.test_root)

    def _load(self) -> tuple[StoredImages, Tensor, StoredImages, Tensor]:
        with below("root"):
            names = class_names(Path(self.root))
            x, y = labelled_images(Path(self.root), names, size=self.image_size)
        if self.test_root is None:
            return set_test_aside(x, y)
        with below("test_root"):
            check_class_names(Path(self.test_root), names)
            return x, y, *labelled_images(Path(self.test_root), names, size=self.image_size)
