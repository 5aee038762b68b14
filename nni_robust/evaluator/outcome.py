"""The result of an evaluation: which image withstood which attack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from nni_robust.functional.interval import IntervalMethod, accuracy_interval

OUTCOMES = RIGHT, WRONG, NOT_ASKED, OPEN = "1", "0", "-", "?"
"""Outcome of one image: classified right, misclassified, not attacked, not yet known."""


class ImageSequence(Protocol):
    """Images in [0, 1]: a tensor (N, C, H, W), or an object that reads parts of one on demand."""

    @property
    def shape(self) -> Sequence[int]:
        """Shape of all images: (N, C, H, W)."""

    def __len__(self) -> int:
        """Return the number of images."""

    def __getitem__(self, index: Any) -> Tensor:
        """Return the images of a slice or of a list of indices."""


@dataclass(frozen=True, kw_only=True)
class Robustness:
    """Which image withstood which attack.

    Parameters
    ----------
    outcomes
        One string for ``clean`` and one per attack, by its name, in the order in which they ran.
        Each string has one character per image: ``1`` for classified right, ``0`` for
        misclassified, ``-`` for not attacked because it was misclassified before.

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
    def robust_mask(self) -> list[bool]:
        """Per image, whether it is classified right, clean and under every attack tried on it."""
        return [
            outcome[0] == RIGHT and WRONG not in outcome
            for outcome in zip(*self.outcomes.values(), strict=True)
        ]

    def num_right(self, name: str) -> int:
        """Count the images classified right: ``clean``, under one attack, or ``robust``."""
        return sum(self.robust_mask) if name == "robust" else self.outcomes[name].count(RIGHT)

    def num_asked(self, name: str) -> int:
        """Count the images that an attack was tried on."""
        return self.num_images - self.outcomes[name].count(NOT_ASKED)

    def accuracies(self) -> dict[str, float]:
        """Return the accuracies ``clean``, under each attack, and under the worst: ``robust``.

        An image that was not attacked counts as misclassified. If misclassified images leave the
        suite, the accuracy of an attack is therefore that under all attacks up to it.
        """
        return {name: self.num_right(name) / self.num_images for name in (*self.outcomes, "robust")}

    def interval(
        self, name: str, *, confidence: float = 0.95, method: IntervalMethod = "wilson"
    ) -> tuple[float, float]:
        """Return the confidence interval of an accuracy.

        See :func:`nni_robust.functional.interval.accuracy_interval`.
        """
        return accuracy_interval(
            self.num_right(name), self.num_images, confidence=confidence, method=method
        )

    def as_json(self, *, confidence: float = 0.95) -> dict[str, Any]:
        """Return counts, accuracies and intervals as JSON values, without the single images."""
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
