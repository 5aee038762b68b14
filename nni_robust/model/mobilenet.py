"""MobileNetV2 (Sandler et al., 2018)."""

from __future__ import annotations

from torch import nn

from nni_robust.model.block import Sum, conv_bn
from nni_robust.model.network import ReferenceNetwork, Stem, check_arguments, scaled

# Expansion, channels, number of blocks and stride of each stage: Table 2 of the paper.
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def mobilenet_v2(
    *,
    num_classes: int = 10,
    in_channels: int = 3,
    stem: Stem = "cifar",
    width: float = 1.0,
) -> ReferenceNetwork:
    """Build a MobileNetV2: inverted residuals with linear outputs, without dropout.

    Parameters
    ----------
    num_classes, in_channels
        See :func:`nni_robust.model.resnet`.
    stem
        ``imagenet`` is the network of the paper, which divides the resolution by 32. ``cifar`` has
        stride 1 in the stem and in the second stage, and divides it by 8.
    width
        Factor on all numbers of channels, including the last 1280.

    Notes
    -----
    The network with 2.30 million parameters in [RobNets] Table 7 differs from that of the paper in
    more than strides. The first block also expands, and a block of stride 1 that changes the number
    of channels has a shortcut, a 1x1 convolution with batch norm. This is the form of ``cifar``.
    """
    check_arguments(num_classes=num_classes, in_channels=in_channels, stem=stem)
    cifar = stem == "cifar"
    channels = scaled(32, width)
    first = nn.Sequential(conv_bn(in_channels, channels, 3, stride=1 if cifar else 2), nn.ReLU6())
    stages = []
    for index, (expansion, base, num_blocks, stride) in enumerate(_STAGES):
        out_channels = scaled(base, width)
        stage = nn.Sequential()
        for position in range(num_blocks):
            step = 1 if position or (cifar and index == 1) else stride
            stage.append(_inverted_residual(channels, out_channels, step, expansion, stem))
            channels = out_channels
        stages.append(stage)
    features = scaled(1280, width)
    stages.append(nn.Sequential(conv_bn(channels, features, 1), nn.ReLU6()))
    return ReferenceNetwork(first, stages, nn.Linear(features, num_classes))


def _inverted_residual(
    in_channels: int, out_channels: int, stride: int, expansion: int, stem: Stem
) -> nn.Module:
    inner = expansion * in_channels
    branch = nn.Sequential(
        conv_bn(inner, inner, 3, stride=stride, groups=inner),
        nn.ReLU6(),
        conv_bn(inner, out_channels, 1),
    )
    if expansion > 1 or stem == "cifar":
        branch = nn.Sequential(conv_bn(in_channels, inner, 1), nn.ReLU6(), *branch)
    if stride == 1 and in_channels == out_channels:
        return Sum(branch, nn.Identity())
    if stride == 1 and stem == "cifar":
        return Sum(branch, conv_bn(in_channels, out_channels, 1))
    return branch
