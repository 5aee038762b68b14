"""Operations without a spatial kernel: identity, zero, and halving the resolution."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from nni_robust.check import SettingError


class FactorizedReduce(nn.Module):
    """Halve the resolution with two strided 1x1 convolutions on shifted grids.

    The first convolution reads the even positions, the second the odd ones. Each returns half of
    the channels.

    Parameters
    ----------
    in_channels
        Number of channels of the input.
    out_channels
        Number of channels of the output; even.
    affine
        Whether the batch norm has weights.

    Raises
    ------
    SettingError
        If ``out_channels`` is odd.
    """

    def __init__(self, in_channels: int, out_channels: int, affine: bool = False) -> None:
        super().__init__()
        if out_channels % 2:
            raise SettingError(
                f"must be even, since two convolutions return half of the channels each, "
                f"got {out_channels!r}. Choose an even width.",
                "out_channels",
            )
        self.even = nn.Conv2d(in_channels, out_channels // 2, 1, stride=2, bias=False)
        self.odd = nn.Conv2d(in_channels, out_channels // 2, 1, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(out_channels, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', ceil(H / 2), ceil(W / 2))."""
        x = functional.relu(x)
        height, width = x.shape[2:]
        # An odd size has one position fewer on the shifted grid: a zero border replaces it.
        shifted = functional.pad(x, (0, width % 2, 0, height % 2))[:, :, 1:, 1:]
        return self.norm(torch.cat([self.even(x), self.odd(shifted)], 1))  # type: ignore[no-any-return]


class Zero(nn.Module):
    """Zeros in the shape that every other operation would return.

    Parameters
    ----------
    channels, stride, affine
        As for all of :data:`nni_robust.op.OPS`; zeros need only the stride.
    """

    def __init__(self, channels: int, stride: int = 1, affine: bool = False) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to zeros of shape (N, C, ceil(H / stride), ceil(W / stride))."""
        return x[:, :, :: self.stride, :: self.stride] * 0.0


def skip_connect(channels: int, stride: int = 1, affine: bool = False) -> nn.Module:
    """Return the identity, which at stride 2 is a :class:`FactorizedReduce`.

    Parameters
    ----------
    channels, stride, affine
        As for all of :data:`nni_robust.op.OPS`.
    """
    return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels, affine)
