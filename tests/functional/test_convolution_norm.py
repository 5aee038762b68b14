"""Norms of convolutions against the singular values of their whole matrices."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from nni_robust.functional.convolution_norm import (
    Convolution,
    circular_norm,
    operator_norm,
    reshaped_norm,
)


def case(size, *layers):
    """Return a size, and per layer the shape of its weight and its convolution."""
    convolutions = [Convolution(**arguments) for _, arguments in layers]
    return size, [shape for shape, _ in layers], convolutions


def depthwise(kernel, stride=1, dilation=1, channels=4):
    padding = dilation * (kernel // 2)
    arguments = {"stride": stride, "padding": padding, "dilation": dilation}
    pairs = {name: (value, value) for name, value in arguments.items()}
    return (channels, 1, kernel, kernel), {**pairs, "groups": channels}


POINTWISE = (4, 4, 1, 1), {}

CASES = {
    "depthwise 3x3": case((6, 6), depthwise(3)),
    "depthwise 5x5, stride 2, odd size": case((7, 5), depthwise(5, stride=2)),
    "dilated, larger than the map": case((4, 4), depthwise(5, dilation=2)),
    "dense 3x3": case((6, 5), ((3, 2, 3, 3), {"padding": (1, 1)})),
    "dense 3x3, stride 2, no border": case((8, 7), ((3, 2, 3, 3), {"stride": (2, 2)})),
    "3x1, uneven in all": case(
        (7, 6),
        ((2, 3, 3, 1), {"stride": (2, 3), "padding": (1, 0), "dilation": (2, 1)}),
    ),
    "two groups": case((5, 5), ((6, 2, 3, 3), {"padding": (1, 1), "groups": 2})),
    "1x1": case((3, 3), POINTWISE),
    "separable": case((6, 6), depthwise(3), POINTWISE),
    "separable, stride 2, even size": case((8, 8), depthwise(3, stride=2), POINTWISE),
    "separable, dilated, stride 2": case((7, 7), depthwise(3, stride=2, dilation=2), POINTWISE),
    "three in a row": case((7, 7), depthwise(3, stride=2), POINTWISE, depthwise(5, stride=2)),
}
SINGLE = {name: values for name, values in CASES.items() if len(values[1]) == 1}


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(5)


def randn(generator, *shape):
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def row_of_convolutions(weights, convolutions, x):
    for weight, c in zip(weights, convolutions, strict=True):
        x = F.conv2d(x, weight, None, c.stride, c.padding, c.dilation, c.groups)
    return x


def singular_value(function, channels, size):
    """Return the largest singular value of a linear map of images, from its whole matrix."""
    basis = torch.eye(channels * size[0] * size[1], dtype=torch.float64)
    columns = function(basis.view(-1, channels, *size)).flatten(1)
    return torch.linalg.svdvals(columns)[0]


def draw(generator, values, maps=2):
    """Return size, convolutions, random weights, random vectors and true norms of a case."""
    size, shapes, convolutions = values
    weights = [randn(generator, maps, *shape) for shape in shapes]
    channels = shapes[0][1] * convolutions[0].groups
    vectors = randn(generator, maps, channels, *size)
    true = [
        singular_value(
            lambda x, b=b: row_of_convolutions([w[b] for w in weights], convolutions, x),
            channels,
            size,
        )
        for b in range(maps)
    ]
    return size, convolutions, weights, vectors, torch.stack(true)


@pytest.mark.parametrize("name", CASES)
def test_power_iteration_finds_the_singular_value_of_the_whole_matrix(generator, name):
    _, convolutions, weights, vectors, true = draw(generator, CASES[name])
    norms, v = operator_norm(weights, convolutions, vectors, iterations=1000)
    assert_close(norms, true, rtol=1e-3, atol=0)
    for b in range(2):  # the map stretches the vector by the norm
        y = row_of_convolutions([w[b] for w in weights], convolutions, v[b : b + 1])
        assert_close(y.norm() / v[b].norm(), true[b], rtol=1e-2, atol=0)


@pytest.mark.parametrize("name", CASES)
def test_an_estimate_grows_and_stays_below_the_norm(generator, name):
    _, convolutions, weights, vectors, true = draw(generator, CASES[name])
    last = torch.zeros(2, dtype=torch.float64)
    for _ in range(5):
        norms, vectors = operator_norm(weights, convolutions, vectors, iterations=2)
        assert (norms >= last - 1e-12).all()
        assert (norms <= true + 1e-9).all()
        last = norms


def test_an_iteration_continues_where_the_last_one_ended(generator):
    _, convolutions, weights, vectors, _ = draw(generator, CASES["separable"])
    whole = operator_norm(weights, convolutions, vectors, iterations=7)
    _, middle = operator_norm(weights, convolutions, vectors, iterations=3)
    assert_close(operator_norm(weights, convolutions, middle, iterations=4), whole)


def test_maps_in_one_batch_do_not_see_each_other(generator):
    _, convolutions, weights, vectors, _ = draw(generator, CASES["three in a row"], maps=3)
    norms, _ = operator_norm(weights, convolutions, vectors, iterations=5)
    for b in range(3):
        one = [w[b : b + 1] for w in weights]
        alone, _ = operator_norm(one, convolutions, vectors[b : b + 1], iterations=5)
        assert_close(alone[0], norms[b])


@pytest.mark.parametrize("scale", [0.0, 1e-12])
def test_a_map_that_is_zero_or_tiny_has_its_norm(generator, scale):
    _, convolutions, weights, vectors, true = draw(generator, CASES["separable"])
    weights, vectors = [w.float() for w in weights], vectors.float()
    weights = [weights[0] * torch.tensor([scale, 1]).view(2, 1, 1, 1, 1), weights[1]]
    norms, vectors = operator_norm(weights, convolutions, vectors, iterations=200)
    expected = true.float() * torch.tensor([scale, 1])
    assert_close(norms, expected, rtol=1e-3, atol=0)
    assert vectors.isfinite().all()
    assert_close(vectors.flatten(1).norm(dim=1), torch.ones(2))


def test_a_map_that_was_zero_is_measured_when_it_grows(generator):
    _, convolutions, weights, vectors, true = draw(generator, CASES["separable"])
    zero = [torch.zeros_like(w) for w in weights]
    _, vectors = operator_norm(zero, convolutions, vectors, iterations=3)
    norms, _ = operator_norm(weights, convolutions, vectors, iterations=300)
    assert_close(norms, true, rtol=1e-3, atol=0)


@pytest.mark.parametrize("name", SINGLE)
def test_the_closed_form_bounds_the_singular_value(generator, name):
    size, convolutions, weights, _, true = draw(generator, SINGLE[name], maps=4)
    assert (circular_norm(weights[0], convolutions[0], size) >= true - 1e-9).all()


@pytest.mark.parametrize(
    ("shape", "arguments"),
    [
        ((4, 1, 3, 3), {"groups": 4}),
        ((4, 1, 3, 3), {"groups": 4, "dilation": (2, 1)}),
        ((3, 2, 3, 1), {}),
        ((6, 2, 1, 3), {"groups": 2}),
    ],
    ids=str,
)
def test_the_closed_form_is_the_norm_on_a_torus(generator, shape, arguments):
    convolution = Convolution(**arguments)
    (dh, dw), (kh, kw) = convolution.dilation, shape[2:]
    weight = randn(generator, 1, *shape)

    def on_a_torus(x):
        x = F.pad(x, (0, dw * (kw - 1), 0, dh * (kh - 1)), mode="circular")
        return row_of_convolutions([weight[0]], [convolution], x)

    # Maps of 3x4 need a torus of this size, so that no kernel wraps round onto them.
    torus = 3 + dh * (kh - 1), 4 + dw * (kw - 1)
    true = singular_value(on_a_torus, shape[1] * convolution.groups, torus)
    found = circular_norm(weight, convolution, (3, 4))
    # An axis along which the kernel is 1 needs no frequencies: they are all equal.
    assert_close(found[0], true)


def test_a_separable_convolution_is_slightly_below_the_largest_of_its_frequencies(generator):
    size, channels = (16, 16), 4
    weights = [randn(generator, 1, 4, 1, 3, 3), randn(generator, 1, 4, 4, 1, 1)]
    convolutions = [Convolution(padding=(1, 1), groups=channels), Convolution()]
    spectrum = torch.fft.fft2(weights[0][0, :, 0], s=(64, 64))  # (C, 64, 64)
    matrices = weights[1][0, :, :, 0, 0] * spectrum.permute(1, 2, 0)[:, :, None]
    above = torch.linalg.svdvals(matrices).max()
    vectors = randn(generator, 1, channels, *size)
    (norm,), _ = operator_norm(weights, convolutions, vectors, iterations=300)
    assert 0.9 * above < norm < above


def test_a_depthwise_weight_is_reshaped_to_channels_times_kernel(generator):
    weight = randn(generator, 2, 4, 1, 3, 3)
    for b in range(2):
        rows = torch.stack([kernel[0].flatten() for kernel in weight[b]])  # (4, 9)
        assert_close(reshaped_norm(weight)[b], torch.linalg.svdvals(rows)[0])


def test_the_reshaped_norm_is_no_bound():
    ones = torch.ones(1, 1, 1, 3, 3, dtype=torch.float64)  # adds up nine pixels
    convolution = Convolution(padding=(1, 1))
    assert_close(reshaped_norm(ones).item(), 3.0)
    assert_close(circular_norm(ones, convolution, (8, 8)).item(), 9.0)
    x = torch.ones(1, 1, 8, 8, dtype=torch.float64)
    norms, _ = operator_norm([ones], [convolution], x, iterations=100)
    assert 8 < norms.item() < 9


@pytest.mark.parametrize("name", CASES)
def test_the_output_size_is_that_of_the_convolution(generator, name):
    size, shapes, convolutions = CASES[name]
    x = torch.zeros(1, shapes[0][1] * convolutions[0].groups, *size)
    for shape, convolution in zip(shapes, convolutions, strict=True):
        expected = convolution.output_size((x.shape[2], x.shape[3]), shape[2:])
        x = row_of_convolutions([torch.zeros(shape)], [convolution], x)
        assert expected == x.shape[2:]


def test_power_iteration_needs_at_least_one_step():
    with pytest.raises(ValueError, match="iterations must be at least 1, got 0"):
        operator_norm(
            [torch.ones(1, 1, 1, 1, 1)], [Convolution()], torch.ones(1, 1, 2, 2), iterations=0
        )


def test_every_weight_needs_its_convolution():
    with pytest.raises(ValueError, match="must be pairs, at least one, got 1 weights and 2"):
        operator_norm(
            [torch.ones(1, 1, 1, 1, 1)], [Convolution()] * 2, torch.ones(1, 1, 2, 2), iterations=1
        )
