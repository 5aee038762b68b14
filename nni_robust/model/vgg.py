"""VGG with batch norm (Simonyan and Zisserman, 2015)."""

from __future__ import annotations

from torch import nn

from nni_robust.check import check_choice
from nni_robust.model.network import ReferenceNetwork, Stem, check_arguments, scaled

_WIDTHS = (64, 128, 256, 512, 512)
_NUM_CONVOLUTIONS = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


def vgg(
    depth: int,
    *,
    num_classes: int = 10,
    in_channels: int = 3,
    stem: Stem = "cifar",
    width: float = 1.0,
) -> ReferenceNetwork:
    """Build a VGG of five stages. Each stage ends with a max pooling that halves the resolution.

    Parameters
    ----------
    depth
        16 or 19.
    num_classes, in_channels
        See :func:`nni_robust.model.resnet`.
    stem
        The network has no stem, but two classifiers. ``cifar`` has one linear layer on the average
        over all positions. ``imagenet`` has the three layers of the paper with dropout, on 7x7
        averages.
    width
        Factor on all numbers of channels and on the 4096 units of the hidden layers.

    Notes
    -----
    The paper has neither batch norm nor the single linear layer. The 14.73 million parameters of
    VGG-16 in [RobNets] Table 7 imply both.
    """
    check_arguments(num_classes=num_classes, in_channels=in_channels, stem=stem)
    check_choice("depth", depth, list(_NUM_CONVOLUTIONS))
    stages = []
    for base, num_convolutions in zip(_WIDTHS, _NUM_CONVOLUTIONS[depth], strict=True):
        channels = scaled(base, width)
        stage = nn.Sequential()
        for _ in range(num_convolutions):
            stage.extend(
                [
                    nn.Conv2d(in_channels, channels, 3, padding=1),
                    nn.BatchNorm2d(channels),
                    nn.ReLU(),
                ]
            )
            in_channels = channels
        stages.append(stage.append(nn.MaxPool2d(2, ceil_mode=True)))
    if stem == "cifar":
        return ReferenceNetwork(nn.Identity(), stages, nn.Linear(channels, num_classes))
    hidden = scaled(4096, width)
    classifier = nn.Sequential(
        nn.Linear(7 * 7 * channels, hidden),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(hidden, num_classes),
    )
    return ReferenceNetwork(nn.Identity(), stages, classifier, pool_size=7)
