"""The audit of a network: whether its accuracy under attack can be trusted."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from nni_robust.attack import ThreatModel
from nni_robust.audit.attack_checks import (
    check_black_box,
    check_budgets,
    check_gradients,
    check_loss_scale,
    check_noise,
    check_one_step,
    check_restarts,
    check_steps,
    check_transfer,
)
from nni_robust.audit.audited_network import AuditedNetwork, fraction
from nni_robust.audit.clean_checks import check_determinism, check_mode, check_outputs
from nni_robust.audit.verdict import Audit, Check, Finding
from nni_robust.check import SettingError, check_count

MIN_RIGHT = 20
"""Smallest number of images classified right; with fewer, attacks tell nothing."""

CLEAN_CHECKS: dict[str, Callable[[AuditedNetwork], Finding]] = {
    "outputs": check_outputs,
    "determinism": check_determinism,
    "mode": check_mode,
}
"""Checks of the network on clean images."""

ATTACK_CHECKS: dict[str, Callable[[AuditedNetwork], Finding]] = {
    "gradients": check_gradients,
    "one step": check_one_step,
    "steps": check_steps,
    "restarts": check_restarts,
    "budgets": check_budgets,
    "noise": check_noise,
    "loss scale": check_loss_scale,
    "black box": check_black_box,
    "transfer": check_transfer,
}
"""Checks that attack the images classified right, from cheap to costly."""

CHECKS = CLEAN_CHECKS | ATTACK_CHECKS
"""All checks in the order in which they run."""


def audit_robustness(
    network: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    threat_model: ThreatModel,
    surrogate: nn.Module | None = None,
    queries: int = 1000,
    batch_size: int = 128,
    seed: int = 0,
    progress: Callable[[Check], object] | None = None,
) -> Audit:
    """Look for signs that gradient attacks fail because of the gradient, not of the network.

    All attacks attack the same images, those that are classified right, and are compared image by
    image. The checks are the keys of :data:`CHECKS`.

    Parameters
    ----------
    network, x, y, batch_size, seed
        As for :func:`nni_robust.evaluator.robustness.measure_robustness`.
    threat_model
        What the adversary may do, with a radius above 0.
    surrogate
        A network in evaluation mode, on the same device. Images attacked on it are tried on the
        audited network. Without a surrogate, a network that rounds or detaches is replaced by its
        :class:`nni_robust.audit.straight_through.StraightThrough`.
    queries
        Number of queries of Square, the attack that sees no gradient.
    progress
        Called with every check when it is done.

    Raises
    ------
    SettingError
        If the radius is 0, if there are no images or queries, or if the network does not compute in
        float32 or float64.

    Notes
    -----
    Carlini et al., *On Evaluating Adversarial Robustness*, 2019; Athalye, Carlini and Wagner,
    *Obfuscated Gradients Give a False Sense of Security*, 2018, Sec. 3.1. Passing all checks proves
    nothing: an attack designed for the network may do better.
    """
    if threat_model.epsilon == 0:
        raise SettingError("must have a radius above 0 for an audit, got 0.", "threat_model")
    if len(x) == 0:
        raise SettingError("must hold at least one image, got none.", "x")
    check_count("queries", queries)
    audited = AuditedNetwork(
        network,
        x,
        y,
        threat_model=threat_model,
        surrogate=surrogate,
        queries=queries,
        batch_size=batch_size,
        seed=seed,
    )
    enough = audited.num_right >= MIN_RIGHT
    checks = []
    for name, check in CHECKS.items():
        possible = enough or name in CLEAN_CHECKS
        verdict, measured, meaning = check(audited) if possible else _too_few(audited)
        checks.append(Check(name=name, verdict=verdict, measured=measured, meaning=meaning))
        if progress:
            progress(checks[-1])
    return Audit(
        num_images=len(x),
        clean_accuracy=fraction(audited.right),
        robust_accuracy=fraction(audited.robust_mask()) if enough else None,
        checks=tuple(checks),
    )


def _too_few(audited: AuditedNetwork) -> Finding:
    measured: dict[str, float] = {"images": audited.num_right}
    return "skipped", measured, f"Fewer than {MIN_RIGHT} images are classified right: take more."
