"""Convolutional operations."""

from __future__ import annotations

from torch import Tensor, nn


class ReLUConvBN(nn.Sequential):
    """Carry a feature map to another channel count: ReLU, 1x1 convolution, batch norm.

    Parameters
    ----------
    in_channels, out_channels
        Channels before and after; spatial size is kept.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(in_channels, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels, affine=False),
        )


class SepConv(nn.Module):
    """Apply a depthwise-separable convolution twice.

    Each half is ReLU, depthwise 3x3, pointwise 1x1, batch norm without weights; the stride is
    that of the first half. Holds ``18 * channels + 2 * channels**2`` parameters.

    Parameters
    ----------
    channels
        Channels of input and output.
    stride
        1 keeps the spatial size, 2 halves it (rounded up).
    """

    def __init__(self, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.first = _half(channels, stride)
        self.second = _half(channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, H / stride, W / stride)."""
        return self.second(self.first(x))  # type: ignore[no-any-return]  # nn.Module is untyped


def _half(channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(channels, channels, 3, stride, padding=1, groups=channels, bias=False),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels, affine=False),
    )
