"""One evaluated network as one line of a JSON lines file."""

from __future__ import annotations

import json
import math
import os
import platform
import warnings
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

FORMAT = 1
DISTRIBUTIONS = ("nni_robust", "nni", "torch", "pytorch_lightning", "numpy")


def installed_versions() -> dict[str, str]:
    """Give the versions of Python and of the packages that a result depends on."""
    versions = {"python": platform.python_version()}
    for name in DISTRIBUTIONS:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def _utc_now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _finite(value: Any) -> Any:
    """Replace the floats for which JSON has no word by None, at any depth."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


@dataclass(frozen=True, kw_only=True)
class Record:
    """One evaluated network, and all that is needed to evaluate it again.

    All values are those of JSON: a tensor or an array is refused when the record is written.
    Infinities and NaN are written as ``null``; in ``metrics`` a ``null`` is read back as NaN.
    A tuple is read back as a list.

    Parameters
    ----------
    sample
        The architecture as NNI gives it, from label to choice.
    stage
        Where it was evaluated: ``screen``, ``candidate``, ``final`` and so on.
    metrics
        Numbers by name: accuracies as fractions, FSP distance, density, parameters.
    seed
        Seed of the run.
    genotype
        The architecture as codes, one string a distinct cell, where the space has them.
    tags
        Free mapping of the settings file, such as the table and the row of a paper.
    settings
        The settings as used.
    details
        What is longer than a number, such as the FSP distance of every cell.
    error
        Why the evaluation failed, or None.
    versions
        Package versions, those installed unless given.
    time
        When the record was made, ISO 8601 in UTC.
    """

    sample: dict[str, Any]
    stage: str
    metrics: dict[str, float]
    seed: int
    genotype: list[str] | None = None
    tags: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    versions: dict[str, str] = field(default_factory=installed_versions)
    time: str = field(default_factory=_utc_now)

    def append(self, path: str | Path) -> None:
        """Add the record to a file as one line; several processes may do so at once."""
        content = {"format": FORMAT, **_finite(asdict(self))}
        try:
            line = json.dumps(content, allow_nan=False).encode() + b"\n"
        except TypeError as error:
            raise TypeError(f"A record must hold JSON values only: {error}.") from error
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            if os.lseek(descriptor, 0, os.SEEK_END) > 0:
                os.lseek(descriptor, -1, os.SEEK_END)
                if os.read(descriptor, 1) != b"\n":  # a writer was killed: leave its line alone
                    line = b"\n" + line
            written = os.write(descriptor, line)  # one write, so that lines do not mingle
        finally:
            os.close(descriptor)
        if written != len(line):
            raise OSError(f"{str(path)!r} took {written} of {len(line)} bytes. Is the disk full?")


def read_records(path: str | Path) -> list[Record]:
    """Read all records of a file.

    A damaged line is an error that names it; only a last line without an end, which a killed
    writer leaves behind, is passed over with a warning.
    """
    lines = Path(path).read_bytes().split(b"\n")
    records = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            content = json.loads(line)
        except ValueError as error:
            if number == len(lines):
                warnings.warn(f"{path}:{number} is cut off and was passed over.", stacklevel=2)
                continue
            raise ValueError(f"{path}:{number} must be a record in JSON: {error}.") from error
        records.append(_parse(content, f"{path}:{number}"))
    return records


def _parse(content: Any, place: str) -> Record:
    if not isinstance(content, dict) or "format" not in content:
        raise ValueError(f"{place} must be a record, an object with the key 'format'.")
    version = content.pop("format")
    if version != FORMAT:
        raise ValueError(
            f"{place} must have format {FORMAT}, got {version!r}. "
            "Read it with the version of nni_robust that wrote it."
        )
    try:
        record = Record(**content)
        record.metrics.update({k: math.nan for k, v in record.metrics.items() if v is None})
    except (TypeError, AttributeError) as error:
        raise ValueError(f"{place} must hold the fields of a record: {error}.") from error
    return record
