"""Projections and random points of balls against distances, volumes and dual norms."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from nni_robust.functional.projection import (
    project_ball,
    project_image_range,
    steepest_ascent,
    uniform_in_ball,
)

SHAPE = (4, 3, 5, 5)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(7)


@pytest.fixture
def points(generator):
    x = torch.rand(SHAPE, generator=generator, dtype=torch.float64)
    x_adv = x + torch.randn(SHAPE, generator=generator, dtype=torch.float64)
    return x_adv, x


def lengths(delta, norm):
    return torch.linalg.vector_norm(delta.flatten(1), math.inf if norm == "linf" else 2, dim=1)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_projected_point_lies_on_the_ball(points, norm):
    x_adv, x = points
    projected = project_ball(x_adv, x, norm=norm, epsilon=0.3)
    assert_close(lengths(projected - x, norm), torch.full((4,), 0.3, dtype=torch.float64))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_point_inside_the_ball_stays(points, norm):
    x_adv, x = points
    assert_close(project_ball(x_adv, x, norm=norm, epsilon=100.0), x_adv)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_no_sampled_point_of_the_ball_is_nearer_than_the_projection(points, generator, norm):
    x_adv, x = points
    projected = project_ball(x_adv, x, norm=norm, epsilon=0.3)
    nearest = lengths(x_adv - projected, "l2")
    for _ in range(50):
        # Both balls are convex: towards any other point of the ball the distance only grows.
        other = uniform_in_ball(x, norm=norm, epsilon=0.3, generator=generator)
        nearby = projected + 0.01 * (other - projected)
        assert bool((lengths(x_adv - nearby, "l2") >= nearest - 1e-12).all())


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_a_ball_of_radius_zero_is_its_centre(points, norm, offset):
    _, x = points
    assert torch.equal(project_ball(x + offset, x, norm=norm, epsilon=0.0), x)


def test_the_image_range_clips_every_pixel():
    x = torch.tensor([-0.5, 0.0, 0.25, 1.0, 1.5])
    assert torch.equal(project_image_range(x), torch.tensor([0.0, 0.0, 0.25, 1.0, 1.0]))


def test_projection_does_not_change_its_arguments(points):
    x_adv, x = points
    before = x_adv.clone(), x.clone()
    for norm in ("linf", "l2"):
        project_ball(x_adv, x, norm=norm, epsilon=0.3)
    project_image_range(x_adv)
    assert torch.equal(x_adv, before[0])
    assert torch.equal(x, before[1])


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_uniform_points_fill_the_ball_by_volume(generator, norm):
    # The share of the volume within r is (r / epsilon)^D, and it is uniform. The 0.1 % critical
    # value of the Kolmogorov-Smirnov test is 1.95 / sqrt(N).
    x = torch.zeros(4000, 1, 1, 3, dtype=torch.float64)
    drawn = uniform_in_ball(x, norm=norm, epsilon=0.5, generator=generator)
    share = (lengths(drawn, norm) / 0.5).pow(3).sort().values
    expected = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    assert float((share - expected).abs().max()) < 1.95 / math.sqrt(4000)


@pytest.mark.parametrize(("norm", "variance"), [("linf", 0.25 / 3), ("l2", 0.25 / 5)])
def test_uniform_points_have_the_moments_of_the_ball(generator, norm, variance):
    # Per coordinate: epsilon^2 / 3 in the cube, epsilon^2 / (D + 2) in the ball, mean 0.
    x = torch.zeros(20_000, 1, 1, 3, dtype=torch.float64)
    drawn = uniform_in_ball(x, norm=norm, epsilon=0.5, generator=generator).flatten(1)
    assert_close(drawn.mean(0), torch.zeros(3, dtype=torch.float64), atol=0.01, rtol=0)
    covariance = torch.diag(torch.full((3,), variance, dtype=torch.float64))
    assert_close(drawn.T.cov(), covariance, atol=0.002, rtol=0)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_steepest_ascent_reaches_the_dual_norm(generator, norm):
    gradient = torch.randn(SHAPE, generator=generator, dtype=torch.float64)
    direction = steepest_ascent(gradient, norm=norm)
    dual = torch.linalg.vector_norm(gradient.flatten(1), 1 if norm == "linf" else 2, dim=1)
    assert_close(lengths(direction, norm), torch.ones(4, dtype=torch.float64))
    assert_close((gradient * direction).sum((1, 2, 3)), dual)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_steepest_ascent_does_not_depend_on_the_size_of_the_gradient(generator, norm, scale):
    gradient = torch.randn(SHAPE, generator=generator)  # float32, where the squares are 0 or inf
    direction = steepest_ascent(gradient, norm=norm)
    assert_close(steepest_ascent(gradient * scale, norm=norm), direction)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_steepest_ascent_is_zero_without_gradient(norm):
    assert torch.equal(steepest_ascent(torch.zeros(SHAPE), norm=norm), torch.zeros(SHAPE))


def test_an_unknown_norm_is_refused(points):
    with pytest.raises(ValueError, match=r"norm must be one of \['linf', 'l2'\], got 'l1'\."):
        project_ball(*points, norm="l1", epsilon=0.3)
