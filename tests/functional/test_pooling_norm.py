"""Norms of pooling against singular values, worst cases, and random pairs of feature maps."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from nni_robust.functional.pooling_norm import (
    average_pool_norm,
    max_pool_norm,
    paper_average_pool_norm,
)


@pytest.mark.parametrize(
    ("size", "window", "options"),
    [
        ((6, 6), (3, 1, 1), {"count_include_pad": False}),
        ((6, 6), (3, 2, 1), {"count_include_pad": False}),
        ((7, 5), (3, 2, 1), {"count_include_pad": True}),
        ((7, 6), (2, 2, 0), {"ceil_mode": True}),
        ((1, 1), (3, 1, 1), {"count_include_pad": False}),
    ],
    ids=str,
)
def test_average_pooling_has_the_singular_value_of_its_matrix(size, window, options):
    pixels = torch.eye(size[0] * size[1], dtype=torch.float64).view(-1, 1, *size)
    matrix = F.avg_pool2d(pixels, *window, **options).flatten(1)
    true = torch.linalg.svdvals(matrix)[0]
    found = average_pool_norm(size, *[(n, n) for n in window], **options)
    assert_close(found, true.item())


@pytest.mark.parametrize(
    ("window", "value"),
    [((3, 1, 1), 1.008), ((3, 2, 1), 0.619), ((2, 2, 0), 0.5)],
    ids=str,
)
def test_average_pooling_of_16x16_has_the_values_of_an_independent_measurement(window, value):
    found = average_pool_norm((16, 16), *[(n, n) for n in window], count_include_pad=False)
    assert_close(found, value, rtol=0, atol=5e-4)


@pytest.mark.parametrize(
    ("size", "window", "options", "value"),
    [
        ((8, 8), (3, 1, 1), {}, 3.0),
        ((8, 8), (3, 2, 1), {}, 2.0),
        ((7, 8), (3, 2, 1), {}, 2.0),
        ((8, 8), (2, 2, 0), {}, 1.0),
        ((2, 8), (3, 1, 1), {}, math.sqrt(6)),
        ((1, 1), (3, 1, 1), {}, 1.0),
        ((9, 9), (3, 1, 1), {"dilation": 2}, 3.0),
        ((6, 6), (3, 2, 0), {"ceil_mode": True}, 2.0),
    ],
    ids=str,
)
def test_max_pooling_is_worst_at_a_single_pixel(size, window, options, value):
    arguments = [(n, n) for n in window]
    pairs = {name: (n, n) if name == "dilation" else n for name, n in options.items()}
    assert max_pool_norm(size, *arguments, **pairs) == pytest.approx(value)
    pixels = torch.eye(size[0] * size[1]).view(-1, 1, *size)
    pooled = F.max_pool2d(pixels, *window, **options) - F.max_pool2d(
        torch.zeros_like(pixels), *window, **options
    )
    assert pooled.flatten(1).norm(dim=1).max().item() == pytest.approx(value)


@pytest.mark.parametrize("stride", [1, 2])
def test_max_pooling_moves_no_pair_of_maps_further_apart(stride):
    generator = torch.Generator().manual_seed(5)
    x, other, choice = (
        torch.randn(200, 1, 5, 5, generator=generator, dtype=torch.float64) for _ in range(3)
    )
    y = torch.where(choice > 1, other, x)  # pairs that differ in some pixels
    moved = (F.max_pool2d(x, 3, stride, 1) - F.max_pool2d(y, 3, stride, 1)).flatten(1).norm(dim=1)
    bound = max_pool_norm((5, 5), (3, 3), (stride, stride), (1, 1))
    assert (moved <= bound * (x - y).flatten(1).norm(dim=1) + 1e-12).all()


def test_the_papers_constant_of_average_pooling_is_the_inverse_root_of_the_stride():
    assert paper_average_pool_norm((1, 1)) == 1
    assert paper_average_pool_norm((2, 2)) == pytest.approx(1 / math.sqrt(2))
    assert paper_average_pool_norm((4, 4)) == pytest.approx(1 / 2)
