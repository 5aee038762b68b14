"""Checks of a network under attack: each compares attacks that a sound network orders."""

from __future__ import annotations

import importlib.util
import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from nni_robust.attack import FGSM, PGD, Attack, Noise, Square, ThreatModel, Transfer
from nni_robust.audit.audited_network import AuditedNetwork, count, fraction
from nni_robust.audit.verdict import (
    Finding,
    Verdict,
    most_severe,
    verdict_on_order,
    verdict_on_share,
)

_STRAY = 0.01  # fraction that an attack may fool alone although it should fool none alone
_GAINED = 0.05  # fraction that more steps, more starts or another loss may fool in addition
_LEFT = 0.05  # fraction that PGD may miss even if any image is allowed
_FACTOR = 4  # from one radius to the next


def check_gradients(audited: AuditedNetwork) -> Finding:
    """Check that the loss has a gradient at the images."""
    zero, broken = audited.without_gradient("cross_entropy")
    zero_of_margin, _ = audited.without_gradient("cw")
    blind = zero | broken
    measured: dict[str, float] = {
        "zero": count(zero),
        "not finite": count(broken),
        "zero with cw": count(zero_of_margin),
    }
    saturated = 2 * count(zero & ~zero_of_margin) > count(blind)
    trouble = (
        "Cross-entropy has no gradient, but the margin of the logits has one: the softmax is "
        "saturated, so attack with the loss cw."
        if saturated
        else "No gradient reaches the image, so attacks by gradient are blind: find the layer that "
        "rounds, detaches or overflows, and attack through a stand-in for it."
    )
    verdict = verdict_on_share(count(blind), audited.num_right, tolerated=_STRAY)
    return _finding(verdict, measured, "The loss has a gradient at the images.", trouble)


def check_one_step(audited: AuditedNetwork) -> Finding:
    """Check that one step is never better than many."""
    attacks = [FGSM(threat_model=audited.threat_model), audited.pgd(20)]
    return _finding(
        _order(audited, attacks),
        _accuracies(audited, attacks),
        "One step does no better than many.",
        "One step fools images that many steps do not, so the gradient is misleading: attack from "
        "more starts, and without gradients.",
    )


def check_steps(audited: AuditedNetwork) -> Finding:
    """Check that more steps never help the defender."""
    attacks = [audited.pgd(10), audited.pgd(20), audited.pgd(100)]
    return _more(audited, attacks, "steps")


def check_restarts(audited: AuditedNetwork) -> Finding:
    """Check that more random starts never help the defender."""
    return _more(audited, [audited.pgd(20), audited.pgd(20, restarts=5)], "starts")


def check_budgets(audited: AuditedNetwork) -> Finding:
    """Check that accuracy falls with the radius, and to zero if any image is allowed."""
    norm, epsilon = audited.threat_model.norm, audited.threat_model.epsilon
    everything = 1.0 if norm == "linf" else math.sqrt(audited.x[0].numel())
    powers = itertools.takewhile(
        lambda power: power * epsilon < everything, (_FACTOR**k for k in itertools.count())
    )
    radii = {f"{power} epsilon": power * epsilon for power in powers} | {"any image": everything}
    balls = [ThreatModel(norm=norm, epsilon=radius) for radius in radii.values()]
    attacks = [PGD(threat_model=ball) for ball in balls]
    measured = {name: audited.accuracy(a) for name, a in zip(radii, attacks, strict=True)}
    missed = count(audited.right & ~audited.fooled(attacks[-1]))
    left = verdict_on_share(missed, audited.num_right, tolerated=_LEFT)
    if left != "pass":
        meaning = (
            "PGD fails on some images although any image is allowed: look for what hides the "
            "gradient."
        )
        return left, measured, meaning
    return _finding(
        _order(audited, attacks),
        measured,
        "Accuracy falls with the radius, down to zero.",
        "A larger radius fools fewer images, so the gradient is misleading: attack without it.",
    )


def check_noise(audited: AuditedNetwork) -> Finding:
    """Check that noise fools no image that PGD does not fool."""
    usual, random = audited.pgd(20), Noise(threat_model=audited.threat_model)
    return _alone(
        audited,
        audited.fooled(random) & ~audited.fooled(usual),
        _accuracies(audited, [usual, random]),
        tolerated=_STRAY,
        fine="Noise fools no image that PGD does not fool.",
        trouble="Noise fools images that PGD does not, so PGD misses what is close by: look for "
        "what hides the gradient.",
    )


