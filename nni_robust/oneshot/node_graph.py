"""The node graph of a supernet: which choices of operations enter which choice of inputs."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

# NNI's strategies must be imported before its one-shot ones; see path_sampling.py.
import nni.nas.strategy  # noqa: F401  # isort: skip
from nni.nas.hub.pytorch.modules import NasBench201Cell
from nni.nas.nn.pytorch import Cell, InputChoice, LayerChoice
from torch import nn

from nni_robust.check import SettingError
from nni_robust.oneshot.mixture import LogNormalMixedCell, LogNormalMixedInput, LogNormalMixedLayer
from nni_robust.oneshot.node import MixedNode


@runtime_checkable
class JoinsChoices(Protocol):
    """A module that says which of its choices of operations enter which choice of inputs.

    A space writes this method to make its nodes known to the bound. Without it, every choice is
    one factor of the bound.
    """

    def lipschitz_nodes(self) -> list[tuple[nn.Module | None, list[nn.Module]]]:
        """Return one entry per node: its InputChoice, or None, and the LayerChoices it adds."""


def count_candidates(space: Any) -> dict[str, int]:
    """Count the candidates of every choice that gets a row of weights.

    Parameters
    ----------
    space
        A module, before it becomes a supernet.

    Returns
    -------
    dict
        From the label of a row of weights to its length; empty if the space has no choices.

    Raises
    ------
    SettingError
        If the choices of a Cell do not determine its nodes.
    """
    sizes: dict[str, int] = {}
    if type(space) is Cell and not _has_one_twin(space) and space.num_ops_per_node > 1:
        raise SettingError(
            f"must be built of callables that make its operations, or take one operation per node, "
            f"got modules and {space.num_ops_per_node} per node: its choices do not tell which of "
            "them are added.",
            f"Cell {str(space.label)!r}",
        )
    if type(space) is LayerChoice:
        sizes[str(space.label)] = len(space.names)
    elif type(space) is InputChoice:
        sizes[str(space.label)] = space.n_candidates
    elif type(space) is Cell and _has_one_twin(space):
        count = len(space.op_candidates_factory or space.ops[-1][-1].names)
        for target in range(space.num_predecessors, space.num_predecessors + space.num_nodes):
            sizes[f"{space.label}/input_{target}"] = target
            for source in range(target):
                sizes[f"{space.label}/edge_{source}_{target}"] = count
        return sizes
    for child in space.children():
        sizes.update(count_candidates(child))
    return sizes


def connect_choices(supernet: nn.Module) -> list[MixedNode]:
    """Connect the choices of a supernet: return its nodes, and tell every input twin its node.

    Call this once, right after the choices were replaced by their twins. The input twins need
    their nodes to export: an input is ranked together with the best operation on its edge.

    Parameters
    ----------
    supernet
        A space whose choices were replaced by their twins.

    Returns
    -------
    list of MixedNode
        Every choice is in exactly one of them.
    """
    nodes: list[MixedNode] = []
    for module in supernet.modules():
        if isinstance(module, LogNormalMixedCell):
            nodes.extend(module.nodes)
        elif isinstance(module, JoinsChoices):
            nodes.extend(_connect(choice, layers) for choice, layers in module.lipschitz_nodes())
        elif isinstance(module, NasBench201Cell):
            nodes.extend(_connect(None, list(layers)) for layers in module.layers)
    joined = {id(edge) for node in nodes for edge in node.edges} | {id(node) for node in nodes}
    for module in supernet.modules():
        if isinstance(module, LogNormalMixedLayer) and id(module.edge) not in joined:
            nodes.append(MixedNode(None, [module.edge]))
        elif isinstance(module, LogNormalMixedInput) and id(module.node) not in joined:
            nodes.append(module.node)
    return nodes


def _connect(choice: Any, layers: list[Any]) -> MixedNode:
    edges = [layer.edge for layer in layers]
    if choice is None:
        return MixedNode(None, edges)
    choice.node = MixedNode(choice.node.label, edges)
    return choice.node  # type: ignore[no-any-return]


def _has_one_twin(cell: Cell) -> bool:
    # NNI's rule: in all other cells, every choice gets its own twin.
    return cell.op_candidates_factory is not None or cell.merge_op == "loose_end"
