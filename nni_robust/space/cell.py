"""The cells of the spaces: two inputs, four nodes, an edge from every state to each later node."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from nni.nas.nn.pytorch import ChosenInputs, InputChoice, LayerChoice, MutableModule
from torch import Tensor, nn
from torch.nn import functional

from nni_robust.op import OPS, FactorizedReduce
from nni_robust.op.conv import ReLUConvBN
from nni_robust.space.darts_genotype import INPUTS_PER_NODE, input_label
from nni_robust.space.edge import MultiOp, MultiOpEdge
from nni_robust.space.layout import CellPlan
from nni_robust.space.robnet_genotype import EDGES, NUM_NODES, OPERATIONS, edge_label

_KEYS = {"conv": "sep_conv_3x3", "identity": "skip_connect"}  # in the table of operations


class DenseCell(nn.Module):
    """Four nodes, each made of the states before it: what all cells share.

    Parameters
    ----------
    plan
        Width, channels of the inputs, place among the reductions.
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
        for _ in range(NUM_NODES):
            states.append(self._node(states))
        return torch.cat(states[2:], 1)

    @abstractmethod
    def _node(self, states: list[Tensor]) -> Tensor:
        """Make the next node of the states before it."""

    def _edge(self, source: int, target: int) -> Any:
        return self.edges[edge_label(source, target)]


class RobNetCell(DenseCell):
    """A cell whose edges carry any subset of operations; a node is the sum of what enters it.

    Parameters
    ----------
    plan
        Width, channels of the inputs, place among the reductions.
    default
        For every edge the subset that stands for it until the space is frozen.
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
        # Edges that carry nothing add nothing: only a node without any input needs their zeros.
        live = [source for source, edge in enumerate(incoming) if edge.active] or [0]
        total: Tensor = incoming[live[0]](states[live[0]])
        for source in live[1:]:
            total = total + incoming[source](states[source])
        return total


class RACLCell(DenseCell, MutableModule):  # type: ignore[misc]  # NNI is untyped
    r"""A cell of NNI's own choices: one operation an edge, two inputs a node.

    .. math::

        I^{(j)} = \sum_{i < j} \beta^{(i, j)} \sum_o \alpha_o^{(i, j)} o(I^{(i)})

    in a supernet; frozen, the two inputs that are chosen, each with its one operation, and no edge
    besides. Every strategy of NNI's that knows LayerChoice and InputChoice can search it.

    Parameters
    ----------
    plan
        Width, channels of the inputs, place among the reductions.
    operations
        Keys of :data:`nni_robust.op.OPS`.
    partial_channels
        K: operations see one channel in K, the others pass by.
    affine
        Whether the batch norms have weights; see :data:`nni_robust.op.OPS`.

    Notes
    -----
    [RACL] Eq. 5; partial channels after PC-DARTS, with which the paper searches.
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
        for target in range(2, 2 + NUM_NODES):
            label = input_label(target)
            choice = InputChoice(target, n_chosen=INPUTS_PER_NODE, reduction="sum", label=label)
            self.inputs[label] = choice
            for source in _read(choice, target):
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
        """Return the cell of a sample: the edges that are not chosen are gone."""
        frozen = super().freeze(sample)
        for target in range(2, 2 + NUM_NODES):
            kept = _read(frozen.inputs[input_label(target)], target)
            for source in set(range(target)) - set(kept):
                del frozen.edges[edge_label(source, target)]
        return frozen  # type: ignore[no-any-return]

    def lipschitz_nodes(self) -> list[tuple[nn.Module, list[nn.Module]]]:
        """Say which choices of operations enter which choice of inputs.

        Returns
        -------
        list of (InputChoice, list of LayerChoice)
            One entry a node; in a supernet their twins, in a frozen cell what was chosen.
        """
        return [
            (
                self.inputs[input_label(target)],
                [
                    self._edge(source, target).operation
                    for source in _read(self.inputs[input_label(target)], target)
                ],
            )
            for target in range(2, 2 + NUM_NODES)
        ]

    def _node(self, states: list[Tensor]) -> Tensor:
        target = len(states)
        choice = self.inputs[input_label(target)]
        read = _read(choice, target)
        candidates = [
            self._edge(source, target)(states[source]) if source in read else None
            for source in range(target)
        ]
        return choice(candidates)  # type: ignore[no-any-return]


def _read(choice: nn.Module, target: int) -> Sequence[int]:
    """States that a node reads: all before it until its inputs are chosen."""
    return choice.chosen if isinstance(choice, ChosenInputs) else range(target)


class PartialChannels(nn.Module):
    """Apply an operation to one channel in K; the others pass by, and all are shuffled.

    Parameters
    ----------
    operation
        Maps (N, C / K, H, W) to (N, C / K, H / stride, W / stride).
    share
        K; 1 applies the operation to all channels.
    stride
        At stride 2 the channels that pass by are halved by a 2x2 max pooling.

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
        seen, passing = x[:, :count], x[:, count:]
        if self.stride > 1:
            passing = functional.max_pool2d(passing, 2, self.stride, ceil_mode=True)
        y = torch.cat([self.operation(seen), passing], 1)
        n, c, h, w = y.shape
        return y.view(n, self.share, c // self.share, h, w).transpose(1, 2).reshape(n, c, h, w)
