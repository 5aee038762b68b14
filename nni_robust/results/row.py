"""The row of a table that a folder of results belongs to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from nni_robust.results.files import write_text

FULL = "full"
"""The scale at which a file is written; every other one replaces some of its keys."""

_FILE = "row.json"


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one trial contributes to a table.

    Attributes
    ----------
    table
        Name of the table, such as ``r-tab1``.
    row
        Name of the row, such as ``RobNet-large``.
    seed
        Of the trial.
    scale
        ``full``, or what was chosen instead.
    """

    table: str
    row: str
    seed: int
    scale: str = FULL

    def write(self, folder: Path) -> None:
        """Note it in a folder of results."""
        write_text(folder / _FILE, json.dumps(asdict(self)))


_ROW = TypeAdapter(Row)


def row_of(sections: Mapping[str, Any]) -> Row | None:
    """Give the row that the sections of a file describe, or None.

    Parameters
    ----------
    sections
        With the ``table`` of the file, and the ``row`` that a trial's parameters have chosen.
    """
    if "table" not in sections or "row" not in sections:
        return None
    return Row(
        table=str(sections["table"]),
        row=str(sections["row"]),
        seed=sections.get("seed", 0),
        scale=str(sections.get("scale", FULL)),
    )


def find_rows(folder: Path) -> list[tuple[Path, Row]]:
    """List the folders of results below a folder that belong to a row, at any depth.

    Raises
    ------
    ValueError
        If a note is damaged.
    """
    found = []
    for path in sorted(folder.rglob(_FILE)):
        try:
            found.append((path.parent, _ROW.validate_json(path.read_bytes())))
        except (ValueError, TypeError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"{str(path)!r} must name a row of a table: {reason}.") from error
    return found
