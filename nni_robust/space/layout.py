"""The fixed part of a network of cells: how many of which width, where the resolution halves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from torch import nn


@dataclass(frozen=True, kw_only=True)
class CellPlan:
    """What one cell is built from: its place in the chain of cells.

    Attributes
    ----------
    width
        Channels of its nodes.
    in_channels
        Channels of the older and the newer of its inputs.
    reduction, previous_reduction
        Whether it, or the cell before it, halves the resolution.
    """

    width: int
    in_channels: tuple[int, int]
    reduction: bool
    previous_reduction: bool

    def stride(self, source: int) -> int:
        """Stride of the edges from a state: 2 from the inputs of a reduction, otherwise 1."""
        return 2 if self.reduction and source < 2 else 1


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The fixed part of a network of cells.

    Attributes
    ----------
    num_cells
        Depth L; cells at L // 3 and 2 L // 3 halve the resolution and double the width.
    width
        Channels C of the nodes of the first cell, even.
    num_classes
        Classes of the classifier.
    in_channels
        Channels of the images.
    stem
        ``cifar`` keeps the resolution; ``imagenet`` divides it by 8.
    """

    num_cells: int
    width: int
    num_classes: int
    in_channels: int
    stem: Literal["cifar", "imagenet"]

    def __post_init__(self) -> None:
        for name, least in {"num_cells": 1, "width": 2, "num_classes": 2, "in_channels": 1}.items():
            value = getattr(self, name)
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value!r}.")
        if self.width % 2:
            raise ValueError(
                f"width must be even, since a reduction gives half of the channels from each of "
                f"two convolutions, got {self.width!r}."
            )
        if self.stem not in ("cifar", "imagenet"):
            raise ValueError(f"stem must be 'cifar' or 'imagenet', got {self.stem!r}.")

    @property
    def stem_channels(self) -> int:
        """Channels that the stem gives to the first cell."""
        return 3 * self.width if self.stem == "cifar" else self.width

    @property
    def out_channels(self) -> int:
        """Channels that the last cell gives to the classifier."""
        return 4 * list(self.cells())[-1].width

    def cells(self) -> Iterator[CellPlan]:
        """Walk the cells; those at a third and at two thirds of the depth are reductions."""
        reductions = {self.num_cells // 3, 2 * self.num_cells // 3}
        width, previous_reduction = self.width, self.stem == "imagenet"
        inputs = (self.stem_channels, self.stem_channels)
        for index in range(self.num_cells):
            reduction = index in reductions
            width *= 2 if reduction else 1
            yield CellPlan(
                width=width,
                in_channels=inputs,
                reduction=reduction,
                previous_reduction=previous_reduction,
            )
            inputs, previous_reduction = (inputs[1], 4 * width), reduction

    def stems(self) -> tuple[nn.Module, nn.Module | None]:
        """Build what leads from the images to the two inputs of the first cell.

        Returns
        -------
        stem_0, stem_1
            The second one continues the first; without it both inputs are the same.
        """
        if self.stem == "cifar":
            return _conv_bn(self.in_channels, self.stem_channels, stride=1), None
        half = self.width // 2
        first = nn.Sequential(
            _conv_bn(self.in_channels, half, stride=2),
            nn.ReLU(),
            _conv_bn(half, self.width, stride=2),
        )
        return first, nn.Sequential(nn.ReLU(), _conv_bn(self.width, self.width, stride=2))


def _conv_bn(in_channels: int, out_channels: int, *, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
    )
