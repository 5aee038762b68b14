"""Print what searches and trainings have found.

The results of examples/tables become the tables of the papers, with published and own figures in
separate columns. The results of a search become a ranking of its candidates.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from nni_robust.check import SettingError
from nni_robust.command import plot
from nni_robust.command.options import read_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    add = parser.add_argument
    add("directories", nargs="+", metavar="DIR", help="folders of results, at any depth")
    add("--table", help="one table, such as r-tab1 (default: all that have results)")
    add("--format", choices=["text", "csv", "json"], default="text", help="(default: text)")
    add("--output", type=Path, help="file to write")
    add("--plot", dest="name", help=argparse.SUPPRESS)  # the command `plot`, under its former name


def run(given: argparse.Namespace) -> int:
    """Run the command, and return its exit status."""
    from nni_robust.results.files import write_text

    if given.name is not None:
        return plot.run(given)
    text = report(given.directories, given.table, given.format)
    if given.output is not None:
        write_text(given.output, text)
    else:
        print(text)
    return 0


def report(directories: Sequence[str | Path], table: str | None, form: str) -> str:
    """Write the tables of the papers, or the ranking of a search where there is no table.

    Parameters
    ----------
    directories
        Folders of results, at any depth.
    table
        One of :data:`nni_robust.report.published.TABLES`, or None for all that have results.
    form
        ``text``, ``csv`` or ``json``; a ranking is text.

    Raises
    ------
    SettingError
        If there is no such folder or table, or nothing to report.
    """
    from nni_robust.command.paper_tables import paper_tables
    from nni_robust.command.ranking import ranking

    folders = [read_folder(folder) for folder in directories]
    text = paper_tables(folders, table, form)
    if not text:
        text = ranking(folders)
        if text and form != "text":
            raise SettingError("must be text for a search: records.jsonl has its data.", "--format")
    if not text:
        raise SettingError(
            f"must hold results, but no search or training below {[str(d) for d in directories]} "
            "has measured a network.",
            "DIR",
        )
    return text
