"""Gradient ascent on a loss, inside a threat model."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nni_robust.attack.attack import Attack
from nni_robust.attack.loss import LogitLoss
from nni_robust.attack.threat_model import ThreatModel, is_non_negative
from nni_robust.check import SettingError, check_count
from nni_robust.functional.projection import steepest_ascent

_STEPS_TO_THE_BORDER = 4  # [RobNets] and [RACL] take steps of 2/255 in a ball of 8/255


@dataclass(frozen=True, kw_only=True)
class Ascent(Attack):
    """An attack that takes several steps of the same length.

    Parameters
    ----------
    threat_model
        What the adversary may do.
    steps
        Number of steps, at least 1.
    step_size
        Length of a step in the norm of the threat model, positive. None for a quarter of its
        ``epsilon``, as in the papers.
    """

    steps: int = 20
    step_size: float | None = None

    def __post_init__(self) -> None:
        check_count("steps", self.steps)
        if self.step_size is not None and not (
            is_non_negative(self.step_size) and self.step_size > 0
        ):
            raise SettingError(
                f"must be a positive number, on the scale of images in [0, 1], "
                f"got {self.step_size!r}.",
                "step_size",
            )

    @property
    def step(self) -> float:
        """Length of a step in the norm of the threat model, with the default filled in."""
        if self.step_size is None:
            return self.threat_model.epsilon / _STEPS_TO_THE_BORDER
        return self.step_size


def ascend(
    network: nn.Module,
    x: Tensor,
    *,
    logit_loss: LogitLoss,
    start: Tensor,
    threat_model: ThreatModel,
    steps: int,
    step_size: float,
    decay: float = 0.0,
) -> Tensor:
    r"""Return the images that projected steps of steepest ascent on a loss reach.

    .. math::

        m_{k+1} = \delta \, m_k + \frac{\nabla_x \ell(x_k)}{\|\nabla_x \ell(x_k)\|_1},
        \qquad x_{k+1} = \Pi \bigl( x_k + s \operatorname*{arg\,max}_{\|d\|_p \le 1}
        \langle m_{k+1}, d \rangle \bigr).

    Parameters
    ----------
    network, x
        As in :class:`Attack`.
    logit_loss
        The loss :math:`\ell`, from logits ``(N, K)`` to one value per image, ``(N,)``.
    start
        The images :math:`x_0` where the ascent starts, shape ``(N, C, H, W)``.
    threat_model
        Determines the norm p and the projection :math:`\Pi`.
    steps
        Number of steps, at least 1.
    step_size
        Length s of a step in the norm of the threat model.
    decay
        Factor :math:`\delta` of the momentum. At 0 the l_1 norm cancels and is not computed.

    Returns
    -------
    x_adv
        The images after the last step, detached, shape ``(N, C, H, W)``.
    """
    x_adv, momentum = start, torch.zeros_like(x)
    for _ in range(steps):
        gradient = _input_gradient(network, x_adv, logit_loss)
        if decay:
            length = torch.linalg.vector_norm(gradient, 1, dim=(1, 2, 3), keepdim=True)
            # The smallest positive number replaces the norm of a gradient of 0.
            gradient = gradient / length.clamp_min(torch.finfo(x.dtype).tiny)
            momentum = gradient.add_(momentum, alpha=decay)
        direction = steepest_ascent(momentum if decay else gradient, norm=threat_model.norm)
        x_adv = threat_model.project(torch.add(x_adv, direction, alpha=step_size), x)
    return x_adv


def check_differentiable(value: Tensor) -> Tensor:
    """Return a value computed by a network; raise a SettingError if it has no gradient."""
    if not value.requires_grad:
        raise SettingError(
            "must be differentiable for an attack by gradient, but its logits depend neither on "
            "the images nor on a trainable weight. Square needs no gradient; an audit looks for "
            "the cause.",
            "network",
        )
    return value


def _input_gradient(network: nn.Module, x_adv: Tensor, logit_loss: LogitLoss) -> Tensor:
    """Return the gradient of the summed loss with respect to the images alone."""
    x_adv = x_adv.detach().requires_grad_()
    loss = check_differentiable(logit_loss(network(x_adv).to(x_adv.dtype)).sum())
    # In a subnetwork whose sampled edges all start at nodes without inputs, the logits do not
    # depend on x: the gradient is 0, not an error. The root of 0 has a gradient of NaN, which must
    # not reach the images.
    (gradient,) = torch.autograd.grad(loss, x_adv, materialize_grads=True)
    return gradient.nan_to_num()
