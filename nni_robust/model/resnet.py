"""ResNets (He et al., 2016) and ResNeXt-29 (Xie et al., 2017)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from nni_robust.check import check_choice, check_count
from nni_robust.model.block import Sum, conv_bn, imagenet_stem, residual_stages
from nni_robust.model.denoise import DenoisingBlock
from nni_robust.model.network import ReferenceNetwork, Stem, check_arguments, scaled


def basic_block(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """Build a residual block of two 3x3 convolutions.

    Parameters
    ----------
    in_channels, out_channels
        Channels of input and output.
    stride
        Stride of the first convolution.
    """
    branch = nn.Sequential(
        conv_bn(in_channels, out_channels, 3, stride=stride),
        nn.ReLU(),
        conv_bn(out_channels, out_channels, 3),
    )
    return _residual(branch, in_channels, out_channels, stride)


def bottleneck(
    in_channels: int, out_channels: int, stride: int, *, expansion: int = 4, groups: int = 1
) -> nn.Sequential:
    """Build a residual block of 1x1, 3x3 and 1x1 convolutions.

    Parameters
    ----------
    in_channels, out_channels
        Channels of input and output.
    stride
        Stride of the 3x3 convolution, 1 or 2.
    expansion
        Ratio of the output channels to the channels of the 3x3 convolution.
    groups
        Groups of the 3x3 convolution.
    """
    inner = out_channels // expansion
    branch = nn.Sequential(
        conv_bn(in_channels, inner, 1),
        nn.ReLU(),
        conv_bn(inner, inner, 3, stride=stride, groups=groups),
        nn.ReLU(),
        conv_bn(inner, out_channels, 1),
    )
    return _residual(branch, in_channels, out_channels, stride)


# By depth: the block, the ratio of its output channels to its inner channels, blocks per stage.
_DEPTHS: dict[int, tuple[Callable[[int, int, int], nn.Module], int, tuple[int, int, int, int]]] = {
    18: (basic_block, 1, (2, 2, 2, 2)),
    34: (basic_block, 1, (3, 4, 6, 3)),
    50: (bottleneck, 4, (3, 4, 6, 3)),
    101: (bottleneck, 4, (3, 4, 23, 3)),
    152: (bottleneck, 4, (3, 8, 36, 3)),
}


def resnet(
    depth: int,
    *,
    num_classes: int = 10,
    in_channels: int = 3,
    stem: Stem = "cifar",
    width: float = 1.0,
    denoise: bool = False,
) -> ReferenceNetwork:
    """Build a ResNet of four stages.

    Parameters
    ----------
    depth
        18, 34, 50, 101 or 152.
    num_classes
        Number of classes.
    in_channels
        Channels of the images.
    stem
        ``cifar`` keeps the resolution (one 3x3 convolution); ``imagenet`` divides it by 4.
    width
        Factor on all numbers of channels except those of images and classes.
    denoise
        Whether each stage ends in a :class:`nni_robust.model.DenoisingBlock`.

    Notes
    -----
    A bottleneck halves the resolution in its 3x3 convolution, not in its first. This became usual
    after the paper.

    Examples
    --------
    >>> network = resnet(18, width=0.25)
    >>> sum(p.numel() for p in network.parameters())
    701466
    """
    check_arguments(num_classes=num_classes, in_channels=in_channels, stem=stem)
    check_choice("depth", depth, list(_DEPTHS))
    block, expansion, num_blocks = _DEPTHS[depth]
    inner = [scaled(channels, width) for channels in (64, 128, 256, 512)]
    widths = [expansion * channels for channels in inner]
    stages = residual_stages(block, inner[0], widths, num_blocks)
    if denoise:
        for stage, channels in zip(stages, widths, strict=True):
            stage.append(DenoisingBlock(channels))
    first = _cifar_stem(in_channels, inner[0], 3)
    if stem == "imagenet":
        first = imagenet_stem(in_channels, inner[0])
    return ReferenceNetwork(first, stages, nn.Linear(widths[-1], num_classes))


def resnext29(
    cardinality: int,
    group_width: int,
    *,
    num_classes: int = 10,
    in_channels: int = 3,
    stem: Stem = "cifar",
    width: float = 1.0,
) -> ReferenceNetwork:
    """Build a ResNeXt of three stages of three bottlenecks, for small images.

    Parameters
    ----------
    cardinality
        Groups of each 3x3 convolution.
    group_width
        Channels of each group in the first stage; they double with each stage.
    num_classes, in_channels
        See :func:`resnet`.
    stem
        Only ``cifar``: one 1x1 convolution.
    width
        Factor on ``group_width`` and on the 64 channels of the stem.

    Notes
    -----
    The output of a bottleneck has twice the channels of its 3x3 convolution. With ``cardinality=2,
    group_width=64`` this gives the 9.13 million parameters of [RobNets] Table 7.
    """
    check_arguments(
        num_classes=num_classes, in_channels=in_channels, stem=stem, known_stems=("cifar",)
    )
    check_count("cardinality", cardinality)
    check_count("group_width", group_width)
    inner = cardinality * scaled(group_width, width)
    widths = [2 * inner, 4 * inner, 8 * inner]
    block = partial(bottleneck, expansion=2, groups=cardinality)
    channels = scaled(64, width)
    return ReferenceNetwork(
        _cifar_stem(in_channels, channels, 1),
        residual_stages(block, channels, widths, (3, 3, 3)),
        nn.Linear(widths[-1], num_classes),
    )


def _cifar_stem(in_channels: int, out_channels: int, kernel_size: int) -> nn.Sequential:
    return nn.Sequential(conv_bn(in_channels, out_channels, kernel_size), nn.ReLU())


def _residual(branch: nn.Module, in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    shortcut: nn.Module = nn.Identity()
    if stride != 1 or in_channels != out_channels:
        shortcut = conv_bn(in_channels, out_channels, 1, stride=stride)
    return nn.Sequential(Sum(branch, shortcut), nn.ReLU())
