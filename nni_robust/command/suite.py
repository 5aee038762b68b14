"""Suites of attacks, from the options of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from nni_robust.attack import ATTACKS, PGD, Attack, ThreatModel
from nni_robust.check import SettingError
from nni_robust.command.evaluate import SuiteOptions
from nni_robust.evaluator.suite import TIERS, check_suite
from nni_robust.settings.grammar import build, build_threat_model


@dataclass(frozen=True, kw_only=True)
class Suite:
    """The attacks of one evaluation, or of one point of a sweep.

    Attributes
    ----------
    attacks
        In the order in which they are tried.
    threat_model
        What all of them may do.
    tier
        The name of the suite, or None if the attacks were given one by one.
    keep_fooled
        Whether every attack is tried on all images, or only on those not fooled before.
    axis, value
        What grows in the sweep, ``epsilon`` or ``steps``, and its value; None outside a sweep.
    """

    attacks: Sequence[Attack]
    threat_model: ThreatModel
    tier: str | None
    keep_fooled: bool
    axis: str | None = None
    value: float | None = None


def build_suites(options: SuiteOptions, threat_model: ThreatModel) -> list[Suite]:
    """Build the suite that the options name, and after it one suite per point of a sweep.

    Raises
    ------
    SettingError
        If an attack, a radius or a number of steps is not valid.
    """
    tier = None if options.attacks is not None else options.tier or "quick"
    if options.attacks is None:
        attacks = TIERS[tier or "quick"](threat_model)
    else:
        attacks = _given_attacks(options.attacks, threat_model)
    plain = Suite(
        attacks=attacks, threat_model=threat_model, tier=tier, keep_fooled=options.keep_fooled
    )
    suites = [plain]
    for text in options.sweep_epsilon or ():
        section = {"norm": threat_model.norm, "epsilon": text}
        radius = build_threat_model(section, "--sweep-epsilon")
        point = replace(plain, attacks=[PGD(threat_model=radius)], threat_model=radius)
        suites.append(replace(point, axis="epsilon", value=radius.epsilon))
    for steps in options.sweep_steps or ():
        attack = PGD(threat_model=threat_model, steps=steps)
        suites.append(replace(plain, attacks=[attack], axis="steps", value=steps))
    return suites


def _given_attacks(sections: Sequence[Any], threat_model: ThreatModel) -> list[Attack]:
    """Build attacks that share a threat model."""
    attacks: list[Attack] = [
        build(section, ATTACKS, f"attacks[{index}]", threat_model=threat_model)
        for index, section in enumerate(sections)
    ]
    for index, attack in enumerate(attacks):
        if attack.threat_model != threat_model:
            raise SettingError(
                "must be left out: all attacks share that of --norm and --epsilon.",
                *("attacks", index, "threat_model"),
            )
    check_suite("attacks", attacks)
    return attacks
