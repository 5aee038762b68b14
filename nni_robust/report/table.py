"""A published table and our figures side by side, each in columns of its own."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from nni_robust.report.published import PublishedTable

_MISSING = "-"
_SIZE = "params_m"  # in millions; everything else is an accuracy


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One metric over seeds.

    Attributes
    ----------
    values
        One a seed, at least one.
    interval
        95 % interval of the mean for the number of test images, None where that is not known.
        What differs between trainings is not in it.
    """

    values: tuple[float, ...]
    interval: tuple[float, float] | None = None

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return fmean(self.values)

    @property
    def spread(self) -> float | None:
        """Standard deviation between the seeds, None for one."""
        return stdev(self.values) if len(self.values) > 1 else None


@dataclass(frozen=True, kw_only=True)
class Line:
    """Our figures of one row at one scale; without any, what is published alone.

    Attributes
    ----------
    row
        Its name.
    scale
        ``full``, or what was chosen instead; with the name of the dataset where that differs.
    seeds
        Of the trials.
    figures
        By metric.
    """

    row: str
    scale: str = _MISSING
    seeds: tuple[int, ...] = ()
    figures: Mapping[str, Figure]


def with_missing(table: PublishedTable, lines: Sequence[Line]) -> list[Line]:
    """Order lines as the table is, with one for every row of it that there is none of."""
    ours = {line.row for line in lines}
    rows = [*table.rows, *(line.row for line in lines)]
    order = {row: place for place, row in reversed(list(enumerate(rows)))}
    empty = [Line(row=row, figures={}) for row in table.rows if row not in ours]
    return sorted([*lines, *empty], key=lambda line: order[line.row])


def table_text(table: PublishedTable, lines: Sequence[Line]) -> str:
    """Write a table for reading.

    Parameters
    ----------
    table
        What is published.
    lines
        Ours, in order.

    Returns
    -------
    str
        Accuracies in percent: the mean over the seeds, their standard deviation where there are
        several, and the interval of the mean.
    """
    above = ["", "", "", *(text for heading in table.columns.values() for text in (heading, ""))]
    heads = ["row", "scale", "seeds", *("paper", "ours") * len(table.columns)]
    cells = [above, heads]
    for line in lines:
        published = table.rows.get(line.row, {})
        cells.append([line.row, line.scale, str(len(line.seeds) or _MISSING)])
        for metric in table.columns:
            cells[-1] += [published.get(metric, _MISSING), _text(metric, line.figures.get(metric))]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    rows = [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]
    return "\n".join([table.title, *rows])


def table_entries(name: str, table: PublishedTable, lines: Sequence[Line]) -> list[dict[str, Any]]:
    """Write a table as values of JSON, a row and metric at a time.

    Parameters
    ----------
    name
        Of the table.
    table, lines
        As for :func:`table_text`.

    Returns
    -------
    list of dict
        ``paper`` and ``ours`` in percent, of ``params_m`` in millions; None where there is none.
    """
    entries = []
    for line in lines:
        for metric in table.columns:
            published = table.rows.get(line.row, {}).get(metric)
            figure = line.figures.get(metric)
            unit = 1 if metric == _SIZE else 100
            ours: dict[str, float | None] = dict.fromkeys(("ours", "spread", "low", "high"))
            if figure is not None:
                low, high = figure.interval or (None, None)
                ours = {"ours": figure.mean, "spread": figure.spread, "low": low, "high": high}
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
    """Write entries as ``csv``, where what is missing is empty, or as ``json``."""
    if form == "json":
        return json.dumps(entries, indent=1)
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(entries[0]), lineterminator="\n")
    writer.writeheader()
    for entry in entries:
        writer.writerow({**entry, "seeds": " ".join(map(str, entry["seeds"]))})
    return stream.getvalue().rstrip("\n")


def _text(metric: str, figure: Figure | None) -> str:
    if figure is None:
        return _MISSING
    if metric == _SIZE:
        return f"{figure.mean:.3f}"
    text = f"{100 * figure.mean:.2f}"
    if figure.spread is not None:
        text += f" +- {100 * figure.spread:.2f}"
    if figure.interval is not None:
        low, high = figure.interval
        text += f" [{100 * low:.1f}, {100 * high:.1f}]"
    return text
