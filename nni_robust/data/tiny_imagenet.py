"""Tiny-ImageNet, read from its own folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from nni_robust.data.folder import labelled_images
from nni_robust.data.image import ImageFiles, Images
from nni_robust.data.module import StoredDataModule


def read_lines(path: Path) -> list[str]:
    """Read a text file of the archive."""
    if not path.is_file():
        raise ValueError(
            "root must be a folder that holds tiny-imagenet-200, as the archive "
            f"tiny-imagenet-200.zip unpacks it, got no file {str(path)!r}."
        )
    return path.read_text(encoding="ascii", errors="replace").splitlines()


def read_annotations(folder: Path, names: Sequence[str]) -> tuple[list[str], Tensor]:
    """List the validation images and their labels: a line holds a file, its class and a box."""
    path = folder / "val_annotations.txt"
    label_of = {name: label for label, name in enumerate(names)}
    paths, labels = [], []
    for number, line in enumerate(read_lines(path), start=1):
        file, _, rest = line.partition("\t")
        name = rest.partition("\t")[0]
        if name not in label_of:
            raise ValueError(
                f"{str(path)!r} must hold a file and its class on every line, got {line!r} on "
                f"line {number}. Unpack the archive again."
            )
        paths.append(str(folder / "images" / file))
        labels.append(label_of[name])
    return paths, torch.tensor(labels)


class TinyImageNet(StoredDataModule):
    """100,000 training and 10,000 test photographs in two hundred classes, 64 x 64 pixels.

    The official validation images are the test set, since the labels of the official test images
    are secret; validation images are held out of the training images. The classes are numbered in
    the alphabetical order of their names in ``wnids.txt``. Augmentation, on by default, shifts by
    up to four pixels and mirrors. Images are read from their files every time.

    Parameters
    ----------
    root
        Folder that holds ``tiny-imagenet-200``, as the archive ``tiny-imagenet-200.zip`` unpacks
        it.
    batch_size, validation_split, seed, augment, limit
        As ``StoredDataModule``.
    """

    num_classes = 200
    image_shape = (3, 64, 64)
    augmented = True
    crop_padding = 4
    flip = True

    def _load(self) -> tuple[Images, Tensor, Images, Tensor]:
        folder = Path(self.root) / "tiny-imagenet-200"
        names = sorted(set(read_lines(folder / "wnids.txt")))
        if len(names) != self.num_classes:
            raise ValueError(
                f"{str(folder / 'wnids.txt')!r} must name {self.num_classes} classes, one a line, "
                f"got {len(names)}. Unpack the archive again."
            )
        size = self.image_shape[1]
        x, y = labelled_images(folder / "train", names, size=size, inner="images")
        paths, y_test = read_annotations(folder / "val", names)
        return x, y, ImageFiles(paths, size=size), y_test
