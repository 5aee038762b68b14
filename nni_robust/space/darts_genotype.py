"""Genotypes of DARTS cells: each node has two inputs, each through one operation.

A genotype is a string. Its nodes are separated by ``|`` and the two inputs of a node by ``+``. An
input is an operation and the state that it reads, such as ``sep_conv_3x3(0)``; states 0 and 1 are
the outputs of the two previous cells.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from nni_robust.check import SettingError
from nni_robust.space.edge import EDGES, NODES, NUM_INPUTS, NUM_NODES, Edge, edge_label

SCOPES = ("normal", "reduce")
"""Label scopes of the two kinds of cells, in the order of their genotypes."""

INPUTS_PER_NODE = 2

OPERATIONS = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
"""Operations that an edge may carry: [RACL] Sec. 3.1."""

_STEP = re.compile(r"(\w+)\((\d+)\)")


def input_label(target: int) -> str:
    """Return the label of the choice of a node's inputs, within the label scope of its cell.

    Examples
    --------
    >>> input_label(2)
    'input_2'
    """
    return f"input_{target}"


def chosen_edges(sample: Mapping[str, Any], scope: str) -> list[Edge]:
    """Return the edges that a sample keeps in one kind of cell, sorted by target and source.

    Parameters
    ----------
    sample
        Maps labels of a :class:`nni_robust.space.RACLSpace` to choices.
    scope
        ``normal`` or ``reduce``.
    """
    return [
        Edge(source, target, (str(sample[f"{scope}/{edge_label(source, target)}"]),))
        for target in NODES
        for source in sorted(sample[f"{scope}/{input_label(target)}"])
    ]


def encode_darts(sample: Mapping[str, Any]) -> list[str]:
    """Return the genotypes of a sample: the normal cell and the reduction cell."""
    genotypes = []
    for scope in SCOPES:
        edges = chosen_edges(sample, scope)
        nodes = [[f"{e.label}({e.source})" for e in edges if e.target == node] for node in NODES]
        genotypes.append("|".join("+".join(node) for node in nodes))
    return genotypes


def decode_darts(genotypes: Sequence[str], unused: str = "none") -> dict[str, Any]:
    """Return the sample of two genotypes; the inverse of :func:`encode_darts`.

    Parameters
    ----------
    genotypes
        Normal cell and reduction cell.
    unused
        Operation that the sample holds for the edges that are not kept.

    Raises
    ------
    SettingError
        If there are not two strings of four nodes with two different earlier inputs each.
    """
    if len(genotypes) != len(SCOPES):
        raise SettingError(
            f"must have {len(SCOPES)} strings, {' and '.join(SCOPES)} cell, got {len(genotypes)}.",
            "genotypes",
        )
    sample: dict[str, Any] = {}
    for scope, genotype in zip(SCOPES, genotypes, strict=True):
        sample.update({f"{scope}/{edge_label(*edge)}": unused for edge in EDGES})
        nodes = genotype.split("|")
        if len(nodes) != NUM_NODES:
            raise SettingError(f"must have {NUM_NODES} nodes, got {genotype!r}.", "genotype")
        for target, node in zip(NODES, nodes, strict=True):
            steps = [_read_step(step, target) for step in node.split("+")]
            sources = sorted(source for source, _ in steps)
            if len(set(sources)) != INPUTS_PER_NODE or len(steps) != INPUTS_PER_NODE:
                raise SettingError(
                    f"must give every node {INPUTS_PER_NODE} different inputs, such as "
                    f"sep_conv_3x3(0)+skip_connect(1), got {node!r}.",
                    "genotype",
                )
            sample[f"{scope}/{input_label(target)}"] = sources
            for source, operation in steps:
                sample[f"{scope}/{edge_label(source, target)}"] = operation
    return sample


def darts_edges(genotype: str) -> list[Edge]:
    """Return the edges of a cell in the order of its genotype.

    The cell may have any number of nodes and any operations, and a node may read a state twice.

    Examples
    --------
    >>> darts_edges("skip_connect(1)+conv_7x1_1x7(0)")[1]
    Edge(source=0, target=2, operations=('conv_7x1_1x7',), weight=None)
    """
    return [
        Edge(int(source), target, (operation,))
        for target, node in enumerate(genotype.split("|"), start=NUM_INPUTS)
        for operation, source in _STEP.findall(node)
    ]


def _read_step(step: str, target: int) -> tuple[int, str]:
    match = _STEP.fullmatch(step)
    if match is None or match[1] not in OPERATIONS or not int(match[2]) < target:
        raise SettingError(
            f"must consist of steps such as sep_conv_3x3(0), an operation of {list(OPERATIONS)} "
            f"and a state before {target}, got {step!r}.",
            "genotype",
        )
    return int(match[2]), match[1]
