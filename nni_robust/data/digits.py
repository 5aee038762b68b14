"""The handwritten digits that come with scikit-learn."""

from __future__ import annotations

import torch
from torch import Tensor

from nni_robust.data.image import StoredImages
from nni_robust.data.module import RobustDataModule
from nni_robust.data.split import set_test_aside


class Digits(RobustDataModule):
    """1,797 grey images of 8 x 8 pixels in ten classes. No download is needed.

    The dataset has no test images: a stratified fifth, the same for every seed, becomes
    the test set. Augmentation, off by default, shifts images by up to one pixel.

    Parameters
    ----------
    batch_size, validation_split, seed, augment, limit
        As for :class:`RobustDataModule`.

    Examples
    --------
    >>> x, y = Digits().examples("test")
    >>> tuple(x.shape), x.max().item()
    ((359, 1, 8, 8), 1.0)
    """

    num_classes = 10
    image_shape = (1, 8, 8)
    crop_padding = 1

    def _load(self) -> tuple[StoredImages, Tensor, StoredImages, Tensor]:
        from sklearn.datasets import load_digits  # takes a second to import

        pixels, labels = load_digits(return_X_y=True)
        x = torch.from_numpy(pixels).float().div(16).view(-1, *self.image_shape)
        y = torch.from_numpy(labels).long()
        return set_test_aside(x, y)
