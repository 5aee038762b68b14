"""The formats of the single datasets, and the errors for missing and damaged files."""

from __future__ import annotations

import gzip
import os
import pickle
import shutil

import numpy as np
import pytest
import torch
from scipy.io import savemat
from sklearn.datasets import load_digits
from torch.testing import assert_close

from nni_robust.check import SettingError
from nni_robust.data import (
    CIFAR10,
    CIFAR100,
    MNIST,
    SVHN,
    Digits,
    ImageNet,
    Synthetic,
    TinyImageNet,
)


@pytest.mark.parametrize(
    ("dataset", "num_classes", "image_shape"),
    [
        (MNIST, 10, (1, 28, 28)),
        (SVHN, 10, (3, 32, 32)),
        (CIFAR10, 10, (3, 32, 32)),
        (CIFAR100, 100, (3, 32, 32)),
        (TinyImageNet, 200, (3, 64, 64)),
        (ImageNet, 1000, (3, 224, 224)),
    ],
)
def test_classes_and_shapes_are_the_published_ones(dataset, num_classes, image_shape):
    data = dataset(root="nowhere")
    assert data.num_classes == num_classes
    assert data.image_shape == image_shape


def test_digits_are_the_images_of_scikit_learn():
    data = Digits()
    x = torch.cat([data.examples(name)[0] for name in ("train", "validation", "test")])
    expected = load_digits().data
    assert len(x) == 1797
    mine = sorted(map(tuple, (x.flatten(1) * 16).int().tolist()))
    assert mine == sorted(map(tuple, expected.astype(int).tolist()))


def test_cifar_pixels_are_in_the_order_of_the_format(cifar_files):
    # The format: 1024 red, 1024 green and 1024 blue values, each row by row.
    data = CIFAR10(root=str(cifar_files["root"]))
    x, _ = data.examples("test")
    original = cifar_files["test_batch"]
    place = {row.tobytes(): i for i, row in enumerate(original)}
    for image in x[:5]:
        row = original[place[(image * 255).round().byte().flatten().numpy().tobytes()]]
        assert_close(image[2, 3, 4].item(), row[2 * 1024 + 3 * 32 + 4] / 255, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("dataset", "usual"),
    [(CIFAR10, True), (CIFAR100, True), (SVHN, True), (ImageNet, True), (MNIST, False)],
)
def test_photographs_are_augmented_by_default(dataset, usual):
    assert dataset(root="nowhere").augment is usual
    for augment in (True, False):
        assert dataset(root="nowhere", augment=augment).augment is augment


def test_cifar_files_written_by_a_newer_numpy_are_read(cifar_files, tmp_path):
    shutil.copytree(cifar_files["root"], tmp_path, dirs_exist_ok=True)
    x = np.arange(20 * 3072).reshape(20, 3072).astype(np.uint8)
    content = {b"data": x, b"labels": list(range(10)) * 2}
    path = tmp_path / "cifar-10-batches-py" / "test_batch"
    path.write_bytes(pickle.dumps(content, protocol=4))
    x_test, _ = CIFAR10(root=str(tmp_path)).examples("test")
    assert {round(v) for v in (x_test[:, 0, 0, 0] * 255).tolist()} == {int(v) for v in x[:, 0]}


def cifar_with(cifar_files, tmp_path, content):
    shutil.copytree(cifar_files["root"], tmp_path, dirs_exist_ok=True)
    (tmp_path / "cifar-10-batches-py" / "data_batch_3").write_bytes(content)
    return CIFAR10(root=str(tmp_path))


class Harmful:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_cifar_file_cannot_run_code(cifar_files, tmp_path):
    target = tmp_path / "made"
    data = cifar_with(cifar_files, tmp_path, pickle.dumps(Harmful(str(target))))
    with pytest.raises(SettingError, match=r"data_batch_3' must be .* it asks for posix.mkdir"):
        data.examples("train")
    assert not target.exists()


@pytest.mark.parametrize(
    "content", [b"", b"\x80\x02}", b"nonsense", pickle.dumps({b"labels": []}), pickle.dumps([1])]
)
def test_a_damaged_cifar_file_is_named(cifar_files, tmp_path, content):
    with pytest.raises(SettingError, match="data_batch_3' must be a file of CIFAR-10"):
        cifar_with(cifar_files, tmp_path, content).examples("train")


def test_a_cifar_file_with_unknown_labels_is_refused(cifar_files, tmp_path):
    content = {b"data": np.zeros((3, 3072), np.uint8), b"labels": [0, 1, 57]}
    with pytest.raises(SettingError, match=r"CIFAR10 must have labels from 0 to 9, got .*57"):
        cifar_with(cifar_files, tmp_path, pickle.dumps(content)).examples("train")


def test_cifar_100_has_the_fine_labels(cifar100_root):
    for name in ("train", "validation", "test"):
        x, y = CIFAR100(root=str(cifar100_root), validation_split=0.5).examples(name)
        assert_close(x[:, 0, 0, 0] * 255, y.float())


def test_a_damaged_cifar_100_file_is_named(cifar100_root, tmp_path):
    shutil.copytree(cifar100_root, tmp_path, dirs_exist_ok=True)
    content = {b"data": np.zeros((3, 3072), np.uint8), b"labels": [0, 1, 2]}
    (tmp_path / "cifar-100-python" / "test").write_bytes(pickle.dumps(content))
    with pytest.raises(SettingError, match=r"python/test' must be a file of CIFAR-100: KeyError"):
        CIFAR100(root=str(tmp_path)).examples("test")


