"""Genotypes of RobNet cells: the codes printed with the paper, and what they say.

A genotype is a string of 14 codes of two characters, one an edge; the first character stands
for the identity, the second for the convolution. Edges come in the order of :data:`EDGES`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

NUM_NODES = 4
EDGES: tuple[tuple[int, int], ...] = tuple(
    (source, target) for target in range(2, 2 + NUM_NODES) for source in range(target)
)
"""(source, target) of every edge; states 0 and 1 are the outputs of the two previous cells."""

DIRECT_EDGES: tuple[int, ...] = tuple(
    position for position, (source, target) in enumerate(EDGES) if target == source + 1
)
"""Positions of the edges from a state to the next one; the others skip states."""

OPERATIONS = ("conv", "identity")
"""What an edge may carry, in the order of its mutable."""

_BITS = {"identity": 0, "conv": 1}


def edge_label(source: int, target: int) -> str:
    """Label of an edge's mutable, within the scope of its cell.

    Examples
    --------
    >>> edge_label(0, 2)
    'edge_0_2'
    """
    return f"edge_{source}_{target}"


def encode_cell(edges: Mapping[tuple[int, int], Sequence[str]]) -> str:
    """Write the subsets of a cell's edges as a genotype string.

    Parameters
    ----------
    edges
        For every edge the operations that are present, of ``conv`` and ``identity``.

    Returns
    -------
    str
        28 characters, each 0 or 1.
    """
    return "".join(
        f"{int('identity' in edges[edge])}{int('conv' in edges[edge])}" for edge in EDGES
    )


def decode_cell(genotype: str) -> dict[tuple[int, int], list[str]]:
    """Read a genotype string; the inverse of :func:`encode_cell`.

    Raises
    ------
    ValueError
        If the string is not 28 characters of 0 and 1.
    """
    if len(genotype) != 2 * len(EDGES) or set(genotype) - {"0", "1"}:
        raise ValueError(
            f"genotype must be {2 * len(EDGES)} characters of 0 and 1, two for each of the "
            f"{len(EDGES)} edges, got {genotype!r}."
        )
    return {
        edge: [op for op in OPERATIONS if genotype[2 * i + _BITS[op]] == "1"]
        for i, edge in enumerate(EDGES)
    }


def num_operations(genotype: str, operation: str) -> int:
    """Count the edges of a cell that carry an operation, ``conv`` or ``identity``."""
    return genotype[_BITS[operation] :: 2].count("1")


def density(genotypes: Sequence[str]) -> float:
    r"""Share of the possible operations that are present.

    .. math:: D = \frac{1}{28} \sum_{(i, j), k} \alpha_k^{(i, j)}

    averaged over the cells.

    Notes
    -----
    [RobNets] Eq. 2. The paper writes :math:`|E|` for the denominator; since the sum runs over
    operations as well, it counts pairs of edge and operation.

    Examples
    --------
    >>> density(["1111111111011101101101010111"])
    0.7857142857142857
    """
    return sum(genotype.count("1") for genotype in genotypes) / (28 * len(genotypes))


def direct_edge_share(genotypes: Sequence[str]) -> float:
    """Share of the direct edges that carry a convolution, over all cells.

    The reading of "portion of direct convolutions" under which the published networks pass the
    paper's threshold of 0.5; see :func:`direct_convolution_share` for the other.
    """
    direct = sum(_direct_convolutions(genotype) for genotype in genotypes)
    return direct / (len(DIRECT_EDGES) * len(genotypes))


def direct_convolution_share(genotypes: Sequence[str]) -> float:
    """Share of the convolutions that lie on direct edges, over all cells; 0 without any.

    The axis of [RobNets] Fig. 6(b).
    """
    total = sum(num_operations(genotype, "conv") for genotype in genotypes)
    return sum(_direct_convolutions(genotype) for genotype in genotypes) / max(total, 1)


def mean_convolutions(genotypes: Sequence[str]) -> float:
    """Convolutions a cell, on average."""
    return sum(num_operations(genotype, "conv") for genotype in genotypes) / len(genotypes)


def is_dead(genotype: str) -> bool:
    """Whether no edge of the cell carries anything, so that its output is zero."""
    return "1" not in genotype


def is_connected(genotype: str) -> bool:
    """Whether every node of the cell has at least one input."""
    edges = decode_cell(genotype)
    fed = {target for (_, target), operations in edges.items() if operations}
    return fed == {target for _, target in EDGES}


def describe(genotypes: Sequence[str]) -> dict[str, Any]:
    """Summarise an architecture in the numbers of the paper's figures.

    Returns
    -------
    dict
        ``density``, ``direct`` (see :func:`direct_edge_share`), and ``convs``, the convolutions a
        cell on average.
    """
    return {
        "density": density(genotypes),
        "direct": direct_edge_share(genotypes),
        "convs": mean_convolutions(genotypes),
    }


def _direct_convolutions(genotype: str) -> int:
    return sum(genotype[2 * position + _BITS["conv"]] == "1" for position in DIRECT_EDGES)
