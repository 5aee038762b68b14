"""Projected gradient descent on the negative loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nni_robust.attack.base import Attack, ascend, check_ascent


@dataclass(frozen=True, kw_only=True)
class PGD(Attack):
    """Projected steepest ascent from a random point of the ball.

    Parameters
    ----------
    threat_model
        What the adversary may do.
    steps
        Number of steps, at least 1.
    step_size
        Length of a step in the norm of the threat model. It does not follow ``epsilon``.
    random_start
        Whether the ascent starts at a uniform point of the ball or at the image itself.
    restarts
        Number of random starts. Of several, the worst image is kept: one that is misclassified
        before one that is not, then the one of larger loss.

    Notes
    -----
    Madry et al., *Towards Deep Learning Models Resistant to Adversarial Attacks*, 2018. The random
    start is projected onto [0, 1], so that every gradient is taken at an image; the code released
    with [RobNets] takes the first one before it projects.

    Examples
    --------
    >>> PGD(steps=7).step_size * 255
    2.0
    """

    steps: int = 20
    step_size: float = 2 / 255
    random_start: bool = True
    restarts: int = 1

    def __post_init__(self) -> None:
        check_ascent(self.steps, self.step_size)
        if not (isinstance(self.restarts, int) and self.restarts >= 1):
            raise ValueError(
                f"restarts must be a whole number of at least 1, got {self.restarts!r}."
            )
        if self.restarts > 1 and not self.random_start:
            raise ValueError(
                f"restarts must be 1 without a random start, got {self.restarts!r}: all would be "
                "the same. Set random_start=True."
            )

    def _perturb(
        self, network: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator
    ) -> Tensor:
        worst = self._from_one_start(network, x, y, generator)
        if self.restarts == 1:
            return worst
        worst_fooled, worst_loss = _damage(network, worst, y)
        for _ in range(self.restarts - 1):
            x_adv = self._from_one_start(network, x, y, generator)
            fooled, loss = _damage(network, x_adv, y)
            worse = (fooled & ~worst_fooled) | ((fooled == worst_fooled) & (loss > worst_loss))
            worst = torch.where(worse.view(-1, 1, 1, 1), x_adv, worst)
            worst_fooled = fooled | worst_fooled
            worst_loss = torch.where(worse, loss, worst_loss)
        return worst

    def _from_one_start(
        self, network: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator
    ) -> Tensor:
        return ascend(
            network,
            x,
            y,
            start=self.threat_model.random_start(x, generator) if self.random_start else x,
            threat_model=self.threat_model,
            steps=self.steps,
            step_size=self.step_size,
        )


@torch.no_grad()
def _damage(network: nn.Module, x_adv: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return whether every image is misclassified, and its loss, both ``(N,)``."""
    logits = network(x_adv)
    return logits.argmax(1) != y, F.cross_entropy(logits, y, reduction="none")
