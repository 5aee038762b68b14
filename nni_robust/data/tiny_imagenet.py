"""Tiny-ImageNet, read from its original folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from nni_robust.check import SettingError, below
from nni_robust.data.folder import labelled_images
from nni_robust.data.image import ImageFiles, StoredImages
from nni_robust.data.module import StoredDataModule


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file of the archive.

    Raises
    ------
    SettingError
        If the file is missing.
    """
    if not path.is_file():
        raise SettingError(
            "must be a folder that holds tiny-imagenet-200, as the archive "
            f"tiny-imagenet-200.zip unpacks it, got no file {str(path)!r}. "
            "Download the archive and unpack it there.",
            "root",
        )
    return path.read_text(encoding="ascii", errors="replace").splitlines()


def read_annotations(folder: Path, names: Sequence[str]) -> tuple[list[str], Tensor]:
    """Return the paths and labels of the official validation images.

    Parameters
    ----------
    folder
        Contains ``images`` and ``val_annotations.txt``, whose lines consist of a file name, the
        name of its class and a box, separated by tabs.
    names
        The names of the classes; the index of a name is its label.

    Returns
    -------
    paths, y
        The files and their labels, shape (N,).

    Raises
    ------
    SettingError
        If the file is missing or a line is damaged.
    """
    path = folder / "val_annotations.txt"
    label_of = {name: label for label, name in enumerate(names)}
    paths, labels = [], []
    for number, line in enumerate(read_lines(path), start=1):
        file, _, rest = line.partition("\t")
        name = rest.partition("\t")[0]
        if name not in label_of:
            raise SettingError(
                f"{str(path)!r} must hold a file and its class on every line, got {line!r} on "
                f"line {number}. Unpack the archive again."
            )
        paths.append(str(folder / "images" / file))
        labels.append(label_of[name])
    return paths, torch.tensor(labels)


class TinyImageNet(StoredDataModule):
    """100,000 training and 10,000 test photographs in two hundred classes, 64 x 64 pixels.

    The official validation images are the test set, because the labels of the official test images
    are not public; validation images are held out from the training images. The classes are
    numbered in the alphabetical order of their names in ``wnids.txt``. Augmentation, on by
    default, shifts images by up to four pixels and mirrors them. Every use reads the images from
    their files.

    Parameters
    ----------
    root
        Folder that contains ``tiny-imagenet-200``, as the archive ``tiny-imagenet-200.zip``
        unpacks it.
    batch_size, validation_split, seed, augment, limit
        As for :class:`RobustDataModule`.
    """

    num_classes = 200
    image_shape = (3, 64, 64)
    augmented = True
    crop_padding = 4
    flip = True

    def _load(self) -> tuple[StoredImages, Tensor, StoredImages, Tensor]:
        folder = Path(self.root) / "tiny-imagenet-200"
        names = sorted(set(read_lines(folder / "wnids.txt")))
        if len(names) != self.num_classes:
            raise SettingError(
                f"{str(folder / 'wnids.txt')!r} must name {self.num_classes} classes, one per "
                f"line, got {len(names)}. Unpack the archive again."
            )
        size = self.image_shape[1]
        with below("root"):
            x, y = labelled_images(folder / "train", names, size=size, inner="images")
        paths, y_test = read_annotations(folder / "val", names)
        return x, y, ImageFiles(paths, size=size), y_test
