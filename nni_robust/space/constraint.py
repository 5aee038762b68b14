"""Bounds on the architectures of a RobNet space."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

import numpy as np
from nni.mutable import LabeledMutable, Mutable
from nni.mutable.annotation import Constraint
from nni.mutable.exception import (
    ConstraintViolation,
    SampleMissingError,
    SampleValidationError,
)
from numpy.random import RandomState
from scipy.special import betaln

from nni_robust.space import robnet_genotype as gt
from nni_robust.space.macro import Macro

Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What an architecture must satisfy; a range is (lowest, highest), both allowed.

    Attributes
    ----------
    density
        Share of the operations that are present, in [0, 1]; [RobNets] Eq. 2.
    direct
        Share of the direct edges that carry a convolution, in [0, 1].
    direct_share
        Share of the convolutions that lie on direct edges, in [0, 1].
    convolutions
        Convolutions a cell, 0 to 14 (on average, if cells differ). The paper's budgets are
        (0, 7), (8, 10) and (11, 14).
    parameters
        Trainable parameters of the whole network.
    connected
        Whether every node of every cell must have an input.
    """

    density: Range | None = None
    direct: Range | None = None
    direct_share: Range | None = None
    convolutions: Range | None = None
    parameters: Range | None = None
    connected: bool = False

    def __post_init__(self) -> None:
        for field in fields(self):
            bounds = getattr(self, field.name)
            if bounds is None or isinstance(bounds, bool):
                continue
            object.__setattr__(self, field.name, tuple(bounds))  # hashable, whatever came
            if len(bounds) != 2 or not bounds[0] <= bounds[1]:
                raise ValueError(
                    f"{field.name} must be two numbers, the lowest and the highest that are "
                    f"allowed, got {bounds!r}."
                )
            limit = {"convolutions": float(len(gt.EDGES)), "parameters": float("inf")}.get(
                field.name, 1.0
            )
            if bounds[0] > limit or bounds[1] < 0:
                raise ValueError(
                    f"{field.name} must leave something of [0, {limit:g}], got {bounds!r}: "
                    "no architecture lies there."
                )

    def within(self, convolutions: Range | None) -> Bounds:
        """Narrow the range of convolutions a cell by another one."""
        if convolutions is None:
            return self
        low, high = self.convolutions or (0, len(gt.EDGES))
        narrowed = (max(low, convolutions[0]), min(high, convolutions[1]))
        return replace(self, convolutions=narrowed)

    def violation(
        self, genotypes: Sequence[str], count_parameters: Callable[[Sequence[str]], int]
    ) -> str | None:
        """Say in one line which bound an architecture breaks, or None if it keeps all.

        A dead cell, whose output is zero whatever comes in, breaks them always.
        """
        if any(gt.is_dead(genotype) for genotype in genotypes):
            return "a cell without any operation"
        if self.connected and not all(gt.is_connected(genotype) for genotype in genotypes):
            return "a node without input, but connected is true"
        measures: dict[str, Callable[[], float]] = {
            "density": lambda: gt.density(genotypes),
            "direct": lambda: gt.direct_edge_share(genotypes),
            "direct_share": lambda: gt.direct_convolution_share(genotypes),
            "convolutions": lambda: gt.mean_convolutions(genotypes),
            "parameters": lambda: count_parameters(genotypes),
        }
        for name, measure in measures.items():
            bounds: Range | None = getattr(self, name)
            if bounds is not None and not bounds[0] <= (value := measure()) <= bounds[1]:
                return f"{name} is {value:g}, allowed is {bounds[0]:g} to {bounds[1]:g}"
        return None


@lru_cache(maxsize=64)
def _allowed_counts(bounds: Bounds, slots: int) -> tuple[list[tuple[int, int]], list[float]]:
    """List the numbers of convolutions and identities within bounds, and how likely each pair is.

    A pair (a, b) has C(slots, a) C(slots, b) architectures.
    """
    per_cell = slots // len(gt.EDGES)
    low, high = bounds.convolutions or (0, len(gt.EDGES))
    least, most = bounds.density or (0.0, 1.0)
    counts = range(slots + 1)
    pairs = [
        (a, b)
        for a in counts
        if low <= a / per_cell <= high
        for b in counts
        if least <= (a + b) / (2 * slots) <= most
    ]
    if not pairs:
        return [], []
    ways = [-betaln(1 + slots - n, 1 + n) for n in counts]  # ln C(slots, n), up to a constant
    logs = np.array([ways[a] + ways[b] for a, b in pairs])
    weights = np.exp(logs - logs.max())
    return pairs, list(weights / weights.sum())


class GenotypeConstraint(Constraint):  # type: ignore[misc]  # NNI is untyped
    """Keep the samples of a RobNet space within :class:`Bounds`.

    Takes no value of its own: whoever freezes, validates or draws from the space meets it.

    Parameters
    ----------
    bounds
        What is allowed.
    macro
        The network's fixed part, which reads a sample and counts its parameters.
    label
        Label of the constraint.
    """

    def __init__(self, bounds: Bounds, macro: Macro, label: str = "bounds") -> None:
        self.bounds = bounds
        self.macro = macro
        self.label = label

    def leaf_mutables(self, is_leaf: Callable[[Mutable], bool]) -> Iterable[LabeledMutable]:
        """Yield the constraint itself; the edges are leaves of the space."""
        yield self

    def check_contains(self, sample: dict[str, Any]) -> SampleValidationError | None:
        """Give the violation of a sample, or None."""
        try:
            genotypes = self.macro.genotypes(sample)
        except KeyError as missing:
            return SampleMissingError(str(missing.args[0]), list(sample))
        message = self.bounds.violation(genotypes, self.macro.count_parameters)
        return None if message is None else ConstraintViolation(message)

    def draw(self, random_state: RandomState) -> dict[str, Any] | None:
        """Draw a sample uniformly from those within the bounds on counts, or give None.

        The numbers of convolutions and of identities are drawn first, each pair as often as there
        are architectures of it; the operations are then placed uniformly. The other bounds are
        the caller's to check.
        """
        slots = len(gt.EDGES) * len(self.macro.scopes)
        pairs, weights = _allowed_counts(self.bounds, slots)
        if not pairs:
            return None
        num_convs, num_ids = pairs[random_state.choice(len(pairs), p=weights)]
        conv = random_state.permutation(slots) < num_convs
        identity = random_state.permutation(slots) < num_ids
        return self.macro.sample_of(np.stack([conv, identity], 1))

    def default(self, memo: dict[str, Any] | None = None) -> None:
        """Add nothing: the edges' own defaults keep the bounds."""

    def random(
        self, memo: dict[str, Any] | None = None, random_state: RandomState | None = None
    ) -> None:
        """Add nothing: a draw of the edges is checked as a whole, when it is complete."""
