"""Candidate operations of an edge, by name."""

from __future__ import annotations

from functools import partial
from typing import Protocol

from torch import nn

from nni_robust.op.conv import DilConv, ReLUConvBN, SepConv
from nni_robust.op.pool import avg_pool_3x3, max_pool_3x3
from nni_robust.op.resample import FactorizedReduce, Zero, skip_connect

__all__ = [
    "OPS",
    "DilConv",
    "FactorizedReduce",
    "ReLUConvBN",
    "SepConv",
    "Zero",
    "avg_pool_3x3",
    "max_pool_3x3",
    "skip_connect",
]


class _Operation(Protocol):
    def __call__(self, channels: int, stride: int = 1, affine: bool = False) -> nn.Module: ...


OPS: dict[str, _Operation] = {
    "none": Zero,
    "max_pool_3x3": max_pool_3x3,
    "avg_pool_3x3": avg_pool_3x3,
    "skip_connect": skip_connect,
    "sep_conv_3x3": SepConv,
    "sep_conv_5x5": partial(SepConv, kernel_size=5),
    "dil_conv_3x3": DilConv,
    "dil_conv_5x5": partial(DilConv, kernel_size=5),
}
"""The operations by name, built from ``(channels, stride, affine)``.

All keep the number of channels. Stride 1 keeps the spatial size, stride 2 halves it (rounded up).
The searched form, ``affine=False``, has batch norms without weights, and one after each pool, which
brings its output to the scale of the other operations. The trained form, ``affine=True``, has batch
norms with weights, and none after a pool.
"""
