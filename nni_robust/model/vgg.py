"""VGG with batch norm (Simonyan and Zisserman, 2015)."""

from __future__ import annotations

from torch import nn

from nni_robust.model.network import Network, Stem, check_form, scaled

_WIDTHS = (64, 128, 256, 512, 512)
_NUM_CONVS = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


def vgg(
    depth: int,
    *,
    num_classes: int = 10,
    in_channels: int = 3,
    stem: Stem = "cifar",
    width: float = 1.0,
) -> Network:
    """Build a VGG of five stages, each of which ends by halving the resolution, rounded up.

    Parameters
    ----------
    depth
        16 or 19.
    num_classes, in_channels
        As in :func:`nni_robust.model.resnet`.
    stem
        The network has no stem; its classifier has two forms: ``cifar``, one linear layer on the
        average over all positions; ``imagenet``, the paper's three with dropout, on 7x7 averages.
    width
        Factor on every number of channels, and on the 4096 units of hidden layers.

    Notes
    -----
    Batch norm and the single linear layer are later than the paper. The 14.73 million parameters
    of VGG-16 in [RobNets] Table 7 imply both.
    """
    check_form(num_classes=num_classes, in_channels=in_channels, stem=stem)
    if depth not in _NUM_CONVS:
        raise ValueError(f"depth must be one of {list(_NUM_CONVS)}, got {depth!r}.")
    stages = []
    for base, num_convs in zip(_WIDTHS, _NUM_CONVS[depth], strict=True):
        channels = scaled(base, width)
        stage = nn.Sequential()
        for _ in range(num_convs):
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
        return Network(nn.Identity(), stages, nn.Linear(channels, num_classes))
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
    return Network(nn.Identity(), stages, classifier, pool_size=7)
