"""The commands `report` and `plot`: what searches and trainings have found."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from nni_robust.check import SettingError
from nni_robust.command.networks import MeasuredNetwork, measured_networks
from nni_robust.command.options import read_folder
from nni_robust.command.paper_tables import paper_tables
from nni_robust.command.summary import network_summary
from nni_robust.record import read_records
from nni_robust.report.plot import save_plot
from nni_robust.report.text_table import percent, text_table
from nni_robust.results.files import write_text

_LONGEST_GENOTYPE = 28  # characters of a table cell: the code of a RobNet cell

_HEADS = {"default": "worst"}


def run(given: argparse.Namespace) -> int:
    """Print or write tables, or draw the figure that is asked for."""
    folders = [read_folder(folder) for folder in given.directories]
    if given.plot is not None:
        files = [path for folder in folders for path in sorted(folder.rglob("records.jsonl"))]
        records = [r for path in files for r in read_records(path) if r.error is None]
        for path in save_plot(given.output or Path(given.plot), records, given.plot):
            print(path)
        return 0
    text = report(folders, given.table, given.format)
    if given.output is not None:
        write_text(given.output, text)
    else:
        print(text)
    return 0


def report(folders: Sequence[Path], table: str | None, form: str) -> str:
    """Return the tables of the papers, or the ranking of a search where there is no table.

    Parameters
    ----------
    folders
        Folders of results, at any depth.
    table
        One of :data:`nni_robust.report.published.TABLES`, or None for all that have results.
    form
        ``text``, ``csv`` or ``json``; a ranking is text.

    Raises
    ------
    SettingError
        If there is no such table, or nothing to report.
    """
    text = paper_tables(folders, table, form)
    if not text:
        text = _ranking(folders)
        if text and form != "text":
            raise SettingError("must be text for a search: records.jsonl has its data.", "--format")
    if not text:
        raise SettingError(
            f"must hold results, but no search or training below {[str(d) for d in folders]} "
            "has measured a network.",
            "DIR",
        )
    return text


def _ranking(folders: Sequence[Path]) -> str:
    """Rank the candidates of searches, and describe the chosen networks; empty without any."""
    networks = [n for folder in folders for n in measured_networks(folder)]
    candidates = [network for network in networks if network.validation is not None]
    if not candidates:
        return ""
    candidates.sort(key=lambda network: -_worst(network))
    chosen = [network for network in networks if network.test is not None]
    several = "candidates, ranked" if len(candidates) > 1 else "candidate,"
    title = f"{len(candidates)} {several} by validation accuracy (worst attack for each image)"
    return "\n\n".join(
        [f"{title}\n{_table(candidates)}", *(f"Chosen\n{network_summary(n)}" for n in chosen)]
    )


def _worst(network: MeasuredNetwork) -> float:
    assert network.validation is not None  # they are candidates
    return network.validation.worst


def _table(candidates: Sequence[MeasuredNetwork]) -> str:
    """Write one line per candidate; a star marks the chosen ones."""
    suite = dict.fromkeys(n for c in candidates if c.validation for n in c.validation.values)
    codes = [" ".join(candidate.genotype) for candidate in candidates]
    shown = any(codes) and max(map(len, codes)) <= _LONGEST_GENOTYPE
    heads = ["rank", "network", "parameters", *(_HEADS.get(name, name) for name in suite)]
    rows = [heads[:2] + ["genotype"] * shown + heads[2:]]
    for rank, (candidate, code) in enumerate(zip(candidates, codes, strict=True), start=1):
        assert candidate.validation is not None  # as above
        values, size = candidate.validation.values, candidate.num_parameters
        star = "*" if candidate.test is not None else ""
        row = [f"{rank}{star}", candidate.name, "-" if size is None else f"{size:,}"]
        row += [percent(values[name]) if name in values else "-" for name in suite]
        rows.append(row[:2] + [code or "-"] * shown + row[2:])
    return text_table(rows, right=range(2 + shown, len(rows[0])))
