"""Candidate operations: shapes, numbers of parameters, and which pixels they read."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from nni_robust.op import OPS, FactorizedReduce

# At c = 4 and strides 1, 2: 2 (k^2 c + c^2) of a separable convolution, k^2 c + c^2 of a dilated
# one, c^2 of a strided identity.
SIZES = {
    "none": (0, 0),
    "max_pool_3x3": (0, 0),
    "avg_pool_3x3": (0, 0),
    "skip_connect": (0, 16),
    "sep_conv_3x3": (104, 104),
    "sep_conv_5x5": (232, 232),
    "dil_conv_3x3": (52, 52),
    "dil_conv_5x5": (116, 116),
}


def count(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("size", [(8, 8), (7, 9)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", OPS)
def test_an_operation_keeps_channels_and_divides_the_size(name, stride, size, affine):
    y = OPS[name](4, stride, affine)(torch.rand(2, 4, *size))
    assert y.shape == (2, 4, -(-size[0] // stride), -(-size[1] // stride))


def test_the_operations_are_those_of_the_paper():
    assert tuple(OPS) == tuple(SIZES)  # in its order: zero, pooling, identity, convolutions


@pytest.mark.parametrize("name", OPS)
def test_an_operation_has_the_parameters_of_the_paper(name):
    assert tuple(count(OPS[name](4, s)) for s in (1, 2)) == SIZES[name]


def test_no_batch_norm_of_the_searched_form_has_weights():
    for operation in OPS.values():
        assert all(p.dim() > 1 for p in operation(4, 2).parameters())


@pytest.mark.parametrize("name", ["max_pool_3x3", "avg_pool_3x3"])
def test_pooling_is_normalised_only_in_the_searched_form(name):
    x = 5 * torch.rand(8, 4, 6, 6)
    searched, trained = OPS[name](4, 1)(x), OPS[name](4, 1, affine=True)(x)
    assert_close(searched.mean((0, 2, 3)), torch.zeros(4), atol=1e-5, rtol=0)
    assert_close(searched.std((0, 2, 3), correction=0), torch.ones(4), atol=1e-4, rtol=0)
    assert (trained.mean((0, 2, 3)) > 1).all()


def test_average_pooling_excludes_the_border():
    ones = torch.ones(1, 2, 5, 5)
    assert_close(OPS["avg_pool_3x3"](2, 1, affine=True)(ones), ones)


@pytest.mark.parametrize(
    ("name", "reach"),
    [("sep_conv_3x3", 2), ("sep_conv_5x5", 4), ("dil_conv_3x3", 2), ("dil_conv_5x5", 4)],
)
def test_a_convolution_reads_as_far_as_its_kernels_reach(name, reach):
    operation = OPS[name](2, 1).eval()
    for weight in operation.parameters():
        nn.init.ones_(weight)  # so that no ReLU is active
    x = torch.ones(1, 2, 15, 15)
    moved = x.clone()
    moved[..., 7, 7] += 1
    with torch.no_grad():
        changed = (operation(moved) != operation(x)).any(1)[0].any(0).nonzero()
    assert (changed.min().item(), changed.max().item()) == (7 - reach, 7 + reach)


def test_a_dilated_convolution_skips_every_other_pixel():
    operation = OPS["dil_conv_3x3"](1, 1).eval()
    nn.init.ones_(operation[1].weight)
    nn.init.ones_(operation[2].weight)
    x = torch.zeros(1, 1, 9, 9)
    x[..., 4, 4] = 1
    with torch.no_grad():
        seen = (operation(x) > 0)[0, 0].nonzero().tolist()
    assert seen == [[i, j] for i in (2, 4, 6) for j in (2, 4, 6)]


def test_factorized_reduce_reads_even_and_odd_positions():
    module = FactorizedReduce(1, 2).eval()
    with torch.no_grad():
        module.even.weight.fill_(1.0)
        module.odd.weight.fill_(1.0)
    x = torch.arange(16.0).view(1, 1, 4, 4)
    scale = (1 + module.norm.eps) ** -0.5
    assert_close(module(x)[0, 0], torch.tensor([[0.0, 2.0], [8.0, 10.0]]) * scale)
    assert_close(module(x)[0, 1], torch.tensor([[5.0, 7.0], [13.0, 15.0]]) * scale)


def test_factorized_reduce_needs_an_even_width():
    with pytest.raises(ValueError, match="out_channels must be even"):
        FactorizedReduce(4, 3)
