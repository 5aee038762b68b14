"""Genotypes of DARTS cells: two inputs a node, one operation each."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from nni_robust.space.robnet_genotype import EDGES, NUM_NODES, edge_label

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
"""What an edge may carry: [RACL] Sec. 3.1."""

_STEP = re.compile(r"(\w+)\((\d+)\)")

ChosenEdge = tuple[int, int, str]
"""(source, target, operation)"""


def input_label(target: int) -> str:
    """Label of the choice of a node's inputs, within the scope of its cell.

    Examples
    --------
    >>> input_label(2)
    'input_2'
    """
    return f"input_{target}"


def chosen_edges(sample: Mapping[str, Any], scope: str) -> list[ChosenEdge]:
    """List the edges that a sample keeps in one kind of cell, by target and source.

    Parameters
    ----------
    sample
        From label to choice, of a :class:`nni_robust.space.RACLSpace`.
    scope
        ``normal`` or ``reduce``.
    """
    return [
        (source, target, str(sample[f"{scope}/{edge_label(source, target)}"]))
        for target in _targets()
        for source in sorted(sample[f"{scope}/{input_label(target)}"])
    ]


def encode_darts(sample: Mapping[str, Any]) -> list[str]:
    """Write a sample as two strings, the normal cell and the reduction cell.

    Returns
    -------
    list of str
        Nodes are parted by ``|``, the two inputs of a node by ``+``: an operation and the state
        that it reads, 0 and 1 being the outputs of the two previous cells.
    """
    genotypes = []
    for scope in SCOPES:
        edges = chosen_edges(sample, scope)
        nodes = [[f"{op}({i})" for i, j, op in edges if j == target] for target in _targets()]
        genotypes.append("|".join("+".join(node) for node in nodes))
    return genotypes


def decode_darts(genotypes: Sequence[str], unused: str = "none") -> dict[str, Any]:
    """Read the strings of :func:`encode_darts` as a sample.

    Parameters
    ----------
    genotypes
        Normal cell and reduction cell.
    unused
        What the sample names on the edges that are not kept.

    Raises
    ------
    ValueError
        If there are not two strings of four nodes with two different earlier inputs each.
    """
    if len(genotypes) != len(SCOPES):
        raise ValueError(
            f"genotypes must have {len(SCOPES)} strings, {' and '.join(SCOPES)} cell, "
            f"got {len(genotypes)}."
        )
    sample: dict[str, Any] = {}
    for scope, genotype in zip(SCOPES, genotypes, strict=True):
        sample.update({f"{scope}/{edge_label(*edge)}": unused for edge in EDGES})
        nodes = genotype.split("|")
        if len(nodes) != NUM_NODES:
            raise ValueError(f"genotype must have {NUM_NODES} nodes, got {genotype!r}.")
        for target, node in zip(_targets(), nodes, strict=True):
            steps = [_step(step, target) for step in node.split("+")]
            sources = sorted(source for source, _ in steps)
            if len(set(sources)) != INPUTS_PER_NODE or len(steps) != INPUTS_PER_NODE:
                raise ValueError(
                    f"genotype must give every node {INPUTS_PER_NODE} different inputs, such as "
                    f"sep_conv_3x3(0)+skip_connect(1), got {node!r}."
                )
            sample[f"{scope}/{input_label(target)}"] = sources
            for source, operation in steps:
                sample[f"{scope}/{edge_label(source, target)}"] = operation
    return sample


def to_hub(sample: Mapping[str, Any]) -> dict[str, Any]:
    """Write a sample as one of ``nni.nas.hub.pytorch.DARTS``, whose inputs and operations differ.

    Returns
    -------
    dict
        ``normal/op_2_0`` and so on: the operation of a node's first input; ``normal/input_2_0``:
        the list of its one state.
    """
    hub: dict[str, Any] = {}
    for scope in SCOPES:
        edges = chosen_edges(sample, scope)
        for target in _targets():
            node = [(source, op) for source, j, op in edges if j == target]
            for place, (source, operation) in enumerate(node):
                hub[f"{scope}/op_{target}_{place}"] = operation
                hub[f"{scope}/input_{target}_{place}"] = [source]
    return hub


def from_hub(hub: Mapping[str, Any]) -> dict[str, Any]:
    """Read a sample of ``nni.nas.hub.pytorch.DARTS``; the inverse of :func:`to_hub`.

    Raises
    ------
    ValueError
        If a node reads the same state twice, which a cell of the search cannot.
    """
    genotypes = [
        "|".join(
            "+".join(
                f"{hub[f'{scope}/op_{target}_{place}']}({hub[f'{scope}/input_{target}_{place}'][0]})"
                for place in range(INPUTS_PER_NODE)
            )
            for target in _targets()
        )
        for scope in SCOPES
    ]
    return decode_darts(genotypes)


def _step(step: str, target: int) -> tuple[int, str]:
    match = _STEP.fullmatch(step)
    if match is None or match[1] not in OPERATIONS or not int(match[2]) < target:
        raise ValueError(
            f"genotype must consist of steps such as sep_conv_3x3(0), an operation of "
            f"{list(OPERATIONS)} and a state before {target}, got {step!r}."
        )
    return int(match[2]), match[1]


def _targets() -> range:
    return range(2, 2 + NUM_NODES)
