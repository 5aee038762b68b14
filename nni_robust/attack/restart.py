"""The choice of the worst image among several attempts."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from nni_robust.attack.loss import LogitLoss, logits_at


def worst_of(
    attempts: int,
    attempt: Callable[[], Tensor],
    *,
    network: nn.Module,
    y: Tensor,
    logit_loss: LogitLoss,
) -> Tensor:
    """Return, for every image, the worst of several attempts.

    A misclassified image is worse than a correctly classified one; among equals, the one with the
    larger loss is worse. A single attempt is returned without running the network.

    Parameters
    ----------
    attempts
        Number of attempts, at least 1.
    attempt
        Returns attacked images, shape ``(N, C, H, W)``; called ``attempts`` times.
    network
        Maps images ``(N, C, H, W)`` to logits ``(N, K)``.
    y
        True classes, shape ``(N,)``.
    logit_loss
        The loss, from logits ``(N, K)`` to one value per image, ``(N,)``.

    Returns
    -------
    x_adv
        The worst images, shape ``(N, C, H, W)``.
    """
    worst = attempt()
    if attempts == 1:
        return worst
    worst_fooled, worst_loss = _damage(network, worst, y, logit_loss)
    for _ in range(attempts - 1):
        x_adv = attempt()
        fooled, loss = _damage(network, x_adv, y, logit_loss)
        worse = (fooled & ~worst_fooled) | ((fooled == worst_fooled) & (loss > worst_loss))
        worst = torch.where(worse.view(-1, 1, 1, 1), x_adv, worst)
        worst_fooled = fooled | worst_fooled
        worst_loss = torch.where(worse, loss, worst_loss)
    return worst


def _damage(
    network: nn.Module, x_adv: Tensor, y: Tensor, logit_loss: LogitLoss
) -> tuple[Tensor, Tensor]:
    """Return which images are misclassified, and the losses, both ``(N,)``."""
    logits = logits_at(x_adv, network)
    return logits.argmax(1) != y, logit_loss(logits)
