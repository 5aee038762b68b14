"""Draw samples of any NNI space within its constraints."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np
from nni.mutable import LabeledMutable, Mutable
from nni.mutable.annotation import MutableAnnotation
from numpy.random import RandomState
from scipy.special import betaln

from nni_robust.check import SettingError
from nni_robust.space.constraint import Bounds, GenotypeConstraint
from nni_robust.space.edge import EDGES
from nni_robust.space.layout import RobNetLayout

_ATTEMPTS = 10_000

Sample = dict[str, Any]


class Sampler:
    """Draw valid samples of a space, by rejection.

    Parameters
    ----------
    propose
        Draws a sample, which may be invalid.
    violation
        Returns why a sample is invalid, or None.
    """

    def __init__(
        self, propose: Callable[[], Sample], violation: Callable[[Sample], object]
    ) -> None:
        self._propose = propose
        self._violation = violation

    def draw(self) -> Sample:
        """Return one sample.

        Raises
        ------
        SettingError
            If many draws give no valid sample. The message names the last violation.
        """
        reason: object = None
        for _ in range(_ATTEMPTS):
            sample = self._propose()
            reason = self._violation(sample)
            if reason is None:
                return sample
        raise _nothing_found(reason)


def genotype_sampler(bounds: Bounds, layout: RobNetLayout, random_state: RandomState) -> Sampler:
    """Return a sampler that draws architectures of a RobNet space uniformly within bounds.

    Bounds on counts hold by construction, so tight budgets are as fast as none. The other bounds
    hold by rejection.

    Parameters
    ----------
    bounds, layout
        See :class:`nni_robust.space.constraint.GenotypeConstraint`.
    random_state
        Source of random numbers; each draw advances it.
    """
    return Sampler(
        partial(_draw_cells, bounds, layout, random_state),
        GenotypeConstraint(bounds, layout).check_contains,
    )


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
    leaves = {str(k): m for k, m in space.simplify().items() if k not in exclude}
    constraints = [m for m in leaves.values() if isinstance(m, MutableAnnotation)]
    genotypes = next((m for m in constraints if isinstance(m, GenotypeConstraint)), None)
    if genotypes is not None:
        bounds = genotypes.bounds.within(convolutions)
        return genotype_sampler(bounds, genotypes.layout, random_state)
    if convolutions is not None:
        raise SettingError(
            "must be left out of a search in a space without RobNet cells, because there are no "
            f"convolutions to count, got {convolutions!r}.",
            "budgets",
        )
    symbols = {k: m for k, m in leaves.items() if not isinstance(m, MutableAnnotation)}
    return Sampler(
        partial(_draw_leaves, symbols, random_state), partial(_first_violation, constraints)
    )


def _draw_cells(bounds: Bounds, layout: RobNetLayout, random_state: RandomState) -> Sample:
    """Draw the numbers of convolutions and identities, then their places, all uniformly."""
    slots = len(EDGES) * len(layout.scopes)
    pairs, weights = _allowed_counts(bounds, slots)
    if not pairs:
        raise _nothing_found("no number of operations fits both convolutions and density")
    num_convs, num_ids = pairs[random_state.choice(len(pairs), p=weights)]
    conv = random_state.permutation(slots) < num_convs
    identity = random_state.permutation(slots) < num_ids
    bits = np.stack([identity, conv], 1).astype(int)  # (slots, 2), as in a genotype
    cells = bits.reshape(len(layout.scopes), -1)
    return layout.sample(["".join(map(str, cell)) for cell in cells])


@lru_cache(maxsize=64)
def _allowed_counts(bounds: Bounds, slots: int) -> tuple[list[tuple[int, int]], list[float]]:
    """Return the allowed numbers (convolutions, identities) and the probability of each pair."""
    per_cell = slots // len(EDGES)
    low, high = bounds.convolutions or (0, len(EDGES))
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
    # There are C(slots, a) C(slots, b) architectures with the numbers (a, b).
    ways = [-betaln(1 + slots - n, 1 + n) for n in counts]  # ln C(slots, n), up to a constant
    logs = np.array([ways[a] + ways[b] for a, b in pairs])
    weights = np.exp(logs - logs.max())
    return pairs, list(weights / weights.sum())


def _draw_leaves(symbols: Mapping[str, LabeledMutable], random_state: RandomState) -> Sample:
    return {label: leaf.random(random_state=random_state) for label, leaf in symbols.items()}


def _first_violation(constraints: Sequence[MutableAnnotation], sample: Sample) -> object:
    violations = (constraint.check_contains(sample) for constraint in constraints)
    return next((violation for violation in violations if violation is not None), None)


def _nothing_found(reason: object) -> SettingError:
    return SettingError(
        f"must leave architectures that can be found, but {_ATTEMPTS} draws gave none. The last "
        f"violation: {reason}. Widen the constraints.",
        "constraints",
    )
