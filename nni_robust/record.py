"""One evaluated network as one line of a JSON lines file."""

from __future__ import annotations

import json
import math
import os
import platform
import sys
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from nni_robust.check import SettingError

FORMAT = 1
PACKAGES = ("nni_robust", "nni", "torch", "pytorch_lightning", "numpy")


def installed_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that a result depends on.

    The version of an imported package is its ``__version__``, which names the build, such as
    ``2.13.0+cu130``. That of any other package is the version in its metadata.
    """
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        if (imported := getattr(sys.modules.get(name), "__version__", None)) is not None:
            versions[name] = str(imported)
            continue
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


@dataclass(frozen=True, kw_only=True)
class Record:
    """One evaluated network and everything that is needed to evaluate it again.

    All values must be JSON values: writing a record with a tensor or an array raises TypeError.
    Infinity and NaN are written as ``null``, and ``null`` in ``metrics`` is read as NaN. A tuple is
    read as a list.

    Parameters
    ----------
    sample
        The architecture as NNI represents it, from label to choice.
    stage
        What the evaluation was: ``screen``, ``candidate``, ``final`` and so on.
    metrics
        Numbers by name: accuracies as fractions, FSP distance, density, parameters.
    seed
        Seed of the run.
    genotype
        The architecture as codes, one string per distinct cell; None if the space has no codes.
    settings
        The settings as used.
    tags
        Free labels from the settings file, such as the table and row that the result belongs to.
    details
        Values that are not single numbers, such as the FSP distance of every cell.
    error
        Why the evaluation failed, or None.
    versions
        Versions of packages; by default those in use.
    time
        When the record was made, ISO 8601 in UTC.
    """

    sample: dict[str, Any]
    stage: str
    metrics: dict[str, float]
    seed: int
    genotype: list[str] | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, Any] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    versions: dict[str, str] = field(default_factory=installed_versions)
    time: str = field(
        default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec="seconds")
    )

    def append(self, path: str | Path) -> None:
        """Append the record to a file as one line. Several processes may do so at once."""
        content = {"format": FORMAT, **_finite(asdict(self))}
        try:
            line = json.dumps(content, allow_nan=False).encode() + b"\n"
        except TypeError as error:
            raise TypeError(f"A record must contain JSON values only: {error}.") from error
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            if os.lseek(descriptor, 0, os.SEEK_END) > 0:
                os.lseek(descriptor, -1, os.SEEK_END)
                if os.read(descriptor, 1) != b"\n":  # another process was killed while writing
                    line = b"\n" + line
            written = os.write(descriptor, line)  # one write, so that lines do not mix
        finally:
            os.close(descriptor)
        if written != len(line):
            raise OSError(f"{str(path)!r} took {written} of {len(line)} bytes. Is the disk full?")


def read_records(path: str | Path) -> list[Record]:
    """Return all records of a file.

    An incomplete last line, which a killed process leaves behind, is skipped with a warning.

    Raises
    ------
    SettingError
        If any other line is damaged or has another format; the message gives its number.
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
                warnings.warn(f"{path}:{number} is incomplete and was skipped.", stacklevel=2)
                continue
            raise _damaged(f"{path}:{number} must be a record in JSON: {error}.") from error
        records.append(_parse(content, f"{path}:{number}"))
    return records


def renamed_metrics(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return metrics under today's names; earlier versions wrote ``params_m`` and ``convs``.

    Examples
    --------
    >>> renamed_metrics({"clean": 0.5, "params_m": 0.25, "convs": 7.0})
    {'clean': 0.5, 'num_parameters': 250000, 'num_convolutions': 7.0}
    """
    renamed = dict(metrics)
    if (millions := renamed.pop("params_m", None)) is not None:
        renamed["num_parameters"] = round(1e6 * millions)
    if (convolutions := renamed.pop("convs", None)) is not None:
        renamed["num_convolutions"] = convolutions
    return renamed


def _parse(content: Any, place: str) -> Record:
    if not isinstance(content, dict) or "format" not in content:
        raise _damaged(f"{place} must be a record, an object with the key 'format'.")
    version = content.pop("format")
    if version != FORMAT:
        raise SettingError(
            f"{place} must have format {FORMAT}, got {version!r}. "
            "Read it with the version of nni_robust that wrote it."
        )
    try:
        if isinstance(content.get("metrics"), dict):
            content["metrics"] = renamed_metrics(content["metrics"])
        record = Record(**content)
        record.metrics.update({k: math.nan for k, v in record.metrics.items() if v is None})
    except (TypeError, AttributeError) as error:
        raise SettingError(
            f"{place} must contain the fields of a record: {error}. If a newer version of "
            "nni_robust wrote it, read it with that version; otherwise delete this line."
        ) from error
    return record


def _damaged(problem: str) -> SettingError:
    return SettingError(f"{problem} Restore the file, or delete this line to go on without it.")


def _finite(value: Any) -> Any:
    """Replace infinity and NaN, which JSON does not have, by None at any depth."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
