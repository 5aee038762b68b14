"""Candidate operations: modules built from ``(channels, stride)`` that keep the channel count."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from nni_robust.op.conv import SepConv
from nni_robust.op.resample import FactorizedReduce, Zero, skip_connect

__all__ = ["OPS", "FactorizedReduce", "SepConv", "Zero", "skip_connect"]

OPS: dict[str, Callable[[int, int], nn.Module]] = {
    "none": Zero,
    "skip_connect": skip_connect,
    "sep_conv_3x3": SepConv,
}
