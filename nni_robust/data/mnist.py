"""MNIST, read from its original files."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nni_robust.check import SettingError
from nni_robust.data.module import StoredDataModule

_FOLDER = "MNIST/raw"
_UNSIGNED_BYTES = 8  # type code of unsigned bytes in the IDX format


def read_bytes(folder: Path, name: str) -> bytes:
    """Return the content of a file, or the unpacked content of ``name.gz`` if only that exists.

    Raises
    ------
    SettingError
        If both are missing, or the packed file is damaged.
    """
    path, packed = folder / name, folder / f"{name}.gz"
    if path.is_file():
        return path.read_bytes()
    if not packed.is_file():
        raise SettingError(
            f"must be a folder that holds {_FOLDER}/{name} or {name}.gz, as torchvision "
            f"arranges MNIST, got neither in {str(folder)!r}. "
            "Download them with torchvision.datasets.MNIST(root, download=True).",
            "root",
        )
    try:
        return gzip.decompress(packed.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise SettingError(
            f"{str(packed)!r} must be a whole gzip file: {error}. Download it again."
        ) from error


def read_idx(folder: Path, name: str) -> Tensor:
    """Return the content of an IDX file of unsigned bytes, in the shape that the file says.

    The format: two zero bytes, the type code, the number of dimensions, each dimension as four
    bytes in big-endian order, then the values with the last dimension fastest.

    Raises
    ------
    SettingError
        If the file is missing or damaged.
    """
    content = read_bytes(folder, name)
    num_dimensions = content[3] if len(content) > 3 else 0
    head = 4 + 4 * num_dimensions
    shape = [int.from_bytes(content[i : i + 4], "big") for i in range(4, head, 4)]
    if content[:3] != bytes([0, 0, _UNSIGNED_BYTES]) or len(content) != head + math.prod(shape):
        raise SettingError(
            f"{str(folder / name)!r} must be a whole IDX file of unsigned bytes, got "
            f"{len(content)} bytes that begin with {content[:4].hex()!r}. Download it again."
        )
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=head).reshape(shape).copy())


class MNIST(StoredDataModule):
    """60,000 training and 10,000 test images of handwritten digits, grey, 28 x 28 pixels.

    Augmentation, off by default, shifts images by up to two pixels.

    Parameters
    ----------
    root
        Folder that contains ``MNIST/raw`` with the four original files, packed (``.gz``) or not.
        ``torchvision.datasets.MNIST(root, download=True)`` creates it.
    batch_size, validation_split, seed, augment, limit
        As for :class:`RobustDataModule`.
    """

    num_classes = 10
    image_shape = (1, 28, 28)
    crop_padding = 2

    def _load(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        folder = Path(self.root) / _FOLDER
        x = read_idx(folder, "train-images-idx3-ubyte").unsqueeze(1)
        y = read_idx(folder, "train-labels-idx1-ubyte").long()
        x_test = read_idx(folder, "t10k-images-idx3-ubyte").unsqueeze(1)
        y_test = read_idx(folder, "t10k-labels-idx1-ubyte").long()
        return x, y, x_test, y_test
