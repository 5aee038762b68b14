"""The frame of every reference network, and the arguments that all of them take."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

from torch import Tensor, nn

Stem = Literal["cifar", "imagenet"]


class Network(nn.Module):
    """Classify images: a stem, stages, an average pool and a classifier.

    Maps images (N, C, H, W) to logits (N, K). A stage is what a hook for features belongs on:
    ``network.stages[-1]`` gives the features that are pooled and classified.

    Parameters
    ----------
    stem
        From images to the first features.
    stages
        Run in turn.
    classifier
        From pooled features (N, D) to logits.
    pool_size
        Height and width that the features are averaged to; D is its square times their channels.
    """

    def __init__(
        self,
        stem: nn.Module,
        stages: Iterable[nn.Module],
        classifier: nn.Module,
        *,
        pool_size: int = 1,
    ) -> None:
        super().__init__()
        self.stem = stem
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(pool_size)
        self.classifier = classifier

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, C, H, W) to logits (N, K)."""
        features: Tensor = self.pool(self.stages(self.stem(x)))
        logits: Tensor = self.classifier(features.flatten(1))
        return logits


def scaled(channels: int, width: float) -> int:
    """Multiply a number of channels by a factor and round it.

    Parameters
    ----------
    channels
        Of the network as published.
    width
        The factor: positive, and large enough to leave a channel.

    Examples
    --------
    >>> scaled(64, 0.5)
    32
    """
    if not 0.5 < channels * width < math.inf:
        raise ValueError(
            f"width must be a finite factor that leaves at least one of {channels} channels, "
            f"got {width!r}."
        )
    return round(channels * width)


def check_form(
    *,
    num_classes: int,
    in_channels: int,
    stem: str,
    known_stems: tuple[str, ...] = ("cifar", "imagenet"),
) -> None:
    """Refuse images and classes for which a network cannot be built.

    Parameters
    ----------
    num_classes, in_channels, stem
        The arguments of that name of a network.
    known_stems
        Those that the network comes with.
    """
    for name, value, least in [("num_classes", num_classes, 2), ("in_channels", in_channels, 1)]:
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value!r}.")
    if stem not in known_stems:
        raise ValueError(f"stem must be one of {list(known_stems)}, got {stem!r}.")
