"""Training objectives: which attack makes the training images, and which loss is minimised."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import Tensor
from torch.nn import functional as F

from nni_robust.attack import PGD, Attack
from nni_robust.check import SettingError, check_count
from nni_robust.training.loss import mart_loss, trades_loss

Classifier = Callable[[Tensor], Tensor]
"""Maps images (N, C, H, W) to logits (N, K)."""


def _cross_entropy(
    network: Classifier, x: Tensor, y: Tensor, label_smoothing: float
) -> tuple[Tensor, Tensor]:
    logits = network(x)
    return F.cross_entropy(logits, y, label_smoothing=label_smoothing), logits


def _loss_under_attack(
    self: object,
    network: Classifier,
    x: Tensor,
    x_adv: Tensor,
    y: Tensor,
    *,
    label_smoothing: float,
) -> tuple[Tensor, Tensor]:
    """Return the cross-entropy and the logits of the attacked images."""
    return _cross_entropy(network, x_adv, y, label_smoothing)


@dataclass(frozen=True, kw_only=True)
class PGDAT:
    """Cross-entropy of attacked images, or of clean images if there is no attack.

    Notes
    -----
    Madry et al., *Towards Deep Learning Models Resistant to Adversarial Attacks*, 2018.
    """

    name: Literal["pgd_at"] = "pgd_at"

    def attack(self, given: Attack | None) -> Attack | None:
        """Return the given attack."""
        return given

    loss = _loss_under_attack


@dataclass(frozen=True, kw_only=True)
class Clean:
    """Cross-entropy of clean images, even if an attack is given."""

    name: Literal["clean"] = "clean"

    def attack(self, given: Attack | None) -> None:
        """Return None: there is no attack."""

    def loss(
        self, network: Classifier, x: Tensor, x_adv: Tensor, y: Tensor, *, label_smoothing: float
    ) -> tuple[Tensor, Tensor]:
        """Return the loss and the logits of the clean images."""
        return _cross_entropy(network, x, y, label_smoothing)


@dataclass(frozen=True, kw_only=True)
class TRADES:
    """See :func:`nni_robust.training.loss.trades_loss`.

    The attack maximises the divergence, whatever loss it was given.

    Attributes
    ----------
    beta
        Weight of the divergence, at least 0.

    Notes
    -----
    The authors' code starts the attack close to the image. Here the attack decides where it starts.
    """

    beta: float = 6.0
    name: Literal["trades"] = "trades"

    def __post_init__(self) -> None:
        _check_beta(self.beta)

    def attack(self, given: Attack | None) -> Attack:
        """Return the given attack with the divergence as its loss."""
        given = _required(given, self.name)
        if not isinstance(given, PGD):
            raise SettingError(
                "must be a PGD for the objective 'trades', which lets it maximise the divergence "
                f"from the clean prediction, got a {type(given).__name__}.",
                "train_attack",
            )
        return replace(given, loss="kl")

    def loss(
        self, network: Classifier, x: Tensor, x_adv: Tensor, y: Tensor, *, label_smoothing: float
    ) -> tuple[Tensor, Tensor]:
        """Return the loss and the logits of the attacked images."""
        logits, logits_adv = network(x), network(x_adv)
        loss = trades_loss(logits, logits_adv, y, beta=self.beta, label_smoothing=label_smoothing)
        return loss, logits_adv


@dataclass(frozen=True, kw_only=True)
class MART:
    """See :func:`nni_robust.training.loss.mart_loss`. It takes no label smoothing.

    Attributes
    ----------
    beta
        Weight of the divergence, at least 0.
    """

    beta: float = 5.0
    name: Literal["mart"] = "mart"

    def __post_init__(self) -> None:
        _check_beta(self.beta)

    def attack(self, given: Attack | None) -> Attack:
        """Return the given attack."""
        return _required(given, self.name)

    def loss(
        self, network: Classifier, x: Tensor, x_adv: Tensor, y: Tensor, *, label_smoothing: float
    ) -> tuple[Tensor, Tensor]:
        """Return the loss and the logits of the attacked images."""
        logits, logits_adv = network(x), network(x_adv)
        return mart_loss(logits, logits_adv, y, beta=self.beta), logits_adv


@dataclass(frozen=True, kw_only=True)
class Fast:
    """Cross-entropy of images attacked in one step from a random point of the ball.

    Such a network may learn to fool this one step only (catastrophic overfitting). After every
    epoch, the one step and the given attack, usually PGD, attack the same training images. If the
    accuracy under the one step leads by far more than before, the weights of the last good epoch
    are restored and the training ends.

    Attributes
    ----------
    step_share
        Length of the step as a fraction of epsilon.
    guard
        How far the lead may rise above the lead in the most robust epoch, in (0, 1]; 1 never ends
        the training.

    Notes
    -----
    Wong, Rice and Kolter, *Fast is better than free*, 2020.
    """

    step_share: float = 1.25
    guard: float = 0.2
    name: Literal["fast"] = "fast"

    def __post_init__(self) -> None:
        _check_step_share(self.step_share)
        if not 0 < self.guard <= 1:
            raise SettingError(f"must lie in (0, 1], got {self.guard!r}.", "guard")

    def attack(self, given: Attack | None) -> PGD:
        """Return the one step, in the threat model of the given attack."""
        threat_model = _required(given, self.name).threat_model
        step_size = self.step_share * threat_model.epsilon
        return PGD(threat_model=threat_model, steps=1, step_size=step_size)

    loss = _loss_under_attack


@dataclass(frozen=True, kw_only=True)
class Free:
    """Cross-entropy of images whose perturbation grows in the backward passes of the training.

    Every batch comes several times in a row. The perturbation is carried from one replay, and from
    one batch, to the next. In training, only the threat model of the given attack is used. One
    epoch costs as many passes over the images as there are replays.

    Attributes
    ----------
    replays
        How often each batch comes.
    step_share
        Length of the perturbation's step as a fraction of epsilon.

    Notes
    -----
    Shafahi et al., *Adversarial Training for Free!*, 2019, Alg. 1. A one-shot strategy that draws
    subnetworks draws one per replay.
    """

    replays: int = 4
    step_share: float = 1.0
    name: Literal["free"] = "free"

    def __post_init__(self) -> None:
        check_count("replays", self.replays)
        _check_step_share(self.step_share)

    def attack(self, given: Attack | None) -> None:
        """Return None: the training itself carries the perturbation."""
        _required(given, self.name)

    loss = _loss_under_attack


Objective = PGDAT | TRADES | MART | Fast | Free | Clean

OBJECTIVES: dict[str, Any] = {
    "pgd_at": PGDAT,
    "trades": TRADES,
    "mart": MART,
    "fast": Fast,
    "free": Free,
    "clean": Clean,
}


def _check_beta(beta: float) -> None:
    if not 0 <= beta < math.inf:
        raise SettingError(f"must not be negative, got {beta!r}.", "beta")


def _check_step_share(step_share: float) -> None:
    if not 0 < step_share < math.inf:
        raise SettingError(f"must be positive, got {step_share!r}.", "step_share")


def _required(given: Attack | None, name: str) -> Attack:
    if given is None:
        raise SettingError(
            f"must be an attack for the objective {name!r}, got None. To train on clean images, "
            "use the objective 'clean'.",
            "train_attack",
        )
    return given
