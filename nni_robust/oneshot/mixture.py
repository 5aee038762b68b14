"""Supernet twins of NNI's choices: weighted sums of all candidates."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

# NNI's strategies must be imported before its one-shot ones; see path_sampling.py.
import nni.nas.strategy  # noqa: F401  # isort: skip
import torch
from nni.nas.nn.pytorch import InputChoice, LayerChoice
from nni.nas.oneshot.pytorch.supermodule.base import BaseSuperNetModule
from nni.nas.oneshot.pytorch.supermodule.sampling import PathSamplingCell
from torch import Tensor, nn

from nni_robust.check import SettingError
from nni_robust.oneshot.lognormal import CurrentWeights
from nni_robust.oneshot.node import MixedEdge, MixedNode, weighted_sum


class LogNormalMixedLayer(LayerChoice, BaseSuperNetModule):  # type: ignore[misc]
    r"""The supernet's twin of a LayerChoice: :math:`\sum_o \alpha_o o(x)`.

    Parameters
    ----------
    paths
        Candidate operations by name; they return the same shape, or zeros.
    weights
        The weights that the supernet uses.
    label
        Label of the choice, and of its row of weights.

    Notes
    -----
    [RACL] Eq. 5.
    """

    def __init__(self, paths: Mapping[str, nn.Module], weights: CurrentWeights, label: str) -> None:
        super().__init__(paths, label=label)
        self.edge = MixedEdge(str(label), {str(name): self[name] for name in self.names})
        self.weights = weights

    def forward(self, x: Tensor) -> Tensor:
        """Return the weighted sum of the operations."""
        return self.edge.mix(x, self.weights[str(self.label)])

    def resample(self, memo: dict[str, Any]) -> dict[str, Any]:
        """Choose nothing: all candidates are in the sum."""
        return {}

    def export(self, memo: dict[str, Any]) -> dict[str, Any]:
        """Return the operation that ranks first, never one that returns zeros."""
        if self.label in memo:
            return {}
        _, name = self.edge.best(self.weights.log_normal)
        return {self.label: self.names[list(self.edge.operations).index(name)]}

    def export_probs(self, memo: dict[str, Any]) -> dict[str, Any]:
        """Return the share of every operation in the sum of the medians."""
        return _shares(self.weights, self.label, self.names, memo, self.edge.live)

    @classmethod
    def mutate(
        cls, module: Any, name: str, memo: dict[str, Any], mutate_kwargs: dict[str, Any]
    ) -> LogNormalMixedLayer | None:
        """Replace a LayerChoice; NNI calls this hook on every module of a space."""
        if type(module) is not LayerChoice:
            return None
        return cls(module.candidates, mutate_kwargs["weights"], module.label)


class LogNormalMixedInput(InputChoice, BaseSuperNetModule):  # type: ignore[misc]
    r"""The supernet's twin of an InputChoice: :math:`\sum_i \beta_i x_i`.

    Parameters
    ----------
    n_candidates
        Number of inputs.
    n_chosen
        Number of inputs that are exported.
    weights
        The weights that the supernet uses.
    label
        Label of the choice, and of its row of weights.

    Attributes
    ----------
    node
        The edges behind the inputs;
        :func:`nni_robust.oneshot.node_graph.connect_choices` sets it.

    Notes
    -----
    [RACL] Eq. 5.
    """

    def __init__(
        self, n_candidates: int, n_chosen: int | None, weights: CurrentWeights, label: str
    ) -> None:
        super().__init__(n_candidates, n_chosen=n_chosen, label=label)
        unknown = [MixedEdge(None, {"input": nn.Identity()}) for _ in range(n_candidates)]
        self.node = MixedNode(str(label), unknown)
        self.weights = weights

    def forward(self, candidate_inputs: list[Tensor]) -> Tensor:
        """Return the weighted sum of the inputs."""
        return weighted_sum(list(self.weights[str(self.label)]), candidate_inputs)

    def resample(self, memo: dict[str, Any]) -> dict[str, Any]:
        """Choose nothing: all inputs are in the sum."""
        return {}

    def export(self, memo: dict[str, Any]) -> dict[str, Any]:
        """Return the inputs that rank first, each with the best operation on its edge."""
        if self.label in memo:
            return {}
        return {self.label: sorted(self.node.order(self.weights.log_normal)[: self.n_chosen])}

    def export_probs(self, memo: dict[str, Any]) -> dict[str, Any]:
        """Return the share of every input in the sum of the medians."""
        return _shares(self.weights, self.label, range(self.n_candidates), memo)

    @classmethod
    def mutate(
        cls, module: Any, name: str, memo: dict[str, Any], mutate_kwargs: dict[str, Any]
    ) -> LogNormalMixedInput | None:
        """Replace an InputChoice; NNI calls this hook on every module of a space."""
        if type(module) is not InputChoice:
            return None
        if module.reduction not in ("sum", "mean") or module.n_chosen is None:
            raise SettingError(
                f"must choose a fixed number of inputs and add them, got "
                f"n_chosen={module.n_chosen!r} and reduction={module.reduction!r}.",
                f"InputChoice {str(module.label)!r}",
            )
        weights = mutate_kwargs["weights"]
        return cls(module.n_candidates, module.n_chosen, weights, module.label)


class LogNormalMixedCell(PathSamplingCell):  # type: ignore[misc]
    """The supernet's twin of NNI's Cell: every edge has all operations, every node all inputs.

    The labels of the weights are ``CELL/edge_0_2`` (alpha) and ``CELL/input_2`` (beta). The
    exported sample has the labels of the cell.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        *_, mutate_kwargs, _ = arguments  # NNI passes all by position
        self.nodes = [
            MixedNode(
                f"{self.label}/input_{target}",
                [
                    MixedEdge(f"{self.label}/edge_{source}_{target}", dict(operations))
                    for source, operations in enumerate(incoming)
                ],
            )
            for target, incoming in enumerate(self.ops, start=self.num_predecessors)
        ]
        self.weights: CurrentWeights = mutate_kwargs["weights"]

    def forward(self, *inputs: Any) -> Any:
        """Run the cell with all its operations."""
        given = list(inputs[0]) if len(inputs) == 1 else list(inputs)
        states = list(self.preprocessor(given))
        for node in self.nodes:
            beta = self.weights[str(node.label)]
            edges = [
                edge.mix(state, self.weights[str(edge.label)])
                for edge, state in zip(node.edges, states, strict=True)
            ]
            states.append(weighted_sum(list(beta), edges))
        merged = torch.cat(states[self.num_predecessors :], self.concat_dim)
        return self.postprocessor(merged, given)

    def resample(self, memo: dict[str, Any]) -> dict[str, Any]:
        """Choose nothing: all candidates are in the sum."""
        return {}

    def export(self, memo: dict[str, Any]) -> dict[str, Any]:
        """Return the best inputs of every node, all different, each with its best operation."""
        sample: dict[str, Any] = {}
        for target, node in enumerate(self.nodes, start=self.num_predecessors):
            order = node.order(self.weights.log_normal)
            for place in range(self.num_ops_per_node):
                source = order[place % target]
                edge = node.edges[source]
                _, name = edge.best(self.weights.log_normal)
                sample[f"{self.label}/op_{target}_{place}"] = name
                sample[f"{self.label}/input_{target}_{place}"] = [source]
        return {label: choice for label, choice in sample.items() if label not in memo}

    def export_probs(self, memo: dict[str, Any]) -> dict[str, Any]:
        """Return the shares of operations and inputs in the sums of the medians."""
        probs: dict[str, Any] = {}
        for node in self.nodes:
            for edge in node.edges:
                names = list(edge.operations)
                probs.update(_shares(self.weights, edge.label, names, memo, edge.live))
            probs.update(_shares(self.weights, node.label, range(len(node.edges)), memo))
        return probs


def _shares(
    weights: CurrentWeights,
    label: Any,
    names: Iterable[Any],
    memo: dict[str, Any],
    live: list[bool] | None = None,
) -> dict[str, Any]:
    if label in memo:
        return {}
    medians = weights.log_normal.log_medians(str(label))
    if live is not None and any(live):  # an operation that returns zeros is never chosen
        medians = medians.masked_fill(~torch.tensor(live, device=medians.device), -math.inf)
    return {label: dict(zip(names, medians.softmax(0).tolist(), strict=True))}
