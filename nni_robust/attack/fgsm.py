"""The fast gradient sign method."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nni_robust.attack.ascent import ascend
from nni_robust.attack.attack import Attack
from nni_robust.attack.loss import Loss, check_loss, logit_loss_at


@dataclass(frozen=True, kw_only=True)
class FGSM(Attack):
    r"""Take one step of steepest ascent from the image to the border of the ball.

    .. math:: x' = \Pi \bigl( x + \varepsilon \operatorname*{arg\,max}_{\|d\|_p \le 1}
        \langle \nabla_x \ell(x), d \rangle \bigr)

    Parameters
    ----------
    threat_model
        What the adversary may do; its ``epsilon`` is the length of the step.
    loss
        The loss to maximise, a key of ``LOSSES``. Not ``kl``, whose gradient at the image is 0.

    Notes
    -----
    Goodfellow, Shlens and Szegedy, *Explaining and Harnessing Adversarial Examples*, 2015. In l_2
    the step is the gradient divided by its norm.

    Examples
    --------
    >>> network = nn.Sequential(nn.Flatten(), nn.Linear(1, 2, bias=False))
    >>> _ = network[1].weight.data.copy_(torch.tensor([[1.0], [-1.0]]))  # bright is class 0
    >>> x_adv = FGSM()(network, torch.full((1, 1, 1, 1), 0.5), torch.tensor([0]))
    >>> round(x_adv.item() * 255, 3)
    119.5
    """

    loss: Loss = "cross_entropy"

    def __post_init__(self) -> None:
        check_loss(self.loss, random_start=False)

    def _perturb(
        self, network: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator
    ) -> Tensor:
        return ascend(
            network,
            x,
            logit_loss=logit_loss_at(x, y, network=network, loss=self.loss),
            start=x,
            threat_model=self.threat_model,
            steps=1,
            step_size=self.threat_model.epsilon,
        )
