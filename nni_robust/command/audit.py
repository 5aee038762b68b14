"""Audit networks for gradient masking, and write down what comes out."""

from __future__ import annotations

import importlib.util
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from torch import nn
from tqdm import tqdm

from nni_robust.attack import PGD, ThreatModel
from nni_robust.audit.audit import CHECKS, audit_robustness
from nni_robust.audit.verdict import Audit
from nni_robust.command.evaluate import Request, check_outputs, requested_device, subjects
from nni_robust.command.target import Subject, named_subject
from nni_robust.data import RobustDataModule
from nni_robust.record import Record, installed_versions
from nni_robust.report.audit import audit_table
from nni_robust.results.chosen import chosen_folders, load_chosen
from nni_robust.settings.description import describe
from nni_robust.settings.networks import check_fit

_LIBRARY = "pyautoattack"  # an extra


def audit(
    request: Request,
    *,
    surrogate: str | None = None,
    surrogate_weights: Path | None = None,
    queries: int = 1000,
) -> list[Record]:
    """Audit networks as requested, print a table for each, and record it where there is a folder.

    Parameters
    ----------
    request
        The networks, the images and the threat model; suites and sweeps do not enter.
    surrogate
        Another network, as ``what`` of the request, whose attacked images are tried.
    surrogate_weights
        Its state dict, if it is not in a folder.
    queries
        As for :func:`nni_robust.audit.audit.audit_robustness`.

    Returns
    -------
    list of Record
        One a network, of the stage ``audit``, with the findings as ``audit`` in its details.

    Raises
    ------
    ValueError
        In one line: what was asked for cannot be had.
    """
    check_outputs(request)
    records = []
    for subject, data, threat_model in subjects(request):
        other = _surrogate(surrogate, surrogate_weights, data)
        found = _findings(request, subject, data, threat_model, surrogate=other, queries=queries)
        record = Record(
            sample=subject.sample,
            stage="audit",
            metrics={"clean": found.clean_accuracy, **_robust(found)},
            seed=request.seed,
            genotype=subject.genotype,
            settings={
                **_settings(request, subject, data, threat_model),
                "surrogate": surrogate,
                "surrogate_weights": describe(surrogate_weights),
                "queries": queries,
            },
            details={"audit": found.as_json()},
            versions={**installed_versions(), **_library_version()},
        )
        sys.stdout.write(f"{audit_table(record)}\n")
        if request.output:
            request.output.mkdir(parents=True, exist_ok=True)
            record.append(request.output / "records.jsonl")
        records.append(record)
    return records


def _robust(found: Audit) -> dict[str, float]:
    return {} if found.robust_accuracy is None else {"default": found.robust_accuracy}


def _findings(
    request: Request,
    subject: Subject,
    data: RobustDataModule,
    threat_model: ThreatModel,
    *,
    surrogate: nn.Module | None,
    queries: int,
) -> Audit:
    device = requested_device(request.device)
    for network in [subject.network] if surrogate is None else [subject.network, surrogate]:
        check_fit(network.to(device), data)
    x, y = data.examples(request.split, request.limit)
    with tqdm(total=len(CHECKS), unit="check", file=sys.stderr, disable=None) as bar:
        return audit_robustness(
            subject.network,
            x,
            y,
            threat_model=threat_model,
            surrogate=surrogate,
            queries=queries,
            batch_size=request.batch_size,
            seed=request.seed,
            progress=lambda check: bar.update(),
        )


def _settings(
    request: Request, subject: Subject, data: RobustDataModule, threat_model: ThreatModel
) -> dict[str, Any]:
    return {
        "label": subject.label,
        **subject.origin,
        "data": describe(data),
        "split": request.split,
        "limit": request.limit,
        "threat_model": describe(threat_model),
        "step_size": PGD(threat_model=threat_model).step,
        "batch_size": request.batch_size,
        "device": str(requested_device(request.device)),
    }


def _surrogate(what: str | None, weights: Path | None, data: RobustDataModule) -> nn.Module | None:
    if what is None:
        if weights is not None:
            raise ValueError("--surrogate-weights must come with --surrogate.")
        return None
    if not Path(what).is_dir():
        return named_subject(what, weights, data).network
    if weights is not None:
        raise ValueError("--surrogate-weights must be left out: a folder of results has its own.")
    folders = chosen_folders(Path(what))
    if len(folders) > 1:
        raise ValueError(
            f"--surrogate must be one network, but there are {len(folders)} in {what!r}. "
            "Name the folder of one."
        )
    return load_chosen(folders[0])


def _library_version() -> dict[str, str]:
    if importlib.util.find_spec(_LIBRARY) is None:
        return {}
    return {_LIBRARY: metadata.version(_LIBRARY)}
