"""Images in files: the boxes, the pixels, the order and the errors."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from nni_robust.check import SettingError
from nni_robust.data import ImageFiles, TensorLoader


def save(path, pixels, mode="RGB"):
    Image.fromarray(np.asarray(pixels, dtype=np.uint8)).convert(mode).save(path)
    return str(path)


@pytest.fixture(scope="module")
def numbered(tmp_path_factory):
    """Write twelve noisy images of 12 x 10 pixels; in image i every red value is 20 i."""
    folder = tmp_path_factory.mktemp("numbered")
    pixels = np.random.default_rng(0).integers(0, 256, (12, 12, 10, 3))
    pixels[..., 0] = 20 * np.arange(12)[:, None, None]
    return [save(folder / f"{i}.png", image) for i, image in enumerate(pixels)]


def numbers(x):
    return (x[:, 0].mean((1, 2)) * 255 / 20).round().long()


def test_the_centre_is_cut_out_exactly_if_its_size_does_not_change(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 12, 3))
    x = ImageFiles([save(tmp_path / "a.png", pixels)], size=4, share=0.5).read()
    assert x.dtype == torch.uint8
    expected = torch.tensor(pixels[2:6, 4:8]).permute(2, 0, 1)[None]
    assert_close(x, expected.byte(), rtol=0, atol=0)


def test_halving_a_ramp_gives_the_means_of_its_neighbours(tmp_path):
    ramp = np.broadcast_to(8 * np.arange(16)[:, None], (16, 16, 3))  # by column
    x = ImageFiles([save(tmp_path / "a.png", ramp)], size=8).read()
    expected = 8 * (2 * torch.arange(8) + 0.5)
    assert_close(x[0, :, :, 1:-1].float(), expected[1:-1].expand(3, 8, 6), rtol=0, atol=0)


@pytest.mark.parametrize(("mode", "suffix"), [("L", "png"), ("P", "png"), ("L", "jpg")])
def test_grey_images_become_three_equal_channels(tmp_path, mode, suffix):
    path = save(tmp_path / f"a.{suffix}", np.full((8, 8, 3), 51), mode)
    x = ImageFiles([path], size=8).read()
    assert_close(x, torch.full((1, 3, 8, 8), 51, dtype=torch.uint8), rtol=0, atol=1)


def test_indexing_files_agrees_with_indexing_their_tensor(numbered):
    files = ImageFiles(numbered, size=10)
    x = files.read()
    assert files.shape == x.shape == (12, 3, 10, 10)
    for index in (torch.tensor([7, 2, 2]), slice(5), slice(None)):
        assert_close(files[index].read(), x[index], rtol=0, atol=0)
        assert files[index].shape == x[index].shape


@pytest.mark.parametrize("threads", [1, 3])
def test_a_loader_of_files_agrees_with_a_loader_of_their_tensor(numbered, threads, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    files = ImageFiles(numbered, size=10)
    y = torch.arange(12)
    for settings in ({}, {"seed": 3, "crop_padding": 2, "flip": True}):
        one, other = (TensorLoader(x, y, batch_size=5, **settings) for x in (files, files.read()))
        for _ in range(2):
            assert_close(list(one), list(other), rtol=0, atol=0)


def test_random_parts_depend_only_on_seed_and_epoch_not_on_threads(numbered, monkeypatch):
    def epochs(num_threads, first):
        monkeypatch.setattr(torch, "get_num_threads", lambda: num_threads)
        x, y = ImageFiles(numbered, size=6), torch.arange(12)
        loader = TensorLoader(x, y, batch_size=2, seed=1, crop_area=0.1, flip=True)
        loader.sampler.set_epoch(first)
        return [list(loader) for _ in range(2)]

    one, two = epochs(1, 0)
    again, _ = epochs(4, 1)
    assert_close(again, two, rtol=0, atol=0)
    assert not torch.equal(torch.cat([x for x, _ in one]), torch.cat([x for x, _ in two]))


def test_random_parts_keep_their_labels_and_differ_from_the_centre(numbered):
    x, y = ImageFiles(numbered, size=6), torch.arange(12)
    loader = TensorLoader(x, y, batch_size=5, seed=1, crop_area=0.1)
    parts, labels = (torch.cat(tensors) for tensors in zip(*loader, strict=True))
    assert sorted(labels.tolist()) == list(range(12))
    assert torch.equal(numbers(parts), labels)
    middle = x.read()[labels] / 255
    assert ((parts - middle).abs().amax((1, 2, 3)) > 0.05).all()


@pytest.mark.parametrize("crop_area", [0.0, 1.5])
def test_an_invalid_share_of_the_area_is_refused(numbered, crop_area):
    with pytest.raises(SettingError, match=rf"crop_area must lie in \(0, 1\] .* got {crop_area}"):
        TensorLoader(
            ImageFiles(numbered, size=6), torch.arange(12),
            batch_size=2, seed=0, crop_area=crop_area,
        )  # fmt: skip


def test_random_parts_need_files_and_a_seed(numbered):
    y = torch.arange(12)
    with pytest.raises(SettingError, match=r"needs ImageFiles, got 0.5 with Tensor"):
        TensorLoader(torch.zeros(12, 3, 6, 6), y, batch_size=2, seed=0, crop_area=0.5)
    with pytest.raises(
        SettingError, match="seed must be given with crop_padding, crop_area or flip"
    ):
        TensorLoader(ImageFiles(numbered, size=6), y, batch_size=2, crop_area=0.5)


def test_a_loop_that_is_left_early_leaves_no_thread(numbered):
    before = threading.active_count()
    batches = iter(TensorLoader(ImageFiles(numbered, size=6), torch.arange(12), batch_size=2))
    next(batches)
    assert threading.active_count() > before
    del batches
    assert threading.active_count() == before


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"no image at all"),
        lambda path: path.write_bytes(path.read_bytes()[:-60]),
        lambda path: Image.new("RGB", (8, 8)).save(path, "GIF"),
        lambda path: path.unlink(),
    ],
    ids=["empty", "text", "cut short", "another format", "gone"],
)
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_damaged_image_is_named(tmp_path, damage, suffix):
    noise = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3))
    good, bad = (save(tmp_path / f"{i}.{suffix}", image) for i, image in enumerate(noise))
    damage(tmp_path / f"1.{suffix}")
    loader = TensorLoader(ImageFiles([good, bad], size=8), torch.arange(2), batch_size=1)
    with pytest.raises(SettingError, match=rf"1.{suffix}' must be a whole JPEG or PNG image: "):
        list(loader)
