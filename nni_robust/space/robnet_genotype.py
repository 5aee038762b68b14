"""Genotypes of RobNet cells: the codes printed with the paper, and the measures of a cell.

A genotype is a string with a code of two characters per edge, in the order of
:data:`nni_robust.space.edge.EDGES`. The first character of a code is 1 if the edge carries the
identity, the second is 1 if it carries the convolution.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nni_robust.check import SettingError
from nni_robust.space.edge import EDGES, NODES, Edge

DIRECT_EDGES: tuple[int, ...] = tuple(
    position for position, (source, target) in enumerate(EDGES) if target == source + 1
)
"""Positions of the edges from a state to the next one. The other edges skip states."""

OPERATIONS = ("conv", "identity")
"""Operations of an edge, in the order of its mutable."""

_BITS = {"identity": 0, "conv": 1}


def encode_cell(edges: Mapping[tuple[int, int], Sequence[str]]) -> str:
    """Return the genotype of a cell.

    Parameters
    ----------
    edges
        Maps each edge to the operations that are present, from ``conv`` and ``identity``.

    Returns
    -------
    str
        28 characters, each 0 or 1.
    """
    return "".join(
        f"{int('identity' in edges[edge])}{int('conv' in edges[edge])}" for edge in EDGES
    )


def decode_cell(genotype: str) -> dict[tuple[int, int], list[str]]:
    """Return the operations of each edge; the inverse of :func:`encode_cell`.

    Raises
    ------
    SettingError
        If the string is not 28 characters of 0 and 1.
    """
    if len(genotype) != 2 * len(EDGES) or set(genotype) - {"0", "1"}:
        raise SettingError(
            f"must be {2 * len(EDGES)} characters of 0 and 1, two for each of the {len(EDGES)} "
            f"edges, got {genotype!r}.",
            "genotype",
        )
    return {
        edge: [op for op in OPERATIONS if genotype[2 * i + _BITS[op]] == "1"]
        for i, edge in enumerate(EDGES)
    }


def robnet_edges(genotype: str) -> list[Edge]:
    """Return the 14 edges of a cell, including those without operations."""
    return [
        Edge(source, target, tuple(operations))
        for (source, target), operations in decode_cell(genotype).items()
    ]


def num_operations(genotype: str, operation: str) -> int:
    """Return the number of edges that carry an operation, ``conv`` or ``identity``."""
    return genotype[_BITS[operation] :: 2].count("1")


def density(genotypes: Sequence[str]) -> float:
    r"""Return the share of the possible operations that are present.

    .. math:: D = \frac{1}{28} \sum_{(i, j), k} \alpha_k^{(i, j)}

    averaged over the cells.

    Notes
    -----
    [RobNets] Eq. 2. The paper writes :math:`|E|` for the denominator. Since the sum also runs over
    operations, this is the number of pairs of edge and operation.

    Examples
    --------
    >>> density(["1111111111011101101101010111"])
    0.7857142857142857
    """
    return sum(genotype.count("1") for genotype in genotypes) / (28 * len(genotypes))


def direct_edge_share(genotypes: Sequence[str]) -> float:
    """Return the share of the direct edges that carry a convolution, over all cells.

    With this reading of "portion of direct convolutions" the published networks reach the paper's
    threshold of 0.5. The other reading is :func:`direct_convolution_share`.
    """
    direct = sum(_direct_convolutions(genotype) for genotype in genotypes)
    return direct / (len(DIRECT_EDGES) * len(genotypes))


def direct_convolution_share(genotypes: Sequence[str]) -> float:
    """Return the share of the convolutions that are on direct edges, over all cells.

    It is 0 without convolutions. This is the horizontal axis of [RobNets] Fig. 6(b).
    """
    total = sum(num_operations(genotype, "conv") for genotype in genotypes)
    return sum(_direct_convolutions(genotype) for genotype in genotypes) / max(total, 1)


def mean_convolutions(genotypes: Sequence[str]) -> float:
    """Return the mean number of convolutions per cell."""
    return sum(num_operations(genotype, "conv") for genotype in genotypes) / len(genotypes)


def is_dead(genotype: str) -> bool:
    """Return whether no edge of the cell carries an operation, so that its output is zero."""
    return "1" not in genotype


def is_connected(genotype: str) -> bool:
    """Return whether every node of the cell has at least one input."""
    targets = {target for (_, target), operations in decode_cell(genotype).items() if operations}
    return targets == set(NODES)


def genotype_metrics(genotypes: Sequence[str]) -> dict[str, float]:
    """Return the measures of an architecture that the paper's figures show.

    Returns
    -------
    dict
        ``density``; ``direct``, see :func:`direct_edge_share`; and ``num_convolutions``, the mean
        number of convolutions per cell.
    """
    return {
        "density": density(genotypes),
        "direct": direct_edge_share(genotypes),
        "num_convolutions": mean_convolutions(genotypes),
    }


def _direct_convolutions(genotype: str) -> int:
    return sum(genotype[2 * position + _BITS["conv"]] == "1" for position in DIRECT_EDGES)
