"""Edges of a cell, and the lanes in which a drawing of it carries them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

NUM_INPUTS = 2
"""States 0 and 1 of a cell: the outputs of the two previous cells."""


@dataclass(frozen=True)
class Edge:
    """One edge of a cell.

    Parameters
    ----------
    source, target
        Numbers of the states that it joins: 0 and 1 are the inputs of the cell, its nodes begin
        at 2. A source comes before its target, which is a node.
    operations
        Names of the operations on it. An edge without any is not drawn, yet its target is.
    weight
        What the search gives the edge, not negative; drawn as the width of its lines, which is
        greatest for the largest weight of the figure.

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
            raise ValueError(
                "source must be a state before target, counted from 0, "
                f"got source {self.source!r} and target {self.target!r}."
            )
        if self.target < NUM_INPUTS:
            raise ValueError(
                f"target must be a node, {NUM_INPUTS} or more, got {self.target!r}, "
                "which is an input of the cell."
            )
        if not isinstance(self.operations, tuple):
            raise TypeError(
                f"operations must be a tuple of names, got {self.operations!r}. "
                "For a single operation write ('conv',)."
            )
        if self.weight is not None and not 0 <= self.weight < math.inf:
            raise ValueError(
                f"weight must be a finite number, 0 or more, or None, got {self.weight!r}."
            )

    @property
    def label(self) -> str:
        """What the drawing says on the edge."""
        return " + ".join(self.operations)

    @property
    def gaps(self) -> range:
        """Gaps between columns that the edge crosses; gap g lies right of column g."""
        return range(column(self.source), column(self.target))


def lanes(edges: Sequence[Edge]) -> list[int]:
    """Give every edge a lane: 0 on the line of the nodes, 1, 2, ... above it, -1, -2, ... below.

    Two edges share no lane of a gap. What leaves state 0 runs above, what leaves state 1 below;
    the sides of the other edges are those of few crossings, then of few lanes.

    Examples
    --------
    >>> lanes([Edge(0, 2, ("conv",)), Edge(1, 2, ("conv",)), Edge(2, 3, ("conv",))])
    [1, -1, 0]
    """
    sides = [{0: 1, 1: -1}.get(edge.source, 1) for edge in edges]
    straight: set[range] = set()
    for i, edge in enumerate(edges):
        if edge.source >= NUM_INPUTS and len(edge.gaps) == 1 and edge.gaps not in straight:
            straight.add(edge.gaps)
            sides[i] = 0
    free = [i for i, edge in enumerate(edges) if edge.source >= NUM_INPUTS and sides[i]]
    best = _pack(edges, sides)
    least = _disorder(edges, best)
    improved = True
    while improved:
        improved = False
        for i in free:
            sides[i] = -sides[i]
            packed = _pack(edges, sides)
            disorder = _disorder(edges, packed)
            if disorder < least:
                best, least, improved = packed, disorder, True
            else:
                sides[i] = -sides[i]
    return best


def _pack(edges: Sequence[Edge], sides: Sequence[int]) -> list[int]:
    """Give each edge the innermost free lane of its side, the shorter edges first."""
    taken: set[tuple[int, int]] = set()
    packed = [0] * len(edges)
    for i in sorted(range(len(edges)), key=lambda i: (len(edges[i].gaps), -edges[i].source, i)):
        lane = sides[i]
        while lane and any((gap, lane) in taken for gap in edges[i].gaps):
            lane += sides[i]
        taken |= {(gap, lane) for gap in edges[i].gaps}
        packed[i] = lane
    return packed


def _disorder(edges: Sequence[Edge], packed: Sequence[int]) -> tuple[int, int, int]:
    """Count crossings, lanes, and edges that pass below a node, where its output leaves it."""
    crossings = 0
    for passing, inner in zip(edges, packed, strict=True):
        between = passing.gaps[1:]  # the columns that it passes
        for other, outer in zip(edges, packed, strict=True):
            if inner * outer > 0 and abs(outer) > abs(inner):
                ends = (other.gaps.start, other.gaps.stop)
                crossings += sum(end in between for end in ends)
    below = sum(len(edge.gaps) - 1 for edge, lane in zip(edges, packed, strict=True) if lane < 0)
    return crossings, max(packed, default=0) - min(packed, default=0), below


def column(state: int) -> int:
    """Give the column in which a state stands: both inputs in the first."""
    return max(0, state - NUM_INPUTS + 1)
