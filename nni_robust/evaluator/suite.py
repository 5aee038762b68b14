"""Suites of attacks, from cheap to thorough."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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
from nni_robust.check import SettingError


def quick(threat_model: ThreatModel) -> list[Attack]:
    """Return PGD-20: enough for a first impression, not for a claim."""
    return [PGD(threat_model=threat_model)]


def standard(threat_model: ThreatModel) -> list[Attack]:
    """Return the attacks of the papers' tables and AutoAttack's two most decisive parts."""
    return [
        PGD(threat_model=threat_model, steps=100),
        MIM(threat_model=threat_model),
        DeepFool(threat_model=threat_model),
        APGD_CE(threat_model=threat_model),
        APGD_T(threat_model=threat_model),
    ]


def full(threat_model: ThreatModel) -> list[Attack]:
    """Return the standard version of AutoAttack, by which published claims are compared."""
    return [part(threat_model=threat_model) for part in (APGD_CE, APGD_T, FAB_T, Square)]


TIERS: dict[str, Callable[[ThreatModel], list[Attack]]] = {
    "quick": quick,
    "standard": standard,
    "full": full,
}
"""From a threat model to the attacks of an evaluation, from cheap to thorough."""


def check_suite(name: str, attacks: Sequence[Attack]) -> None:
    """Raise a SettingError if a suite is empty or if two of its attacks have the same name."""
    if not attacks:
        raise SettingError("must hold at least one attack, got none.", name)
    names = [attack.name for attack in attacks]
    if len(set(names)) < len(names):
        raise SettingError(f"must differ in name, got {names!r}.", name)
