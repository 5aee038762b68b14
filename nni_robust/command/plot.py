"""Draw a figure from the records of searches."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from nni_robust.check import SettingError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    add = parser.add_argument
    add("name", help="density, convolutions, fsp, search or size")
    add("directories", nargs="+", type=Path, metavar="DIR", help="folders of results, at any depth")
    add("--output", type=Path, help="files to write, without .svg and .png (default: the name)")


def run(given: argparse.Namespace) -> int:
    """Run the command, and return its exit status."""
    from nni_robust.record import read_records
    from nni_robust.report.plot import save_plot

    check_folders(given.directories)
    files = [path for folder in given.directories for path in sorted(folder.rglob("records.jsonl"))]
    records = [r for path in files for r in read_records(path) if r.error is None]
    for path in save_plot(given.output or Path(given.name), records, given.name):
        print(path)
    return 0


def check_folders(directories: Sequence[Path]) -> None:
    """Raise a SettingError unless all folders of results exist."""
    for folder in directories:
        if not folder.is_dir():
            raise SettingError(f"must be a folder of results, got {str(folder)!r}.", "DIR")
