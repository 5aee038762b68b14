"""FSP matrices and distances against plain loops, symmetries and cases by hand."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from nni_robust.functional.fsp import fsp_distance, fsp_matrix


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(3)


def features(generator, channels, height=4, width=3):
    return torch.randn(2, channels, height, width, generator=generator, dtype=torch.float64)


@pytest.fixture
def cell(generator):
    """Return (entering, leaving) features, clean and attacked."""
    return [(features(generator, 3), features(generator, 5)) for _ in range(2)]


def fsp_by_loops(a, b, unit):
    images, height, width = a.shape[0], a.shape[2], a.shape[3]
    matrix = torch.zeros(images, a.shape[1], b.shape[1], dtype=a.dtype)
    for n in range(images):
        for i in range(a.shape[1]):
            for j in range(b.shape[1]):
                for s in range(height):
                    for t in range(width):
                        product = a[n, i, s, t] * b[n, j, s, t]
                        if unit:
                            square_a = sum(value**2 for value in a[n, :, s, t])
                            square_b = sum(value**2 for value in b[n, :, s, t])
                            product = product / (square_a * square_b).sqrt()
                        matrix[n, i, j] += product / (height * width)
    return matrix


@pytest.mark.parametrize("normalize", ["unit", "none"])
def test_the_matrix_equals_plain_loops(cell, normalize):
    (a, b), _ = cell
    expected = fsp_by_loops(a, b, unit=normalize == "unit")
    assert_close(fsp_matrix(a, b, normalize=normalize), expected)


@pytest.mark.parametrize("normalize", ["unit", "none"])
def test_permuting_the_positions_of_both_maps_changes_nothing(cell, generator, normalize):
    (a, b), _ = cell
    order = torch.randperm(12, generator=generator)
    moved = [f.flatten(2)[..., order].view_as(f) for f in (a, b)]
    expected = fsp_matrix(a, b, normalize=normalize)
    assert_close(fsp_matrix(*moved, normalize=normalize), expected)


def test_unit_features_do_not_depend_on_their_length_at_any_position(cell, generator):
    (a, b), _ = cell
    lengths = 0.1 + torch.rand(2, 1, 4, 3, generator=generator, dtype=torch.float64)
    assert_close(fsp_matrix(a * lengths, b * 7), fsp_matrix(a, b))


def test_literal_features_enter_bilinearly(cell):
    (a, b), _ = cell
    expected = 6 * fsp_matrix(a, b, normalize="none")
    assert_close(fsp_matrix(2 * a, 3 * b, normalize="none"), expected)


def test_a_position_without_features_counts_as_zero(cell):
    (a, b), _ = cell
    a[:, :, 0, 0] = 0
    expected = fsp_by_loops(a.flatten(2)[..., None, 1:], b.flatten(2)[..., None, 1:], unit=True)
    assert_close(fsp_matrix(a, b), expected * 11 / 12)


def test_max_pooling_matches_a_case_by_hand():
    a = torch.arange(16.0).view(1, 1, 4, 4)  # maxima of the quarters: 5, 7, 13, 15
    b = torch.tensor([1.0, 10.0, 100.0, 1000.0]).view(1, 1, 2, 2)
    expected = torch.tensor([[[(5 + 70 + 1300 + 15000) / 4]]])
    assert_close(fsp_matrix(a, b, normalize="none", pool="max"), expected)
    assert_close(fsp_matrix(b, a, normalize="none", pool="max"), expected)


def test_average_pooling_matches_a_case_by_hand():
    a = torch.arange(16.0).view(1, 1, 4, 4)  # means of the quarters: 2.5, 4.5, 10.5, 12.5
    b = torch.tensor([1.0, 10.0, 100.0, 1000.0]).view(1, 1, 2, 2)
    expected = torch.tensor([[[(2.5 + 45 + 1050 + 12500) / 4]]])
    assert_close(fsp_matrix(a, b, normalize="none", pool="avg"), expected)


@pytest.mark.parametrize(("pool", "function"), [("max", F.max_pool2d), ("avg", F.avg_pool2d)])
def test_the_larger_map_is_pooled_before_it_is_normalised(generator, pool, function):
    a, b = features(generator, 3, 8, 6), features(generator, 5)
    assert_close(fsp_matrix(a, b, pool=pool), fsp_matrix(function(a, 2), b))


@pytest.mark.parametrize("normalize", ["unit", "none"])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_equal_features_have_distance_zero(cell, normalize, reduction):
    clean, _ = cell
    distance = fsp_distance(clean, clean, normalize=normalize, reduction=reduction)
    assert torch.equal(distance, torch.zeros(2, dtype=torch.float64))


def test_the_distance_is_the_squared_frobenius_norm(cell):
    clean, attacked = cell
    difference = fsp_by_loops(*clean, unit=True) - fsp_by_loops(*attacked, unit=True)
    expected = torch.stack([matrix.norm() ** 2 for matrix in difference])
    assert_close(fsp_distance(clean, attacked), expected)
    assert_close(fsp_distance(clean, attacked, reduction="mean"), expected / 15)


def test_the_distance_is_symmetric(cell):
    clean, attacked = cell
    assert_close(fsp_distance(clean, attacked), fsp_distance(attacked, clean))


def test_the_literal_distance_grows_with_the_fourth_power_of_the_features(cell):
    # G is quadratic in the features, and the distance is quadratic in G.
    clean, attacked = cell
    scaled = [(2 * a, 2 * b) for a, b in cell]
    expected = 16 * fsp_distance(clean, attacked, normalize="none")
    assert_close(fsp_distance(*scaled, normalize="none"), expected)


def test_the_distance_of_one_image_does_not_depend_on_the_others(cell):
    clean, attacked = cell
    first = fsp_distance(*[(a[:1], b[:1]) for a, b in cell])
    assert_close(fsp_distance(clean, attacked)[:1], first)


@pytest.mark.parametrize("argument", ["normalize", "pool", "reduction"])
def test_an_unknown_name_is_refused(cell, argument):
    with pytest.raises(ValueError, match=rf"{argument} must be one of \[.*\], got 'huge'\."):
        fsp_distance(*cell, **{argument: "huge"})


def test_feature_maps_of_different_images_are_refused(cell):
    (a, b), _ = cell
    with pytest.raises(ValueError, match=r"feature maps .* of the same images, got shapes"):
        fsp_matrix(a[:1], b)


def test_maps_are_refused_if_neither_is_larger_in_both_dimensions(generator):
    a, b = features(generator, 3, 8, 3), features(generator, 5, 4, 6)
    with pytest.raises(ValueError, match=r"at least as large .* got sizes \(8, 3\) and \(4, 6\)"):
        fsp_matrix(a, b)


def test_features_of_different_cells_are_refused(cell, generator):
    clean, (a, _) = cell
    with pytest.raises(ValueError, match="clean and attacked must come from the same cell"):
        fsp_distance(clean, (a, features(generator, 6)))
