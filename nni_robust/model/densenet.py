"""DenseNet-121 (Huang et al., 2017)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nni_robust.model.block import conv, conv_bn, imagenet_stem
from nni_robust.model.network import ReferenceNetwork, Stem, check_arguments, scaled

_NUM_LAYERS = (6, 12, 24, 16)


class DenseLayer(nn.Module):
    """Compute new channels and append them to the input.

    Parameters
    ----------
    in_channels
        Channels of the input.
    growth
        Number of new channels.
    """

    def __init__(self, in_channels: int, growth: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.BatchNorm2d(in_channels),
            nn.ReLU(),
            conv_bn(in_channels, 4 * growth, 1),
            nn.ReLU(),
            conv(4 * growth, growth, 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C + growth, H, W)."""
        return torch.cat([x, self.branch(x)], 1)


def densenet121(
    *,
    num_classes: int = 10,
    in_channels: int = 3,
    stem: Stem = "cifar",
    width: float = 1.0,
) -> ReferenceNetwork:
    """Build a DenseNet-121: growth 32, and transitions that halve the channels between stages.

    Parameters
    ----------
    num_classes, in_channels
        See :func:`nni_robust.model.resnet`.
    stem
        ``cifar`` keeps the resolution (one 3x3 convolution without batch norm); ``imagenet``
        divides it by 4.
    width
        Factor on the growth, and thus on all numbers of channels.
    """
    check_arguments(num_classes=num_classes, in_channels=in_channels, stem=stem)
    growth = scaled(32, width)
    channels = 2 * growth
    first: nn.Module = conv(in_channels, channels, 3)
    if stem == "imagenet":
        first = imagenet_stem(in_channels, channels)
    stages = []
    for index, num_layers in enumerate(_NUM_LAYERS):
        stage = nn.Sequential()
        if index:
            stage.append(_transition(channels))
            channels //= 2
        for _ in range(num_layers):
            stage.append(DenseLayer(channels, growth))
            channels += growth
        stages.append(stage)
    stages[-1].extend([nn.BatchNorm2d(channels), nn.ReLU()])
    return ReferenceNetwork(first, stages, nn.Linear(channels, num_classes))


def _transition(channels: int) -> nn.Sequential:
    """Halve channels and resolution."""
    return nn.Sequential(
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        conv(channels, channels // 2, 1),
        nn.AvgPool2d(2),
    )
