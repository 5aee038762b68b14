"""MNIST, read from its own files."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nni_robust.data.module import StoredDataModule

FOLDER = "MNIST/raw"
UNSIGNED_BYTES = 8  # the type code of the IDX format for them


def read_bytes(folder: Path, name: str) -> bytes:
    """Read a file, or unpack it where only ``name.gz`` is there."""
    path, packed = folder / name, folder / f"{name}.gz"
    if path.is_file():
        return path.read_bytes()
    if not packed.is_file():
        raise ValueError(
            f"root must be a folder that holds {FOLDER}/{name} or {name}.gz, as torchvision "
            f"arranges MNIST, got neither in {str(folder)!r}."
        )
    try:
        return gzip.decompress(packed.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{str(packed)!r} must be a whole gzip file: {error}.") from error


def read_idx(folder: Path, name: str) -> Tensor:
    """Read an IDX file of unsigned bytes.

    Two zero bytes, the type code and the number of dimensions; every dimension in four bytes,
    the largest byte first; then the values, the last dimension fastest.
    """
    content = read_bytes(folder, name)
    num_dimensions = content[3] if len(content) > 3 else 0
    head = 4 + 4 * num_dimensions
    shape = [int.from_bytes(content[i : i + 4], "big") for i in range(4, head, 4)]
    if content[:3] != bytes([0, 0, UNSIGNED_BYTES]) or len(content) != head + math.prod(shape):
        raise ValueError(
            f"{str(folder / name)!r} must be a whole IDX file of unsigned bytes, got "
            f"{len(content)} bytes that begin with {content[:4].hex()!r}. Fetch the file again."
        )
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=head).reshape(shape).copy())


class MNIST(StoredDataModule):
    """60,000 training and 10,000 test images of handwritten digits, grey, 28 x 28 pixels.

    Augmentation, off by default, shifts by up to two pixels.

    Parameters
    ----------
    root
        Folder that holds ``MNIST/raw`` with the four original files, packed (``.gz``) or not.
        ``torchvision.datasets.MNIST(root, download=True)`` makes one.
    batch_size, validation_split, seed, augment, limit
        As ``StoredDataModule``.
    """

    num_classes = 10
    image_shape = (1, 28, 28)
    crop_padding = 2

    def _load(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        folder = Path(self.root) / FOLDER
        x = read_idx(folder, "train-images-idx3-ubyte").unsqueeze(1)
        y = read_idx(folder, "train-labels-idx1-ubyte").long()
        x_test = read_idx(folder, "t10k-images-idx3-ubyte").unsqueeze(1)
        y_test = read_idx(folder, "t10k-labels-idx1-ubyte").long()
        return x, y, x_test, y_test
