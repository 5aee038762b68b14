"""The edges of a cell: where they are, how they are labelled, and what one carries."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nni_robust.check import SettingError

NUM_INPUTS = 2
"""States 0 and 1 of a cell are its inputs: the outputs of the two previous cells."""

NUM_NODES = 4
"""Nodes of a cell in our spaces."""

NODES = range(NUM_INPUTS, NUM_INPUTS + NUM_NODES)
"""States of the nodes: 2 to 5."""

EDGES: tuple[tuple[int, int], ...] = tuple(
    (source, target) for target in NODES for source in range(target)
)
"""(source, target) of all 14 edges: each node can read every state before it."""


def edge_label(source: int, target: int) -> str:
    """Return the label of an edge's mutable, within the label scope of its cell.

    Examples
    --------
    >>> edge_label(0, 2)
    'edge_0_2'
    """
    return f"edge_{source}_{target}"


@dataclass(frozen=True)
class Edge:
    """One edge of a cell and the operations on it.

    Parameters
    ----------
    source, target
        States that the edge connects: 0 and 1 are the inputs of the cell, nodes start at 2. The
        source comes before the target, and the target is a node.
    operations
        Names of the operations on the edge. A drawing leaves out an edge without operations, but
        shows its target.
    weight
        Non-negative weight that a search gives the edge, or None. Drawings show it as line width,
        relative to the largest weight in the figure.

    Examples
    --------
    >>> Edge(1, 4, ("conv", "identity")).label
    'conv + identity'
    """

    source: int
    target: int
    operations: tuple[str, ...]
    weight: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.source < self.target:
            raise SettingError(
                "must be a state before target, counted from 0, "
                f"got source {self.source!r} and target {self.target!r}.",
                "source",
            )
        if self.target < NUM_INPUTS:
            raise SettingError(
                f"must be a node, {NUM_INPUTS} or more, got {self.target!r}, "
                "which is an input of the cell.",
                "target",
            )
        if not isinstance(self.operations, tuple):
            raise TypeError(
                f"operations must be a tuple of names, got {self.operations!r}. "
                "For a single operation write ('conv',)."
            )
        if self.weight is not None and not 0 <= self.weight < math.inf:
            raise SettingError(
                f"must be a finite number of at least 0, or None, got {self.weight!r}.", "weight"
            )

    @property
    def label(self) -> str:
        """The names of the operations, as text for a drawing."""
        return " + ".join(self.operations)
