"""Checks of a network on clean images, without any attack."""

from __future__ import annotations

import torch

from nni_robust.audit.audited_network import AuditedNetwork, count
from nni_robust.audit.verdict import Finding

_SATURATED = 0.01  # fraction of images whose softmax may be 1
_SAME = 1e-3  # of the spread of the logits; arithmetic in another order differs by far less
_SUM_TO_ONE = 1e-3  # how far a sum of probabilities may be from 1


def check_outputs(audited: AuditedNetwork) -> Finding:
    """Check that the network returns finite, unsaturated logits and not probabilities."""
    logits = audited.logits(torch.arange(len(audited.x)))
    sum_to_one = (logits.sum(1) - 1).abs() <= _SUM_TO_ONE
    measured: dict[str, float] = {
        "probabilities": count((logits >= 0).all(1) & sum_to_one),
        "not finite": count(~logits.isfinite().all(1)),
        "saturated": count(logits.float().softmax(1).amax(1) == 1),
    }
    if measured["not finite"]:
        return "fail", measured, "Logits are infinite or NaN: find the layer that overflows."
    if measured["probabilities"] == len(logits):
        meaning = (
            "The network returns probabilities, and a second softmax flattens every loss: remove "
            "its softmax."
        )
        return "fail", measured, meaning
    if measured["saturated"] > _SATURATED * len(logits):
        meaning = (
            "The softmax is 1 in float32, where cross-entropy is flat: attack with the loss cw "
            "as well."
        )
        return "warn", measured, meaning
    return "pass", measured, "The network returns logits of a size that suits cross-entropy."


def check_determinism(audited: AuditedNetwork) -> Finding:
    """Check that the logits of an image are the same in every pass and every batch."""
    order = torch.arange(len(audited.x))
    first, second = audited.logits(order).double(), audited.logits(order)
    if not first.isfinite().all():
        return "skipped", {}, "Logits are infinite or NaN and cannot be compared."
    fewer = max(1, min(audited.batch_size, len(order)) // 2)
    among_others = audited.logits(order.flip(0), fewer).flip(0)
    spread = (first.amax(1) - first.amin(1)).mean().clamp_min(torch.finfo(first.dtype).tiny)
    passes, batches = (
        ((first - other).abs().max() / spread).item() for other in (second, among_others)
    )
    measured = {"between passes": passes, "between batches": batches}
    if not passes <= _SAME:  # also true if the second pass gives NaN
        meaning = (
            "Two passes give different logits, so an attack aims at one random draw and is judged "
            "by another: switch off dropout and noise, or attack the mean of many draws."
        )
        return "fail", measured, meaning
    if not batches <= _SAME:
        meaning = (
            "The logits of an image depend on the other images of its batch: normalise by running "
            "statistics, and draw nothing that depends on the position in the batch."
        )
        return "fail", measured, meaning
    return "pass", measured, "The logits of an image are the same in every pass and batch."


def check_mode(audited: AuditedNetwork) -> Finding:
    """Check that the whole network runs in evaluation mode and in float32."""
    bits = 8 * audited.logits(torch.arange(1)).element_size()
    measured: dict[str, float] = {"modules in training": audited.num_training(), "bits": bits}
    if measured["modules in training"]:
        meaning = (
            "Modules stay in training mode after eval(): make sure that train(False) reaches them."
        )
        return "warn", measured, meaning
    if bits < 32:
        return "warn", measured, "The network itself uses half precision: remove its autocast."
    return "pass", measured, "The network runs in evaluation mode and in full precision."
