"""Draw a figure from the records of searches."""

from __future__ import annotations

import argparse
from pathlib import Path

from nni_robust.command.options import read_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    add = parser.add_argument
    add("name", help="density, convolutions, fsp, search or size")
    add("directories", nargs="+", metavar="DIR", help="folders of results, at any depth")
    add("--output", type=Path, help="files to write, without .svg and .png (default: the name)")


def run(given: argparse.Namespace) -> int:
    """Run the command, and return its exit status."""
    from nni_robust.record import read_records
    from nni_robust.report.plot import save_plot

    folders = [read_folder(folder) for folder in given.directories]
    files = [path for folder in folders for path in sorted(folder.rglob("records.jsonl"))]
    records = [r for path in files for r in read_records(path) if r.error is None]
    for path in save_plot(given.output or Path(given.name), records, given.name):
        print(path)
    return 0
