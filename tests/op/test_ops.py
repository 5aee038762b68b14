"""Candidate operations: shapes and sizes."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from nni_robust.op import OPS, FactorizedReduce

SIZES = {"none": (0, 0), "skip_connect": (0, 16), "sep_conv_3x3": (104, 104)}  # stride 1, 2


@pytest.mark.parametrize("size", [(8, 8), (7, 9)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", OPS)
def test_an_operation_keeps_channels_and_divides_the_size(name, stride, size):
    y = OPS[name](4, stride)(torch.rand(2, 4, *size))
    assert y.shape == (2, 4, -(-size[0] // stride), -(-size[1] // stride))


@pytest.mark.parametrize("name", OPS)
def test_an_operation_has_the_parameters_of_the_paper(name):
    # 18c + 2c^2 of a separable convolution, c^2 of a strided identity, at c = 4.
    counts = tuple(sum(p.numel() for p in OPS[name](4, s).parameters()) for s in (1, 2))
    assert counts == SIZES[name]


def test_no_batch_norm_has_weights():
    for operation in OPS.values():
        assert all(p.dim() > 1 for p in operation(4, 2).parameters())


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
