"""Attacks: immutable values that turn images into adversarial images."""

from __future__ import annotations

from nni_robust.attack.ascent import Ascent
from nni_robust.attack.attack import Attack
from nni_robust.attack.autoattack import APGD_CE, APGD_T, FAB_T, Square
from nni_robust.attack.deepfool import DeepFool
from nni_robust.attack.fgsm import FGSM
from nni_robust.attack.loss import LOSSES
from nni_robust.attack.mim import MIM
from nni_robust.attack.noise import Noise
from nni_robust.attack.pgd import PGD
from nni_robust.attack.threat_model import ThreatModel
from nni_robust.attack.transfer import Transfer

__all__ = [
    "APGD_CE",
    "APGD_T",
    "ATTACKS",
    "FAB_T",
    "FGSM",
    "LOSSES",
    "MIM",
    "PGD",
    "Ascent",
    "Attack",
    "DeepFool",
    "Noise",
    "Square",
    "ThreatModel",
    "Transfer",
]

ATTACKS: dict[str, type[Attack]] = {
    "fgsm": FGSM,
    "pgd": PGD,
    "mim": MIM,
    "deepfool": DeepFool,
    "transfer": Transfer,
    "noise": Noise,
    "apgd_ce": APGD_CE,
    "apgd_t": APGD_T,
    "fab_t": FAB_T,
    "square": Square,
}
