"""The perturbation of free adversarial training, which stays from step to step."""

from __future__ import annotations

import torch
from torch import Tensor

from nni_robust.attack import ThreatModel
from nni_robust.functional.projection import project_ball, project_image_range, steepest_ascent


class CarriedPerturbation:
    r"""A perturbation that goes on from one step of the training to the next.

    .. math:: \delta \leftarrow \Pi \bigl( \delta + s \operatorname*{arg\,max}_{\|d\|_p \le 1}
        \langle \nabla_x \ell(x + \delta), d \rangle \bigr)

    Parameters
    ----------
    threat_model
        Gives the norm p and the ball that is projected onto.
    step_size
        Length s of a step.

    Attributes
    ----------
    delta
        One perturbation a place in the batch, shape (N, C, H, W); None before the first step.
    """

    def __init__(self, threat_model: ThreatModel, step_size: float) -> None:
        self.threat_model = threat_model
        self.step_size = step_size
        self.delta: Tensor | None = None
        self._x_adv: Tensor | None = None

    def images(self, x: Tensor) -> Tensor:
        """Perturb a batch; the backward pass leaves a gradient at the result.

        A batch may be smaller than those before it: the places beyond it keep their perturbation.
        """
        delta = x[:0] if self.delta is None else self.delta.to(x.device)
        self.delta = torch.cat([delta, torch.zeros_like(x[len(delta) :])])
        x_adv = project_image_range(x + self.delta[: len(x)]).detach().requires_grad_()
        self._x_adv = x_adv
        return x_adv

    def move(self) -> None:
        """Take a step by the gradient at the images that were given last, once."""
        x_adv, self._x_adv = self._x_adv, None
        if x_adv is None or x_adv.grad is None or self.delta is None:
            return
        direction = steepest_ascent(x_adv.grad, norm=self.threat_model.norm)
        delta = self.delta[: len(x_adv)] + self.step_size * direction
        delta = project_ball(
            delta,
            torch.zeros_like(delta),
            norm=self.threat_model.norm,
            epsilon=self.threat_model.epsilon,
        )
        self.delta = torch.cat([delta, self.delta[len(x_adv) :]])
