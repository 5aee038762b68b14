"""ResNets (He et al., 2016) and ResNeXt-29 (Xie et al., 2017)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from nni_robust.model.block import Sum, conv_bn, imagenet_stem, residual_stages
from nni_robust.model.denoise import DenoisingBlock
from nni_robust.model.network import Network, Stem, check_form, scaled


def basic_block(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """Build a residual block of two 3x3 convolutions.

    Parameters
    ----------
    in_channels, out_channels
        Channels before and after.
    stride
        Of the first convolution.
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
    """Build a residual block of 1x1, 3x3 and 1x1 convolutions; the stride is that of the 3x3.

    Parameters
    ----------
    in_channels, out_channels
        Channels before and after.
    stride
        1 or 2.
    expansion
        How many times narrower than its output the 3x3 convolution is.
    groups
        Of the 3x3 convolution.
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


# From depth to the block, its output's channels over its inner ones, and the blocks a stage.
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
) -> Network:
    """Build a ResNet of four stages.

    Parameters
    ----------
    depth
        18, 34, 50, 101 or 152.
    num_classes
        Classes of the classifier.
    in_channels
        Channels of the images.
    stem
        ``cifar`` keeps the resolution (one 3x3 convolution); ``imagenet`` divides it by 4.
    width
        Factor on every number of channels but those of images and classes.
    denoise
        Whether each stage ends in a :class:`nni_robust.model.DenoisingBlock`.

    Notes
    -----
    A bottleneck halves the resolution in its 3x3 convolution, not in its first, which became
    usual after the paper.

    Examples
    --------
    >>> network = resnet(18, width=0.25)
    >>> sum(p.numel() for p in network.parameters())
    701466
    """
    check_form(num_classes=num_classes, in_channels=in_channels, stem=stem)
    if depth not in _DEPTHS:
        raise ValueError(f"depth must be one of {list(_DEPTHS)}, got {depth!r}.")
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
    return Network(first, stages, nn.Linear(widths[-1], num_classes))


def resnext29(
    cardinality: int,
    group_width: int,
    *,
    num_classes: int = 10,
    in_channels: int = 3,
    stem: Stem = "cifar",
    width: float = 1.0,
) -> Network:
    """Build a ResNeXt of three stages of three bottlenecks, for small images.

    Parameters
    ----------
    cardinality
        Groups of every 3x3 convolution.
    group_width
        Channels of each group in the first stage; they double at every stage.
    num_classes, in_channels
        As in `resnet`.
    stem
        ``cifar`` alone: one 1x1 convolution.
    width
        Factor on ``group_width`` and on the 64 channels of the stem.

    Notes
    -----
    A bottleneck's output has twice the channels of its 3x3 convolution, which gives the 9.13
    million parameters of [RobNets] Table 7 at ``cardinality=2, group_width=64``.
    """
    check_form(num_classes=num_classes, in_channels=in_channels, stem=stem, known_stems=("cifar",))
    for name, value in {"cardinality": cardinality, "group_width": group_width}.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value!r}.")
    inner = cardinality * scaled(group_width, width)
    widths = [2 * inner, 4 * inner, 8 * inner]
    block = partial(bottleneck, expansion=2, groups=cardinality)
    channels = scaled(64, width)
    return Network(
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
