"""The evaluation of one target: its attacks, its records, its plots."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import torch
from tqdm import tqdm

from nni_robust.attack import Attack
from nni_robust.attack.autoattack import AutoAttackPart
from nni_robust.check import SettingError
from nni_robust.command.evaluate import Request
from nni_robust.command.suite import Suite, build_suites
from nni_robust.command.target import Target
from nni_robust.evaluator.robustness import measure_robustness
from nni_robust.record import Record, installed_versions
from nni_robust.report.robustness import accuracy_table, robustbench_entry, save_sweep
from nni_robust.results.files import write_text
from nni_robust.settings.description import describe


def evaluate_target(target: Target, request: Request) -> Record:
    """Attack a network as requested, print its table, and write the files that are asked for.

    Parameters
    ----------
    target
        Its network is moved to the device.
    request
        The suite, the sweeps, and how they run.

    Returns
    -------
    Record
        Of the stage ``evaluation``; the records of sweeps are only written.
    """
    robustbench, limit = request.suite.robustbench, target.data.limit
    if robustbench and limit is not None:
        raise SettingError(
            f"must come with all test images, but data.limit is {limit}. Give all of them by "
            "--data.",
            "--robustbench",
        )
    suites = build_suites(request.suite, target.threat_model)
    device = request.run.torch_device
    target.network.to(device)
    print("".join(f"{remark}\n" for remark in target.remarks), end="", file=sys.stderr)
    sweeps: dict[str, list[Record]] = {}
    records = []
    for suite in suites:
        record = _measure(target, suite, request, device)
        records.append(record)
        if suite.axis is None:
            print(accuracy_table(record))
            if robustbench:
                write_text(robustbench, json.dumps(robustbench_entry(record), indent=2))
        else:
            accuracy = 100 * record.metrics["default"]
            name = suite.attacks[0].name
            print(f"{suite.axis} {suite.value:<10.6g}{name:<12}{accuracy:>7.2f}%")
            sweeps.setdefault(suite.axis, []).append(record)
    for axis, points in sweeps.items():
        assert request.run.output is not None  # the request requires it
        for file in save_sweep(request.run.output / f"{target.label}-{axis}", points, axis):
            print(file)
    return records[0]


def _measure(target: Target, suite: Suite, request: Request, device: torch.device) -> Record:
    """Attack a network with one suite, and record the result."""
    run = request.run
    x, y = target.data.stored_examples(run.split, request.suite.limit)  # type: ignore[arg-type]
    with progress_bar(len(x), suite.attacks) as bar:
        result = measure_robustness(
            target.network,
            x,
            y,
            attacks=suite.attacks,
            batch_size=run.batch_size,
            seed=run.seed,
            keep_fooled=suite.keep_fooled,
            state=run.output and run.output / "state",
            progress=bar.update,
        )
    accuracies = result.accuracies()
    record = Record(
        sample=target.sample,
        stage="evaluation" if suite.axis is None else f"sweep_{suite.axis}",
        metrics={
            "default": accuracies.pop("robust"),
            **accuracies,
            **({} if suite.axis is None or suite.value is None else {suite.axis: suite.value}),
        },
        seed=run.seed,
        genotype=target.genotype,
        settings=describe(
            {
                "label": target.label,
                **target.origin,
                "data": target.data,
                "split": run.split,
                "limit": request.suite.limit,
                "tier": suite.tier,
                "threat_model": suite.threat_model,
                "attacks": suite.attacks,
                "keep_fooled": suite.keep_fooled,
                "batch_size": run.batch_size,
                "precision": "float32",
                "device": _device_name(device),
            }
        ),
        details={"robustness": result.as_json(), "outcomes": result.outcomes},
        versions={**installed_versions(), **_library_version(suite.attacks)},
    )
    if run.output:
        record.append(run.output / "records.jsonl")
    return record


def progress_bar(num_images: int, attacks: Sequence[Attack]) -> Any:
    """Return a progress bar over the clean images and the images of every attack."""
    total = num_images * (1 + len(attacks))
    return tqdm(total=total, unit="image", file=sys.stderr, disable=None)


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def _library_version(attacks: Sequence[Attack]) -> dict[str, str]:
    if any(isinstance(attack, AutoAttackPart) for attack in attacks):
        return {"pyautoattack": metadata.version("pyautoattack")}
    return {}
