"""What a command prints at its end: networks, accuracies, files, and what to do next."""

from __future__ import annotations

import argparse
import os
import shlex
import textwrap
from collections.abc import Sequence
from pathlib import Path

from nni_robust.command.networks import (
    Accuracies,
    MeasuredNetwork,
    accuracy_title,
    measured_networks,
)
from nni_robust.report.text_table import TERMINAL_WIDTH, percent, text_table

_INDENT = 12  # columns of the name of an entry
_FILES = {"Weights": "weights.pt", "Drawing": "cells.svg", "ONNX": "network.onnx"}
_LONGEST_GENOTYPE = 8  # lines; genotype.json has all of it


def results_summary(directory: Path) -> str:
    """Describe the tested networks in a folder of results; empty if there is none.

    Parameters
    ----------
    directory
        Folder of the results of one search or training, or a folder of such folders.
    """
    tested = [network for network in measured_networks(directory) if network.test is not None]
    parts = [network_summary(tested[0])] if len(tested) == 1 else []
    if len(tested) > 1:
        parts = [_overview(tested), ""]
    if any(network.final.is_dir() for network in tested):
        parts.append(_steps(["evaluate --tier full", "audit"], shlex.quote(str(directory))))
    return "\n".join(parts)


def network_summary(network: MeasuredNetwork) -> str:
    """Describe one network: what it is, its accuracies, and its files."""
    lines = [heading(network.title, network.num_parameters, network.genotype), ""]
    lines += [_accuracies(network.validation, network.test), ""]
    files = {name: network.final / file for name, file in _FILES.items()}
    files["Records"] = network.results / "records.jsonl"
    lines += [f"{name:<{_INDENT}}{_shown(path)}" for name, path in files.items() if path.is_file()]
    return "\n".join(lines)


def heading(title: str, num_parameters: int | None, genotype: Sequence[str]) -> str:
    """Say what a network is; its genotype has line breaks between nodes."""
    size = "" if num_parameters is None else f", {num_parameters:,} parameters"
    lines: list[str] = []
    for cell in genotype:
        # Lines break at spaces; these are taken out again, so that a line can be copied.
        nodes = textwrap.wrap(cell.replace("|", "| "), TERMINAL_WIDTH - _INDENT)
        lines += [line.replace(" ", "") for line in nodes]
    if len(lines) > _LONGEST_GENOTYPE:
        lines = [*lines[: _LONGEST_GENOTYPE - 1], "... (all in genotype.json)"]
    named = [f"{'' if i else 'Genotype':<{_INDENT}}{line}" for i, line in enumerate(lines)]
    return "\n".join([_entry("Network", f"{title}{size}"), *named])


def evaluation_summary(given: argparse.Namespace) -> str:
    """Say where the records of an evaluation are, and what to do next."""
    saved = given.output and _shown(given.output / "records.jsonl")
    what = [given.network]
    for name in ("weights", "data", "root", "norm", "epsilon"):
        value = getattr(given, name)
        what += [] if value is None else [f"--{name}", str(value)]
    steps = ["audit"] if given.tier == "full" else ["evaluate --tier full", "audit"]
    records = _entry("Records", saved or "not saved: there is no --output")
    return f"\n{records}\n{_steps(steps, shlex.join(what))}"


def _entry(name: str, text: str) -> str:
    """Return a named line, wrapped below itself if it is too long."""
    return textwrap.fill(
        text,
        TERMINAL_WIDTH,
        initial_indent=f"{name:<{_INDENT}}",
        subsequent_indent=" " * _INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _steps(commands: Sequence[str], what: str) -> str:
    """Write commands, one per line, each with its purpose."""
    purposes = {
        "evaluate --tier full": "AutoAttack, before a claim",
        "audit": "is its gradient masked?",
    }
    lines = []
    for command in commands:
        name, _, rest = command.partition(" ")
        lines.append(f"nni-robust {' '.join(filter(None, (name, what, rest)))}")
    width = max(map(len, lines))
    longest = _INDENT + width + 5 + max(len(purposes[command]) for command in commands)
    ends = [f"   # {purposes[c]}" if longest <= TERMINAL_WIDTH else "" for c in commands]
    return "\n".join(
        f"{'' if index else 'Next':<{_INDENT}}{f'{line:<{width}}{end}'.rstrip()}"
        for index, (line, end) in enumerate(zip(lines, ends, strict=True))
    )


def _accuracies(validation: Accuracies | None, test: Accuracies | None) -> str:
    heads, columns = ["accuracy"], []
    for split, found in (("validation", validation), ("test", test)):
        if found is not None:
            count = "" if found.num_images is None else f"{found.num_images:,} "
            interval = "" if found.num_images is None else " (95 % interval)"
            heads.append(f"{count}{split} images{interval}")
            columns.append({name: _cell(found, name) for name in found.values})
    names = list(dict.fromkeys(name for column in columns for name in column))
    rows = [[accuracy_title(n), *(column.get(n, "-") for column in columns)] for n in names]
    return text_table([heads, *rows], right=range(1, len(heads)))


def _cell(found: Accuracies, name: str) -> str:
    accuracy, interval = percent(found.values[name]), found.interval(name)
    if interval is None:
        return accuracy
    low, high = interval
    return f"{accuracy} ({100 * low:.2f} to {100 * high:.2f})"


def _overview(networks: Sequence[MeasuredNetwork]) -> str:
    """Write one line per network."""
    heads = ["network", "parameters", "validation", "test: clean", "test: attacked", "images"]
    rows = [heads]
    for network in networks:
        test, size = network.test, network.num_parameters
        assert test is not None  # they are tested
        rows.append(
            [
                _shown(network.final if network.final.is_dir() else network.results),
                "-" if size is None else f"{size:,}",
                "-" if network.validation is None else percent(network.validation.worst),
                percent(test.values["clean"]),
                percent(test.worst),
                "-" if test.num_images is None else f"{test.num_images:,}",
            ]
        )
    return text_table(rows, right=range(1, len(heads)))


def _shown(path: Path) -> str:
    """Write a path relative to the working folder if it is below it."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
