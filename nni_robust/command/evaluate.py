"""Evaluate networks under suites of attacks, and write down what comes out."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from torch import Tensor

from nni_robust.attack import ATTACKS, PGD, Attack, ThreatModel
from nni_robust.attack.autoattack import AutoAttackPart
from nni_robust.command.target import (
    Subject,
    check_named,
    chosen_subject,
    named_subject,
)
from nni_robust.command.verify import progress_bar
from nni_robust.data import DATASETS, Examples, RobustDataModule
from nni_robust.evaluator.robustness import measure_robustness
from nni_robust.evaluator.suite import TIERS, check_suite
from nni_robust.job.base import choose_device
from nni_robust.job.build import conditions_of
from nni_robust.record import Record, installed_versions
from nni_robust.report.robustness import accuracy_table, robustbench_entry, save_sweep
from nni_robust.results.chosen import chosen_folders, read_chosen
from nni_robust.results.files import check_writable, write_text
from nni_robust.settings.description import describe
from nni_robust.settings.grammar import build, build_threat_model
from nni_robust.settings.networks import check_fit


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to evaluate, and how.

    Parameters
    ----------
    what
        Folder of a search's results, or as for :func:`named_subject`.
    weights
        State dict of a network that is not in a folder.
    data
        Name of a dataset, or a mapping in YAML; by default that of the search, or CIFAR-10.
    root
        Folder of the dataset's files.
    split, limit
        The images: all of the split, or so many of it.
    tier
        A key of :data:`nni_robust.evaluator.suite.TIERS`; ``quick`` unless there are ``attacks``.
    attacks
        A suite in YAML, or a file of it, instead of a tier.
    norm, epsilon
        The threat model, the radius as a number or a fraction; by default that of the search, or
        8/255 in l_inf.
    keep_fooled, batch_size, seed
        As for :func:`nni_robust.evaluator.robustness.measure_robustness`.
    device
        ``auto``, or as torch names it.
    output
        Folder of the records, of what a stopped evaluation goes on from, and of plots.
    robustbench
        File for RobustBench's entry.
    sweep_epsilon, sweep_steps
        Comma-separated radii for PGD-20, and numbers of steps.
    """

    what: str
    weights: Path | None = None
    data: str | None = None
    root: str | None = None
    split: Literal["train", "validation", "test"] = "test"
    limit: int | None = None
    tier: str | None = None
    attacks: str | None = None
    norm: str | None = None
    epsilon: str | None = None
    keep_fooled: bool = False
    batch_size: int = 256
    seed: int = 0
    device: str = "auto"
    output: Path | None = None
    robustbench: Path | None = None
    sweep_epsilon: str | None = None
    sweep_steps: str | None = None

    def __post_init__(self) -> None:
        if self.tier is not None and self.attacks is not None:
            raise ValueError("--tier must be left out where there are --attacks.")
        if self.robustbench and (
            self.tier != "full" or self.split != "test" or self.limit or self.keep_fooled
        ):
            raise ValueError(
                "--robustbench must come with --tier full on all test images, without --limit and "
                "--keep-fooled: its entry is a claim about AutoAttack."
            )
        if (self.sweep_epsilon or self.sweep_steps) and self.output is None:
            raise ValueError("--output must be given where there is a sweep, for its plot.")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"--seed must be at least 0, and below 2^63, got {self.seed}.")
        if Path(self.what).is_dir() and self.weights is not None:
            raise ValueError("--weights must be left out: a folder of results has its own.")


def evaluate(request: Request) -> list[Record]:
    """Attack networks as requested, print a table for each, and write what is asked for.

    Returns
    -------
    list of Record
        One a network, of the stage ``evaluation``; those of sweeps are only written.

    Raises
    ------
    ValueError
        In one line: what was asked for cannot be had.
    """
    check_outputs(request)
    records = []
    for subject, data, threat_model in subjects(request):
        attacks, sweeps = _suite(request, threat_model), _sweeps(request, threat_model)
        device = requested_device(request.device)
        subject.network.to(device)
        check_fit(subject.network, data)
        if "network" in subject.origin and "weights" not in subject.origin:
            sys.stderr.write(f"{subject.label} has the weights that it makes: no --weights.\n")
        run = _Run(request=request, subject=subject, data=data, device=device)
        if request.robustbench and data.limit is not None:
            raise ValueError(
                f"--robustbench must come with all test images, but data.limit is {data.limit}. "
                "Give the whole of them by --data."
            )
        x, y = data.stored_examples(request.split, request.limit)
        record = run.measure(x, y, attacks, threat_model, stage="evaluation")
        sys.stdout.write(f"{accuracy_table(record)}\n")
        if request.robustbench:
            write_text(request.robustbench, json.dumps(robustbench_entry(record), indent=2))
        for axis, points in sweeps.items():
            run.sweep(x, y, axis, points)
        records.append(record)
    return records


