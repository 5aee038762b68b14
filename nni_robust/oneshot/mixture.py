"""Choices that are weighed instead of being made: the supernet's twins of NNI's primitives."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

# NNI's strategies must be imported before its one-shot ones; see path_sampling.py.
import nni.nas.strategy  # noqa: F401  # isort: skip
import torch
from nni.nas.hub.pytorch.modules import NasBench201Cell
from nni.nas.nn.pytorch import Cell, InputChoice, LayerChoice
from nni.nas.oneshot.pytorch.supermodule.base import BaseSuperNetModule
from nni.nas.oneshot.pytorch.supermodule.sampling import PathSamplingCell
from torch import Tensor, nn

from nni_robust.oneshot.lognormal import LogNormalWeights
from nni_robust.oneshot.node import MixedEdge, MixedNode, weighted_sum


class LogNormalMixedLayer(LayerChoice, BaseSuperNetModule):  # type: ignore[misc]
    r"""The supernet's twin of a LayerChoice: :math:`\sum_o \alpha_o o(x)`."""

    def __init__(
        self, paths: Mapping[str, nn.Module], weights: LogNormalWeights, label: str
    ) -> None:
        super().__init__(paths, label=label)
        self.edge = MixedEdge(str(label), {str(name): self[name] for name in self.names})
        _attach(self, weights)

    def forward(self, x: Tensor) -> Tensor:
        """Add the operations, each times its weight."""
        return self.edge.mix(x, self._weights[str(self.label)])

    def resample(self, memo: dict[str, Any]) -> dict[str, Any]:
        """Choose nothing: all candidates are weighed."""
        return {}

    def export(self, memo: dict[str, Any]) -> dict[str, Any]:
        """Give the operation that ranks first, never one that gives zeros."""
        if self.label in memo:
            return {}
        _, name = self.edge.best(self._weights)
        return {self.label: self.names[list(self.edge.operations).index(name)]}

    def export_probs(self, memo: dict[str, Any]) -> dict[str, Any]:
        """Give the share of every operation in the sum of the medians."""
        return _shares(self._weights, self.label, self.names, memo, self.edge.live())

    @classmethod
    def mutate(
        cls, module: Any, name: str, memo: dict[str, Any], mutate_kwargs: dict[str, Any]
    ) -> LogNormalMixedLayer | None:
        """Replace a LayerChoice; NNI's hook, called on every module of a space."""
        if type(module) is not LayerChoice:
            return None
        return cls(module.candidates, mutate_kwargs["weights"], module.label)


class LogNormalMixedInput(InputChoice, BaseSuperNetModule):  # type: ignore[misc]
    r"""The supernet's twin of an InputChoice: :math:`\sum_i \beta_i x_i`."""

    def __init__(
        self, n_candidates: int, n_chosen: int | None, weights: LogNormalWeights, label: str
    ) -> None:
        super().__init__(n_candidates, n_chosen=n_chosen, label=label)
        unknown = [MixedEdge(None, {"input": nn.Identity()}) for _ in range(n_candidates)]
        self.node = MixedNode(str(label), unknown)
        _attach(self, weights)

    def forward(self, candidate_inputs: list[Tensor]) -> Tensor:
        """Add the inputs, each times its weight."""
        return weighted_sum(list(self._weights[str(self.label)]), candidate_inputs)

    def resample(self, memo: dict[str, Any]) -> dict[str, Any]:
        """Choose nothing: all inputs are weighed."""
        return {}

    def export(self, memo: dict[str, Any]) -> dict[str, Any]:
        """Give the inputs that rank first, each with the best operation on its edge."""
        if self.label in memo:
            return {}
        return {self.label: sorted(self.node.order(self._weights)[: self.n_chosen])}

    def export_probs(self, memo: dict[str, Any]) -> dict[str, Any]:
        """Give the share of every input in the sum of the medians."""
        return _shares(self._weights, self.label, range(self.n_candidates), memo)

    @classmethod
    def mutate(
        cls, module: Any, name: str, memo: dict[str, Any], mutate_kwargs: dict[str, Any]
    ) -> LogNormalMixedInput | None:
        """Replace an InputChoice; NNI's hook, called on every module of a space."""
        if type(module) is not InputChoice:
            return None
        if module.reduction not in ("sum", "mean") or module.n_chosen is None:
            raise ValueError(
                f"InputChoice {str(module.label)!r} must choose a number of inputs and add them, "
                f"got n_chosen={module.n_chosen!r} and reduction={module.reduction!r}."
            )
        weights = mutate_kwargs["weights"]
        return cls(module.n_candidates, module.n_chosen, weights, module.label)


