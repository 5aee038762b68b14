"""Lanes of a drawn cell: they carry its edges from left to right without overlaps.

The columns of a drawing are the states from left to right; both inputs are in column 0. Gap g is to
the right of column g. Lane 0 is the line of the nodes, lanes 1, 2, ... are above it and lanes
-1, -2, ... below it.
"""

from __future__ import annotations

from collections.abc import Sequence

from nni_robust.space.edge import NUM_INPUTS, Edge


def column(state: int) -> int:
    """Return the column of a state."""
    return max(0, state - NUM_INPUTS + 1)


def gaps(edge: Edge) -> range:
    """Return the gaps that an edge crosses."""
    return range(column(edge.source), column(edge.target))


def lanes(edges: Sequence[Edge]) -> list[int]:
    """Return the lane of every edge.

    No two edges share a lane in the same gap. Edges from state 0 are above the nodes and edges from
    state 1 below. The sides of the other edges are chosen for few crossings, then for few lanes.

    Examples
    --------
    >>> lanes([Edge(0, 2, ("conv",)), Edge(1, 2, ("conv",)), Edge(2, 3, ("conv",))])
    [1, -1, 0]
    """
    sides = [{0: 1, 1: -1}.get(edge.source, 1) for edge in edges]
    straight: set[range] = set()
    for i, edge in enumerate(edges):
        if edge.source >= NUM_INPUTS and len(gaps(edge)) == 1 and gaps(edge) not in straight:
            straight.add(gaps(edge))
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
    """Assign each edge the innermost free lane of its side, shorter edges first."""
    taken: set[tuple[int, int]] = set()
    packed = [0] * len(edges)
    for i in sorted(range(len(edges)), key=lambda i: (len(gaps(edges[i])), -edges[i].source, i)):
        lane = sides[i]
        while lane and any((gap, lane) in taken for gap in gaps(edges[i])):
            lane += sides[i]
        taken |= {(gap, lane) for gap in gaps(edges[i])}
        packed[i] = lane
    return packed


def _disorder(edges: Sequence[Edge], packed: Sequence[int]) -> tuple[int, int, int]:
    """Return the numbers of crossings, of lanes, and of edges below a node, where its output is."""
    crossings = 0
    for passing, inner in zip(edges, packed, strict=True):
        between = gaps(passing)[1:]  # the columns that it passes
        for other, outer in zip(edges, packed, strict=True):
            if inner * outer > 0 and abs(outer) > abs(inner):
                ends = (gaps(other).start, gaps(other).stop)
                crossings += sum(end in between for end in ends)
    below = sum(len(gaps(edge)) - 1 for edge, lane in zip(edges, packed, strict=True) if lane < 0)
    return crossings, max(packed, default=0) - min(packed, default=0), below
