"""ImageNet, read from folders of JPEG files."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from nni_robust.check import SettingError, below
from nni_robust.data.folder import check_class_names, class_names, labelled_images
from nni_robust.data.image import StoredImages
from nni_robust.data.module import StoredDataModule

_SHARE = 224 / 256  # as if the shorter side were resized to 256 pixels and the centre 224 used


class ImageNet(StoredDataModule):
    """1.28 million training and 50,000 test photographs in a thousand classes (ILSVRC 2012).

    The official validation images are the test set; validation images are held out from the
    training images. The classes are numbered in the alphabetical order of their folders. The centre
    of each image is resized to 224 x 224 pixels. Augmentation, on by default, resizes a random part
    of at least 8 % of the area instead, and mirrors images. Every use reads the images from their
    files.

    Parameters
    ----------
    root
        Folder that contains ``train`` and ``val``, each with one folder of images per class.
    batch_size, validation_split, seed, augment, limit
        As for :class:`RobustDataModule`.
    """

    num_classes = 1000
    image_shape = (3, 224, 224)
    augmented = True
    crop_area = 0.08
    flip = True

    def _load(self) -> tuple[StoredImages, Tensor, StoredImages, Tensor]:
        train, test = Path(self.root) / "train", Path(self.root) / "val"
        size = self.image_shape[1]
        with below("root"):
            names = class_names(train)
            if len(names) != self.num_classes:
                raise SettingError(
                    f"{str(train)!r} must hold {self.num_classes} folders of images, one per "
                    f"class, got {len(names)}. For a part of ImageNet use the dataset image_folder."
                )
            check_class_names(test, names)
            return (
                *labelled_images(train, names, size=size, share=_SHARE),
                *labelled_images(test, names, size=size, share=_SHARE),
            )
