"""Datasets in folders of images: their files, their labels and their errors."""

from __future__ import annotations

import shutil

import pytest
import torch

from nni_robust.attack import FGSM
from nni_robust.check import SettingError
from nni_robust.data import ImageFolder, ImageNet, TinyImageNet, image
from nni_robust.evaluator.robustness import measure_robustness

GREY = torch.zeros(3, 224, 224, dtype=torch.uint8)
SPLITS = ("train", "validation", "test")

pytestmark = pytest.mark.usefixtures("ten_classes")


def labels_seen(x):
    """Return the classes that the pixels show: those of class k are from 20 k to 20 k + 9."""
    return (x.mean((1, 2, 3)) * 255 / 20).floor().long()


@pytest.fixture
def own_imagenet(imagenet_root, tmp_path):
    return shutil.copytree(imagenet_root, tmp_path / "imagenet")


@pytest.fixture
def own_tiny(tiny_root, tmp_path):
    shutil.copytree(tiny_root, tmp_path / "tiny")
    return tmp_path / "tiny" / "tiny-imagenet-200"


def test_imagenet_classes_are_in_the_order_of_their_folders(imagenet_root):
    data = ImageNet(root=str(imagenet_root))
    for name in SPLITS:
        x, y = data.examples(name)
        assert torch.equal(labels_seen(x), y)


def test_random_parts_of_imagenet_keep_their_labels(imagenet_root):
    for x, y in ImageNet(root=str(imagenet_root), batch_size=40).train_dataloader():
        assert torch.equal(labels_seen(x), y)


def test_images_are_read_only_when_they_are_indexed(imagenet_root, monkeypatch):
    read = []
    monkeypatch.setattr(image, "read_image", lambda path, *_: read.append(path) or GREY)
    x, y = ImageNet(root=str(imagenet_root)).stored_examples("test", 20)
    assert (len(x), x.shape[0], len(y), len(read)) == (20, 20, 20, 0)
    assert x[[3, 1]].shape == (2, *GREY.shape)
    assert len(read) == 2


def test_an_evaluation_of_files_agrees_with_one_of_images_in_memory(imagenet_root):
    data = ImageFolder(root=str(imagenet_root / "train"), image_size=16)
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 16, 10))
    in_memory, stored = (
        measure_robustness(network, *images, attacks=[FGSM()], batch_size=7)
        for images in (data.examples("test"), data.stored_examples("test"))
    )
    assert in_memory.outcomes == stored.outcomes


def test_tiny_imagenet_classes_are_in_alphabetical_order(tiny_root):
    data = TinyImageNet(root=str(tiny_root))
    for name in SPLITS:
        x, y = data.examples(name)
        assert torch.equal(labels_seen(x), y)


def test_the_official_validation_images_are_the_test_set(imagenet_root, tiny_root):
    for data in (ImageNet(root=str(imagenet_root)), TinyImageNet(root=str(tiny_root))):
        assert len(data.examples("test")[1]) == 60
        assert sum(len(data.examples(name)[1]) for name in ("train", "validation")) == 240


def test_a_folder_without_test_images_sets_a_fifth_aside(imagenet_root):
    data = ImageFolder(root=str(imagenet_root / "train"), image_size=16)
    assert data.num_classes == 10
    seen = [data.examples(name) for name in SPLITS]
    assert [len(y) for _, y in seen] == [173, 19, 48]
    images = {image.numpy().tobytes() for x, _ in seen for image in x}
    assert len(images) == 240
    for x, y in seen:
        assert torch.equal(labels_seen(x), y)


def test_a_folder_of_test_images_is_the_test_set(imagenet_root):
    root, test_root = (str(imagenet_root / name) for name in ("train", "val"))
    x, y = ImageFolder(root=root, test_root=test_root, image_size=16).examples("test")
    x_expected, y_expected = ImageFolder(root=test_root, image_size=16)._load()[:2]
    assert len(y) == 60
    assert torch.equal(labels_seen(x), y)
    assert len(y_expected) == 48
    rows = {image.numpy().tobytes() for image in x}
    assert {image.numpy().tobytes() for image in x_expected.read() / 255} <= rows


