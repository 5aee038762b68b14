"""The tables of the papers, with the results of experiments beside the published figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nni_robust.check import check_choice
from nni_robust.functional.interval import accuracy_interval
from nni_robust.record import Record
from nni_robust.report.published import TABLES, PublishedTable
from nni_robust.report.table import (
    Line,
    SeedSummary,
    entries_text,
    table_entries,
    table_text,
    with_missing,
)
from nni_robust.results.tags import tagged_records
from nni_robust.settings.sections import FULL

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
    present = {record.tags["table"] for record in results}
    names = [table] if table is not None else [name for name in TABLES if name in present]
    lines = {name: with_missing(TABLES[name], _lines(name, results)) for name in names}
    if form == "text":
        return "\n\n".join(table_text(TABLES[name], lines[name]) for name in names)
    entries = [e for name in names for e in table_entries(name, TABLES[name], lines[name])]
    return entries_text(entries, form) if entries else ""


def _results(directories: Sequence[Path]) -> list[Record]:
    """Return the test records of rows; of repeated tests only the latest."""
    latest: dict[tuple[Any, ...], Record] = {}
    for _, record in (found for directory in directories for found in tagged_records(directory)):
        key = (*(record.tags.get(tag) for tag in ("table", "row", "scale")), record.seed)
        if record.stage not in _TESTS:
            continue
        if key not in latest or latest[key].time <= record.time:
            latest[key] = record
    return list(latest.values())


def _lines(name: str, results: Sequence[Record]) -> list[Line]:
    """Gather the seeds of every row and scale of a table, the full scale first."""
    table = TABLES[name]
    groups: dict[tuple[str, str], dict[int, Record]] = {}
    for record in results:
        shared = record.tags["table"] in table.shares and record.tags["row"] in table.rows
        if record.tags["table"] == name or shared:
            seeds = groups.setdefault((record.tags["row"], _scale(record)), {})
            if record.seed not in seeds or record.tags["table"] == name:  # its own go first
                seeds[record.seed] = record
    return [
        Line(row=row, scale=scale, seeds=tuple(sorted(seeds)), metrics=_metrics(table, seeds))
        for (row, scale), seeds in sorted(groups.items(), key=lambda item: item[0][1] != FULL)
    ]


def _scale(record: Record) -> str:
    """Return the name of a scale; one that is not full may use other images."""
    data = record.settings.get("evaluator", {}).get("data", {}).get("name")
    scale = record.tags.get("scale", FULL)
    return scale if scale == FULL or data is None else f"{scale}: {data}"


def _metrics(table: PublishedTable, seeds: dict[int, Record]) -> dict[str, SeedSummary]:
    summaries = {}
    for metric in table.columns:
        found = [r for _, r in sorted(seeds.items()) if metric in r.metrics]
        if not found:
            continue
        values = tuple(record.metrics[metric] for record in found)
        counts = {record.details.get("num_images") for record in found}
        num_images = counts.pop() if len(counts) == 1 else None
        interval = None
        if num_images is not None and metric != "num_parameters":
            num_right = round(sum(values) / len(values) * num_images)
            interval = accuracy_interval(num_right, num_images)
        summaries[metric] = SeedSummary(values=values, interval=interval)
    return summaries
