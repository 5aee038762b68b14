"""The fixed part of a network of cells: number, widths and strides of the cells, and the stem."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from nni_robust.check import SettingError, check_choice, check_count
from nni_robust.model.block import conv_bn
from nni_robust.space.edge import EDGES, NUM_INPUTS, NUM_NODES, edge_label
from nni_robust.space.robnet_genotype import OPERATIONS, decode_cell, encode_cell

StemKind = Literal["cifar", "imagenet"]


@dataclass(frozen=True, kw_only=True)
class CellPlan:
    """What is needed to build one cell.

    Attributes
    ----------
    width
        Channels of each node.
    in_channels
        Channels of the older and of the newer input.
    reduction
        Whether the cell halves the resolution.
    previous_reduction
        Whether the previous cell halves it, so that the older input has twice the resolution.
    """

    width: int
    in_channels: tuple[int, int]
    reduction: bool
    previous_reduction: bool

    @property
    def out_channels(self) -> int:
        """Channels of the output, the concatenated nodes."""
        return NUM_NODES * self.width

    def stride(self, source: int) -> int:
        """Return the stride of the edges that leave a state.

        It is 2 for the inputs of a reduction cell, otherwise 1.
        """
        return 2 if self.reduction and source < NUM_INPUTS else 1


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The part of a network of cells that a search does not change.

    Attributes
    ----------
    num_cells
        Depth L. The cells at L // 3 and 2 L // 3 are reductions: they halve the resolution and
        double the width.
    width
        Channels C of the nodes of the first cell, even.
    num_classes
        Number of classes.
    in_channels
        Channels of the images.
    stem
        ``cifar`` keeps the resolution; ``imagenet`` divides it by 8.
    """

    num_cells: int
    width: int
    num_classes: int
    in_channels: int
    stem: StemKind

    def __post_init__(self) -> None:
        check_count("num_cells", self.num_cells)
        check_count("width", self.width, least=2)
        check_count("num_classes", self.num_classes, least=2)
        check_count("in_channels", self.in_channels)
        if self.width % 2:
            raise SettingError(
                "must be even, because a reduction takes half of its channels from each of two "
                f"convolutions, got {self.width!r}.",
                "width",
            )
        check_choice("stem", self.stem, ("cifar", "imagenet"))

    @property
    def stem_channels(self) -> int:
        """Channels of both inputs of the first cell."""
        return 3 * self.width if self.stem == "cifar" else self.width

    @property
    def out_channels(self) -> int:
        """Channels of the features that are pooled and classified."""
        return list(self.cells())[-1].out_channels

    def cells(self) -> Iterator[CellPlan]:
        """Yield the plan of every cell, from the first to the last."""
        reductions = {self.num_cells // 3, 2 * self.num_cells // 3}
        width, previous_reduction = self.width, self.stem == "imagenet"
        inputs = (self.stem_channels, self.stem_channels)
        for index in range(self.num_cells):
            reduction = index in reductions
            width *= 2 if reduction else 1
            plan = CellPlan(
                width=width,
                in_channels=inputs,
                reduction=reduction,
                previous_reduction=previous_reduction,
            )
            yield plan
            inputs, previous_reduction = (inputs[1], plan.out_channels), reduction

    def stems(self) -> tuple[nn.Module, nn.Module | None]:
        """Build the layers between the images and the first cell.

        Returns
        -------
        stem_0, stem_1
            ``stem_0`` maps images to the older input of the first cell, ``stem_1`` maps this to the
            newer one. Without ``stem_1`` both inputs are the same.
        """
        if self.stem == "cifar":
            return conv_bn(self.in_channels, self.stem_channels, 3), None
        half = self.width // 2
        first = nn.Sequential(
            conv_bn(self.in_channels, half, 3, stride=2),
            nn.ReLU(),
            conv_bn(half, self.width, 3, stride=2),
        )
        return first, nn.Sequential(nn.ReLU(), conv_bn(self.width, self.width, 3, stride=2))


@dataclass(frozen=True, kw_only=True)
class RobNetLayout(Layout):
    """The layout of a RobNet, with its conversions between samples and genotypes.

    Attributes
    ----------
    cell_free
        Whether every cell has its own architecture. Otherwise all cells share one.
    """

    cell_free: bool

    @property
    def scopes(self) -> list[str]:
        """Label scopes of the distinct cells: one for all cells, or one per cell."""
        if not self.cell_free:
            return ["cell"]
        return [f"cell_{index:02d}" for index in range(self.num_cells)]

    def genotypes(self, sample: Mapping[str, Any]) -> list[str]:
        """Return the genotypes of a sample, one string per distinct cell.

        Parameters
        ----------
        sample
            Maps each label to the list of operations; or, in NNI's categorical form, maps
            ``label/0`` and ``label/1`` to whether the operation is present.

        Raises
        ------
        KeyError
            If the sample lacks an edge.
        """
        return [
            encode_cell({edge: _subset(sample, f"{scope}/{edge_label(*edge)}") for edge in EDGES})
            for scope in self.scopes
        ]

    def sample(self, genotypes: Sequence[str]) -> dict[str, Any]:
        """Return the sample of genotypes; the inverse of :meth:`genotypes`.

        Parameters
        ----------
        genotypes
            One string per distinct cell, or one string for all cells.

        Raises
        ------
        SettingError
            If the number of strings is wrong.
        """
        scopes = self.scopes
        if len(genotypes) == 1:
            genotypes = list(genotypes) * len(scopes)
        if len(genotypes) != len(scopes):
            raise SettingError(
                f"must have 1 or {len(scopes)} strings, one per distinct cell of this space, "
                f"got {len(genotypes)}.",
                "genotypes",
            )
        return {
            f"{scope}/{edge_label(*edge)}": operations
            for scope, genotype in zip(scopes, genotypes, strict=True)
            for edge, operations in decode_cell(genotype).items()
        }

    def count_parameters(self, genotypes: Sequence[str]) -> int:
        """Return the number of trainable parameters without building the network.

        Parameters
        ----------
        genotypes
            One string per distinct cell.
        """
        strings = list(genotypes) * (1 if self.cell_free else self.num_cells)
        total = self._count_stem() + (self.out_channels + 1) * self.num_classes
        for plan, genotype in zip(self.cells(), strings, strict=True):
            total += sum(channels * plan.width for channels in plan.in_channels)
            for (source, _), operations in decode_cell(genotype).items():
                if "conv" in operations:
                    total += 18 * plan.width + 2 * plan.width**2
                if "identity" in operations and plan.stride(source) == 2:
                    total += plan.width**2
        return total

    def _count_stem(self) -> int:
        if self.stem == "cifar":
            return self.stem_channels * (9 * self.in_channels + 2)
        half = self.width // 2
        return (
            half * (9 * self.in_channels + 2)
            + self.width * (9 * half + 2)
            + self.width * (9 * self.width + 2)
        )


def _subset(sample: Mapping[str, Any], label: str) -> list[str]:
    if label in sample:
        return list(sample[label])
    return [name for i, name in enumerate(OPERATIONS) if sample[f"{label}/{i}"]]
