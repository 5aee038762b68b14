"""What adversarial training minimises: a loss, and the images that it is taken of."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import Tensor
from torch.nn import functional as F

from nni_robust.attack import PGD, Attack
from nni_robust.attack.loss import divergence_from_clean

Network = Callable[[Tensor], Tensor]
"""From images (N, C, H, W) to logits (N, K)."""


def trades_loss(
    logits: Tensor, logits_adv: Tensor, y: Tensor, *, beta: float, label_smoothing: float = 0.0
) -> Tensor:
    r"""Weigh the error on clean images against how far an attack moves the prediction.

    .. math::

        \frac{1}{N} \sum_i \ell(z_i, y_i)
        + \beta \, D_{\mathrm{KL}}\bigl(p(x_i) \,\|\, p(x'_i)\bigr)

    Parameters
    ----------
    logits, logits_adv
        Of the images and of the attacked images, shape (N, K).
    y
        True classes, shape (N,).
    beta
        Not negative.
    label_smoothing
        Of the cross-entropy.

    Notes
    -----
    Zhang et al., *Theoretically Principled Trade-off between Robustness and Accuracy*, 2019, Eq. 5,
    with :math:`\beta = 1/\lambda`.
    """
    clean = F.cross_entropy(logits, y, label_smoothing=label_smoothing)
    return clean + beta * divergence_from_clean(logits_adv, logits).mean()


def mart_loss(logits: Tensor, logits_adv: Tensor, y: Tensor, *, beta: float) -> Tensor:
    r"""Press harder where the clean image is misclassified as well.

    .. math::

        \frac{1}{N} \sum_i -\ln p_{y_i}(x'_i) - \ln\bigl(1 - \max_{k \ne y_i} p_k(x'_i)\bigr)
        + \beta \, D_{\mathrm{KL}}\bigl(p(x_i) \,\|\, p(x'_i)\bigr) \bigl(1 - p_{y_i}(x_i)\bigr)

    Parameters
    ----------
    logits, logits_adv
        Of the images and of the attacked images, shape (N, K).
    y
        True classes, shape (N,).
    beta
        Not negative.

    Notes
    -----
    Wang et al., *Improving Adversarial Robustness Requires Revisiting Misclassified Examples*,
    2020, Eq. 11.
    """
    column = y.unsqueeze(1)
    log_p = logits_adv.log_softmax(1)
    rival = log_p.scatter(1, column, -math.inf).argmax(1, keepdim=True)
    log_rest = log_p.scatter(1, rival, -math.inf).logsumexp(1)  # 1 less the rival's share
    boosted = -log_p.gather(1, column).squeeze(1) - log_rest
    doubt = 1 - logits.softmax(1).gather(1, column).squeeze(1)
    return (boosted + beta * divergence_from_clean(logits_adv, logits) * doubt).mean()


@dataclass(frozen=True, kw_only=True)
class PGDAT:
    """Cross-entropy of attacked images; of clean ones where there is no attack.

    Notes
    -----
    Madry et al., *Towards Deep Learning Models Resistant to Adversarial Attacks*, 2018.
    """

    name: Literal["pgd_at"] = "pgd_at"

    def attack(self, given: Attack | None) -> Attack | None:
        """Give the attack of the training images, as it was given."""
        return given

    def loss(
        self, network: Network, x: Tensor, x_adv: Tensor, y: Tensor, *, label_smoothing: float
    ) -> tuple[Tensor, Tensor]:
        """Give the loss, and the logits of the attacked images."""
        return _cross_entropy(network, x_adv, y, label_smoothing)


@dataclass(frozen=True, kw_only=True)
class Clean:
    """Cross-entropy of clean images, whatever attack is given."""

    name: Literal["clean"] = "clean"

    def attack(self, given: Attack | None) -> None:
        """Give no attack."""

    def loss(
        self, network: Network, x: Tensor, x_adv: Tensor, y: Tensor, *, label_smoothing: float
    ) -> tuple[Tensor, Tensor]:
        """Give the loss, and the logits of the images."""
        return _cross_entropy(network, x, y, label_smoothing)


@dataclass(frozen=True, kw_only=True)
class TRADES:
    """See :func:`trades_loss`. The attack climbs the divergence, whatever its own loss.

    Attributes
    ----------
    beta
        Weight of the divergence.

    Notes
    -----
    The authors' code starts the attack beside the image; here it starts as the attack says.
    """

    beta: float = 6.0
    name: Literal["trades"] = "trades"

    def __post_init__(self) -> None:
        _check_beta(self.beta)

    def attack(self, given: Attack | None) -> Attack:
        """Let the given attack climb the divergence."""
        given = _needed(given, self.name)
        if not isinstance(given, PGD):
            raise ValueError(
                f"train_attack must be a PGD for the objective 'trades', which lets it climb the "
                f"divergence from the clean prediction, got a {type(given).__name__}."
            )
        return replace(given, loss="kl")

    def loss(
        self, network: Network, x: Tensor, x_adv: Tensor, y: Tensor, *, label_smoothing: float
    ) -> tuple[Tensor, Tensor]:
        """Give the loss, and the logits of the attacked images."""
        logits, logits_adv = network(x), network(x_adv)
        loss = trades_loss(logits, logits_adv, y, beta=self.beta, label_smoothing=label_smoothing)
        return loss, logits_adv


@dataclass(frozen=True, kw_only=True)
class MART:
    """See :func:`mart_loss`. Label smoothing has no place in it.

    Attributes
    ----------
    beta
        Weight of the divergence.
    """

    beta: float = 5.0
    name: Literal["mart"] = "mart"

    def __post_init__(self) -> None:
        _check_beta(self.beta)

    def attack(self, given: Attack | None) -> Attack:
        """Give the attack of the training images, as it was given."""
        return _needed(given, self.name)

    def loss(
        self, network: Network, x: Tensor, x_adv: Tensor, y: Tensor, *, label_smoothing: float
    ) -> tuple[Tensor, Tensor]:
        """Give the loss, and the logits of the attacked images."""
        logits, logits_adv = network(x), network(x_adv)
        return mart_loss(logits, logits_adv, y, beta=self.beta), logits_adv


@dataclass(frozen=True, kw_only=True)
class Fast:
    """Cross-entropy of images attacked by one step from a random point of the ball.

    After every epoch the one step and the attack that was given, usually PGD, are tried on the same
    training images. Where the accuracy under the one step leads by far more than it did, the
    network has learnt to fool it (catastrophic overfitting): the weights of the last good epoch are
    put back, and the training ends.

    Attributes
    ----------
    step_share
        Length of the step as a share of epsilon.
    guard
        By how much the lead may rise above that of the most robust epoch; 1 never ends.

    Notes
    -----
    Wong, Rice and Kolter, *Fast is better than free*, 2020.
    """

    step_share: float = 1.25
    guard: float = 0.2
    name: Literal["fast"] = "fast"

    def __post_init__(self) -> None:
        if not 0 < self.step_share < math.inf:
            raise ValueError(f"step_share must be positive, got {self.step_share!r}.")
        if not 0 < self.guard <= 1:
            raise ValueError(f"guard must lie in (0, 1], got {self.guard!r}.")

    def attack(self, given: Attack | None) -> PGD:
        """Give the one step, in the threat model of the given attack."""
        threat_model = _needed(given, self.name).threat_model
        step_size = self.step_share * threat_model.epsilon
        return PGD(threat_model=threat_model, steps=1, step_size=step_size)

    def loss(
        self, network: Network, x: Tensor, x_adv: Tensor, y: Tensor, *, label_smoothing: float
    ) -> tuple[Tensor, Tensor]:
        """Give the loss, and the logits of the attacked images."""
        return _cross_entropy(network, x_adv, y, label_smoothing)


@dataclass(frozen=True, kw_only=True)
class Free:
    """Cross-entropy of images whose perturbation grows by the backward passes of the training.

    Every batch comes several times in a row, and the perturbation goes on from one time, and one
    batch, to the next. Of the given attack only the threat model counts, in training. An epoch
    takes as many passes over the images as there are replays.

    Attributes
    ----------
    replays
        Times that a batch comes.
    step_share
        Length of the perturbation's step as a share of epsilon.

    Notes
    -----
    Shafahi et al., *Adversarial Training for Free!*, 2019, Alg. 1. Under a one-shot strategy that
    draws subnetworks, every replay is one of its own.
    """

    replays: int = 4
    step_share: float = 1.0
    name: Literal["free"] = "free"

    def __post_init__(self) -> None:
        if self.replays < 1:
            raise ValueError(f"replays must be at least 1, got {self.replays!r}.")
        if not 0 < self.step_share < math.inf:
            raise ValueError(f"step_share must be positive, got {self.step_share!r}.")

    def attack(self, given: Attack | None) -> None:
        """Give no attack: the perturbation is carried along by the training."""
        _needed(given, self.name)

    def loss(
        self, network: Network, x: Tensor, x_adv: Tensor, y: Tensor, *, label_smoothing: float
    ) -> tuple[Tensor, Tensor]:
        """Give the loss, and the logits of the perturbed images."""
        return _cross_entropy(network, x_adv, y, label_smoothing)


Objective = PGDAT | TRADES | MART | Fast | Free | Clean

OBJECTIVES: dict[str, Any] = {
    "pgd_at": PGDAT,
    "trades": TRADES,
    "mart": MART,
    "fast": Fast,
    "free": Free,
    "clean": Clean,
}


def _cross_entropy(
    network: Network, x: Tensor, y: Tensor, label_smoothing: float
) -> tuple[Tensor, Tensor]:
    logits = network(x)
    return F.cross_entropy(logits, y, label_smoothing=label_smoothing), logits


def _check_beta(beta: float) -> None:
    if not 0 <= beta < math.inf:
        raise ValueError(f"beta must not be negative, got {beta!r}.")


def _needed(given: Attack | None, name: str) -> Attack:
    if given is None:
        raise ValueError(
            f"train_attack must be an attack for the objective {name!r}, got None. For training on "
            "clean images take the objective 'clean'."
        )
    return given
