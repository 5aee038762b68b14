"""The momentum iterative method (MI-FGSM)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nni_robust.attack.ascent import Ascent, ascend
from nni_robust.attack.loss import Loss, check_loss, logit_loss_at
from nni_robust.attack.threat_model import is_non_negative
from nni_robust.check import SettingError


@dataclass(frozen=True, kw_only=True)
class MIM(Ascent):
    """Take projected steps of steepest ascent along an accumulated gradient, from the image itself.

    :func:`nni_robust.attack.ascent.ascend` gives the equation.

    Parameters
    ----------
    threat_model, steps, step_size
        As for :class:`Ascent`.
    decay
        Factor of the accumulated gradient at every step, at least 0.
    loss
        The loss to maximise, a key of ``LOSSES``. Not ``kl``, whose gradient at the image is 0.

    Notes
    -----
    Dong et al., *Boosting Adversarial Attacks with Momentum*, 2018, Eq. 6-7: every gradient is
    divided by its l_1 norm before it is added. The step of the paper is ``epsilon / steps``.
    """

    decay: float = 1.0
    loss: Loss = "cross_entropy"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_loss(self.loss, random_start=False)
        if not is_non_negative(self.decay):
            raise SettingError(f"must be a number of at least 0, got {self.decay!r}.", "decay")

    def _perturb(
        self, network: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator
    ) -> Tensor:
        return ascend(
            network,
            x,
            logit_loss=logit_loss_at(x, y, network=network, loss=self.loss),
            start=x,
            threat_model=self.threat_model,
            steps=self.steps,
            step_size=self.step,
            decay=self.decay,
        )
