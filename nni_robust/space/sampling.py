"""Draw samples from any NNI space, within its constraints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nni.mutable import Mutable
from nni.mutable.annotation import MutableAnnotation
from numpy.random import RandomState

MAX_ATTEMPTS = 10_000


class Sampler:
    """Draw valid samples of a space, one after the other, from one random state.

    Every mutable follows its own distribution; a draw that breaks a constraint of the space, or
    that ``accept`` refuses, is thrown away, so that what remains is the distribution
    conditioned on them.

    Parameters
    ----------
    space
        Any NNI space, raw or simplified.
    random_state
        Source of the draws; it moves with each.
    accept
        A further condition on samples.
    exclude
        Labels that are not drawn, such as those of an evaluator.
    max_attempts
        Draws before giving up.
    """

    def __init__(
        self,
        space: Mutable,
        random_state: RandomState,
        *,
        accept: Callable[[dict[str, Any]], bool] | None = None,
        exclude: frozenset[str] = frozenset(),
        max_attempts: int = MAX_ATTEMPTS,
    ) -> None:
        leaves = {k: m for k, m in space.simplify().items() if k not in exclude}
        self._symbols = {
            str(label): leaf
            for label, leaf in leaves.items()
            if not isinstance(leaf, MutableAnnotation)
        }
        self._constraints = [m for m in leaves.values() if isinstance(m, MutableAnnotation)]
        self._random_state = random_state
        self._accept = accept
        self._max_attempts = max_attempts

    def draw(self) -> dict[str, Any]:
        """Draw one sample.

        Raises
        ------
        ValueError
            If no valid sample came in ``max_attempts`` draws; names the last violation.
        """
        reason: object = None
        for _ in range(self._max_attempts):
            sample = {
                label: leaf.random(random_state=self._random_state)
                for label, leaf in self._symbols.items()
            }
            violations = (constraint.check_contains(sample) for constraint in self._constraints)
            reason = next((v for v in violations if v is not None), None)
            if reason is None:
                if self._accept is None or self._accept(sample):
                    return sample
                reason = "the filter refused it"
        raise ValueError(
            f"constraints must leave architectures that a random draw can find, but none came "
            f"in {self._max_attempts} draws; the last one failed because: {reason}. "
            "Widen the constraints."
        )
