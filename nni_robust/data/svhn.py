"""Street View House Numbers, read from their own files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nni_robust.data.module import StoredDataModule


def read_mat(path: Path) -> tuple[Tensor, Tensor]:
    """Read one file: bytes of shape (N, 3, 32, 32) and labels of shape (N,)."""
    from scipy.io import loadmat  # only this dataset needs it

    if not path.is_file():
        raise ValueError(
            f"root must be a folder that holds {path.name}, format 2 (cropped digits) of SVHN, "
            f"got no such file in {str(path.parent)!r}."
        )
    try:
        content = loadmat(path, variable_names=["X", "y"])
        pixels = content["X"].transpose(3, 2, 0, 1)  # stored as (32, 32, 3, N)
        x = torch.from_numpy(np.array(pixels, dtype=np.uint8, order="C"))
        y = torch.from_numpy(content["y"].reshape(-1).astype(np.int64))
    except Exception as error:  # a damaged file may raise nearly anything
        raise ValueError(
            f"{str(path)!r} must be a file of SVHN: {type(error).__name__}: {error}. "
            "Fetch the file again."
        ) from error
    y[y == 10] = 0  # the files count the digits from 1 to 10
    return x, y


class SVHN(StoredDataModule):
    """73,257 training and 26,032 test photographs of the ten digits, 32 x 32 pixels.

    Augmentation, on by default, shifts by up to four pixels; digits are not mirrored. The images
    stay bytes until they are used: 300 MB in memory.

    Parameters
    ----------
    root
        Folder that holds ``train_32x32.mat`` and ``test_32x32.mat``.
        ``torchvision.datasets.SVHN(root, split, download=True)`` fetches them.
    batch_size, validation_split, seed, augment, limit
        As ``StoredDataModule``.
    """

    num_classes = 10
    image_shape = (3, 32, 32)
    augmented = True
    crop_padding = 4

    def _load(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        root = Path(self.root)
        return *read_mat(root / "train_32x32.mat"), *read_mat(root / "test_32x32.mat")
