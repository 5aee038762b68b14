"""What gradient attacks climb: a loss of every image, larger the nearer the network is to err."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Loss = Literal["cross_entropy", "dlr", "cw", "kl"]
Objective = Callable[[Tensor], Tensor]  # from logits (N, K) to losses (N,)

_SPREAD_OF_A_TIE = 1e-12  # keeps the ratio finite where the three largest logits are equal


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Compute the cross-entropy of every image, ``(N,)``, from logits ``(N, K)``."""
    return F.cross_entropy(logits, y, reduction="none")


def logit_margin(logits: Tensor, y: Tensor) -> Tensor:
    r"""Compute by how much a wrong class leads: the loss of Carlini and Wagner.

    .. math:: \max_{j \ne y} z_j - z_y,

    which is positive exactly where the network errs, ties apart.

    Parameters
    ----------
    logits
        Shape ``(N, K)``, of at least 2 classes.
    y
        True classes, shape ``(N,)``.

    Returns
    -------
    loss
        Shape ``(N,)``.

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
    r"""Compute the difference of logits ratio, which no shift and no scale of the logits changes.

    .. math:: \frac{\max_{j \ne y} z_j - z_y}{z_{\pi_1} - z_{\pi_3}},
        \qquad z_{\pi_1} \ge z_{\pi_2} \ge z_{\pi_3} \ge \dots

    Parameters
    ----------
    logits
        Shape ``(N, K)``, of at least 3 classes: of two, the ratio is 1 or -1 whatever the logits.
    y
        True classes, shape ``(N,)``.

    Returns
    -------
    loss
        Shape ``(N,)``, between -1 and 1 where ``y`` is among the three largest logits.

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
        raise ValueError(
            "loss must not be 'dlr' for a network of fewer than 3 classes, got logits of shape "
            f"{tuple(logits.shape)}. Use 'cw'."
        )
    largest = logits.topk(3, dim=1).values  # (N, 3)
    return logit_margin(logits, y) / (largest[:, 0] - largest[:, 2] + _SPREAD_OF_A_TIE)


def divergence_from_clean(logits: Tensor, clean_logits: Tensor) -> Tensor:
    r"""Compute how far a prediction has moved from that of the clean image: the loss of TRADES.

    .. math:: \sum_k p_k(x) \ln \frac{p_k(x)}{p_k(x')}, \qquad p = \operatorname{softmax}(z).

    Parameters
    ----------
    logits
        Of the attacked images, shape ``(N, K)``.
    clean_logits
        Of the images themselves, same shape.

    Returns
    -------
    loss
        Shape ``(N,)``, not negative.

    Notes
    -----
    Zhang et al., *Theoretically Principled Trade-off between Robustness and Accuracy*, 2019. The
    true class does not enter.
    """
    log_p, log_clean = logits.log_softmax(1), clean_logits.log_softmax(1)
    return F.kl_div(log_p, log_clean, reduction="none", log_target=True).sum(1)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": cross_entropy,
    "dlr": logit_margin_ratio,
    "cw": logit_margin,
    "kl": divergence_from_clean,
}


def objective_at(x: Tensor, y: Tensor, *, network: nn.Module, loss: Loss) -> Objective:
    """Fix what a loss compares logits with: the true classes, or for ``kl`` the clean logits."""
    target = logits_at(x, network) if loss == "kl" else y
    return lambda logits: LOSSES[loss](logits, target)


def logits_at(x: Tensor, network: nn.Module) -> Tensor:
    """Run the network and cut its logits off the graph.

    The pass records a graph all the same: without one, some torch versions let autocast keep the
    weights that it casts, and a later pass for the weights' gradient would find those.
    """
    return network(x).detach().to(x.dtype)  # type: ignore[no-any-return]


def check_loss(loss: str, *, random_start: bool) -> None:
    """Raise a ValueError unless the loss is known and has a gradient where the ascent starts."""
    if loss not in LOSSES:
        raise ValueError(f"loss must be one of {list(LOSSES)}, got {loss!r}.")
    if loss == "kl" and not random_start:
        raise ValueError(
            "loss must not be 'kl' where the ascent starts at the image itself, because its "
            "gradient there is 0, got 'kl'. Use PGD with random_start=True."
        )


def check_has_rivals(logits: Tensor) -> None:
    """Raise a ValueError unless there is a class besides the true one."""
    if logits.shape[1] < 2:
        raise ValueError(
            "network must return a logit for each of at least 2 classes, got logits of shape "
            f"{tuple(logits.shape)}."
        )
