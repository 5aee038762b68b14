"""The command `evaluate`: attack networks with a suite of attacks, and record their accuracies."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from nni_robust.attack import ATTACKS, PGD, Attack, ThreatModel
from nni_robust.attack.autoattack import AutoAttackPart
from nni_robust.check import SettingError, check_count
from nni_robust.command.options import RunOptions, TargetOptions, read_option
from nni_robust.command.summary import evaluation_summary
from nni_robust.command.target import Target, targets
from nni_robust.evaluator.robustness import measure_robustness
from nni_robust.evaluator.suite import TIERS, check_suite
from nni_robust.record import Record, installed_versions
from nni_robust.report.robustness import accuracy_table, robustbench_entry, save_sweep
from nni_robust.results.files import check_writable, write_text
from nni_robust.settings.description import describe
from nni_robust.settings.grammar import build, build_threat_model


@dataclass(frozen=True, kw_only=True)
class Request:
    """An evaluation; :mod:`nni_robust.command.arguments` says what each option means."""

    target: TargetOptions
    run: RunOptions
    tier: str | None
    attacks: list[Any] | None
    limit: int | None
    keep_fooled: bool
    sweep_epsilon: list[Any]
    sweep_steps: list[int]
    robustbench: Path | None

    def __post_init__(self) -> None:
        for number in self.sweep_steps:
            check_count("--sweep-steps", number)
        if self.tier is not None and self.attacks is not None:
            raise SettingError("must be left out where there are --attacks.", "--tier")
        if (self.sweep_epsilon or self.sweep_steps) and self.run.output is None:
            raise SettingError("must be given where there is a sweep, for its plot.", "--output")
        if self.robustbench is None:
            return
        if self.tier != "full" or self.limit or self.keep_fooled:
            raise SettingError(
                "must come with --tier full on all test images, without --limit and --keep-fooled: "
                "its entry is a claim about AutoAttack.",
                "--robustbench",
            )
        if self.run.split != "test":
            raise SettingError("must come with test images: leave out --split.", "--robustbench")
        check_writable(self.robustbench.parent.absolute(), "--robustbench")


@dataclass(frozen=True, kw_only=True)
class _Suite:
    """The attacks of an evaluation, or of one point of a sweep.

    Outside a sweep, ``axis`` is empty; otherwise it is ``epsilon`` or ``steps``.
    """

    attacks: Sequence[Attack]
    threat_model: ThreatModel
    axis: str = ""
    value: float = 0.0


def run(given: argparse.Namespace) -> int:
    """Evaluate the networks that the command line names."""
    request = Request(
        target=TargetOptions.read(given),
        run=RunOptions.read(given),
        tier=given.tier,
        attacks=None if given.attacks is None else _read_attacks(given.attacks),
        limit=given.limit,
        keep_fooled=given.keep_fooled,
        sweep_epsilon=_read_list(given.sweep_epsilon, "--sweep-epsilon"),
        sweep_steps=_read_list(given.sweep_steps, "--sweep-steps"),
        robustbench=given.robustbench,
    )
    evaluate(request)
    print(evaluation_summary(given))
    return 0


def evaluate(request: Request) -> None:
    """Attack networks, print a table for each, and write the files that are asked for.

    Raises
    ------
    SettingError
        If the request cannot be carried out.
    """
    found = targets(request.target)
    if request.robustbench and len(found) > 1:
        raise SettingError(
            f"must come with one network, but there are {len(found)} in "
            f"{str(request.target.network)!r}. Name the folder of one.",
            "--robustbench",
        )
    for target in found:
        _evaluate_target(target, request)


def progress_bar(num_images: int, attacks: Sequence[Attack]) -> Any:
    """Return a progress bar over the clean images and the images of every attack."""
    total = num_images * (1 + len(attacks))
    return tqdm(total=total, unit="image", file=sys.stderr, disable=None)


def _evaluate_target(target: Target, request: Request) -> None:
    if request.robustbench and target.data.limit is not None:
        raise SettingError(
            f"must come with all test images, but data.limit is {target.data.limit}. Give all of "
            "them by --data.",
            "--robustbench",
        )
    suites = _build_suites(request, target.threat_model)
    target.network.to(request.run.torch_device)
    print("".join(f"{remark}\n" for remark in target.remarks), end="", file=sys.stderr)
    sweeps: dict[str, list[Record]] = {}
    for suite in suites:
        record = _measure(target, suite, request)
        if suite.axis:
            accuracy = 100 * record.metrics["default"]
            name = suite.attacks[0].name
            print(f"{suite.axis} {suite.value:<10.6g}{name:<12}{accuracy:>7.2f}%")
            sweeps.setdefault(suite.axis, []).append(record)
            continue
        print(accuracy_table(record))
        if request.robustbench:
            write_text(request.robustbench, json.dumps(robustbench_entry(record), indent=2))
    for axis, records in sweeps.items():
        assert request.run.output is not None  # the request requires it
        for file in save_sweep(request.run.output / f"{target.label}-{axis}", records, axis):
            print(file)


def _build_suites(request: Request, threat_model: ThreatModel) -> list[_Suite]:
    """Build the suite of the evaluation, and after it one suite per point of a sweep."""
    if request.attacks is None:
        attacks = TIERS[request.tier or "quick"](threat_model)
    else:
        attacks = _build_attacks(request.attacks, threat_model)
    suites = [_Suite(attacks=attacks, threat_model=threat_model)]
    for text in request.sweep_epsilon:
        section = {"norm": threat_model.norm, "epsilon": text}
        ball = build_threat_model(section, "--sweep-epsilon")
        attacks = [PGD(threat_model=ball)]
        point = _Suite(attacks=attacks, threat_model=ball, axis="epsilon", value=ball.epsilon)
        suites.append(point)
    for steps in request.sweep_steps:
        attacks = [PGD(threat_model=threat_model, steps=steps)]
        point = _Suite(attacks=attacks, threat_model=threat_model, axis="steps", value=steps)
        suites.append(point)
    return suites


def _build_attacks(sections: Sequence[Any], threat_model: ThreatModel) -> list[Attack]:
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


def _measure(target: Target, suite: _Suite, request: Request) -> Record:
    """Attack a network with one suite, and record the result."""
    run = request.run
    x, y = target.data.stored_examples(run.split, request.limit)
    with progress_bar(len(x), suite.attacks) as bar:
        result = measure_robustness(
            target.network,
            x,
            y,
            attacks=suite.attacks,
            batch_size=run.batch_size,
            seed=run.seed,
            keep_fooled=request.keep_fooled,
            state=run.output and run.output / "state",
            progress=bar.update,
        )
    accuracies = result.accuracies()
    metrics = {"default": accuracies.pop("robust"), **accuracies}
    versions = installed_versions()
    if any(isinstance(attack, AutoAttackPart) for attack in suite.attacks):
        versions["pyautoattack"] = metadata.version("pyautoattack")
    record = Record(
        sample=target.sample,
        stage=f"sweep_{suite.axis}" if suite.axis else "evaluation",
        metrics=metrics | {suite.axis: suite.value} if suite.axis else metrics,
        seed=run.seed,
        genotype=target.genotype,
        settings=_settings(target, suite, request),
        details={"robustness": result.as_json(), "outcomes": result.outcomes},
        versions=versions,
    )
    if run.output:
        record.append(run.output / "records.jsonl")
    return record


def _settings(target: Target, suite: _Suite, request: Request) -> Any:
    run, device = request.run, request.run.torch_device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    return describe(
        {
            "label": target.label,
            **target.origin,
            "data": target.data,
            "split": run.split,
            "limit": request.limit,
            "tier": (request.tier or "quick") if request.attacks is None else None,
            "threat_model": suite.threat_model,
            "attacks": suite.attacks,
            "keep_fooled": request.keep_fooled,
            "batch_size": run.batch_size,
            "precision": "float32",
            "device": name,
        }
    )


def _read_attacks(text: str) -> list[Any]:
    """Return the sections of a suite in YAML, or in a file of it."""
    file = Path(text)
    if file.suffix in (".yml", ".yaml") and not file.is_file():
        raise SettingError(
            f"must be a suite or a file of it, but there is no file {text!r}.", "--attacks"
        )
    content = read_option(file.read_text(errors="replace") if file.is_file() else text, "--attacks")
    if isinstance(content, str):
        content = content.replace(",", " ").split()
    sections = content if isinstance(content, list) else [content]
    return [{"name": item} if isinstance(item, str) else item for item in sections]


def _read_list(text: str | None, name: str) -> list[Any]:
    return [] if text is None else [read_option(item, name) for item in text.split(",")]
