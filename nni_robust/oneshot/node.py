"""The nodes of a supernet: weighted sums over edges, which are weighted sums of operations."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from nni_robust.oneshot.lognormal import LogNormalWeights
from nni_robust.op.layer_sequence import is_zero


@dataclass(eq=False)
class MixedEdge:
    """The candidate operations between two states.

    Parameters
    ----------
    label
        Row of their weights, or None if there is one operation without a weight.
    operations
        Operations by name.
    size
        (H, W) of their input; None until the network has run.
    """

    label: str | None
    operations: Mapping[str, nn.Module]
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        self.live = [not is_zero(operation) for operation in self.operations.values()]
        """For every operation, whether it returns anything but zeros."""

    def note_size(self, x: Tensor) -> None:
        """Store the size of an input."""
        self.size = (int(x.shape[-2]), int(x.shape[-1])) if x.dim() == 4 else (1, 1)

    def mix(self, x: Tensor, weights: Tensor) -> Tensor:
        """Return the weighted sum of the operations; those that return zeros are not run."""
        self.note_size(x)
        live = [
            (weight, operation)
            for weight, operation, is_live in zip(
                weights, self.operations.values(), self.live, strict=True
            )
            if is_live
        ]
        if not live:
            return next(iter(self.operations.values()))(x)  # type: ignore[no-any-return]
        return weighted_sum([w for w, _ in live], [operation(x) for _, operation in live])

    def best(self, weights: LogNormalWeights) -> tuple[float, str]:
        """Return score and name of the best operation that does not return zeros."""
        scores = weights.scores(str(self.label)).tolist()
        ranked = [
            (score, name)
            for score, name, is_live in zip(scores, self.operations, self.live, strict=True)
            if is_live
        ]
        return max(ranked, default=(-math.inf, next(iter(self.operations))))


@dataclass(eq=False)
class MixedNode:
    """A state that is the weighted sum of edges.

    Parameters
    ----------
    label
        Row of the weights of its inputs, or None if they are added without weights.
    edges
        Its inputs.
    """

    label: str | None
    edges: list[MixedEdge]

    def order(self, weights: LogNormalWeights) -> list[int]:
        """Return the inputs from best to worst, each with the best operation on its edge."""
        scores = [
            beta + (edge.best(weights)[0] if edge.label is not None else 0.0)
            for beta, edge in zip(weights.scores(str(self.label)).tolist(), self.edges, strict=True)
        ]
        return sorted(range(len(scores)), key=lambda i: -scores[i])


def distinct_edges(edges: Iterable[MixedEdge]) -> dict[str, MixedEdge]:
    """Return one edge per label; edges without a label are left out."""
    return {edge.label: edge for edge in edges if edge.label is not None}


def weighted_sum(weights: Sequence[Tensor], tensors: Sequence[Tensor]) -> Tensor:
    """Return the sum of tensors, each times its weight."""
    total = weights[0] * tensors[0]
    for weight, tensor in zip(weights[1:], tensors[1:], strict=True):
        total = total + weight * tensor
    return total
