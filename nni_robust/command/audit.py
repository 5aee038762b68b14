"""Check whether an accuracy under attack can be trusted, by looking for masked gradients.

A failed check gives exit status 1; warnings do not.
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
    option,
    read_network,
    read_options,
)

if TYPE_CHECKING:
    from nni_robust.record import Record


@dataclass(frozen=True, kw_only=True)
class AuditOptions:
    """How much an audit tries."""

    num_images: int = field(default=256, metadata=option("number of images", type=int, metavar="N"))
    queries: int = field(
        default=1000,
        metadata=option("queries of Square, the attack without gradients", type=int, metavar="N"),
    )
    surrogate: Path | dict[str, Any] | None = field(
        default=None,
        metadata=option(
            "another network, whose attacked images are tried: folder, name, or class",
            read=read_network,
        ),
    )
    surrogate_weights: Path | None = field(
        default=None,
        metadata=option(
            "state dict of the surrogate, if it is not in a folder", type=Path, metavar="FILE"
        ),
    )

    def __post_init__(self) -> None:
        check_count("--num-images", self.num_images)
        check_count("--queries", self.queries)
        if self.surrogate_weights is None:
            return
        if self.surrogate is None:
            raise SettingError("must come with --surrogate.", "--surrogate-weights")
        if isinstance(self.surrogate, Path):
            raise SettingError(
                "must be left out: a folder of results has its own.", "--surrogate-weights"
            )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    add_options(parser, TargetOptions, AuditOptions, RunOptions)


def run(given: argparse.Namespace) -> int:
    """Run the command, and return its exit status."""
    records = audit(
        read_options(TargetOptions, given),
        read_options(AuditOptions, given),
        read_options(RunOptions, given),
    )
    return int(any(record.details["audit"]["verdict"] == "fail" for record in records))


def audit(target: TargetOptions, options: AuditOptions, run: RunOptions) -> list[Record]:
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
    from nni_robust.command.findings import audit_target
    from nni_robust.command.target import targets
    from nni_robust.report.audit import audit_table

    records = []
    for found in targets(target):
        record = audit_target(found, options, run)
        print(audit_table(record))
        if run.output:
            run.output.mkdir(parents=True, exist_ok=True)
            record.append(run.output / "records.jsonl")
        records.append(record)
    return records
