"""Street View House Numbers, read from its original files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nni_robust.check import SettingError
from nni_robust.data.module import StoredDataModule


def read_mat(path: Path) -> tuple[Tensor, Tensor]:
    """Read one file of SVHN.

    Returns
    -------
    x, y
        Bytes, shape (N, 3, 32, 32), and the digits, shape (N,).

    Raises
    ------
    SettingError
        If the file is missing or damaged.
    """
    from scipy.io import loadmat  # only this dataset needs it

    if not path.is_file():
        raise SettingError(
            f"must be a folder that holds {path.name}, format 2 (cropped digits) of SVHN, "
            f"got no such file in {str(path.parent)!r}. "
            "Download it with "
            f"torchvision.datasets.SVHN(root, {path.name.split('_')[0]!r}, download=True).",
            "root",
        )
    try:
        content = loadmat(path, variable_names=["X", "y"])
        pixels = content["X"].transpose(3, 2, 0, 1)  # stored as (32, 32, 3, N)
        x = torch.from_numpy(np.array(pixels, dtype=np.uint8, order="C"))
        y = torch.from_numpy(content["y"].reshape(-1).astype(np.int64))
    except Exception as error:  # a damaged file may raise nearly anything
        raise SettingError(
            f"{str(path)!r} must be a file of SVHN: {type(error).__name__}: {error}. "
            "Download it again."
        ) from error
    y[y == 10] = 0  # the files label the digit 0 with 10
    return x, y


class SVHN(StoredDataModule):
    """73,257 training and 26,032 test photographs of the ten digits, 32 x 32 pixels.

    Augmentation, on by default, shifts images by up to four pixels but does not mirror them, since
    they show digits. The images are stored as bytes, 300 MB in memory.

    Parameters
    ----------
    root
        Folder that contains ``train_32x32.mat`` and ``test_32x32.mat``.
        ``torchvision.datasets.SVHN(root, split, download=True)`` downloads them.
    batch_size, validation_split, seed, augment, limit
        As for :class:`RobustDataModule`.
    """

    num_classes = 10
    image_shape = (3, 32, 32)
    augmented = True
    crop_padding = 4

    def _load(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        root = Path(self.root)
        return *read_mat(root / "train_32x32.mat"), *read_mat(root / "test_32x32.mat")
