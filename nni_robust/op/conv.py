"""Convolutions: separable, dilated, 1x1."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn


class ReLUConvBN(nn.Sequential):
    """ReLU, 1x1 convolution and batch norm: changes the number of channels.

    Parameters
    ----------
    in_channels, out_channels
        Number of channels before and after; the spatial size is kept.
    affine
        Whether the batch norm has weights.
    """

    def __init__(self, in_channels: int, out_channels: int, affine: bool = False) -> None:
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(in_channels, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels, affine=affine),
        )


class SepConv(nn.Sequential):
    """Two depthwise-separable convolutions.

    Each is ReLU, depthwise k x k, pointwise 1x1, batch norm; only the first has the stride. Without
    the batch norms they have ``2 * (k**2 * channels + channels**2)`` parameters.

    Parameters
    ----------
    channels, stride, affine
        As for all of :data:`nni_robust.op.OPS`.
    kernel_size
        Side k of the depthwise kernels; odd.
    """

    def __init__(
        self, channels: int, stride: int = 1, affine: bool = False, *, kernel_size: int = 3
    ) -> None:
        first = _separable(channels, stride, affine, kernel_size=kernel_size)
        second = _separable(channels, 1, affine, kernel_size=kernel_size)
        super().__init__(OrderedDict(first=first, second=second))


class DilConv(nn.Sequential):
    """One depthwise-separable convolution of dilation 2.

    It is ReLU, depthwise k x k, pointwise 1x1, batch norm. Without the batch norm it has
    ``k**2 * channels + channels**2`` parameters.

    Parameters
    ----------
    channels, stride, affine
        As for all of :data:`nni_robust.op.OPS`.
    kernel_size
        Side k of the depthwise kernels; odd. They span 2k - 1 positions.
    """

    def __init__(
        self, channels: int, stride: int = 1, affine: bool = False, *, kernel_size: int = 3
    ) -> None:
        super().__init__(*_separable(channels, stride, affine, kernel_size=kernel_size, dilation=2))


def _separable(
    channels: int, stride: int, affine: bool, *, kernel_size: int, dilation: int = 1
) -> nn.Sequential:
    depthwise = nn.Conv2d(
        channels,
        channels,
        kernel_size,
        stride,
        padding=dilation * (kernel_size // 2),
        dilation=dilation,
        groups=channels,
        bias=False,
    )
    pointwise = nn.Conv2d(channels, channels, 1, bias=False)
    return nn.Sequential(nn.ReLU(), depthwise, pointwise, nn.BatchNorm2d(channels, affine=affine))
