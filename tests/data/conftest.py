"""Small datasets on disk, written byte by byte in the published formats."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from nni_robust.data import CIFAR100, ImageNet, TinyImageNet

CIFAR_SIZE = 60  # images per file
MNIST_TRAIN = 300
MNIST_TEST = 100
SVHN_TRAIN = 200
NUM_CLASSES = 10  # also for the datasets that really have more classes
FOLDER_TRAIN = 24  # images per class
FOLDER_TEST = 6


def python2_pickle(x: np.ndarray, **labels: list[int]) -> bytes:
    """Return a pickle of protocol 2 with the opcodes that Python 2 wrote into the CIFAR files."""

    def size(n: int) -> bytes:
        return b"J" + struct.pack("<i", n)

    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01" + size(len(x)) + size(x.shape[1]) + b"\x86"
        b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"
        b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89T" + struct.pack("<i", x.size) + x.tobytes() + b"tb"
    )
    numbers = b"".join(
        b"U" + bytes([len(key)]) + key.encode()
        + b"](" + b"".join(b"K" + bytes([label]) for label in values) + b"e"
        for key, values in labels.items()
    )  # fmt: skip
    return b"\x80\x02}(U\x04data" + array + numbers + b"u."


def idx(values: np.ndarray) -> bytes:
    head = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    return head + values.tobytes()


@pytest.fixture(scope="session")
def cifar_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """Return the pixels by file name, and the root folder under the key ``root``."""
    rng = np.random.default_rng(0)
    root = tmp_path_factory.mktemp("cifar")
    folder = root / "cifar-10-batches-py"
    folder.mkdir()
    written = {}
    for name in [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]:
        written[name] = rng.integers(0, 256, (CIFAR_SIZE, 3072), dtype=np.uint8)
        labels = [i % 10 for i in range(CIFAR_SIZE)]
        (folder / name).write_bytes(python2_pickle(written[name], labels=labels))
    return {"root": root, **written}


@pytest.fixture(scope="session")
def mnist_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write packed training files and unpacked test files; class y = i % 10 has grey value 20 y."""
    root = tmp_path_factory.mktemp("mnist")
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for part, n in (("train", MNIST_TRAIN), ("t10k", MNIST_TEST)):
        y = np.arange(n, dtype=np.uint8) % 10
        x = np.full((n, 28, 28), 0, np.uint8) + (20 * y)[:, None, None]
        x[:, 0, 0] = np.arange(n) % 256
        for kind, values in (("images-idx3", x), ("labels-idx1", y)):
            name, content = f"{part}-{kind}-ubyte", idx(values)
            if part == "train":
                (folder / f"{name}.gz").write_bytes(gzip.compress(content))
            else:
                (folder / name).write_bytes(content)
    return root


@pytest.fixture(scope="session")
def cifar100_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write images whose first byte is the fine label; the coarse label differs."""
    rng = np.random.default_rng(1)
    root = tmp_path_factory.mktemp("cifar100")
    folder = root / "cifar-100-python"
    folder.mkdir()
    for name, n in (("train", 200), ("test", 60)):
        x = rng.integers(0, 256, (n, 3072), dtype=np.uint8)
        fine = [i % NUM_CLASSES for i in range(n)]
        x[:, 0] = fine
        coarse = [19 - label for label in fine]
        content = python2_pickle(x, coarse_labels=coarse, fine_labels=fine)
        (folder / name).write_bytes(content)
    return root


@pytest.fixture(scope="session")
def svhn_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write images whose pixel in row 2, column 3 of the green channel is the digit."""
    rng = np.random.default_rng(2)
    root = tmp_path_factory.mktemp("svhn")
    for name, n in (("train", SVHN_TRAIN), ("test", 60)):
        digits = np.arange(n) % 10
        x = rng.integers(0, 256, (32, 32, 3, n), dtype=np.uint8)
        x[2, 3, 1] = digits
        y = np.where(digits == 0, 10, digits).astype(np.uint8)[:, None]
        savemat(root / f"{name}_32x32.mat", {"X": x, "y": y}, do_compression=True)
    return root


def paint(path: Path, label: int, rng: np.random.Generator) -> None:
    """Write a noisy image with grey values from 20 label to 20 label + 9."""
    pixels = 20 * label + rng.integers(0, 10, (16, 20, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


@pytest.fixture(scope="session")
def imagenet_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write folders ``train`` and ``val``; class k is the k-th in alphabetical order."""
    rng = np.random.default_rng(3)
    root = tmp_path_factory.mktemp("imagenet")
    for label in reversed(range(NUM_CLASSES)):
        for part, n in (("train", FOLDER_TRAIN), ("val", FOLDER_TEST)):
            for i in range(n):
                suffix = "JPEG" if i % 2 else "png"
                paint(root / part / f"n0{label}" / f"{part}_{i}.{suffix}", label, rng)
    (root / "train" / ".cache").mkdir()
    (root / "train" / "n00" / "notes.txt").write_text("no image")
    (root / "train" / "n00" / "._train_1.JPEG").write_bytes(b"no image")
    return root


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write Tiny-ImageNet with the classes of ``wnids.txt`` not in alphabetical order."""
    rng = np.random.default_rng(4)
    root = tmp_path_factory.mktemp("tiny")
    folder = root / "tiny-imagenet-200"
    annotations = []
    for label in range(NUM_CLASSES):
        for i in range(FOLDER_TRAIN):
            name = f"n0{label}"
            paint(folder / "train" / name / "images" / f"{name}_{i}.JPEG", label, rng)
        for i in range(FOLDER_TEST):
            number = NUM_CLASSES * i + label
            paint(folder / "val" / "images" / f"val_{number}.JPEG", label, rng)
            annotations.append(f"val_{number}.JPEG\tn0{label}\t0\t32\t44\t62\n")
    (folder / "val" / "val_annotations.txt").write_text("".join(annotations))
    (folder / "wnids.txt").write_text("".join(f"n0{k}\n" for k in (3, 1, 4, 0, 5, 9, 2, 6, 8, 7)))
    return root


@pytest.fixture
def ten_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reduce the large datasets to ten classes and small images."""
    for dataset in (CIFAR100, TinyImageNet, ImageNet):
        monkeypatch.setattr(dataset, "num_classes", NUM_CLASSES)
    for dataset in (TinyImageNet, ImageNet):
        monkeypatch.setattr(dataset, "image_shape", (3, 16, 16))