class LogNormalMixedCell(PathSamplingCell):  # type: ignore[misc]
    """The supernet's twin of NNI's Cell: every operation on every edge, alpha and beta on each.

    Labels of the weights are ``CELL/edge_0_2`` and ``CELL/input_2``; the sample that is exported
    has the labels of the cell.
    """

    def __init__(
        self,
        op_factory: Any,
        num_nodes: int,
        num_ops_per_node: int,
        num_predecessors: int,
        preprocessor: Any,
        postprocessor: Any,
        concat_dim: int,
        memo: dict[str, Any],
        mutate_kwargs: dict[str, Any],
        label: str,
    ) -> None:
        super().__init__(
            op_factory,
            num_nodes,
            num_ops_per_node,
            num_predecessors,
            preprocessor,
            postprocessor,
            concat_dim,
            memo,
            mutate_kwargs,
            label,
        )
        self.nodes = [
            MixedNode(
                f"{self.label}/input_{target}",
                [
                    MixedEdge(f"{self.label}/edge_{source}_{target}", dict(operations))
                    for source, operations in enumerate(incoming)
                ],
            )
            for target, incoming in enumerate(self.ops, start=num_predecessors)
        ]
        _attach(self, mutate_kwargs["weights"])

    def forward(self, *inputs: Any) -> Any:
        """Run the cell with all of its operations."""
        given = list(inputs[0]) if len(inputs) == 1 else list(inputs)
        states = list(self.preprocessor(given))
        for node in self.nodes:
            beta = self._weights[str(node.label)]
            edges = [
                edge.mix(state, self._weights[str(edge.label)])
                for edge, state in zip(node.edges, states, strict=True)
            ]
            states.append(weighted_sum(list(beta), edges))
        merged = torch.cat(states[self.num_predecessors :], self.concat_dim)
        return self.postprocessor(merged, given)

    def resample(self, memo: dict[str, Any]) -> dict[str, Any]:
        """Choose nothing: all candidates are weighed."""
        return {}

    def export(self, memo: dict[str, Any]) -> dict[str, Any]:
        """Give every node its best inputs, all different, each with its best operation."""
        sample: dict[str, Any] = {}
        for target, node in enumerate(self.nodes, start=self.num_predecessors):
            order = node.order(self._weights)
            for place in range(self.num_ops_per_node):
                source = order[place % target]
                edge = node.edges[source]
                _, name = edge.best(self._weights)
                sample[f"{self.label}/op_{target}_{place}"] = name
                sample[f"{self.label}/input_{target}_{place}"] = [source]
        return {label: choice for label, choice in sample.items() if label not in memo}

    def export_probs(self, memo: dict[str, Any]) -> dict[str, Any]:
        """Give the shares of operations and inputs in the sums of the medians."""
        probs: dict[str, Any] = {}
        for node in self.nodes:
            for edge in node.edges:
                names = list(edge.operations)
                probs.update(_shares(self._weights, edge.label, names, memo, edge.live()))
            probs.update(_shares(self._weights, node.label, range(len(node.edges)), memo))
        return probs