def check_loss_scale(audited: AuditedNetwork) -> Finding:
    """Check that a loss without saturation fools hardly more images than cross-entropy."""
    robust, margin = ~_fooled_by_cross_entropy(audited) & audited.right, audited.pgd(100, loss="cw")
    alone = audited.fooled(margin, robust)
    return _alone(
        audited,
        alone,
        {"cross-entropy": fraction(robust), "and cw": fraction(robust & ~alone)},
        tolerated=_GAINED,
        fine="The margin of the logits fools hardly more images than cross-entropy.",
        trouble="The margin of the logits fools images that cross-entropy does not, so the "
        "gradient of cross-entropy is hidden: report the accuracy under apgd_t, or under pgd with "
        "the loss cw.",
    )


def check_black_box(audited: AuditedNetwork) -> Finding:
    """Check that an attack without gradients fools no image that gradient attacks do not fool."""
    if importlib.util.find_spec("pyautoattack") is None:
        return "skipped", {}, "Square needs pyautoattack: run pip install 'nni_robust[eval]'."
    robust = _robust_to_gradients(audited)
    square = Square(threat_model=audited.threat_model, queries=audited.queries)
    alone = audited.fooled(square, robust)
    return _alone(
        audited,
        alone,
        {"gradients": fraction(robust), "and square": fraction(robust & ~alone)},
        tolerated=_STRAY,
        fine="An attack that sees no gradient fools no additional image.",
        trouble="An attack that sees no gradient fools images that gradient attacks do not: "
        "gradients are masked, so trust no accuracy above that under the whole of AutoAttack.",
    )


def check_transfer(audited: AuditedNetwork) -> Finding:
    """Check that images made on a surrogate fool no image that gradient attacks do not fool."""
    source = audited.other_network()
    if source is None:
        return "skipped", {}, "There is no surrogate, and no layer that rounds or detaches."
    robust = _robust_to_gradients(audited)
    alone = audited.fooled(Transfer(source=source, attack=audited.pgd(20)), robust)
    return _alone(
        audited,
        alone,
        {"gradients": fraction(robust), "and transfer": fraction(robust & ~alone)},
        tolerated=_STRAY,
        fine="Images attacked on another network fool no additional image.",
        trouble="Images attacked on another network fool this one where its own gradients do not: "
        "its gradients are masked, so attack through the other network.",
    )


def _finding(verdict: Verdict, measured: dict[str, float], fine: str, trouble: str) -> Finding:
    return verdict, measured, fine if verdict == "pass" else trouble


def _more(audited: AuditedNetwork, attacks: Sequence[Attack], what: str) -> Finding:
    """Judge attacks that each do more than the one before."""
    gained = count(audited.fooled(attacks[-1]) & ~audited.fooled(attacks[-2]))
    verdict, measured = _order(audited, attacks), _accuracies(audited, attacks)
    if verdict == "pass" and gained > _GAINED * audited.num_right:
        meaning = f"Accuracy still falls with more {what}: report it with more of them."
        return "warn", measured, meaning
    return _finding(
        verdict,
        measured,
        f"More {what} never help the defender, and change little.",
        f"Accuracy rises with more {what}, so the gradient is misleading: attack without it.",
    )


def _order(audited: AuditedNetwork, attacks: Sequence[Attack]) -> Verdict:
    """Judge whether an attack does better than the next one, which should be at least as strong."""
    masks = [audited.fooled(attack) for attack in attacks]
    return most_severe(
        *(verdict_on_order(count(a & ~b), count(b & ~a)) for a, b in itertools.pairwise(masks))
    )


def _alone(
    audited: AuditedNetwork,
    alone: Tensor,
    accuracies: dict[str, float],
    *,
    tolerated: float,
    fine: str,
    trouble: str,
) -> Finding:
    """Judge the images that only one attack fools."""
    verdict = verdict_on_share(count(alone), audited.num_right, tolerated=tolerated)
    return _finding(verdict, {**accuracies, "alone": count(alone)}, fine, trouble)


def _accuracies(audited: AuditedNetwork, attacks: Sequence[Attack]) -> dict[str, float]:
    return {attack.name: audited.accuracy(attack) for attack in attacks}


def _fooled_by_cross_entropy(audited: AuditedNetwork) -> Tensor:
    attacks = [
        FGSM(threat_model=audited.threat_model),
        *(audited.pgd(10), audited.pgd(20), audited.pgd(100), audited.pgd(20, restarts=5)),
    ]
    return torch.stack([audited.fooled(attack) for attack in attacks]).any(0)


def _robust_to_gradients(audited: AuditedNetwork) -> Tensor:
    """Return the mask of images that withstand all attacks by the network's own gradient."""
    robust = audited.right & ~_fooled_by_cross_entropy(audited)
    return robust & ~audited.fooled(audited.pgd(100, loss="cw"), robust)
