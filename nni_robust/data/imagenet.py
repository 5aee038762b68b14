"""ImageNet, read from folders of JPEG files."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from nni_robust.data.folder import check_class_names, class_names, labelled_images
from nni_robust.data.image import Images
from nni_robust.data.module import StoredDataModule

SHARE = 224 / 256  # of the shorter side, as if that were brought to 256 and 224 cut out


class ImageNet(StoredDataModule):
    """1.28 million training and 50,000 test photographs in a thousand classes (ILSVRC 2012).

    The official validation images are the test set; validation images are held out of the
    training images. The classes are numbered in the order of their folders' names. Of an image,
    the middle is brought to 224 x 224 pixels. Augmentation, on by default, takes a random part of
    at least 8 % of the area instead, and mirrors. Images are read from their files every time.

    Parameters
    ----------
    root
        Folder that holds ``train`` and ``val``, each with a folder of images a class.
    batch_size, validation_split, seed, augment, limit
        As ``StoredDataModule``.
    """

    num_classes = 1000
    image_shape = (3, 224, 224)
    augmented = True
    crop_area = 0.08
    flip = True

    def _load(self) -> tuple[Images, Tensor, Images, Tensor]:
        train, test = Path(self.root) / "train", Path(self.root) / "val"
        names = class_names(train)
        if len(names) != self.num_classes:
            raise ValueError(
                f"{str(train)!r} must hold {self.num_classes} folders of images, one a class, got "
                f"{len(names)}. For a part of ImageNet take the dataset image_folder."
            )
        check_class_names(test, names)
        size = self.image_shape[1]
        return (
            *labelled_images(train, names, size=size, share=SHARE),
            *labelled_images(test, names, size=size, share=SHARE),
        )