@runtime_checkable
class JoinsChoices(Protocol):
    """A module that says which of its choices of operations enter which choice of inputs.

    A space of one's own writes this method where the bound is to know its nodes; otherwise every
    choice counts as a factor of its own.
    """

    def lipschitz_nodes(self) -> list[tuple[nn.Module | None, list[nn.Module]]]:
        """Give one entry a node: its InputChoice, or None, and the LayerChoices that it adds."""


def count_candidates(space: Any) -> dict[str, int]:
    """Count the candidates of every choice of a space that can be weighed.

    Parameters
    ----------
    space
        A module, before it is turned into a supernet.

    Returns
    -------
    dict
        From the label of a row of weights to its length. Empty if there is nothing to weigh.

    Raises
    ------
    ValueError
        If there is a Cell whose nodes cannot be told from its choices.
    """
    sizes: dict[str, int] = {}
    if type(space) is Cell and not _becomes_one_twin(space) and space.num_ops_per_node > 1:
        raise ValueError(
            f"Cell {str(space.label)!r} must be built of callables that make its operations, or "
            f"take one operation a node, got modules and {space.num_ops_per_node} a node: which of "
            "them are added cannot be seen in its choices."
        )
    if type(space) is LayerChoice:
        sizes[str(space.label)] = len(space.names)
    elif type(space) is InputChoice:
        sizes[str(space.label)] = space.n_candidates
    elif type(space) is Cell and _becomes_one_twin(space):
        count = len(space.op_candidates_factory or space.ops[-1][-1].names)
        for target in range(space.num_predecessors, space.num_predecessors + space.num_nodes):
            sizes[f"{space.label}/input_{target}"] = target
            for source in range(target):
                sizes[f"{space.label}/edge_{source}_{target}"] = count
        return sizes
    for child in space.children():
        sizes.update(count_candidates(child))
    return sizes


def _becomes_one_twin(cell: Cell) -> bool:
    # NNI's rule: the choices of all other cells get twins of their own.
    return cell.op_candidates_factory is not None or cell.merge_op == "loose_end"


def mixed_nodes(supernet: nn.Module) -> list[MixedNode]:
    """List the nodes of a supernet, every choice in exactly one of them.

    Parameters
    ----------
    supernet
        Whose choices were replaced by their twins.
    """
    nodes: list[MixedNode] = []
    for module in supernet.modules():
        if isinstance(module, LogNormalMixedCell):
            nodes.extend(module.nodes)
        elif isinstance(module, JoinsChoices):
            nodes.extend(_join(choice, layers) for choice, layers in module.lipschitz_nodes())
        elif isinstance(module, NasBench201Cell):
            nodes.extend(_join(None, list(layers)) for layers in module.layers)
    joined = {id(edge) for node in nodes for edge in node.edges} | {id(node) for node in nodes}
    for module in supernet.modules():
        if isinstance(module, LogNormalMixedLayer) and id(module.edge) not in joined:
            nodes.append(MixedNode(None, [module.edge]))
        elif isinstance(module, LogNormalMixedInput) and id(module.node) not in joined:
            nodes.append(module.node)
    return nodes


def _join(choice: Any, layers: list[Any]) -> MixedNode:
    edges = [layer.edge for layer in layers]
    if choice is None:
        return MixedNode(None, edges)
    choice.node.edges = edges
    return choice.node  # type: ignore[no-any-return]


def _attach(twin: nn.Module, weights: LogNormalWeights) -> None:
    # Not as a submodule: the weights belong to the search, once, and not to each of its choices.
    object.__setattr__(twin, "_weights", weights)


def _shares(
    weights: LogNormalWeights,
    label: Any,
    names: Iterable[Any],
    memo: dict[str, Any],
    live: list[bool] | None = None,
) -> dict[str, Any]:
    if label in memo:
        return {}
    medians = weights.medians(str(label))
    if live is not None and any(live):  # what gives zeros is never chosen, whatever its weight
        medians = medians.masked_fill(~torch.tensor(live, device=medians.device), -math.inf)
    return {label: dict(zip(names, medians.softmax(0).tolist(), strict=True))}
