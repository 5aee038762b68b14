"""The base of all reference networks, and checks of their common arguments."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

from torch import Tensor, nn

from nni_robust.check import SettingError, check_choice, check_count

Stem = Literal["cifar", "imagenet"]


class ReferenceNetwork(nn.Module):
    """A classifier: stem, stages, average pooling and a linear or other final classifier.

    Maps images (N, C, H, W) to logits (N, K). Register hooks for features on the stages: the output
    of ``network.stages[-1]`` is pooled and classified.

    Parameters
    ----------
    stem
        Maps images to the first features.
    stages
        Modules that run one after the other.
    classifier
        Maps pooled features (N, D) to logits.
    pool_size
        Height and width of the pooled features; D is its square times their channels.
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
    """Return a number of channels multiplied by a factor, rounded.

    Parameters
    ----------
    channels
        Number of channels of the published network.
    width
        A finite factor that leaves at least one channel.

    Examples
    --------
    >>> scaled(64, 0.5)
    32
    """
    if not 0.5 < channels * width < math.inf:
        raise SettingError(
            f"must be a finite factor that leaves at least one of {channels} channels, "
            f"got {width!r}.",
            "width",
        )
    return round(channels * width)


def check_arguments(
    *,
    num_classes: int,
    in_channels: int,
    stem: str,
    known_stems: tuple[str, ...] = ("cifar", "imagenet"),
) -> None:
    """Raise SettingError unless a network can be built from these arguments.

    Parameters
    ----------
    num_classes, in_channels, stem
        Arguments of the network.
    known_stems
        Stems that the network supports.
    """
    check_count("num_classes", num_classes, least=2)
    check_count("in_channels", in_channels)
    check_choice("stem", stem, known_stems)
