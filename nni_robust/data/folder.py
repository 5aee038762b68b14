"""Images in folders, one a class."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from nni_robust.data.image import ImageFiles, Images
from nni_robust.data.loader import check_count
from nni_robust.data.module import StoredDataModule, absolute
from nni_robust.data.split import set_test_aside

SUFFIXES = (".jpeg", ".jpg", ".png")


def class_names(folder: Path) -> list[str]:
    """Name the folders in a folder, sorted; hidden ones do not count."""
    paths = folder.iterdir() if folder.is_dir() else ()
    names = sorted(path.name for path in paths if path.is_dir() and path.name[0] != ".")
    if len(names) < 2:
        raise ValueError(
            f"{str(folder)!r} must be a folder that holds a folder of images for each of two or "
            f"more classes, got {len(names)} of them. Sort loose images into folders first."
        )
    return names


def check_class_names(folder: Path, expected: Sequence[str]) -> None:
    """Refuse a folder of other classes than those of the training images."""
    different = sorted(set(class_names(folder)) ^ set(expected))
    if different:
        raise ValueError(
            f"{str(folder)!r} must hold folders of the same classes as the training images, got "
            f"{len(different)} that only one of the two has, such as {different[0]!r}."
        )


def image_paths(folder: Path) -> list[str]:
    """List the JPEG and PNG files in a folder, sorted; hidden ones do not count."""
    entries = os.scandir(folder) if folder.is_dir() else ()
    paths = sorted(
        entry.path
        for entry in entries
        if entry.name.lower().endswith(SUFFIXES) and entry.name[0] != "."
    )
    if not paths:
        raise ValueError(
            f"{str(folder)!r} must be a folder that holds the images of a class "
            f"({', '.join(SUFFIXES)}), got none."
        )
    return paths


def labelled_images(
    folder: Path, names: Sequence[str], *, size: int, share: float = 1.0, inner: str = ""
) -> tuple[ImageFiles, Tensor]:
    """Find the images of every class; read none.

    Parameters
    ----------
    folder
        What holds a folder for each of the classes.
    names
        The names of those; the place of a name is its label.
    size, share
        As ``ImageFiles``.
    inner
        Folder inside each of them that holds the images.
    """
    paths = [image_paths(folder / name / inner) for name in names]
    sizes = torch.tensor([len(of_class) for of_class in paths])
    x = ImageFiles(list(chain(*paths)), size=size, share=share)
    return x, torch.arange(len(names)).repeat_interleave(sizes)


class ImageFolder(StoredDataModule):
    """Coloured photographs of any size, JPEG or PNG, in one folder a class.

    The classes are numbered in the order of their folders' names. Of an image, the square in the
    middle is resized to ``image_size``. Augmentation, on by default, takes a random part of at
    least 8 % of the area instead, and mirrors. Images are read from their files every time.

    Parameters
    ----------
    root
        Folder that holds one folder a class, each with its images.
    test_root
        A folder with the same class folders for the test images; None to set aside a stratified
        fifth of the images under ``root``, the same for every seed.
    image_size
        Height and width in pixels that the images are brought to, at least 8.
    batch_size, validation_split, seed, augment, limit
        As ``StoredDataModule``.
    """

    augmented = True
    crop_area = 0.08
    flip = True

    def __init__(
        self,
        *,
        root: str,
        test_root: str | None = None,
        image_size: int = 224,
        batch_size: int = 128,
        validation_split: float = 0.1,
        seed: int = 0,
        augment: bool | None = None,
        limit: int | None = None,
    ) -> None:
        check_count("image_size", image_size, 8)
        self.num_classes = len(class_names(Path(absolute(root))))
        self.image_shape = (3, image_size, image_size)
        self.image_size = image_size
        self.test_root = None if test_root is None else absolute(test_root)
        super().__init__(
            root=root,
            batch_size=batch_size,
            validation_split=validation_split,
            seed=seed,
            augment=augment,
            limit=limit,
        )

    def _load(self) -> tuple[Images, Tensor, Images, Tensor]:
        names = class_names(Path(self.root))
        x, y = labelled_images(Path(self.root), names, size=self.image_size)
        if self.test_root is None:
            return set_test_aside(x, y)
        check_class_names(Path(self.test_root), names)
        return x, y, *labelled_images(Path(self.test_root), names, size=self.image_size)
