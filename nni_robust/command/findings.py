"""The audit of one target, as a record."""

from __future__ import annotations

import importlib.util
import sys
from importlib import metadata
from typing import Any

from tqdm import tqdm

from nni_robust.attack import PGD
from nni_robust.audit.audit import CHECKS, audit_robustness
from nni_robust.audit.verdict import Audit
from nni_robust.check import SettingError
from nni_robust.command.audit import AuditOptions
from nni_robust.command.options import RunOptions, TargetOptions
from nni_robust.command.target import Target, targets
from nni_robust.record import Record, installed_versions
from nni_robust.settings.description import describe

_LIBRARY = "pyautoattack"  # an extra


def audit_target(target: Target, options: AuditOptions, run: RunOptions) -> Record:
    """Run all checks on a network, and return the record.

    Parameters
    ----------
    target
        Its network is moved to the device.
    options
        How much is tried.
    run
        How it is attacked.
    """
    surrogate = _surrogate(target, options)
    found = _findings(target, surrogate, options, run)
    robust = {} if found.robust_accuracy is None else {"default": found.robust_accuracy}
    return Record(
        sample=target.sample,
        stage="audit",
        metrics={"clean": found.clean_accuracy, **robust},
        seed=run.seed,
        genotype=target.genotype,
        settings=_settings(target, options, run),
        details={"audit": found.as_json()},
        versions={**installed_versions(), **_library_version()},
    )


def _surrogate(target: Target, options: AuditOptions) -> Target | None:
    if options.surrogate is None:
        return None
    wanted = TargetOptions(network=options.surrogate, weights=options.surrogate_weights)
    found = targets(wanted, target.data)
    if len(found) > 1:
        raise SettingError(
            f"must be one network, but there are {len(found)} in {str(options.surrogate)!r}. Name "
            "the folder of one.",
            "--surrogate",
        )
    return found[0]


def _findings(
    target: Target, surrogate: Target | None, options: AuditOptions, run: RunOptions
) -> Audit:
    for network in filter(None, (target, surrogate)):
        network.network.to(run.torch_device)
    x, y = target.data.examples(run.split, options.num_images)  # type: ignore[arg-type]
    with tqdm(total=len(CHECKS), unit="check", file=sys.stderr, disable=None) as bar:
        return audit_robustness(
            target.network,
            x,
            y,
            threat_model=target.threat_model,
            surrogate=None if surrogate is None else surrogate.network,
            queries=options.queries,
            batch_size=run.batch_size,
            seed=run.seed,
            progress=lambda check: bar.update(),
        )


def _settings(target: Target, options: AuditOptions, run: RunOptions) -> dict[str, Any]:
    return {
        "label": target.label,
        **target.origin,
        "data": describe(target.data),
        "split": run.split,
        "limit": options.num_images,
        "threat_model": describe(target.threat_model),
        "step_size": PGD(threat_model=target.threat_model).step,
        "batch_size": run.batch_size,
        "device": str(run.torch_device),
        "surrogate": describe(options.surrogate),
        "surrogate_weights": describe(options.surrogate_weights),
        "queries": options.queries,
    }


def _library_version() -> dict[str, str]:
    if importlib.util.find_spec(_LIBRARY) is None:
        return {}
    return {_LIBRARY: metadata.version(_LIBRARY)}
