"""Projected gradient descent on the negative loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nni_robust.attack.base import Ascent, ascend, check_count, worst_of
from nni_robust.attack.loss import Loss, check_loss, objective_at


@dataclass(frozen=True, kw_only=True)
class PGD(Ascent):
    """Projected steepest ascent from a random point of the ball.

    Parameters
    ----------
    threat_model
        What the adversary may do.
    steps
        Number of steps, at least 1.
    step_size
        Length of a step in the norm of the threat model; None for a quarter of its ``epsilon``, as
        in the papers.
    random_start
        Whether the ascent starts at a uniform point of the ball or at the image itself.
    restarts
        Number of random starts. Of several, the worst image is kept: one that is misclassified
        before one that is not, then the one of larger loss.
    loss
        What is climbed, a key of ``LOSSES``: ``cross_entropy``, ``dlr``, ``cw``, or, from a random
        start, ``kl``.

    Notes
    -----
    Madry et al., *Towards Deep Learning Models Resistant to Adversarial Attacks*, 2018. The random
    start is projected onto [0, 1], so that every gradient is taken at an image; the code released
    with [RobNets] takes the first one before it projects.

    Examples
    --------
    >>> PGD(steps=7).step * 255
    2.0
    """

    random_start: bool = True
    restarts: int = 1
    loss: Loss = "cross_entropy"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("restarts", self.restarts)
        check_loss(self.loss, random_start=self.random_start)
        if self.restarts > 1 and not self.random_start:
            raise ValueError(
                f"restarts must be 1 without a random start, got {self.restarts!r}: all would be "
                "the same. Set random_start=True."
            )

    def _perturb(
        self, network: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator
    ) -> Tensor:
        objective = objective_at(x, y, network=network, loss=self.loss)

        def climb() -> Tensor:
            return ascend(
                network,
                x,
                objective=objective,
                start=self.threat_model.random_start(x, generator) if self.random_start else x,
                threat_model=self.threat_model,
                steps=self.steps,
                step_size=self.step,
            )

        return worst_of(self.restarts, climb, network=network, y=y, objective=objective)
