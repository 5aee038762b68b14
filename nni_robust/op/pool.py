"""Pooling: maximum and average."""

from __future__ import annotations

from torch import nn


def max_pool_3x3(channels: int, stride: int = 1, affine: bool = False) -> nn.Module:
    """Return a 3x3 max pool, followed by a batch norm without weights unless ``affine``.

    Parameters
    ----------
    channels, stride, affine
        As for all of :data:`nni_robust.op.OPS`.
    """
    return _pool(nn.MaxPool2d(3, stride, padding=1), channels, affine)


def avg_pool_3x3(channels: int, stride: int = 1, affine: bool = False) -> nn.Module:
    """Return a 3x3 average pool, followed by a batch norm without weights unless ``affine``.

    Parameters
    ----------
    channels, stride, affine
        As for all of :data:`nni_robust.op.OPS`.

    Notes
    -----
    At the border the average is over the pixels inside the image.
    """
    return _pool(nn.AvgPool2d(3, stride, padding=1, count_include_pad=False), channels, affine)


def _pool(pool: nn.Module, channels: int, affine: bool) -> nn.Module:
    return pool if affine else nn.Sequential(pool, nn.BatchNorm2d(channels, affine=False))