def test_an_image_folder_is_resized_to_the_requested_size(imagenet_root):
    data = ImageFolder(root=str(imagenet_root / "val"), image_size=9)
    assert data.image_shape == (3, 9, 9)
    x, _ = next(iter(data.train_dataloader()))
    assert x.shape[1:] == (3, 9, 9)


def test_an_invalid_image_folder_is_refused_before_any_image_is_read(imagenet_root, tmp_path):
    with pytest.raises(
        SettingError, match=r"^root '.*nowhere' must be a folder that holds a folder of ima"
    ):
        ImageFolder(root=str(tmp_path / "nowhere"))
    with pytest.raises(SettingError, match=r"n00' must be .* two or more classes, got 0 of them"):
        ImageFolder(root=str(imagenet_root / "val" / "n00"))
    with pytest.raises(
        SettingError, match="image_size must be a whole number of at least 8, got 0"
    ):
        ImageFolder(root=str(imagenet_root / "val"), image_size=0)


def test_test_images_of_other_classes_are_refused(own_imagenet):
    (own_imagenet / "val" / "n03").rename(own_imagenet / "val" / "n77")
    message = r"root '.*val' must hold folders of the same classes .* got 2 that .* such as 'n03'"
    folder = ImageFolder(root=str(own_imagenet / "train"), test_root=str(own_imagenet / "val"))
    for data in (folder, ImageNet(root=str(own_imagenet))):
        with pytest.raises(SettingError, match=message):
            data.train_dataloader()


def test_a_class_without_images_is_named(own_imagenet):
    for path in (own_imagenet / "train" / "n04").iterdir():
        path.rename(path.with_suffix(".txt"))
    with pytest.raises(SettingError, match=r"train/n04' must .* \(.jpeg, .jpg, .png\), got none"):
        ImageNet(root=str(own_imagenet)).train_dataloader()


def test_a_part_of_imagenet_is_refused_and_image_folder_recommended(own_imagenet):
    shutil.rmtree(own_imagenet / "train" / "n09")
    with pytest.raises(
        SettingError, match=r"hold 10 folders .* got 9.* use the dataset image_folder"
    ):
        ImageNet(root=str(own_imagenet)).train_dataloader()


def test_imagenet_files_that_are_not_in_class_folders_are_refused(own_imagenet):
    for folder in list((own_imagenet / "val").iterdir()):
        for path in folder.iterdir():
            path.rename(own_imagenet / "val" / f"{folder.name}_{path.name}")
        folder.rmdir()
    with pytest.raises(SettingError, match=r"val' must .* got 0 of them. Sort loose images into"):
        ImageNet(root=str(own_imagenet)).train_dataloader()


@pytest.mark.parametrize(
    "line", ["val_3.JPEG n03 0 0 9 9\n", "val_3.JPEG\tn99\t0\t0\t9\t9\n", "\n"]
)
def test_a_damaged_line_of_tiny_imagenet_is_named(own_tiny, line):
    with (own_tiny / "val" / "val_annotations.txt").open("a") as file:
        file.write(line)
    with pytest.raises(SettingError, match=r"val_annotations.txt' must hold .* on line 61\."):
        TinyImageNet(root=str(own_tiny.parent)).train_dataloader()


def test_tiny_imagenet_with_too_few_class_names_is_refused(own_tiny):
    path = own_tiny / "wnids.txt"
    path.write_text("\n".join(path.read_text().split()[:9]))
    with pytest.raises(SettingError, match=r"wnids.txt' must name 10 classes, one per line, got 9"):
        TinyImageNet(root=str(own_tiny.parent)).train_dataloader()


def test_tiny_imagenet_without_a_class_folder_is_refused(own_tiny):
    shutil.rmtree(own_tiny / "train" / "n05")
    with pytest.raises(
        SettingError, match=r"train/n05/images' must be a folder that holds the ima"
    ):
        TinyImageNet(root=str(own_tiny.parent)).train_dataloader()
