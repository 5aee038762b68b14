"""The base of our spaces: networks that are a chain of cells."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nni.nas.nn.pytorch import ModelSpace
from torch import Tensor, nn

from nni_robust.space.edge import Edge
from nni_robust.space.layout import CellPlan, Layout


# NNI wraps the constructors of the subclasses; a second wrapper here would nest its contexts.
class CellNetwork(ModelSpace, ABC, disable_init_wrapper=True):  # type: ignore[misc,call-arg]
    """A stem, a chain of cells, average pooling and a linear classifier.

    Maps images (N, ``in_channels``, H, W) to logits (N, ``num_classes``). Each cell reads the
    outputs of the two previous cells.

    Parameters
    ----------
    layout
        Everything that all networks of the space have in common.
    build_cell
        Builds a cell from its index and its plan.
    """

    def __init__(self, layout: Layout, build_cell: Callable[[int, CellPlan], nn.Module]) -> None:
        super().__init__()
        self.layout = layout
        self.stem_0, self.stem_1 = layout.stems()
        self.cells = nn.ModuleList(
            build_cell(index, plan) for index, plan in enumerate(layout.cells())
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(layout.out_channels, layout.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, in_channels, H, W) to logits (N, num_classes)."""
        s0 = self.stem_0(x)
        s1 = s0 if self.stem_1 is None else self.stem_1(s0)
        for cell in self.cells:
            s0, s1 = s1, cell(s0, s1)
        logits: Tensor = self.classifier(self.pool(s1).flatten(1))
        return logits

    @abstractmethod
    def genotypes(self, sample: Mapping[str, Any]) -> list[str]:
        """Return the genotypes of a sample, one string per distinct cell."""

    @abstractmethod
    def sample(self, genotypes: Sequence[str]) -> dict[str, Any]:
        """Return the sample of genotypes; the inverse of :meth:`genotypes`."""

    @abstractmethod
    def edges(self, sample: Mapping[str, Any]) -> dict[str, list[Edge]]:
        """Return the edges of every distinct cell of a sample, by name of the cell."""
