"""The RobNet cell: four nodes, each fed by every state before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from nni_robust.op import OPS, FactorizedReduce
from nni_robust.op.conv import ReLUConvBN
from nni_robust.space.edge import MultiOp, MultiOpEdge
from nni_robust.space.genotype import EDGES, NUM_NODES, OPERATIONS, edge_label

_KEYS = {"conv": "sep_conv_3x3", "identity": "skip_connect"}  # in the table of operations


class RobNetCell(nn.Module):
    """Join four nodes by 14 edges; every node is the sum of what enters it.

    Parameters
    ----------
    width
        Channels of every node, C; the output has 4C.
    in_channels
        Channels of the outputs of the cell before the previous one, and of the previous one.
    reduction
        Whether this cell halves the resolution: the edges from its two inputs have stride 2.
    previous_reduction
        Whether the previous cell did, so that the older input must be halved first.
    default
        For every edge the subset that stands for it until the space is frozen.
    """

    def __init__(
        self,
        width: int,
        in_channels: tuple[int, int],
        *,
        reduction: bool,
        previous_reduction: bool,
        default: Mapping[tuple[int, int], Sequence[str]],
    ) -> None:
        super().__init__()
        older, newer = in_channels
        self.preprocess_0: nn.Module = (
            FactorizedReduce(older, width) if previous_reduction else ReLUConvBN(older, width)
        )
        self.preprocess_1 = ReLUConvBN(newer, width)
        self.edges = nn.ModuleDict()
        for source, target in EDGES:
            stride = 2 if reduction and source < 2 else 1
            label = edge_label(source, target)
            self.edges[label] = MultiOpEdge(
                {name: OPS[_KEYS[name]](width, stride) for name in OPERATIONS},
                channels=width,
                stride=stride,
                label=label,
                default=default[source, target],
            )

    def forward(self, s0: Tensor, s1: Tensor) -> Tensor:
        """Map the two inputs to the concatenated nodes, (N, 4C, H, W)."""
        states = [self.preprocess_0(s0), self.preprocess_1(s1)]
        for _ in range(NUM_NODES):
            states.append(self._node(states))
        return torch.cat(states[2:], 1)

    def _node(self, states: list[Tensor]) -> Tensor:
        incoming = [self._edge(source, len(states)) for source in range(len(states))]
        # Edges that carry nothing add nothing: only a node without any input needs their zeros.
        live = [source for source, edge in enumerate(incoming) if edge.active] or [0]
        total: Tensor = incoming[live[0]](states[live[0]])
        for source in live[1:]:
            total = total + incoming[source](states[source])
        return total

    def _edge(self, source: int, target: int) -> MultiOp | MultiOpEdge:
        return self.edges[edge_label(source, target)]  # type: ignore[return-value]
