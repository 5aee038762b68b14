"""Losses that attacks maximise: one value per image, the larger the closer it is to an error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nni_robust.check import SettingError, check_choice

Loss = Literal["cross_entropy", "dlr", "cw", "kl"]
LogitLoss = Callable[[Tensor], Tensor]
"""A loss as a function of the logits alone: from ``(N, K)`` to one value per image, ``(N,)``."""

_SPREAD_OF_A_TIE = 1e-12  # keeps the ratio finite if the three largest logits are equal


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    r"""Return the cross-entropy of every image.

    .. math:: -\ln p_y, \qquad p = \operatorname{softmax}(z).

    Parameters
    ----------
    logits
        Shape ``(N, K)``.
    y
        True classes, shape ``(N,)``.

    Returns
    -------
    loss
        Shape ``(N,)``, not negative.
    """
    return F.cross_entropy(logits, y, reduction="none")


def logit_margin(logits: Tensor, y: Tensor) -> Tensor:
    r"""Return by how much the largest wrong logit exceeds the true one (Carlini and Wagner).

    .. math:: \max_{j \ne y} z_j - z_y

    Except for ties, it is positive exactly if the network errs.

    Parameters
    ----------
    logits
        Shape ``(N, K)``, at least 2 classes.
    y
        True classes, shape ``(N,)``.

    Returns
    -------
    loss
        Shape ``(N,)``.

    Raises
    ------
    SettingError
        If there is only one class.

    Notes
    -----
    Carlini and Wagner, *Towards Evaluating the Robustness of Neural Networks*, 2017, the function
    :math:`f_6` without its lower bound.

    Examples
    --------
    >>> logit_margin(torch.tensor([[3.0, 1.0, 2.5]]), torch.tensor([0]))
    tensor([-0.5000])
    """
    check_has_rivals(logits)
    y = y.unsqueeze(1)
    return logits.scatter(1, y, -torch.inf).amax(1) - logits.gather(1, y).squeeze(1)


def logit_margin_ratio(logits: Tensor, y: Tensor) -> Tensor:
    r"""Return the difference of logits ratio (DLR), which ignores shift and scale of the logits.

    .. math:: \frac{\max_{j \ne y} z_j - z_y}{z_{\pi_1} - z_{\pi_3}},
        \qquad z_{\pi_1} \ge z_{\pi_2} \ge z_{\pi_3} \ge \dots

    Parameters
    ----------
    logits
        Shape ``(N, K)``, at least 3 classes: for two classes the ratio would always be 1 or -1.
    y
        True classes, shape ``(N,)``.

    Returns
    -------
    loss
        Shape ``(N,)``, from -1 to 1 if ``y`` is among the three largest logits.

    Raises
    ------
    SettingError
        If there are fewer than 3 classes.

    Notes
    -----
    Croce and Hein, *Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse
    Parameter-free Attacks*, 2020, Eq. 6.

    Examples
    --------
    >>> logit_margin_ratio(torch.tensor([[3.0, 1.0, 2.5]]), torch.tensor([0]))
    tensor([-0.2500])
    """
    if logits.shape[1] < 3:
        raise SettingError(
            "must not be 'dlr' for a network with fewer than 3 classes, got logits of shape "
            f"{tuple(logits.shape)}. Use 'cw'.",
            "loss",
        )
    largest = logits.topk(3, dim=1).values  # (N, 3)
    return logit_margin(logits, y) / (largest[:, 0] - largest[:, 2] + _SPREAD_OF_A_TIE)


def divergence_from_clean(logits: Tensor, clean_logits: Tensor) -> Tensor:
    r"""Return the divergence of the predictions from those of the clean images (TRADES).

    .. math:: \sum_k p_k(x) \ln \frac{p_k(x)}{p_k(x')}, \qquad p = \operatorname{softmax}(z).

    Parameters
    ----------
    logits
        Logits of the attacked images :math:`x'`, shape ``(N, K)``.
    clean_logits
        Logits of the clean images :math:`x`, same shape.

    Returns
    -------
    loss
        Shape ``(N,)``, not negative.

    Notes
    -----
    Zhang et al., *Theoretically Principled Trade-off between Robustness and Accuracy*, 2019. It
    does not depend on the true classes.
    """
    log_p, log_clean = logits.log_softmax(1), clean_logits.log_softmax(1)
    return F.kl_div(log_p, log_clean, reduction="none", log_target=True).sum(1)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": cross_entropy,
    "dlr": logit_margin_ratio,
    "cw": logit_margin,
    "kl": divergence_from_clean,
}
"""The losses by name. All take logits and true classes, except ``kl``, which takes clean logits."""


def logit_loss_at(x: Tensor, y: Tensor, *, network: nn.Module, loss: Loss) -> LogitLoss:
    """Return a loss as a function of the logits alone.

    Parameters
    ----------
    x, y
        Clean images ``(N, C, H, W)`` and their true classes ``(N,)``.
    network
        Maps images to logits ``(N, K)``; runs once if ``loss`` is ``kl``.
    loss
        A key of ``LOSSES``.

    Returns
    -------
    logit_loss
        The loss for the true classes or, for ``kl``, for the logits of the clean images.
    """
    target = logits_at(x, network) if loss == "kl" else y
    return lambda logits: LOSSES[loss](logits, target)


def logits_at(x: Tensor, network: nn.Module) -> Tensor:
    """Return the logits of images, ``(N, K)``, detached and in the dtype of the images.

    The pass records a graph although it is not used. Without one, autocast in some torch versions
    caches weights without gradients, and a later pass for the weights' gradient would use those.
    """
    return network(x).detach().to(x.dtype)  # type: ignore[no-any-return]


def check_loss(loss: str, *, random_start: bool) -> None:
    """Raise a SettingError if the loss is unknown or has no gradient where the ascent starts."""
    check_choice("loss", loss, LOSSES)
    if loss == "kl" and not random_start:
        raise SettingError(
            "must not be 'kl' if the ascent starts at the image itself, because the gradient is 0 "
            "there. Use PGD with random_start=True.",
            "loss",
        )


def check_has_rivals(logits: Tensor) -> None:
    """Raise a SettingError unless there are at least two classes."""
    if logits.shape[1] < 2:
        raise SettingError(
            f"must return logits of at least 2 classes, got logits of shape {tuple(logits.shape)}.",
            "network",
        )
