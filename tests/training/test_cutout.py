"""Images with a hole."""

from __future__ import annotations

import pytest
import torch

from nni_robust.training.cutout import cutout


def test_a_hole_is_one_square_of_the_given_size_clipped_at_the_border():
    x = torch.ones(400, 2, 9, 7)
    holed = cutout(x, 4, torch.Generator().manual_seed(0))
    for image in holed:
        assert torch.equal(image[0], image[1])
        rows, columns = (image[0] == 0).nonzero().T
        height, width = rows.max() - rows.min() + 1, columns.max() - columns.min() + 1
        assert len(rows) == height * width  # a full rectangle
        assert height == 4 or rows.min() == 0 or rows.max() == 8
        assert width == 4 or columns.min() == 0 or columns.max() == 6
    # A pixel in the middle is hit with probability 4/9 * 4/7.
    hit = (holed[:, 0, 4, 3] == 0).float().mean()
    assert hit.item() == pytest.approx(16 / 63, abs=0.06)


def test_cutout_does_not_change_its_input():
    x = torch.ones(2, 1, 4, 4)
    cutout(x, 2, torch.Generator().manual_seed(0))
    assert torch.equal(x, torch.ones(2, 1, 4, 4))
