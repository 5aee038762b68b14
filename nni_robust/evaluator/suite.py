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


def quick(threat_model: ThreatModel) -> list[Attack]:
    """Set up PGD-20: for a look, not for a claim."""
    return [PGD(threat_model=threat_model)]


def standard(threat_model: ThreatModel) -> list[Attack]:
    """Set up the attacks of the papers' tables, and the two of AutoAttack that decide the most."""
    return [
        PGD(threat_model=threat_model, steps=100),
        MIM(threat_model=threat_model),
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
