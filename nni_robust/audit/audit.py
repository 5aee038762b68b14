"""The audit of a network: whether its accuracy under attack is to be believed."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from nni_robust.attack import ThreatModel
from nni_robust.audit.checks import (
    Finding,
    black_box,
    budgets,
    determinism,
    gradients,
    loss_scale,
    mode,
    noise,
    one_step,
    outputs,
    restarts,
    steps,
    transfer,
)
from nni_robust.audit.context import Bench, share
from nni_robust.audit.verdict import Audit, Check
from nni_robust.check import check_count

FEWEST = 20
"""Images classified right, without which attacks tell nothing."""

LOOKS: dict[str, Callable[[Bench], Finding]] = {
    "outputs": outputs,
    "determinism": determinism,
    "mode": mode,
}
"""Checks of the network as it runs on clean images."""

TRIALS: dict[str, Callable[[Bench], Finding]] = {
    "gradients": gradients,
    "one step": one_step,
    "steps": steps,
    "restarts": restarts,
    "budgets": budgets,
    "noise": noise,
    "loss scale": loss_scale,
    "black box": black_box,
    "transfer": transfer,
}
"""Checks that attack images which are classified right, from cheap to costly."""


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
    """Look for signs that attacks by gradient tell of the gradient rather than of the network.

    All attacks are tried on the same images, those that are classified right, and compared image
    by image. The checks are the keys of :data:`LOOKS` and :data:`TRIALS`.

    Parameters
    ----------
    network, x, y, batch_size, seed
        As for :func:`nni_robust.evaluator.robustness.measure_robustness`.
    threat_model
        What the adversary may do, within a radius above 0.
    surrogate
        A network in evaluation mode, on the same device, whose attacked images are shown to this
        one. Without it the network itself serves where it rounds or detaches, as
        :class:`nni_robust.audit.straight_through.StraightThrough`.
    queries
        Of Square, the attack that sees no gradient.
    progress
        Called with every check when it is done.

    Raises
    ------
    ValueError
        If the radius is 0, there are no images or queries, or the network does not compute in
        float32 or float64.

    Notes
    -----
    Carlini et al., *On Evaluating Adversarial Robustness*, 2019; Athalye, Carlini and Wagner,
    *Obfuscated Gradients Give a False Sense of Security*, 2018, Sec. 3.1. That all checks pass
    proves nothing: an attack made for the network may do better.
    """
    if threat_model.epsilon == 0:
        raise ValueError("threat_model must have a radius above 0 for an audit, got 0.")
    if len(x) == 0:
        raise ValueError("x must hold at least one image, got none.")
    check_count("queries", queries)
    bench = Bench(
        network,
        x,
        y,
        threat_model=threat_model,
        surrogate=surrogate,
        queries=queries,
        batch_size=batch_size,
        seed=seed,
    )
    checks = []
    for name, run in {**LOOKS, **TRIALS}.items():
        possible = name in LOOKS or bench.num_right >= FEWEST
        verdict, measured, meaning = run(bench) if possible else _too_few(bench)
        checks.append(Check(name=name, verdict=verdict, measured=measured, meaning=meaning))
        if progress:
            progress(checks[-1])
    return Audit(
        num_images=len(x),
        clean_accuracy=share(bench.right),
        robust_accuracy=share(bench.standing()) if bench.num_right >= FEWEST else None,
        checks=tuple(checks),
    )


def _too_few(bench: Bench) -> Finding:
    measured: dict[str, float] = {"images": bench.num_right}
    return "skipped", measured, f"Fewer than {FEWEST} images are classified right: take more."
