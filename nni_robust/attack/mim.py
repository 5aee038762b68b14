"""The momentum iterative method (MI-FGSM)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nni_robust.attack.base import Ascent, ascend
from nni_robust.attack.loss import Loss, check_loss, objective_at


@dataclass(frozen=True, kw_only=True)
class MIM(Ascent):
    """Projected steepest ascent along an accumulated gradient, from the image itself.

    Parameters
    ----------
    threat_model
        What the adversary may do.
    steps
        Number of steps, at least 1.
    step_size
        Length of a step in the norm of the threat model; None for a quarter of its ``epsilon``, as
        in the papers.
    decay
        Factor of the accumulated gradient at every step, at least 0.
    loss
        What is climbed, a key of ``LOSSES``; not ``kl``, whose gradient at the image is 0.

    Notes
    -----
    Dong et al., *Boosting Adversarial Attacks with Momentum*, 2018, Eq. 6-7: every gradient is
    divided by its l_1 norm before it is added. The paper's step is ``epsilon / steps``.
    """

    decay: float = 1.0
    loss: Loss = "cross_entropy"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_loss(self.loss, random_start=False)
        if not 0 <= self.decay < math.inf:
            raise ValueError(f"decay must be at least 0, got {self.decay!r}.")

    def _perturb(
        self, network: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator
    ) -> Tensor:
        return ascend(
            network,
            x,
            objective=objective_at(x, y, network=network, loss=self.loss),
            start=x,
            threat_model=self.threat_model,
            steps=self.steps,
            step_size=self.step,
            decay=self.decay,
        )
