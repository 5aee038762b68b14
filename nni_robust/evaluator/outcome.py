"""What an evaluation finds out: which images withstood which attack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from nni_robust.functional.interval import IntervalMethod, accuracy_interval

OUTCOMES = RIGHT, WRONG, NOT_ASKED, OPEN = "1", "0", "-", "?"
"""Outcome of one image: classified right, misclassified, not attacked, not yet known."""


class Images(Protocol):
    """Images in [0, 1]: a tensor (N, C, H, W), or what gives parts of one when it is asked."""

    @property
    def shape(self) -> Sequence[int]:
        """Of the whole tensor."""

    def __len__(self) -> int:
        """Give the number of images."""

    def __getitem__(self, index: Any) -> Tensor:
        """Give the images of a slice, or of a list of places."""


@dataclass(frozen=True, kw_only=True)
class Robustness:
    """Which images withstood which attack.

    Parameters
    ----------
    outcomes
        One string for ``clean``, and one for every attack by its name, in the order in which they
        ran. Each has one character an image: ``1`` for classified right, ``0`` for misclassified,
        ``-`` for not attacked, because it was misclassified before.

    Examples
    --------
    >>> result = Robustness(outcomes={"clean": "1101", "fgsm": "11-0", "pgd20": "10--"})
    >>> result.accuracies()
    {'clean': 0.75, 'fgsm': 0.5, 'pgd20': 0.25, 'robust': 0.25}
    """

    outcomes: dict[str, str]

    @property
    def num_images(self) -> int:
        """Number of images, attacked or not."""
        return len(self.outcomes["clean"])

    @property
    def standing(self) -> list[bool]:
        """Whether each image is classified right, clean and under every attack on it."""
        return [
            outcome[0] == RIGHT and WRONG not in outcome
            for outcome in zip(*self.outcomes.values(), strict=True)
        ]

    def num_right(self, name: str) -> int:
        """Count the images classified right under an attack, ``clean``, or all: ``robust``."""
        return sum(self.standing) if name == "robust" else self.outcomes[name].count(RIGHT)

    def num_asked(self, name: str) -> int:
        """Count the images that an attack was tried on."""
        return self.num_images - self.outcomes[name].count(NOT_ASKED)

    def accuracies(self) -> dict[str, float]:
        """Give the accuracy on clean images, for each attack, and under the worst: ``robust``.

        An image that was not attacked counts as fooled: where fooled images have left the suite,
        an attack's accuracy is that under all attacks up to it.
        """
        return {name: self.num_right(name) / self.num_images for name in (*self.outcomes, "robust")}

    def interval(
        self, name: str, *, confidence: float = 0.95, method: IntervalMethod = "wilson"
    ) -> tuple[float, float]:
        """Bound an accuracy; see :func:`nni_robust.functional.interval.accuracy_interval`."""
        return accuracy_interval(
            self.num_right(name), self.num_images, confidence=confidence, method=method
        )

    def describe(self, *, confidence: float = 0.95) -> dict[str, Any]:
        """Write counts, accuracies and intervals as values of JSON, without single images."""
        accuracies = self.accuracies()
        methods: tuple[IntervalMethod, ...] = ("wilson", "clopper_pearson")
        return {
            "num_images": self.num_images,
            "confidence": confidence,
            "asked": {name: self.num_asked(name) for name in self.outcomes},
            "right": {name: self.num_right(name) for name in accuracies},
            "accuracy": accuracies,
            **{
                method: {
                    name: list(self.interval(name, confidence=confidence, method=method))
                    for name in accuracies
                }
                for method in methods
            },
        }
