"""Find results by the tags of their records."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from nni_robust.check import SettingError, one_line
from nni_robust.record import Record, read_records


def tagged_records(folder: Path) -> list[tuple[Path, Record]]:
    """List the records below a folder that have the tags ``table`` and ``row``.

    Parameters
    ----------
    folder
        Folder with results, at any depth.

    Returns
    -------
    list of (Path, Record)
        The folder of the results, and the record. Failed evaluations are left out.

    Raises
    ------
    SettingError
        If a file is damaged.
    """
    found = []
    for path in sorted(folder.rglob("records.jsonl")):
        former = _former_tags(path.parent)
        for record in read_records(path):
            tags = record.tags or former
            if record.error is None and {"table", "row"} <= set(tags):
                found.append((path.parent, replace(record, tags=tags)))
    return found


def _former_tags(folder: Path) -> dict[str, str]:
    """Read ``row.json``, where earlier versions kept table, row and scale."""
    path = folder / "row.json"
    if not path.is_file():
        return {}
    try:
        row = json.loads(path.read_text())
        tags = {key: row[key] for key in ("table", "row", "scale")}
        if not all(isinstance(value, str) for value in tags.values()):
            raise TypeError("table, row and scale must be text")
    except (ValueError, KeyError, TypeError) as error:
        raise SettingError(
            f"{str(path)!r} must name a row of a table, but it is damaged: {one_line(error)}. "
            "Delete it to leave these results out."
        ) from error
    return tags if tags["scale"] != "full" else {"table": tags["table"], "row": tags["row"]}
