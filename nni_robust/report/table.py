"""A published table and our results side by side, in separate columns."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from nni_robust.report.published import PublishedTable
from nni_robust.report.text_table import TERMINAL_WIDTH, text_table

_MISSING = "-"
_SIZE = "num_parameters"  # shown in millions; every other metric is an accuracy


@dataclass(frozen=True, kw_only=True)
class SeedSummary:
    """One metric over several seeds.

    Attributes
    ----------
    values
        One per seed, at least one.
    interval
        95 % interval of the mean, given the number of test images; None if the number is not known.
        It does not include the differences between trainings.
    """

    values: tuple[float, ...]
    interval: tuple[float, float] | None = None

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return fmean(self.values)

    @property
    def spread(self) -> float | None:
        """Standard deviation between the seeds; None for one seed."""
        return stdev(self.values) if len(self.values) > 1 else None


@dataclass(frozen=True, kw_only=True)
class Line:
    """Our results for one row at one scale.

    Attributes
    ----------
    row
        Name of the row.
    scale
        ``full`` or another scale, followed by the name of the dataset if that differs.
    seeds
        Seeds of the trials.
    metrics
        Our results by metric. If empty, the line shows only the published numbers.
    """

    row: str
    scale: str = _MISSING
    seeds: tuple[int, ...] = ()
    metrics: Mapping[str, SeedSummary]


def with_missing(table: PublishedTable, lines: Sequence[Line]) -> list[Line]:
    """Return lines in the order of the table, with an empty line for each row that has none."""
    ours = {line.row for line in lines}
    rows = [*table.rows, *(line.row for line in lines)]
    order = {row: place for place, row in reversed(list(enumerate(rows)))}
    empty = [Line(row=row, metrics={}) for row in table.rows if row not in ours]
    return sorted([*lines, *empty], key=lambda line: order[line.row])


def table_text(table: PublishedTable, lines: Sequence[Line]) -> str:
    """Return a table as text.

    Parameters
    ----------
    table
        The published table.
    lines
        Our results, in order.

    Returns
    -------
    str
        Accuracies are in percent. Ours is the mean over the seeds, with its standard deviation if
        there are several seeds, and below it the interval of the mean. A table that is wider than
        the terminal is divided into blocks of columns.
    """
    left = [["", "", ""], ["row", "scale", "seeds"]]
    left += [[line.row, line.scale, str(len(line.seeds) or _MISSING)] for line in lines]
    blocks, rows = [], left
    for metric in table.columns:
        column = _column(table, metric, lines)
        if rows is not left and _width(_beside(rows, column)) > TERMINAL_WIDTH:
            blocks.append(text_table(rows))
            rows = left
        rows = _beside(rows, column)
    return f"{table.title}\n" + "\n\n".join([*blocks, text_table(rows)])


def table_entries(name: str, table: PublishedTable, lines: Sequence[Line]) -> list[dict[str, Any]]:
    """Return a table as JSON values, one entry per row and metric.

    Parameters
    ----------
    name
        Name of the table.
    table, lines
        Arguments of :func:`table_text`.

    Returns
    -------
    list of dict
        ``paper`` and ``ours`` are in percent, or in millions for ``num_parameters``; None if
        unknown.
    """
    entries = []
    for line in lines:
        for metric in table.columns:
            published = table.rows.get(line.row, {}).get(metric)
            summary = line.metrics.get(metric)
            unit = 1e-6 if metric == _SIZE else 100
            ours: dict[str, float | None] = dict.fromkeys(("ours", "spread", "low", "high"))
            if summary is not None:
                low, high = summary.interval or (None, None)
                ours = {"ours": summary.mean, "spread": summary.spread, "low": low, "high": high}
            entries.append(
                {
                    "table": name,
                    "row": line.row,
                    "scale": line.scale if line.seeds else None,
                    "seeds": list(line.seeds),
                    "metric": metric,
                    "paper": None if published is None else float(published),
                    **{key: None if v is None else round(unit * v, 6) for key, v in ours.items()},
                }
            )
    return entries


def entries_text(entries: Sequence[Mapping[str, Any]], form: str) -> str:
    """Return entries as ``csv``, in which None is empty, or as ``json``."""
    if form == "json":
        return json.dumps(entries, indent=1)
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(entries[0]), lineterminator="\n")
    writer.writeheader()
    for entry in entries:
        writer.writerow({**entry, "seeds": " ".join(map(str, entry["seeds"]))})
    return stream.getvalue().rstrip("\n")


def _column(table: PublishedTable, metric: str, lines: Sequence[Line]) -> list[list[str]]:
    """Return the published and our cells of one metric, below two rows of headings."""
    cells = [[table.columns[metric], ""], ["paper", "ours"]]
    for line in lines:
        published = table.rows.get(line.row, {}).get(metric, _MISSING)
        cells.append([published, _cell(metric, line.metrics.get(metric))])
    return cells


def _beside(left: list[list[str]], right: list[list[str]]) -> list[list[str]]:
    return [[*one, *other] for one, other in zip(left, right, strict=True)]


def _width(rows: Sequence[Sequence[str]]) -> int:
    widths = [
        max(len(x) for cell in column for x in cell.split("\n"))
        for column in zip(*rows, strict=True)
    ]
    return sum(widths) + 2 * (len(widths) - 1)


def _cell(metric: str, summary: SeedSummary | None) -> str:
    if summary is None:
        return _MISSING
    if metric == _SIZE:
        return f"{summary.mean / 1e6:.3f}"
    text = f"{100 * summary.mean:.2f}"
    if summary.spread is not None:
        text += f" +- {100 * summary.spread:.2f}"
    if summary.interval is not None:
        low, high = summary.interval
        text += f"\n[{100 * low:.1f}, {100 * high:.1f}]"
    return text
