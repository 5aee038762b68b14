"""Constraints on the architectures of a RobNet space."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from nni.mutable import LabeledMutable, Mutable
from nni.mutable.annotation import Constraint
from nni.mutable.exception import (
    ConstraintViolation,
    SampleMissingError,
    SampleValidationError,
)
from numpy.random import RandomState

from nni_robust.check import SettingError
from nni_robust.space import robnet_genotype as gt
from nni_robust.space.edge import EDGES
from nni_robust.space.layout import RobNetLayout

Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Conditions on an architecture. A range is (lowest, highest), and both are allowed.

    Attributes
    ----------
    density
        Share of the possible operations that are present, in [0, 1]; [RobNets] Eq. 2.
    direct
        Share of the direct edges that carry a convolution, in [0, 1].
    direct_share
        Share of the convolutions that are on direct edges, in [0, 1].
    convolutions
        Convolutions per cell, 0 to 14; their mean, if cells differ. The paper's budgets are
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
            object.__setattr__(self, field.name, tuple(bounds))  # a list is not hashable
            if len(bounds) != 2 or not bounds[0] <= bounds[1]:
                raise SettingError(
                    f"must be two numbers, the lowest and the highest allowed value, got "
                    f"{bounds!r}.",
                    field.name,
                )
            limits = {"convolutions": float(len(EDGES)), "parameters": float("inf")}
            limit = limits.get(field.name, 1.0)
            if bounds[0] > limit or bounds[1] < 0:
                raise SettingError(
                    f"must overlap with [0, {limit:g}], got {bounds!r}: no architecture is within "
                    "this range.",
                    field.name,
                )

    def within(self, convolutions: Range | None) -> Bounds:
        """Return the same bounds with a second range of convolutions per cell."""
        if convolutions is None:
            return self
        low, high = self.convolutions or (0, len(EDGES))
        narrowed = (max(low, convolutions[0]), min(high, convolutions[1]))
        return replace(self, convolutions=narrowed)

    def violation(
        self, genotypes: Sequence[str], count_parameters: Callable[[Sequence[str]], int]
    ) -> str | None:
        """Return one line that names the bound which an architecture violates, or None.

        A cell without any operation is always a violation, because its output is zero.
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


class GenotypeConstraint(Constraint):  # type: ignore[misc]  # NNI is untyped
    """Keep the samples of a RobNet space within :class:`Bounds`.

    It is a mutable without a value. NNI checks it when a space is frozen, validated or sampled.

    Parameters
    ----------
    bounds
        The allowed architectures.
    layout
        Layout of the networks. It reads samples and counts parameters.
    label
        Label of the constraint.
    """

    def __init__(self, bounds: Bounds, layout: RobNetLayout, label: str = "bounds") -> None:
        self.bounds = bounds
        self.layout = layout
        self.label = label

    def leaf_mutables(self, is_leaf: Callable[[Mutable], bool]) -> Iterable[LabeledMutable]:
        """Yield the constraint itself. The edges are leaves of the space."""
        yield self

    def check_contains(self, sample: dict[str, Any]) -> SampleValidationError | None:
        """Return the violation of a sample, or None."""
        try:
            genotypes = self.layout.genotypes(sample)
        except KeyError as missing:
            return SampleMissingError(str(missing.args[0]), list(sample))
        message = self.bounds.violation(genotypes, self.layout.count_parameters)
        return None if message is None else ConstraintViolation(message)

    def default(self, memo: dict[str, Any] | None = None) -> None:
        """Do nothing: the defaults of the edges are within the bounds."""

    def random(
        self, memo: dict[str, Any] | None = None, random_state: RandomState | None = None
    ) -> None:
        """Do nothing: a draw is checked when all edges have been drawn."""
