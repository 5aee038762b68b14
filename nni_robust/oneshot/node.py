"""The nodes of a supernet: states that are weighted sums over edges of several operations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from nni_robust.oneshot.lognormal import LogNormalWeights
from nni_robust.op.lipschitz import is_zero


@dataclass(eq=False)
class MixedEdge:
    """The candidates between two states.

    Attributes
    ----------
    label
        Row of their weights, or None where the only operation has none.
    operations
        By name.
    size
        (H, W) of what they read, once the network has run.
    """

    label: str | None
    operations: Mapping[str, nn.Module]
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        self._live = [not is_zero(operation) for operation in self.operations.values()]

    def see(self, x: Tensor) -> None:
        """Note the size of what the operations read."""
        self.size = (int(x.shape[-2]), int(x.shape[-1])) if x.dim() == 4 else (1, 1)

    def mix(self, x: Tensor, weights: Tensor) -> Tensor:
        """Add the weighted operations; those that give zeros are not computed."""
        self.see(x)
        live = [
            (weight, operation)
            for weight, operation, is_live in zip(
                weights, self.operations.values(), self._live, strict=True
            )
            if is_live
        ]
        if not live:
            return next(iter(self.operations.values()))(x)  # type: ignore[no-any-return]
        return weighted_sum([w for w, _ in live], [operation(x) for _, operation in live])

    def live(self) -> list[bool]:
        """Tell of every operation whether it gives anything but zeros."""
        return list(self._live)

    def best(self, weights: LogNormalWeights) -> tuple[float, str]:
        """Give the highest rank of an operation that does not give zeros, and its name."""
        ranking = weights.ranking(str(self.label)).tolist()
        ranked = [
            (score, name)
            for score, name, is_live in zip(ranking, self.operations, self._live, strict=True)
            if is_live
        ]
        return max(ranked, default=(-math.inf, next(iter(self.operations))))


@dataclass(eq=False)
class MixedNode:
    """A state that is the weighted sum of edges.

    Attributes
    ----------
    label
        Row of the weights of its inputs, or None where they are plainly added.
    edges
        Its inputs.
    """

    label: str | None
    edges: list[MixedEdge]

    def order(self, weights: LogNormalWeights) -> list[int]:
        """Sort the inputs by rank, each taken with the best operation on its edge."""
        ranking = weights.ranking(str(self.label)).tolist()
        scores = [
            beta + (edge.best(weights)[0] if edge.label is not None else 0.0)
            for beta, edge in zip(ranking, self.edges, strict=True)
        ]
        return sorted(range(len(scores)), key=lambda i: -scores[i])


def weighted_sum(weights: Sequence[Tensor], tensors: Sequence[Tensor]) -> Tensor:
    """Add tensors, each times its weight."""
    total = weights[0] * tensors[0]
    for weight, tensor in zip(weights[1:], tensors[1:], strict=True):
        total = total + weight * tensor
    return total
