"""Attack networks with a suite of attacks, and record their accuracies.

The tiers are quick (PGD-20), standard (PGD-100, MI-FGSM, DeepFool and two attacks of AutoAttack)
and full (AutoAttack). To repeat the evaluation that a folder of results has on record, use verify.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nni_robust.check import SettingError, check_count
from nni_robust.command.options import (
    RunOptions,
    TargetOptions,
    add_options,
    check_place,
    option,
    read_options,
    read_yaml,
)

if TYPE_CHECKING:
    from nni_robust.record import Record


def _read_attacks(text: str) -> list[Any]:
    """Return the sections of a suite in YAML, or in a file of it."""
    file = Path(text)
    if file.suffix in (".yml", ".yaml") and not file.is_file():
        raise SettingError(
            f"must be a suite or a file of it, but there is no file {text!r}.", "--attacks"
        )
    content = read_yaml(file.read_text(errors="replace") if file.is_file() else text, "--attacks")
    if isinstance(content, str):
        content = content.replace(",", " ").split()
    sections = content if isinstance(content, list) else [content]
    return [{"name": item} if isinstance(item, str) else item for item in sections]


def _read_radii(text: str) -> list[Any]:
    return [read_yaml(item, "--sweep-epsilon") for item in text.split(",")]


def _read_steps(text: str) -> list[int]:
    steps = [read_yaml(item, "--sweep-steps") for item in text.split(",")]
    for number in steps:
        check_count("--sweep-steps", number)
    return steps


@dataclass(frozen=True, kw_only=True)
class SuiteOptions:
    """Which attacks the network is evaluated under, and on how many images."""

    tier: str | None = field(
        default=None,
        metadata=option(
            "suite (default: quick); full is AutoAttack", choices=["quick", "standard", "full"]
        ),
    )
    attacks: list[Any] | None = field(
        default=None,
        metadata=option(
            "suite in YAML instead of a tier, or a file of it: '[fgsm, {name: pgd, steps: 50}]'",
            read=_read_attacks,
        ),
    )
    limit: int | None = field(
        default=None, metadata=option("number of images (default: all)", type=int, metavar="N")
    )
    keep_fooled: bool = field(
        default=False,
        metadata=option(
            "try every attack on all images, as in the papers' tables, and not only on those that "
            "no attack before it has fooled",
            action="store_true",
        ),
    )
    sweep_epsilon: list[Any] | None = field(
        default=None,
        metadata=option("radii for PGD-20, such as 0,2/255,4/255,8/255", read=_read_radii),
    )
    sweep_steps: list[int] | None = field(
        default=None,
        metadata=option("numbers of steps for PGD, such as 10,20,50,100", read=_read_steps),
    )
    robustbench: Path | None = field(
        default=None,
        metadata=option(
            "file for an entry in RobustBench; with --tier full", type=Path, metavar="FILE"
        ),
    )

    def __post_init__(self) -> None:
        if self.tier is not None and self.attacks is not None:
            raise SettingError("must be left out where there are --attacks.", "--tier")
        if self.robustbench is None:
            return
        if self.tier != "full" or self.limit or self.keep_fooled:
            raise SettingError(
                "must come with --tier full on all test images, without --limit and --keep-fooled: "
                "its entry is a claim about AutoAttack.",
                "--robustbench",
            )
        check_place(self.robustbench.parent, "--robustbench")


@dataclass(frozen=True, kw_only=True)
class Request:
    """An evaluation: which networks, under which suite, and how."""

    target: TargetOptions
    suite: SuiteOptions
    run: RunOptions

    def __post_init__(self) -> None:
        if self.suite.robustbench and self.run.split != "test":
            raise SettingError("must come with test images: leave out --split.", "--robustbench")
        if (self.suite.sweep_epsilon or self.suite.sweep_steps) and self.run.output is None:
            raise SettingError("must be given where there is a sweep, for its plot.", "--output")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    add_options(parser, TargetOptions, SuiteOptions, RunOptions)


def run(given: argparse.Namespace) -> int:
    """Run the command, and return its exit status."""
    from nni_robust.command.summary import evaluation_summary

    request = Request(
        target=read_options(TargetOptions, given),
        suite=read_options(SuiteOptions, given),
        run=read_options(RunOptions, given),
    )
    evaluate(request)
    print(evaluation_summary(given))
    return 0


def evaluate(request: Request) -> list[Record]:
    """Attack networks, print a table for each, and write the files that are asked for.

    Returns
    -------
    list of Record
        One per network, of the stage ``evaluation``; the records of sweeps are only written.

    Raises
    ------
    SettingError
        If the request cannot be carried out.
    """
    from nni_robust.command.evaluation import evaluate_target
    from nni_robust.command.target import targets

    found = targets(request.target)
    if request.suite.robustbench and len(found) > 1:
        raise SettingError(
            f"must come with one network, but there are {len(found)} in "
            f"{str(request.target.network)!r}. Name the folder of one.",
            "--robustbench",
        )
    return [evaluate_target(target, request) for target in found]
