"""Draw samples of any NNI space within its constraints."""

from __future__ import annotations

from typing import Any, Protocol

from nni.mutable import Mutable
from nni.mutable.annotation import MutableAnnotation
from numpy.random import RandomState

from nni_robust.check import SettingError
from nni_robust.space.constraint import Bounds, GenotypeConstraint
from nni_robust.space.layout import RobNetLayout

_ATTEMPTS = 10_000


class Sampler(Protocol):
    """An object that draws valid samples of a space from one random state."""

    def draw(self) -> dict[str, Any]:
        """Return one sample. Raise SettingError if none can be found."""


class GenotypeSampler:
    """Draw architectures of a RobNet space uniformly within bounds.

    Bounds on counts hold by construction, so tight budgets are as fast as none. The other bounds
    hold by rejection.

    Parameters
    ----------
    bounds, layout
        See :class:`nni_robust.space.constraint.GenotypeConstraint`.
    random_state
        Source of random numbers; each draw advances it.
    """

    def __init__(self, bounds: Bounds, layout: RobNetLayout, random_state: RandomState) -> None:
        self._constraint = GenotypeConstraint(bounds, layout)
        self._random_state = random_state

    def draw(self) -> dict[str, Any]:
        """Return one sample.

        Raises
        ------
        SettingError
            If no architecture within the bounds is found. The message names the last violation.
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
    """Draw every mutable of a space from its own distribution, and reject invalid samples.

    Parameters
    ----------
    space
        Any NNI space, raw or simplified.
    random_state
        Source of random numbers; each draw advances it.
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
        """Return one sample.

        Raises
        ------
        SettingError
            If many draws give no valid sample. The message names the last violation.
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
    """Return the sampler that fits a space.

    Parameters
    ----------
    space
        Any NNI space, raw or simplified.
    random_state
        Source of random numbers; each draw advances it.
    convolutions
        Range of convolutions per cell, in addition to that of the space. Only for RobNet spaces.
    exclude
        Labels that are not drawn, such as those of an evaluator.

    Raises
    ------
    SettingError
        If a range is given for a space that is not a RobNet space.
    """
    leaves = space.simplify().values()
    constraint = next((m for m in leaves if isinstance(m, GenotypeConstraint)), None)
    if constraint is not None:
        bounds = constraint.bounds.within(convolutions)
        return GenotypeSampler(bounds, constraint.layout, random_state)
    if convolutions is not None:
        raise SettingError(
            "must be left out of a search in a space without RobNet cells, because there are no "
            f"convolutions to count, got {convolutions!r}.",
            "budgets",
        )
    return LeafSampler(space, random_state, exclude=exclude)


def _nothing_found(reason: object) -> SettingError:
    return SettingError(
        f"must leave architectures that can be found, but {_ATTEMPTS} draws gave none. The last "
        f"violation: {reason}. Widen the constraints.",
        "constraints",
    )
