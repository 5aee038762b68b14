"""The cells of our spaces: two inputs, four nodes, an edge from every state to each later node."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from nni.nas.nn.pytorch import ChosenInputs, InputChoice, LayerChoice, MutableModule
from torch import Tensor, nn
from torch.nn import functional

from nni_robust.op import OPS, FactorizedReduce
from nni_robust.op.conv import ReLUConvBN
from nni_robust.space.darts_genotype import INPUTS_PER_NODE, input_label
from nni_robust.space.edge import EDGES, NODES, NUM_INPUTS, edge_label
from nni_robust.space.layout import CellPlan
from nni_robust.space.multi_op import MultiOp, MultiOpEdge
from nni_robust.space.robnet_genotype import OPERATIONS

_KEYS = {"conv": "sep_conv_3x3", "identity": "skip_connect"}  # names in the table of operations


class DenseCell(nn.Module, ABC):
    """The part that all cells share: each node is computed from the states before it.

    Parameters
    ----------
    plan
        Width, channels of the inputs, and strides.
    affine
        Whether the batch norms have weights.
    """

    def __init__(self, plan: CellPlan, *, affine: bool = False) -> None:
        super().__init__()
        older, newer = plan.in_channels
        reduce = FactorizedReduce if plan.previous_reduction else ReLUConvBN
        self.preprocess_0: nn.Module = reduce(older, plan.width, affine=affine)
        self.preprocess_1 = ReLUConvBN(newer, plan.width, affine=affine)
        self.edges = nn.ModuleDict()

    def forward(self, s0: Tensor, s1: Tensor) -> Tensor:
        """Map the two inputs to the concatenated nodes, (N, 4C, H, W)."""
        states = [self.preprocess_0(s0), self.preprocess_1(s1)]
        for _ in NODES:
            states.append(self._node(states))
        return torch.cat(states[NUM_INPUTS:], 1)

    @abstractmethod
    def _node(self, states: list[Tensor]) -> Tensor:
        """Return the next node, computed from the states before it."""

    def _edge(self, source: int, target: int) -> Any:
        return self.edges[edge_label(source, target)]


class RobNetCell(DenseCell):
    """A cell whose edges carry any subset of operations. A node is the sum of its edges.

    Parameters
    ----------
    plan
        Width, channels of the inputs, and strides.
    default
        The operations that run on each edge until the space is frozen.
    """

    def __init__(self, plan: CellPlan, *, default: Mapping[tuple[int, int], Sequence[str]]) -> None:
        super().__init__(plan)
        for source, target in EDGES:
            stride = plan.stride(source)
            label = edge_label(source, target)
            self.edges[label] = MultiOpEdge(
                {name: OPS[_KEYS[name]](plan.width, stride) for name in OPERATIONS},
                channels=plan.width,
                stride=stride,
                label=label,
                default=default[source, target],
            )

    def _node(self, states: list[Tensor]) -> Tensor:
        incoming: list[MultiOp | MultiOpEdge] = [
            self._edge(source, len(states)) for source in range(len(states))
        ]
        # An edge without operations adds zeros. They are needed only if the node has no other edge.
        live = [source for source, edge in enumerate(incoming) if edge.active] or [0]
        total: Tensor = incoming[live[0]](states[live[0]])
        for source in live[1:]:
            total = total + incoming[source](states[source])
        return total


class RACLCell(DenseCell, MutableModule):  # type: ignore[misc]  # NNI is untyped
    r"""A cell made of NNI's own choices: one operation per edge, two inputs per node.

    In a supernet a node is

    .. math::

        I^{(j)} = \sum_{i < j} \beta^{(i, j)} \sum_o \alpha_o^{(i, j)} o(I^{(i)}).

    In a frozen cell it is the sum of the two chosen inputs, each through its chosen operation, and
    the other edges are removed. Every strategy of NNI that supports LayerChoice and InputChoice
    can search this cell.

    Parameters
    ----------
    plan
        Width, channels of the inputs, and strides.
    operations
        Keys of :data:`nni_robust.op.OPS`.
    partial_channels
        K: operations are applied to one channel in K, and the other channels bypass them.
    affine
        Whether the batch norms have weights; see :data:`nni_robust.op.OPS`.

    Notes
    -----
    [RACL] Eq. 5. Partial channels are those of PC-DARTS, which the paper uses in its search.
    """

    def __init__(
        self,
        plan: CellPlan,
        *,
        operations: Sequence[str],
        partial_channels: int = 1,
        affine: bool = False,
    ) -> None:
        super().__init__(plan, affine=affine)
        self.inputs = nn.ModuleDict()
        for target in NODES:
            label = input_label(target)
            choice = InputChoice(target, n_chosen=INPUTS_PER_NODE, reduction="sum", label=label)
            self.inputs[label] = choice
            for source in _sources(choice, target):
                stride = plan.stride(source)
                self.edges[edge_label(source, target)] = PartialChannels(
                    LayerChoice(
                        {
                            name: OPS[name](plan.width // partial_channels, stride, affine)
                            for name in operations
                        },
                        label=edge_label(source, target),
                    ),
                    share=partial_channels,
                    stride=stride,
                )

    def freeze(self, sample: dict[str, Any]) -> nn.Module:
        """Return the cell of a sample, without the edges that are not chosen."""
        frozen = super().freeze(sample)
        for target in NODES:
            kept = _sources(frozen.inputs[input_label(target)], target)
            for source in set(range(target)) - set(kept):
                del frozen.edges[edge_label(source, target)]
        return frozen  # type: ignore[no-any-return]

    def lipschitz_nodes(self) -> list[tuple[nn.Module, list[nn.Module]]]:
        """Return, for each node, its choice of inputs and the operation choices of its edges.

        Returns
        -------
        list of (InputChoice, list of LayerChoice)
            One entry per node. A supernet has its twins of these modules, and a frozen cell the
            modules that were chosen.
        """
        nodes = []
        for target in NODES:
            choice = self.inputs[input_label(target)]
            edges = [self._edge(source, target) for source in _sources(choice, target)]
            nodes.append((choice, [edge.operation for edge in edges]))
        return nodes

    def _node(self, states: list[Tensor]) -> Tensor:
        target = len(states)
        choice = self.inputs[input_label(target)]
        sources = _sources(choice, target)
        candidates = [
            self._edge(source, target)(states[source]) if source in sources else None
            for source in range(target)
        ]
        return choice(candidates)  # type: ignore[no-any-return]


def _sources(choice: nn.Module, target: int) -> Sequence[int]:
    """Return the states that a node reads: all before it, until its inputs are chosen."""
    return choice.chosen if isinstance(choice, ChosenInputs) else range(target)


class PartialChannels(nn.Module):
    """Apply an operation to one channel in K, let the others bypass it, and shuffle all channels.

    Parameters
    ----------
    operation
        Maps (N, C / K, H, W) to (N, C / K, H / stride, W / stride).
    share
        K; 1 applies the operation to all channels.
    stride
        At stride 2 the bypassing channels go through a 2x2 max pooling.

    Notes
    -----
    Xu et al., *PC-DARTS*, ICLR 2020.
    """

    def __init__(self, operation: nn.Module, *, share: int, stride: int) -> None:
        super().__init__()
        self.operation = operation
        self.share = share
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, H / stride, W / stride)."""
        if self.share == 1:
            return self.operation(x)  # type: ignore[no-any-return]
        count = x.shape[1] // self.share
        seen, bypassing = x[:, :count], x[:, count:]
        if self.stride > 1:
            bypassing = functional.max_pool2d(bypassing, 2, self.stride, ceil_mode=True)
        y = torch.cat([self.operation(seen), bypassing], 1)
        n, c, h, w = y.shape
        return y.view(n, self.share, c // self.share, h, w).transpose(1, 2).reshape(n, c, h, w)