def test_label_10_of_svhn_is_the_digit_0(svhn_root):
    data = SVHN(root=str(svhn_root))
    for name in ("train", "validation", "test"):
        x, y = data.examples(name)
        assert_close(x[:, 1, 2, 3] * 255, y.float())


@pytest.mark.parametrize(
    "content", [lambda whole: b"", lambda whole: b"nonsense" * 40, lambda whole: whole[:-1000]]
)
def test_a_damaged_svhn_file_is_named(svhn_root, tmp_path, content):
    shutil.copytree(svhn_root, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "test_32x32.mat"
    path.write_bytes(content(path.read_bytes()))
    with pytest.raises(SettingError, match=r"test_32x32.mat' must be a file of SVHN: "):
        SVHN(root=str(tmp_path)).examples("train")


def test_an_svhn_file_with_unknown_labels_is_refused(svhn_root, tmp_path):
    shutil.copytree(svhn_root, tmp_path, dirs_exist_ok=True)
    x = np.zeros((32, 32, 3, 3), np.uint8)
    savemat(tmp_path / "train_32x32.mat", {"X": x, "y": np.uint8([[1], [10], [20]])})
    with pytest.raises(SettingError, match=r"SVHN must have labels from 0 to 9, got \[0, 1, 20\]"):
        SVHN(root=str(tmp_path)).examples("train")


def test_a_cifar_file_with_too_few_labels_is_refused(cifar_files, tmp_path):
    content = {b"data": np.zeros((3, 3072), np.uint8), b"labels": [0, 1]}
    with pytest.raises(SettingError, match=r"CIFAR10 must have one image of shape \(3, 32, 32\)"):
        cifar_with(cifar_files, tmp_path, pickle.dumps(content)).examples("train")


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (CIFAR10, r"holds cifar-10-batches-py/data_batch_1.* no such file .*nowhere/.*\.CIFAR10\("),
        (CIFAR100, r"holds cifar-100-python/train, .* cifar-100-python.tar.gz .*\.CIFAR100\(root"),
        (SVHN, r"holds train_32x32.mat, .* no such file in '.*/nowhere'\. .*SVHN\(root, 'train'"),
        (TinyImageNet, r"holds tiny-imagenet-200, .* got no file '.*/wnids.txt'"),
        (ImageNet, r"nowhere/train' must be a folder that holds a folder of images for each"),
        (MNIST, r"holds MNIST/raw/train-images-idx3-ubyte or .* got neither in '.*/nowhere/"),
    ],
)
def test_a_missing_file_is_named_when_it_is_needed(dataset, message, tmp_path):
    data = dataset(root=str(tmp_path / "nowhere"))
    with pytest.raises(SettingError, match=f"^root .*{message}"):
        data.train_dataloader()


def test_mnist_images_keep_their_labels(mnist_root):
    data = MNIST(root=str(mnist_root))
    for name in ("train", "test"):
        x, y = data.examples(name)
        assert_close(x[:, 0, 14, 14], 20 * y / 255)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(bytes(100))[:-12], r"idx3-ubyte.gz' must be a whole gzip file"),
        (b"plain", r"idx3-ubyte.gz' must be a whole gzip file"),
        (gzip.compress(b""), r"must be a whole IDX file .* got 0 bytes"),
        (gzip.compress(bytes([0, 0, 8, 3, 0, 0])), r"whole IDX file .* begin with '00000803'"),
        (gzip.compress(bytes([0, 0, 8, 1, 0, 0, 0, 9, 1])), r"whole IDX file .* got 9 bytes"),
        (gzip.compress(bytes([0, 0, 13, 1, 0, 0, 0, 1, 1])), r"begin with '00000d01'"),
    ],
    # The gzip header holds the time, so ids made of it would differ between xdist workers.
    ids=["cut off", "not gzip", "empty", "short header", "short content", "other type"],
)
def test_a_damaged_mnist_file_is_named(mnist_root, tmp_path, content, message):
    shutil.copytree(mnist_root, tmp_path, dirs_exist_ok=True)
    (tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte.gz").write_bytes(content)
    with pytest.raises(SettingError, match=message):
        MNIST(root=str(tmp_path)).examples("train")


@pytest.mark.parametrize("image_shape", [(3, 8, 8), (1, 5, 9)])
def test_synthetic_classes_are_separable_by_their_means(image_shape):
    data = Synthetic(num_classes=4, image_shape=image_shape, num_examples=200)
    x, y = data.examples("train")
    means = torch.stack([x[y == k].mean(0).flatten() for k in range(4)])
    x_test, y_test = data.examples("test")
    nearest = torch.cdist(x_test.flatten(1), means).argmin(1)
    assert (nearest == y_test).float().mean() > 0.95


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 1}, "num_classes must be a whole number of at least 2, got 1"),
        ({"num_examples": 5}, "num_examples must be a whole number of at least 10, got 5"),
        ({"image_shape": (8, 8)}, r"image_shape must be \(channels, height, width\), got \(8, 8\)"),
        ({"image_shape": (3, 0, 8)}, "image_shape must be a whole number of at least 1, got 0"),
    ],
)
def test_invalid_synthetic_datasets_are_refused(arguments, message):
    with pytest.raises(SettingError, match=message):
        Synthetic(**arguments)