def check_outputs(request: Request) -> None:
    """Refuse, before any work, places that cannot be written to."""
    if request.output:
        check_writable(request.output.absolute(), "--output")
    if request.robustbench:
        check_writable(request.robustbench.absolute().parent, "--robustbench")


@dataclass(frozen=True, kw_only=True)
class _Run:
    """The evaluations of one network."""

    request: Request
    subject: Subject
    data: RobustDataModule
    device: torch.device

    def measure(
        self,
        x: Examples,
        y: Tensor,
        attacks: Sequence[Attack],
        threat_model: ThreatModel,
        *,
        stage: str,
        **metrics: float,
    ) -> Record:
        """Run one suite, and record it."""
        request, output = self.request, self.request.output
        with progress_bar(len(x), attacks) as bar:
            result = measure_robustness(
                self.subject.network,
                x,
                y,
                attacks=attacks,
                batch_size=request.batch_size,
                seed=request.seed,
                keep_fooled=request.keep_fooled,
                state=output and output / "state",
                progress=bar.update,
            )
        accuracies = result.accuracies()
        record = Record(
            sample=self.subject.sample,
            stage=stage,
            metrics={"default": accuracies.pop("robust"), **accuracies, **metrics},
            seed=request.seed,
            genotype=self.subject.genotype,
            settings=self._settings(attacks, threat_model),
            details={"robustness": result.as_json(), "outcomes": result.outcomes},
            versions={**installed_versions(), **_library_version(attacks)},
        )
        if output:
            record.append(output / "records.jsonl")
        return record

    def sweep(
        self, x: Examples, y: Tensor, axis: str, points: Sequence[tuple[float, Attack]]
    ) -> None:
        """Run attacks of growing strength, and plot what they leave."""
        records = [
            self.measure(
                x,
                y,
                [attack],
                attack.threat_model,
                stage=f"sweep_{axis}",
                **{axis: value},
            )
            for value, attack in points
        ]
        for (value, attack), record in zip(points, records, strict=True):
            accuracy = 100 * record.metrics["default"]
            sys.stdout.write(f"{axis} {value:<10.6g}{attack.name:<12}{accuracy:>7.2f}%\n")
        assert self.request.output is not None  # the request saw to it
        for file in save_sweep(self.request.output / f"{self.subject.label}-{axis}", records, axis):
            sys.stdout.write(f"{file}\n")

    def _settings(self, attacks: Sequence[Attack], threat_model: ThreatModel) -> dict[str, Any]:
        request = self.request
        gpu = self.device.type == "cuda"
        return {
            "label": self.subject.label,
            **self.subject.origin,
            "data": describe(self.data),
            "split": request.split,
            "limit": request.limit,
            "tier": request.tier if request.attacks else request.tier or "quick",
            "threat_model": describe(threat_model),
            "attacks": describe(attacks),
            "keep_fooled": request.keep_fooled,
            "batch_size": request.batch_size,
            "precision": "float32",
            "device": torch.cuda.get_device_name(self.device) if gpu else str(self.device),
        }


def subjects(request: Request) -> Iterator[tuple[Subject, RobustDataModule, ThreatModel]]:
    """Give every network of a request, with its images and its threat model."""
    if Path(request.what).is_dir():
        folders = chosen_folders(Path(request.what))
        if request.robustbench and len(folders) > 1:
            raise ValueError(
                f"--robustbench must come with one network, but there are {len(folders)} in "
                f"{request.what!r}. Name the folder of one."
            )
        for folder in folders:
            # Of an experiment, trials may hold networks of one name.
            parts = folder.absolute().relative_to(Path(request.what).absolute()).parts
            label = "-".join(part for part in parts if part != "final") or folder.name
            conditions = conditions_of(read_chosen(folder))
            data = _data(request) if request.data else _moved(conditions.data, request.root)
            usual = conditions.test_attacks[0].threat_model
            yield chosen_subject(folder, label), data, _threat_model(request, usual)
    else:
        check_named(request.what, request.weights)
        data = _data(request)
        subject = named_subject(request.what, request.weights, data)
        for dtype in subject.origin.get("weights_dtypes", []):
            if dtype != "torch.float32":
                sys.stderr.write(f"weights in {dtype} are evaluated in torch.float32\n")
        yield subject, data, _threat_model(request, ThreatModel())


