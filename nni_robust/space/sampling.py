"""Draw samples from any NNI space, within its constraints."""

from __future__ import annotations

from typing import Any, Protocol

from nni.mutable import Mutable
from nni.mutable.annotation import MutableAnnotation
from numpy.random import RandomState

from nni_robust.space.constraint import Bounds, GenotypeConstraint
from nni_robust.space.macro import Macro

_ATTEMPTS = 10_000


class Sampler(Protocol):
    """Draws valid samples of a space, one after the other, from one random state."""

    def draw(self) -> dict[str, Any]:
        """Draw one sample; ValueError if none can be found."""


class GenotypeSampler:
    """Draw architectures of a RobNet space, uniformly among those within bounds.

    Bounds on counts are met by construction, the others by rejection, so that tight budgets are
    as quick as none.

    Parameters
    ----------
    bounds, macro
        See :class:`nni_robust.space.constraint.GenotypeConstraint`.
    random_state
        Source of the draws; it moves with each.
    """

    def __init__(self, bounds: Bounds, macro: Macro, random_state: RandomState) -> None:
        self._constraint = GenotypeConstraint(bounds, macro)
        self._random_state = random_state

    def draw(self) -> dict[str, Any]:
        """Draw one sample.

        Raises
        ------
        ValueError
            If the bounds leave nothing that can be found; names the last violation.
        """
        reason: object = "no number of operations fits both convolutions and density"
        for _ in range(_ATTEMPTS):
            sample = self._constraint.draw(self._random_state)
            if sample is None:
                break
            reason = self._constraint.check_contains(sample)
            if reason is None:
                return sample
        raise _nothing_found(reason)


class LeafSampler:
    """Draw every mutable of a space by its own distribution; what breaks a constraint is rejected.

    Parameters
    ----------
    space
        Any NNI space, raw or simplified.
    random_state
        Source of the draws; it moves with each.
    exclude
        Labels that are not drawn, such as those of an evaluator.
    """

    def __init__(
        self, space: Mutable, random_state: RandomState, *, exclude: frozenset[str] = frozenset()
    ) -> None:
        leaves = {str(k): m for k, m in space.simplify().items() if k not in exclude}
        self._symbols = {k: m for k, m in leaves.items() if not isinstance(m, MutableAnnotation)}
        self._constraints = [m for m in leaves.values() if isinstance(m, MutableAnnotation)]
        self._random_state = random_state

    def draw(self) -> dict[str, Any]:
        """Draw one sample.

        Raises
        ------
        ValueError
            If no valid sample came in many draws; names the last violation.
        """
        reason: object = None
        for _ in range(_ATTEMPTS):
            sample = {
                label: leaf.random(random_state=self._random_state)
                for label, leaf in self._symbols.items()
            }
            violations = (constraint.check_contains(sample) for constraint in self._constraints)
            reason = next((v for v in violations if v is not None), None)
            if reason is None:
                return sample
        raise _nothing_found(reason)


def sampler_of(
    space: Mutable,
    random_state: RandomState,
    *,
    convolutions: tuple[float, float] | None = None,
    exclude: frozenset[str] = frozenset(),
) -> Sampler:
    """Give the sampler that fits a space.

    Parameters
    ----------
    space
        Any NNI space, raw or simplified.
    random_state
        Source of the draws; it moves with each.
    convolutions
        A range of convolutions a cell, within that of the space; for RobNet spaces only.
    exclude
        Labels that are not drawn, such as those of an evaluator.

    Raises
    ------
    ValueError
        If a range is given for a space that is no RobNet space.
    """
    leaves = space.simplify().values()
    constraint = next((m for m in leaves if isinstance(m, GenotypeConstraint)), None)
    if constraint is not None:
        bounds = constraint.bounds.within(convolutions)
        return GenotypeSampler(bounds, constraint.macro, random_state)
    if convolutions is not None:
        raise ValueError(
            "budgets must be left out of a search in a space without RobNet cells: there are no "
            f"convolutions to count, got {convolutions!r}."
        )
    return LeafSampler(space, random_state, exclude=exclude)


def _nothing_found(reason: object) -> ValueError:
    return ValueError(
        f"constraints must leave architectures that can be found, but none came in {_ATTEMPTS} "
        f"draws; the last one failed because: {reason}. Widen the constraints."
    )
