"""Suites of attacks: how much an evaluation asks of a network, and what it costs."""

from __future__ import annotations

from collections.abc import Callable

from nni_robust.attack import (
    APGD_CE,
    APGD_T,
    FAB_T,
    MIM,
    PGD,
    Attack,
    DeepFool,
    Square,
    ThreatModel,
)

_STEPS_TO_THE_BORDER = 4  # [RobNets] and [RACL] take steps of 2/255 in a ball of 8/255


def relative_pgd(threat_model: ThreatModel, steps: int = 20) -> PGD:
    """Set up PGD with the papers' step, a quarter of epsilon.

    Parameters
    ----------
    threat_model
        What the adversary may do.
    steps
        Number of steps.

    Examples
    --------
    >>> relative_pgd(ThreatModel(epsilon=8 / 255)).step_size * 255
    2.0
    """
    return PGD(threat_model=threat_model, steps=steps, step_size=_step_size(threat_model))


def quick(threat_model: ThreatModel) -> list[Attack]:
    """Set up PGD-20: for a look, not for a claim."""
    return [relative_pgd(threat_model)]


def standard(threat_model: ThreatModel) -> list[Attack]:
    """Set up the attacks of the papers' tables, and the two of AutoAttack that decide the most."""
    return [
        relative_pgd(threat_model, steps=100),
        MIM(threat_model=threat_model, step_size=_step_size(threat_model)),
        DeepFool(threat_model=threat_model),
        APGD_CE(threat_model=threat_model),
        APGD_T(threat_model=threat_model),
    ]


def full(threat_model: ThreatModel) -> list[Attack]:
    """Set up the standard version of AutoAttack, whole: what claims are compared by."""
    return [part(threat_model=threat_model) for part in (APGD_CE, APGD_T, FAB_T, Square)]


TIERS: dict[str, Callable[[ThreatModel], list[Attack]]] = {
    "quick": quick,
    "standard": standard,
    "full": full,
}
"""From a threat model to the attacks of an evaluation, from cheap to thorough."""


def _step_size(threat_model: ThreatModel) -> float:
    # In a ball without extent all steps are alike.
    return threat_model.epsilon / _STEPS_TO_THE_BORDER or 1.0