def _data(request: Request) -> RobustDataModule:
    name = request.data or "cifar10"
    section = _read_yaml(name, "--data") if name.lstrip().startswith("{") else {"name": name}
    if request.root is not None:
        section = {**section, "root": request.root}
    data: RobustDataModule = build(section, DATASETS, "data")
    return data


def _moved(data: RobustDataModule, root: str | None) -> RobustDataModule:
    """Look for the files of a dataset elsewhere."""
    if root is None:
        return data
    moved: RobustDataModule = build({**describe(data), "root": root}, DATASETS, "data")
    return moved


def _threat_model(request: Request, usual: ThreatModel) -> ThreatModel:
    norm = request.norm or usual.norm
    if norm != usual.norm and request.epsilon is None:
        raise ValueError(f"--epsilon must be given with --norm {norm}: {usual.norm} is usual here.")
    epsilon = usual.epsilon if request.epsilon is None else request.epsilon
    return build_threat_model({"norm": norm, "epsilon": epsilon}, "threat_model")


def _suite(request: Request, threat_model: ThreatModel) -> list[Attack]:
    if request.attacks is None:
        return TIERS[request.tier or "quick"](threat_model)
    file = Path(request.attacks)
    if file.suffix in (".yml", ".yaml") and not file.is_file():
        raise ValueError(f"--attacks must be a suite or a file of it, but {str(file)!r} is none.")
    text = file.read_text(errors="replace") if file.is_file() else request.attacks
    content = _read_yaml(text, "--attacks")
    if isinstance(content, str):
        content = content.replace(",", " ").split()
    sections = content if isinstance(content, list) else [content]
    suite: list[Attack] = [
        build(
            {"name": section} if isinstance(section, str) else section,
            ATTACKS,
            f"attacks[{index}]",
            threat_model=threat_model,
        )
        for index, section in enumerate(sections)
    ]
    for index, attack in enumerate(suite):
        if attack.threat_model != threat_model:
            raise ValueError(
                f"attacks[{index}].threat_model must be left out: that of an evaluation is one, "
                "--norm and --epsilon."
            )
    check_suite("attacks", suite)
    return suite


def _sweeps(request: Request, threat_model: ThreatModel) -> dict[str, list[tuple[float, Attack]]]:
    """List the points of every sweep that is asked for: the value, and PGD at it."""
    sweeps: dict[str, list[tuple[float, Attack]]] = {}
    if request.sweep_epsilon:
        radii = [
            build_threat_model({"norm": threat_model.norm, "epsilon": text}, "sweep_epsilon")
            for text in _yaml_items(request.sweep_epsilon)
        ]
        sweeps["epsilon"] = [(radius.epsilon, PGD(threat_model=radius)) for radius in radii]
    if request.sweep_steps:
        sweeps["steps"] = []
        for steps in _yaml_items(request.sweep_steps):
            if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
                raise ValueError(f"sweep_steps must be whole numbers from 1, got {steps!r}.")
            sweeps["steps"].append((steps, PGD(threat_model=threat_model, steps=steps)))
    return sweeps


def _yaml_items(text: str) -> list[Any]:
    return [_read_yaml(item, "--sweep-epsilon and --sweep-steps") for item in text.split(",")]


def _read_yaml(text: str, option: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{option} must be YAML: {' '.join(str(error).split())}.") from error


def requested_device(name: str) -> torch.device:
    """Find the device that is asked for, ``auto`` or a name of torch's, or refuse it."""
    if name == "auto":
        return choose_device("auto")
    try:
        probe = torch.zeros(1, device=name)
        probe.item()  # not every device holds numbers
        return probe.device
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built for it
        raise ValueError(
            f"--device must be auto or a device of this machine, got {name!r}: "
            f"{str(error).splitlines()[0]}"
        ) from error


def _library_version(attacks: Sequence[Attack]) -> dict[str, str]:
    if any(isinstance(attack, AutoAttackPart) for attack in attacks):
        return {"pyautoattack": metadata.version("pyautoattack")}
    return {}
