"""Images read from files: which part, which pixels, and in which order."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from nni_robust.data import ImageFiles, TensorLoader
from nni_robust.data.image import centre_box, random_box


def save(path, pixels, mode="RGB"):
    Image.fromarray(np.asarray(pixels, dtype=np.uint8)).convert(mode).save(path)
    return str(path)


@pytest.fixture(scope="module")
def numbered(tmp_path_factory):
    """Twelve noisy images of 12 x 10 pixels, image i with the red value 20 i everywhere."""
    folder = tmp_path_factory.mktemp("numbered")
    pixels = np.random.default_rng(0).integers(0, 256, (12, 12, 10, 3))
    pixels[..., 0] = 20 * np.arange(12)[:, None, None]
    return [save(folder / f"{i}.png", image) for i, image in enumerate(pixels)]


def numbers(x):
    return (x[:, 0].mean((1, 2)) * 255 / 20).round().long()


def test_the_middle_of_a_photograph_is_that_of_the_usual_resizing():
    # Shorter side to 256, middle 224 x 224: of 500 x 375, a square of 375 * 224 / 256 pixels.
    box = centre_box(500, 375, share=224 / 256)
    assert box == (85.9375, 23.4375, 414.0625, 351.5625)


@pytest.mark.parametrize(
    ("size", "draws", "box"),
    [
        ((60, 60), [(1.0, 0.5, 0.3, 0.6)], (0, 0, 60, 60)),  # all of a square
        ((100, 100), [(0.0, 0.5, 0.5, 0.5)], (40, 40, 60, 60)),  # the least, in the middle
        ((100, 50), [(0.0, 0.5, 0.0, 1.0)], (0, 50 - 200**0.5, 200**0.5, 50)),  # at a corner
        ((120, 120), [(0.0, 1.0, 0.0, 0.0)], (0, 0, 24 * (4 / 3) ** 0.5, 24 * (3 / 4) ** 0.5)),
        ((400, 100), [(1.0, 0.5, 0.0, 0.0), (0.0, 0.5, 0.0, 0.0)], (0, 0, 40, 40)),  # the second
        ((400, 100), [(1.0, 0.5, 0.0, 0.0)], (150, 0, 250, 100)),  # none fits
    ],
)
def test_a_random_part_is_the_one_drawn(size, draws, box):
    assert random_box(*size, draws=draws, least=0.04) == pytest.approx(box)


def test_random_parts_keep_to_their_bounds():
    draws = torch.rand(2000, 10, 4, generator=torch.Generator().manual_seed(0)).tolist()
    boxes = [random_box(90, 60, draws=tries, least=0.08) for tries in draws]
    left, top, right, bottom = torch.tensor(boxes, dtype=torch.float64).T
    width, height = right - left, bottom - top
    share = width * height / (90 * 60)
    ratio = width / height
    assert left.min() >= 0
    assert top.min() >= 0
    assert right.max() <= 90
    assert bottom.max() <= 60
    assert share.min() == pytest.approx(0.08, abs=0.01)
    assert share.max() == pytest.approx(8 / 9, abs=0.02)  # 80 x 60: as wide as 4/3 allows
    assert (ratio.min(), ratio.max()) == pytest.approx((3 / 4, 4 / 3), abs=0.01)
    assert abs((left / (90 - width)).mean() - 0.5) < 0.035  # five standard deviations


def test_the_middle_is_cut_out_without_a_change_where_no_size_changes(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 12, 3))
    x = ImageFiles([save(tmp_path / "a.png", pixels)], size=4, share=0.5).read()
    assert x.dtype == torch.uint8
    expected = torch.tensor(pixels[2:6, 4:8]).permute(2, 0, 1)[None]
    assert_close(x, expected.byte(), rtol=0, atol=0)


def test_halving_a_ramp_gives_the_values_between(tmp_path):
    ramp = np.broadcast_to(8 * np.arange(16)[:, None], (16, 16, 3))  # by column
    x = ImageFiles([save(tmp_path / "a.png", ramp)], size=8).read()
    expected = 8 * (2 * torch.arange(8) + 0.5)
    assert_close(x[0, :, :, 1:-1].float(), expected[1:-1].expand(3, 8, 6), rtol=0, atol=0)


@pytest.mark.parametrize(("mode", "suffix"), [("L", "png"), ("P", "png"), ("L", "jpg")])
def test_grey_images_become_three_equal_channels(tmp_path, mode, suffix):
    path = save(tmp_path / f"a.{suffix}", np.full((8, 8, 3), 51), mode)
    x = ImageFiles([path], size=8).read()
    assert_close(x, torch.full((1, 3, 8, 8), 51, dtype=torch.uint8), rtol=0, atol=1)


def test_an_index_cuts_and_orders_as_that_of_a_tensor(numbered):
    files = ImageFiles(numbered, size=10)
    x = files.read()
    assert files.shape == x.shape == (12, 3, 10, 10)
    for index in (torch.tensor([7, 2, 2]), slice(5), slice(None)):
        assert_close(files[index].read(), x[index], rtol=0, atol=0)
        assert files[index].shape == x[index].shape


@pytest.mark.parametrize("threads", [1, 3])
def test_a_loader_of_files_gives_what_one_of_tensors_gives(numbered, threads, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    files = ImageFiles(numbered, size=10)
    y = torch.arange(12)
    for settings in ({}, {"seed": 3, "crop_padding": 2, "flip": True}):
        one, other = (TensorLoader(x, y, batch_size=5, **settings) for x in (files, files.read()))
        for _ in range(2):
            assert_close(list(one), list(other), rtol=0, atol=0)


def test_random_parts_follow_from_seed_and_epoch_whatever_the_threads(numbered, monkeypatch):
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


def test_random_parts_keep_their_labels_and_differ_from_the_middle(numbered):
    x, y = ImageFiles(numbered, size=6), torch.arange(12)
    loader = TensorLoader(x, y, batch_size=5, seed=1, crop_area=0.1)
    parts, labels = (torch.cat(tensors) for tensors in zip(*loader, strict=True))
    assert sorted(labels.tolist()) == list(range(12))
    assert torch.equal(numbers(parts), labels)
    middle = x.read()[labels] / 255
    assert ((parts - middle).abs().amax((1, 2, 3)) > 0.05).all()


@pytest.mark.parametrize("crop_area", [0.0, 1.5])
def test_a_random_part_has_a_share_of_the_area(numbered, crop_area):
    with pytest.raises(ValueError, match=rf"crop_area must lie in \(0, 1\] .* got {crop_area}"):
        TensorLoader(
            ImageFiles(numbered, size=6), torch.arange(12),
            batch_size=2, seed=0, crop_area=crop_area,
        )  # fmt: skip


def test_random_parts_need_files_and_a_seed(numbered):
    y = torch.arange(12)
    with pytest.raises(ValueError, match=r"goes with ImageFiles, got 0.5 with Tensor"):
        TensorLoader(torch.zeros(12, 3, 6, 6), y, batch_size=2, seed=0, crop_area=0.5)
    with pytest.raises(ValueError, match="crop_area and flip are random and need a seed"):
        TensorLoader(ImageFiles(numbered, size=6), y, batch_size=2, crop_area=0.5)


def test_a_loop_that_is_left_leaves_no_thread(numbered):
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
    with pytest.raises(ValueError, match=rf"1.{suffix}' must be a whole JPEG or PNG image: "):
        list(loader)
