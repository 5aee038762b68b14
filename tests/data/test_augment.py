"""Random shifts, mirroring and crops."""

from __future__ import annotations

import pytest
import torch

from nni_robust.data.augment import centre_box, random_box, random_crop, random_flip


def test_a_random_crop_is_a_window_of_the_padded_image():
    x = torch.rand(200, 2, 4, 5, generator=torch.Generator().manual_seed(0))
    shifted = random_crop(x, 1, torch.Generator().manual_seed(1))
    seen = set()
    for image, result in zip(x, shifted, strict=True):
        padded = torch.zeros(2, 6, 7)
        padded[:, 1:5, 1:6] = image
        windows = {
            (i, j)
            for i in range(3)
            for j in range(3)
            if torch.equal(padded[:, i : i + 4, j : j + 5], result)
        }
        assert len(windows) == 1
        seen |= windows
    assert len(seen) == 9


def test_about_half_of_the_images_are_mirrored():
    x = torch.rand(1000, 1, 2, 3, generator=torch.Generator().manual_seed(0))
    flipped = random_flip(x, torch.Generator().manual_seed(1))
    mirrored = (flipped == x[..., [2, 1, 0]]).flatten(1).all(1)
    kept = (flipped == x).flatten(1).all(1)
    assert (mirrored ^ kept).all()
    assert 420 < mirrored.sum() < 580  # five standard deviations of a fair coin


def test_the_centre_of_a_photograph_agrees_with_the_usual_resizing():
    # Resize the shorter side to 256, use the centre 224 x 224: 375 * 224 / 256 pixels of 375.
    box = centre_box(500, 375, share=224 / 256)
    assert box == (85.9375, 23.4375, 414.0625, 351.5625)


@pytest.mark.parametrize(
    ("size", "draws", "box"),
    [
        ((60, 60), [(1.0, 0.5, 0.3, 0.6)], (0, 0, 60, 60)),  # the whole square
        ((100, 100), [(0.0, 0.5, 0.5, 0.5)], (40, 40, 60, 60)),  # the smallest area, centred
        ((100, 50), [(0.0, 0.5, 0.0, 1.0)], (0, 50 - 200**0.5, 200**0.5, 50)),  # at a corner
        ((120, 120), [(0.0, 1.0, 0.0, 0.0)], (0, 0, 24 * (4 / 3) ** 0.5, 24 * (3 / 4) ** 0.5)),
        (
            (400, 100),
            [(1.0, 0.5, 0.0, 0.0), (0.0, 0.5, 0.0, 0.0)],
            (0, 0, 40, 40),
        ),  # second try
        ((400, 100), [(1.0, 0.5, 0.0, 0.0)], (150, 0, 250, 100)),  # none fits
    ],
)
def test_a_random_box_is_the_first_drawn_that_fits(size, draws, box):
    assert random_box(*size, draws=draws, least=0.04) == pytest.approx(box)


def test_random_boxes_stay_within_their_bounds():
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
