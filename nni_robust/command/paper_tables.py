"""The tables of the papers, with the results of experiments beside the published figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nni_robust.check import check_choice
from nni_robust.functional.interval import accuracy_interval
from nni_robust.record import Record, read_records
from nni_robust.report.published import TABLES, PublishedTable
from nni_robust.report.table import (
    Figure,
    Line,
    entries_text,
    table_entries,
    table_text,
    with_missing,
)
from nni_robust.results.files import SearchFiles
from nni_robust.results.row import FULL, Row, find_rows

_TESTS = ("final", "attack")  # stages that saw the test images


def paper_tables(directories: Sequence[Path], table: str | None, form: str) -> str:
    """Write tables: the published figures, and those of the experiments in some folders.

    Parameters
    ----------
    directories
        Folders of results, at any depth.
    table
        One of :data:`nni_robust.report.published.TABLES`, or None for all that have results.
    form
        ``text``, ``csv`` or ``json``.

    Returns
    -------
    str
        Empty if no table is named and none has results.

    Raises
    ------
    SettingError
        If there is no such table.
    """
    if table is not None:
        check_choice("--table", table, TABLES)
    results = _results(directories)
    present = {row.table for row, _ in results}
    names = [table] if table is not None else [name for name in TABLES if name in present]
    lines = {name: with_missing(TABLES[name], _lines(name, results)) for name in names}
    if form == "text":
        return "\n\n".join(table_text(TABLES[name], lines[name]) for name in names)
    entries = [e for name in names for e in table_entries(name, TABLES[name], lines[name])]
    return entries_text(entries, form) if entries else ""


def _results(directories: Sequence[Path]) -> list[tuple[Row, Record]]:
    """List rows with their tests; a later test replaces an earlier one of the same row."""
    latest: dict[Row, Record] = {}
    for folder, row in (found for directory in directories for found in find_rows(directory)):
        path = SearchFiles(folder).records
        records = read_records(path) if path.is_file() else []
        for record in records:
            if record.stage not in _TESTS or record.error is not None:
                continue
            if row not in latest or latest[row].time <= record.time:
                latest[row] = record
    return list(latest.items())


def _lines(name: str, results: Sequence[tuple[Row, Record]]) -> list[Line]:
    """Gather the seeds of every row and scale of a table, the full scale first."""
    table = TABLES[name]
    groups: dict[tuple[str, str], dict[int, Record]] = {}
    for row, record in results:
        shared = row.table in table.shares and row.row in table.rows
        if row.table == name or shared:
            seeds = groups.setdefault((row.row, _scale(row, record)), {})
            if row.seed not in seeds or row.table == name:  # its own go first
                seeds[row.seed] = record
    return [
        Line(row=row, scale=scale, seeds=tuple(sorted(seeds)), figures=_figures(table, seeds))
        for (row, scale), seeds in sorted(groups.items(), key=lambda item: item[0][1] != FULL)
    ]


def _scale(row: Row, record: Record) -> str:
    """Name a scale, with the dataset unless it is the full scale."""
    data = record.settings.get("evaluator", {}).get("data", {}).get("name")
    return row.scale if row.scale == FULL or data is None else f"{row.scale}: {data}"


def _figures(table: PublishedTable, seeds: dict[int, Record]) -> dict[str, Figure]:
    figures = {}
    for metric in table.columns:
        found = [r for _, r in sorted(seeds.items()) if metric in r.metrics]
        if not found:
            continue
        values = tuple(record.metrics[metric] for record in found)
        counts = {record.details.get("num_images") for record in found}
        num_images = counts.pop() if len(counts) == 1 else None
        interval = None
        if num_images is not None and metric != "params_m":
            num_right = round(sum(values) / len(values) * num_images)
            interval = accuracy_interval(num_right, num_images)
        figures[metric] = Figure(values=values, interval=interval)
    return figures
