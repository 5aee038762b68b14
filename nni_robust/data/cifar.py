"""CIFAR-10 and CIFAR-100, read from their original files."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nni_robust.check import SettingError
from nni_robust.data.module import StoredDataModule


def _make_dtype(code: bytes | str, *_flags: bool) -> np.dtype[Any]:
    """Return the dtype of an array; the files pass flags as integers, which NumPy deprecates."""
    return np.dtype(code.decode() if isinstance(code, bytes) else code)


# The three names that a pickled array needs; NumPy 2 renamed the module of the first.
_RECONSTRUCT: Callable[..., Any] = np.empty(0).__reduce__()[0]  # type: ignore[assignment]
_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): _make_dtype,
}


class ArrayUnpickler(pickle.Unpickler):
    """Read arrays, lists, dicts, numbers and strings, but run no other code that a file names."""

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        """Return the class or function of a name; raise UnpicklingError if no array needs it."""
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no array needs")
        return _ALLOWED[module, name]


def read_batch(path: Path, *, name: str, labels: bytes) -> tuple[Tensor, Tensor]:
    """Read one file of CIFAR-10 or CIFAR-100.

    Parameters
    ----------
    path
        The file.
    name
        Name of the dataset, for messages.
    labels
        Key of the labels in the file.

    Returns
    -------
    x, y
        Bytes, shape (N, 3, 32, 32), and labels, shape (N,).

    Raises
    ------
    SettingError
        If the file is missing or damaged.
    """
    if not path.is_file():
        raise SettingError(
            f"must be a folder that holds {path.parent.name}/{path.name}, as the archive "
            f"{name.lower()}-python.tar.gz unpacks it, got no such file in {str(path.parent)!r}. "
            f"Download it with torchvision.datasets.{name.replace('-', '')}(root, download=True).",
            "root",
        )
    try:
        content = ArrayUnpickler(io.BytesIO(path.read_bytes()), encoding="bytes").load()
        x = torch.from_numpy(np.array(content[b"data"], dtype=np.uint8).reshape(-1, 3, 32, 32))
        y = torch.tensor(content[labels], dtype=torch.long)
    except Exception as error:  # a damaged pickle may raise nearly anything
        raise SettingError(
            f"{str(path)!r} must be a file of {name}: {type(error).__name__}: {error}. "
            "Unpack the archive again."
        ) from error
    return x, y


class CIFAR10(StoredDataModule):
    """50,000 training and 10,000 test photographs in ten classes, 32 x 32 pixels.

    Augmentation, on by default, shifts images by up to four pixels and mirrors them. The images
    are stored as bytes, 180 MB in memory.

    Parameters
    ----------
    root
        Folder that contains ``cifar-10-batches-py``, as the archive ``cifar-10-python.tar.gz``
        unpacks it. ``torchvision.datasets.CIFAR10(root, download=True)`` creates it.
    batch_size, validation_split, seed, augment, limit
        As for :class:`RobustDataModule`.
    """

    num_classes = 10
    image_shape = (3, 32, 32)
    augmented = True
    crop_padding = 4
    flip = True

    def _load(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        read = partial(read_batch, name="CIFAR-10", labels=b"labels")
        folder = Path(self.root) / "cifar-10-batches-py"
        batches = [read(folder / f"data_batch_{i}") for i in range(1, 6)]
        x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
        return x, y, *read(folder / "test_batch")


class CIFAR100(StoredDataModule):
    """50,000 training and 10,000 test photographs in a hundred classes, 32 x 32 pixels.

    The labels are the fine ones. Augmentation and memory are as for :class:`CIFAR10`.

    Parameters
    ----------
    root
        Folder that contains ``cifar-100-python``, as the archive ``cifar-100-python.tar.gz``
        unpacks it. ``torchvision.datasets.CIFAR100(root, download=True)`` creates it.
    batch_size, validation_split, seed, augment, limit
        As for :class:`RobustDataModule`.
    """

    num_classes = 100
    image_shape = (3, 32, 32)
    augmented = True
    crop_padding = 4
    flip = True

    def _load(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        read = partial(read_batch, name="CIFAR-100", labels=b"fine_labels")
        folder = Path(self.root) / "cifar-100-python"
        return *read(folder / "train"), *read(folder / "test")
