"""Small datasets on disk, written byte by byte in the published formats."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

CIFAR_SIZE = 60  # images a file
MNIST_TRAIN = 300
MNIST_TEST = 100


def python2_pickle(x: np.ndarray, labels: list[int]) -> bytes:
    """Write the opcodes of protocol 2 that Python 2 wrote into the files of CIFAR-10."""

    def size(n: int) -> bytes:
        return b"J" + struct.pack("<i", n)

    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01" + size(len(x)) + size(x.shape[1]) + b"\x86"
        b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"
        b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89T" + struct.pack("<i", x.size) + x.tobytes() + b"tb"
    )
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}(U\x04data" + array + b"U\x06labels" + numbers + b"u."


def idx(values: np.ndarray) -> bytes:
    head = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    return head + values.tobytes()


@pytest.fixture(scope="session")
def cifar_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """Pixels by file name; the folder above the files stands under ``root``."""
    rng = np.random.default_rng(0)
    root = tmp_path_factory.mktemp("cifar")
    folder = root / "cifar-10-batches-py"
    folder.mkdir()
    written = {}
    for name in [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]:
        written[name] = rng.integers(0, 256, (CIFAR_SIZE, 3072), dtype=np.uint8)
        labels = [i % 10 for i in range(CIFAR_SIZE)]
        (folder / name).write_bytes(python2_pickle(written[name], labels))
    return {"root": root, **written}


@pytest.fixture(scope="session")
def mnist_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Training files packed, test files not; image i of class i % 10 has the grey value 20 y."""
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
