"""What a RobNet adds to its layout: genotypes, samples, and the count of parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nni_robust.space.layout import Layout
from nni_robust.space.robnet_genotype import EDGES, OPERATIONS, decode_cell, edge_label, encode_cell


@dataclass(frozen=True, kw_only=True)
class Macro(Layout):
    """The fixed part of a RobNet; see :class:`nni_robust.space.RobNetSpace`."""

    cell_free: bool

    @property
    def scopes(self) -> list[str]:
        """Label scopes of the distinct cells: one for all, or one each."""
        if not self.cell_free:
            return ["cell"]
        return [f"cell_{index:02d}" for index in range(self.num_cells)]

    def genotypes(self, sample: Mapping[str, Any]) -> list[str]:
        """Write a sample as genotype strings, one for every distinct cell.

        Parameters
        ----------
        sample
            From label to the list of operations, or (NNI's categorical form) from
            ``label/0``, ``label/1`` to whether the operation is present.

        Raises
        ------
        KeyError
            If an edge is missing from the sample.
        """
        return [
            encode_cell({edge: _subset(sample, f"{scope}/{edge_label(*edge)}") for edge in EDGES})
            for scope in self.scopes
        ]

    def sample(self, genotypes: Sequence[str]) -> dict[str, Any]:
        """Read genotype strings as a sample; the inverse of :meth:`genotypes`.

        Parameters
        ----------
        genotypes
            One string for every distinct cell; a single one stands for all cells.

        Raises
        ------
        ValueError
            If their number is neither 1 nor that of the distinct cells.
        """
        scopes = self.scopes
        if len(genotypes) == 1:
            genotypes = list(genotypes) * len(scopes)
        if len(genotypes) != len(scopes):
            raise ValueError(
                f"genotypes must have 1 or {len(scopes)} strings, one for each distinct cell "
                f"of this space, got {len(genotypes)}."
            )
        return {
            f"{scope}/{edge_label(*edge)}": operations
            for scope, genotype in zip(scopes, genotypes, strict=True)
            for edge, operations in decode_cell(genotype).items()
        }

    def sample_of(self, present: np.ndarray) -> dict[str, Any]:
        """Read a table of presence as a sample.

        Parameters
        ----------
        present
            Booleans, shape (14 times the distinct cells, 2): for every edge of every cell in turn
            whether it carries the convolution, and whether the identity.
        """
        labels = [f"{scope}/{edge_label(*edge)}" for scope in self.scopes for edge in EDGES]
        return {
            label: [name for name, carried in zip(OPERATIONS, row, strict=True) if carried]
            for label, row in zip(labels, present, strict=True)
        }

    def count_parameters(self, genotypes: Sequence[str]) -> int:
        """Count the trainable parameters of an architecture without building it.

        Parameters
        ----------
        genotypes
            One string for every distinct cell.
        """
        strings = list(genotypes) * (1 if self.cell_free else self.num_cells)
        cells = list(self.cells())
        total = self._count_stem() + (self.out_channels + 1) * self.num_classes
        for plan, genotype in zip(cells, strings, strict=True):
            total += sum(channels * plan.width for channels in plan.in_channels)
            for (source, _), operations in decode_cell(genotype).items():
                strided = plan.reduction and source < 2
                if "conv" in operations:
                    total += 18 * plan.width + 2 * plan.width**2
                if "identity" in operations and strided:
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
