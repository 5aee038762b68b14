"""Projected gradient descent (PGD)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nni_robust.attack.ascent import Ascent, ascend
from nni_robust.attack.loss import Loss, check_loss, logit_loss_at
from nni_robust.attack.restart import worst_of
from nni_robust.check import SettingError, check_count


@dataclass(frozen=True, kw_only=True)
class PGD(Ascent):
    """Take projected steps of steepest ascent, from a random point of the ball.

    :func:`nni_robust.attack.ascent.ascend` gives the equation.

    Parameters
    ----------
    threat_model, steps, step_size
        As for :class:`Ascent`.
    random_start
        Whether the ascent starts at a uniform point of the ball or at the image itself.
    restarts
        Number of random starts, at least 1. The worst image is kept: a misclassified one rather
        than a correctly classified one, then the one with the larger loss.
    loss
        The loss to maximise, a key of ``LOSSES``: ``cross_entropy``, ``dlr``, ``cw`` or, from a
        random start, ``kl``.

    Notes
    -----
    Madry et al., *Towards Deep Learning Models Resistant to Adversarial Attacks*, 2018. The random
    start is projected onto [0, 1] before the first gradient. The code released with [RobNets]
    computes the first gradient before it projects.

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
            raise SettingError(
                f"must be 1 without a random start, got {self.restarts!r}: all restarts would "
                "give the same images. Set random_start=True.",
                "restarts",
            )

    def _perturb(
        self, network: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator
    ) -> Tensor:
        logit_loss = logit_loss_at(x, y, network=network, loss=self.loss)

        def climb() -> Tensor:
            return ascend(
                network,
                x,
                logit_loss=logit_loss,
                start=self.threat_model.random_start(x, generator) if self.random_start else x,
                threat_model=self.threat_model,
                steps=self.steps,
                step_size=self.step,
            )

        return worst_of(self.restarts, climb, network=network, y=y, logit_loss=logit_loss)
