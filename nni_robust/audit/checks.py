"""Checks for gradient masking: each measures one thing and judges it."""

from __future__ import annotations

import importlib.util
import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from nni_robust.attack import FGSM, PGD, Attack, Noise, Square, ThreatModel, Transfer
from nni_robust.audit.context import Bench, share
from nni_robust.audit.verdict import Verdict, most_severe, verdict_on_order, verdict_on_share

Finding = tuple[Verdict, dict[str, float], str]
"""A verdict, what was measured and what it means; see :class:`nni_robust.audit.verdict.Check`."""

_STRAY = 0.01  # share of images at which an attack may succeed that ought to succeed nowhere alone
_GAINED = 0.05  # share that more steps, more starts or another loss may fool beyond the usual
_LEFT = 0.05  # share that may stand where all is allowed, since PGD is no perfect painter
_SAME = 1e-3  # of the spread of the logits: arithmetic in another order differs by far less
_SUM_TO_ONE = 1e-3  # how far sums of probabilities may lie from 1
_FACTOR = 4  # from one radius to the next


def outputs(bench: Bench) -> Finding:
    """Check that the network returns logits, not probabilities, and no saturated ones."""
    logits = bench.logits(torch.arange(len(bench.x)))
    sum_to_one = (logits.sum(1) - 1).abs() <= _SUM_TO_ONE
    measured: dict[str, float] = {
        "probabilities": _count((logits >= 0).all(1) & sum_to_one),
        "not finite": _count(~logits.isfinite().all(1)),
        "saturated": _count(logits.float().softmax(1).amax(1) == 1),
    }
    if measured["not finite"]:
        return "fail", measured, "Logits are infinite or NaN: find the layer that overflows."
    if measured["probabilities"] == len(logits):
        meaning = (
            "The network returns probabilities, a second softmax of which flattens every loss: "
            "take the softmax out of it."
        )
        return "fail", measured, meaning
    if measured["saturated"] > _STRAY * len(logits):
        meaning = (
            "The softmax is 1 in float32, where cross-entropy is flat: attack with the loss cw "
            "as well."
        )
        return "warn", measured, meaning
    return "pass", measured, "The network returns logits, of a size that cross-entropy can take."


