"""The command `audit`: check whether the accuracy of a network under attack can be trusted."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from tqdm import tqdm

from nni_robust.attack import PGD
from nni_robust.audit.audit import CHECKS, audit_robustness
from nni_robust.audit.verdict import Audit
from nni_robust.check import SettingError, check_count
from nni_robust.command.options import RunOptions, TargetOptions, read_network
from nni_robust.command.target import Target, targets
from nni_robust.record import Record, installed_versions
from nni_robust.report.audit import audit_table
from nni_robust.settings.description import describe

_LIBRARY = "pyautoattack"  # an extra


@dataclass(frozen=True, kw_only=True)
class Request:
    """An audit; :mod:`nni_robust.command.arguments` says what each option means."""

    target: TargetOptions
    run: RunOptions
    num_images: int
    queries: int
    surrogate: TargetOptions | None

    def __post_init__(self) -> None:
        check_count("--num-images", self.num_images)
        check_count("--queries", self.queries)


def run(given: argparse.Namespace) -> int:
    """Audit the networks that the command line names.

    Returns
    -------
    int
        1 if a check failed, otherwise 0.
    """
    request = Request(
        target=TargetOptions.read(given),
        run=RunOptions.read(given),
        num_images=given.num_images,
        queries=given.queries,
        surrogate=_read_surrogate(given),
    )
    return int(any(record.details["audit"]["verdict"] == "fail" for record in audit(request)))


def audit(request: Request) -> list[Record]:
    """Audit networks, print a table for each, and record it where there is a folder.

    Returns
    -------
    list of Record
        One per network, of the stage ``audit``, with the findings as ``audit`` in its details.

    Raises
    ------
    SettingError
        If the request cannot be carried out.
    """
    records, output = [], request.run.output
    for target in targets(request.target):
        record = _audit_target(target, request)
        print(audit_table(record))
        if output:
            output.mkdir(parents=True, exist_ok=True)
            record.append(output / "records.jsonl")
        records.append(record)
    return records


def _audit_target(target: Target, request: Request) -> Record:
    found = _findings(target, _surrogate(target, request.surrogate), request)
    robust = {} if found.robust_accuracy is None else {"default": found.robust_accuracy}
    versions = installed_versions()
    if importlib.util.find_spec(_LIBRARY) is not None:
        versions[_LIBRARY] = metadata.version(_LIBRARY)
    return Record(
        sample=target.sample,
        stage="audit",
        metrics={"clean": found.clean_accuracy, **robust},
        seed=request.run.seed,
        genotype=target.genotype,
        settings=_settings(target, request),
        details={"audit": found.as_json()},
        versions=versions,
    )


def _surrogate(target: Target, wanted: TargetOptions | None) -> Target | None:
    if wanted is None:
        return None
    found = targets(wanted, target.data)
    if len(found) > 1:
        raise SettingError(
            f"must be one network, but there are {len(found)} in {str(wanted.network)!r}. Name "
            "the folder of one.",
            "--surrogate",
        )
    return found[0]


def _findings(target: Target, surrogate: Target | None, request: Request) -> Audit:
    run = request.run
    for network in filter(None, (target, surrogate)):
        network.network.to(run.torch_device)
    x, y = target.data.examples(run.split, request.num_images)
    with tqdm(total=len(CHECKS), unit="check", file=sys.stderr, disable=None) as bar:
        return audit_robustness(
            target.network,
            x,
            y,
            threat_model=target.threat_model,
            surrogate=None if surrogate is None else surrogate.network,
            queries=request.queries,
            batch_size=run.batch_size,
            seed=run.seed,
            progress=lambda check: bar.update(),
        )


def _settings(target: Target, request: Request) -> Any:
    run, surrogate = request.run, request.surrogate
    return describe(
        {
            "label": target.label,
            **target.origin,
            "data": target.data,
            "split": run.split,
            "limit": request.num_images,
            "threat_model": target.threat_model,
            "step_size": PGD(threat_model=target.threat_model).step,
            "batch_size": run.batch_size,
            "device": str(run.torch_device),
            "surrogate": surrogate and surrogate.network,
            "surrogate_weights": surrogate and surrogate.weights,
            "queries": request.queries,
        }
    )


def _read_surrogate(given: argparse.Namespace) -> TargetOptions | None:
    if given.surrogate is None:
        if given.surrogate_weights is not None:
            raise SettingError("must come with --surrogate.", "--surrogate-weights")
        return None
    network = read_network(given.surrogate)
    if given.surrogate_weights is not None and not isinstance(network, dict):
        raise SettingError(
            "must be left out: a folder of results has its own.", "--surrogate-weights"
        )
    return TargetOptions(network=network, weights=given.surrogate_weights)
