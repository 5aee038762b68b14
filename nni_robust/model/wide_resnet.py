"""Wide residual networks (Zagoruyko and Komodakis, 2016)."""

from __future__ import annotations

from torch import Tensor, nn

from nni_robust.check import SettingError, check_count
from nni_robust.model.block import conv, residual_stages
from nni_robust.model.network import ReferenceNetwork, Stem, check_arguments, scaled


class PreActivationBlock(nn.Module):
    """A residual block of two 3x3 convolutions, each after batch norm and ReLU.

    If the shape changes, the shortcut is a 1x1 convolution of the activated input.

    Parameters
    ----------
    in_channels, out_channels
        Channels of input and output.
    stride
        Stride of the first convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.activate = _bn_relu(in_channels)
        self.branch = nn.Sequential(
            conv(in_channels, out_channels, 3, stride=stride),
            _bn_relu(out_channels),
            conv(out_channels, out_channels, 3),
        )
        self.shortcut: nn.Conv2d | None = None
        if stride != 1 or in_channels != out_channels:
            self.shortcut = conv(in_channels, out_channels, 1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', ceil(H / stride), ceil(W / stride))."""
        activated = self.activate(x)
        kept = x if self.shortcut is None else self.shortcut(activated)
        total: Tensor = kept + self.branch(activated)
        return total


def wide_resnet(
    depth: int,
    widen: int,
    *,
    num_classes: int = 10,
    in_channels: int = 3,
    stem: Stem = "cifar",
    width: float = 1.0,
) -> ReferenceNetwork:
    """Build a wide residual network of three stages, for small images, without dropout.

    Parameters
    ----------
    depth
        Number of layers, as the paper counts them: 4 more than a multiple of 6.
    widen
        k in the paper: the stages have 16 k, 32 k and 64 k channels, the stem has 16.
    num_classes, in_channels
        See :func:`nni_robust.model.resnet`.
    stem
        Only ``cifar``: one 3x3 convolution.
    width
        Factor on all numbers of channels, including those of the stem.

    Examples
    --------
    >>> network = wide_resnet(10, 1)
    >>> sum(p.numel() for p in network.parameters())
    77850
    """
    check_arguments(
        num_classes=num_classes, in_channels=in_channels, stem=stem, known_stems=("cifar",)
    )
    if depth < 10 or depth % 6 != 4:
        raise SettingError(
            f"must be 4 more than a positive multiple of 6, such as 28, got {depth!r}.", "depth"
        )
    check_count("widen", widen)
    channels = scaled(16, width)
    widths = [scaled(base * widen, width) for base in (16, 32, 64)]
    stages = residual_stages(PreActivationBlock, channels, widths, [(depth - 4) // 6] * 3)
    stages[-1].append(_bn_relu(widths[-1]))
    return ReferenceNetwork(
        conv(in_channels, channels, 3), stages, nn.Linear(widths[-1], num_classes)
    )


def _bn_relu(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU())