def determinism(bench: Bench) -> Finding:
    """Check that the logits of an image are its own, in every pass and every batch."""
    order = torch.arange(len(bench.x))
    first, second = bench.logits(order).double(), bench.logits(order)
    if not first.isfinite().all():
        return "skipped", {}, "Logits are infinite or NaN, and cannot be compared."
    fewer = max(1, min(bench.batch_size, len(order)) // 2)
    among_others = bench.logits(order.flip(0), fewer).flip(0)
    spread = (first.amax(1) - first.amin(1)).mean().clamp_min(torch.finfo(first.dtype).tiny)
    passes, batches = (
        ((first - other).abs().max() / spread).item() for other in (second, among_others)
    )
    measured = {"between passes": passes, "between batches": batches}
    if not passes <= _SAME:  # true for NaN, in the second pass, as well
        meaning = (
            "Two passes give different logits, so that an attack aims at one draw and is judged "
            "by another: switch dropout and noise off, or attack the mean of many draws."
        )
        return "fail", measured, meaning
    if not batches <= _SAME:
        meaning = (
            "The logits of an image depend on the batch it comes in: normalise by running "
            "statistics, and draw nothing by the place in the batch."
        )
        return "fail", measured, meaning
    return "pass", measured, "The logits of an image are the same in every pass and batch."


def mode(bench: Bench) -> Finding:
    """Check that all of the network runs in evaluation mode and in float32."""
    bits = 8 * bench.logits(torch.arange(1)).element_size()
    measured: dict[str, float] = {"modules in training": bench.num_training(), "bits": bits}
    if measured["modules in training"]:
        meaning = (
            "Modules stay in training mode after eval(): see to it that train(False) is passed on."
        )
        return "warn", measured, meaning
    if bits < 32:
        meaning = (
            "The network computes in half precision of its own accord: take autocast out of it."
        )
        return "warn", measured, meaning
    return (
        "pass",
        measured,
        "The network runs in evaluation mode and in full precision.",
    )


def gradients(bench: Bench) -> Finding:
    """Check that the loss has a gradient at the images."""
    zero, broken = bench.without_gradient("cross_entropy")
    zero_of_margin, _ = bench.without_gradient("cw")
    blind = zero | broken
    measured: dict[str, float] = {
        "zero": _count(zero),
        "not finite": _count(broken),
        "zero with cw": _count(zero_of_margin),
    }
    saturated = 2 * _count(zero & ~zero_of_margin) > _count(blind)
    trouble = (
        "Cross-entropy has no gradient, but the margin of the logits has: the softmax is "
        "saturated, so attack with the loss cw."
        if saturated
        else "No gradient reaches the image, so that attacks which follow it are blind: find the "
        "layer that rounds, detaches or overflows, and attack through a stand-in for it."
    )
    verdict = verdict_on_share(_count(blind), bench.num_right, tolerated=_STRAY)
    return _finding(verdict, measured, "The loss has a gradient at the images.", trouble)


def one_step(bench: Bench) -> Finding:
    """Check that one step never beats many."""
    attacks = [FGSM(threat_model=bench.threat_model), bench.pgd(20)]
    return _finding(
        _order(bench, attacks),
        _accuracies(bench, attacks),
        "One step does no better than many.",
        "One step fools images that many do not, so that the gradient leads astray: attack from "
        "more starts, and without gradients.",
    )


def steps(bench: Bench) -> Finding:
    """Check that more steps never help the defender."""
    return _more(bench, [bench.pgd(10), bench.pgd(20), bench.pgd(100)], "steps")


def restarts(bench: Bench) -> Finding:
    """Check that more random starts never help the defender."""
    return _more(bench, [bench.pgd(20), bench.pgd(20, restarts=5)], "starts")


def budgets(bench: Bench) -> Finding:
    """Check that accuracy falls with the radius, and to nothing where any image is allowed."""
    norm, epsilon = bench.threat_model.norm, bench.threat_model.epsilon
    everything = 1.0 if norm == "linf" else math.sqrt(bench.x[0].numel())
    powers = itertools.takewhile(
        lambda power: power * epsilon < everything, (_FACTOR**k for k in itertools.count())
    )
    radii = {f"{power} epsilon": power * epsilon for power in powers} | {"any image": everything}
    balls = [ThreatModel(norm=norm, epsilon=radius) for radius in radii.values()]
    attacks = [PGD(threat_model=ball) for ball in balls]
    measured = {name: bench.accuracy(a) for name, a in zip(radii, attacks, strict=True)}
    standing = _count(bench.right & ~bench.fooled(attacks[-1]))
    left = verdict_on_share(standing, bench.num_right, tolerated=_LEFT)
    if left != "pass":
        meaning = (
            "Images stand although any image is allowed, so that it is the attack that fails: "
            "look for what hides the gradient."
        )
        return left, measured, meaning
    return _finding(
        _order(bench, attacks),
        measured,
        "Accuracy falls with the radius, to nothing.",
        "A larger radius fools fewer images, so that the gradient leads astray: attack without it.",
    )


def noise(bench: Bench) -> Finding:
    """Check that noise fools no image that PGD does not."""
    usual, random = bench.pgd(20), Noise(threat_model=bench.threat_model)
    return _alone(
        bench,
        bench.fooled(random) & ~bench.fooled(usual),
        _accuracies(bench, [usual, random]),
        tolerated=_STRAY,
        fine="Noise fools no image that PGD does not.",
        trouble="Noise fools images that PGD does not, so that PGD misses what lies near: look for "
        "what hides the gradient.",
    )


def loss_scale(bench: Bench) -> Finding:
    """Check that a loss which no scale of the logits flattens leads to hardly more."""
    standing, margin = ~_fooled_by_cross_entropy(bench) & bench.right, bench.pgd(100, loss="cw")
    alone = bench.fooled(margin, standing)
    return _alone(
        bench,
        alone,
        {"cross-entropy": share(standing), "and cw": share(standing & ~alone)},
        tolerated=_GAINED,
        fine="The margin of the logits leads to hardly more than cross-entropy.",
        trouble="The margin of the logits leads where cross-entropy does not, which hides its "
        "gradient: report the accuracy under apgd_t, or under pgd with the loss cw.",
    )


def black_box(bench: Bench) -> Finding:
    """Check that an attack without gradients fools no image that those with gradients do not."""
    if importlib.util.find_spec("pyautoattack") is None:
        return "skipped", {}, "Square needs pyautoattack: run pip install 'nni_robust[eval]'."
    standing = _standing_by_gradients(bench)
    square = Square(threat_model=bench.threat_model, queries=bench.queries)
    return _alone(
        bench,
        bench.fooled(square, standing),
        {"gradients": share(standing), "and square": share(standing & ~bench.fooled(square))},
        tolerated=_STRAY,
        fine="An attack that sees no gradient finds nothing new.",
        trouble="An attack that sees no gradient finds what those with gradients do not: "
        "gradients are masked, so believe no accuracy above that under the whole of AutoAttack.",
    )


def transfer(bench: Bench) -> Finding:
    """Check that images made on a surrogate fool where those made on the network do not."""
    source = bench.other_network()
    if source is None:
        return "skipped", {}, "There is no surrogate, and no layer that rounds or detaches."
    standing = _standing_by_gradients(bench)
    images = Transfer(source=source, attack=bench.pgd(20))
    return _alone(
        bench,
        bench.fooled(images, standing),
        {"gradients": share(standing), "and transfer": share(standing & ~bench.fooled(images))},
        tolerated=_STRAY,
        fine="Images made on another network find nothing new.",
        trouble="Images made on another network find what those made on this one do not: its "
        "gradients are masked, so attack through the other one.",
    )


def _finding(verdict: Verdict, measured: dict[str, float], fine: str, trouble: str) -> Finding:
    return verdict, measured, fine if verdict == "pass" else trouble


def _more(bench: Bench, attacks: Sequence[Attack], what: str) -> Finding:
    """Judge attacks of which each does more than the one before."""
    gained = _count(bench.fooled(attacks[-1]) & ~bench.fooled(attacks[-2]))
    verdict, measured = _order(bench, attacks), _accuracies(bench, attacks)
    if verdict == "pass" and gained > _GAINED * bench.num_right:
        meaning = f"Accuracy still falls with more {what}: report it at more of them."
        return "warn", measured, meaning
    return _finding(
        verdict,
        measured,
        f"More {what} never help the defender, and change little.",
        f"Accuracy rises with more {what}, so that the gradient leads astray: attack without it.",
    )


def _order(bench: Bench, attacks: Sequence[Attack]) -> Verdict:
    """Judge whether an attack beats the one after it, which should be at least as strong."""
    masks = [bench.fooled(attack) for attack in attacks]
    return most_severe(
        *(verdict_on_order(_count(a & ~b), _count(b & ~a)) for a, b in itertools.pairwise(masks))
    )


def _alone(
    bench: Bench,
    alone: Tensor,
    accuracies: dict[str, float],
    *,
    tolerated: float,
    fine: str,
    trouble: str,
) -> Finding:
    """Judge the images that one attack alone fools."""
    verdict = verdict_on_share(_count(alone), bench.num_right, tolerated=tolerated)
    return _finding(verdict, {**accuracies, "alone": _count(alone)}, fine, trouble)


def _accuracies(bench: Bench, attacks: Sequence[Attack]) -> dict[str, float]:
    return {attack.name: bench.accuracy(attack) for attack in attacks}


def _fooled_by_cross_entropy(bench: Bench) -> Tensor:
    attacks = [
        FGSM(threat_model=bench.threat_model),
        *(bench.pgd(10), bench.pgd(20), bench.pgd(100), bench.pgd(20, restarts=5)),
    ]
    return torch.stack([bench.fooled(attack) for attack in attacks]).any(0)


def _standing_by_gradients(bench: Bench) -> Tensor:
    """Tell which images withstand all attacks that follow the network's own gradient."""
    standing = bench.right & ~_fooled_by_cross_entropy(bench)
    return standing & ~bench.fooled(bench.pgd(100, loss="cw"), standing)


def _count(images: Tensor) -> int:
    return int(images.sum())
