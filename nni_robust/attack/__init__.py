"""Adversaries: immutable values that turn images into attacked images."""

from __future__ import annotations

from nni_robust.attack.base import Attack, ThreatModel
from nni_robust.attack.fgsm import FGSM
from nni_robust.attack.mim import MIM
from nni_robust.attack.pgd import PGD

__all__ = ["ATTACKS", "FGSM", "MIM", "PGD", "Attack", "ThreatModel"]

ATTACKS: dict[str, type[Attack]] = {"fgsm": FGSM, "pgd": PGD, "mim": MIM}
