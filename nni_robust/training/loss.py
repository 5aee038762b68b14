"""Losses of adversarial training that weigh clean images against attacked ones."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional as F

from nni_robust.attack.loss import divergence_from_clean


def trades_loss(
    logits: Tensor, logits_adv: Tensor, y: Tensor, *, beta: float, label_smoothing: float = 0.0
) -> Tensor:
    r"""Return the cross-entropy of clean images plus the divergence that the attack causes.

    .. math::

        \frac{1}{N} \sum_i \ell(z_i, y_i)
        + \beta \, D_{\mathrm{KL}}\bigl(p(x_i) \,\|\, p(x'_i)\bigr)

    Parameters
    ----------
    logits, logits_adv
        Logits of the clean and of the attacked images, shape (N, K).
    y
        True classes, shape (N,).
    beta
        Weight of the divergence, at least 0.
    label_smoothing
        Label smoothing of the cross-entropy.

    Notes
    -----
    Zhang et al., *Theoretically Principled Trade-off between Robustness and Accuracy*, 2019, Eq. 5,
    with :math:`\beta = 1/\lambda`.
    """
    clean = F.cross_entropy(logits, y, label_smoothing=label_smoothing)
    return clean + beta * divergence_from_clean(logits_adv, logits).mean()


def mart_loss(logits: Tensor, logits_adv: Tensor, y: Tensor, *, beta: float) -> Tensor:
    r"""Return a loss with more weight on images that are misclassified without an attack.

    .. math::

        \frac{1}{N} \sum_i -\ln p_{y_i}(x'_i) - \ln\bigl(1 - \max_{k \ne y_i} p_k(x'_i)\bigr)
        + \beta \, D_{\mathrm{KL}}\bigl(p(x_i) \,\|\, p(x'_i)\bigr) \bigl(1 - p_{y_i}(x_i)\bigr)

    Parameters
    ----------
    logits, logits_adv
        Logits of the clean and of the attacked images, shape (N, K).
    y
        True classes, shape (N,).
    beta
        Weight of the divergence, at least 0.

    Notes
    -----
    Wang et al., *Improving Adversarial Robustness Requires Revisiting Misclassified Examples*,
    2020, Eq. 11.
    """
    column = y.unsqueeze(1)
    log_p = logits_adv.log_softmax(1)
    rival = log_p.scatter(1, column, -math.inf).argmax(1, keepdim=True)
    log_rest = log_p.scatter(1, rival, -math.inf).logsumexp(1)  # 1 minus the rival's probability
    boosted = -log_p.gather(1, column).squeeze(1) - log_rest
    doubt = 1 - logits.softmax(1).gather(1, column).squeeze(1)
    return (boosted + beta * divergence_from_clean(logits_adv, logits) * doubt).mean()
