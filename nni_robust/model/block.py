"""Building blocks that several reference networks share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn


class Sum(nn.Module):
    """The sum of two modules applied to the same input.

    Parameters
    ----------
    branch, shortcut
        Modules whose outputs have the same shape.
    """

    def __init__(self, branch: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.branch = branch
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Return ``branch(x) + shortcut(x)``."""
        total: Tensor = self.branch(x) + self.shortcut(x)
        return total


def conv(
    in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1, groups: int = 1
) -> nn.Conv2d:
    """Build a convolution without bias that divides the resolution by its stride, rounded up.

    Parameters
    ----------
    in_channels, out_channels
        Channels of input and output.
    kernel_size
        An odd number.
    stride, groups
        Arguments of ``torch.nn.Conv2d``.
    """
    return nn.Conv2d(
        in_channels,
        out_channels,
        kernel_size,
        stride,
        padding=kernel_size // 2,
        groups=groups,
        bias=False,
    )


def conv_bn(
    in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Build a convolution followed by batch norm.

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride, groups
        Arguments of :func:`conv`.
    """
    return nn.Sequential(
        conv(in_channels, out_channels, kernel_size, stride=stride, groups=groups),
        nn.BatchNorm2d(out_channels),
    )


def imagenet_stem(in_channels: int, out_channels: int) -> nn.Sequential:
    """Build the stem of ResNets for large images, which divides the resolution by 4.

    Parameters
    ----------
    in_channels, out_channels
        Channels of the images and of the output.
    """
    return nn.Sequential(
        conv_bn(in_channels, out_channels, 7, stride=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, padding=1),
    )


def residual_stages(
    block: Callable[[int, int, int], nn.Module],
    in_channels: int,
    widths: Sequence[int],
    num_blocks: Sequence[int],
) -> list[nn.Sequential]:
    """Build stages of blocks. The first block of each stage except the first has stride 2.

    Parameters
    ----------
    block
        Builds a block from its input channels, its output channels and its stride.
    in_channels
        Input channels of the first stage.
    widths
        Output channels of each stage.
    num_blocks
        Number of blocks in each stage.
    """
    stages = []
    for index, (channels, count) in enumerate(zip(widths, num_blocks, strict=True)):
        stage = nn.Sequential()
        for position in range(count):
            stage.append(block(in_channels, channels, 2 if index and not position else 1))
            in_channels = channels
        stages.append(stage)
    return stages
