"""The sections of a settings file as one process uses them: parameters and scale applied."""

from __future__ import annotations

import copy
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from nni_robust.check import SettingError, check_choice, did_you_mean, one_line

FULL = "full"
"""The scale at which a file is written; every other scale replaces some of its keys."""

OPTIONS = ("directory", "seed", "tags", "scale", "scales")
"""Keys that every settings file may have beside its sections."""

_MOVED = {"table": "tags: {table: ...}", "row": "tags: {row: ...}"}  # keys of before, and now


def read_sections(
    file: Path, *, parameters: Mapping[str, Any] | None = None, scale: str | None = None
) -> dict[str, Any]:
    """Read a settings file as one process uses it.

    Parameters
    ----------
    file
        A mapping in YAML.
    parameters
        What an NNI tuner has chosen for this trial; see :func:`apply_parameters`.
    scale
        One of the file's ``scales``, or None for the key ``scale`` of the file.

    Raises
    ------
    SettingError
        If the file is missing or is not a mapping in YAML, or a parameter or the scale does not
        fit it.
    """
    return resolve(read_yaml(file), parameters=parameters, scale=scale)


def resolve(
    sections: Mapping[str, Any],
    *,
    parameters: Mapping[str, Any] | None = None,
    scale: str | None = None,
) -> dict[str, Any]:
    """Return sections with parameters and scale applied, as :func:`read_sections` does.

    A scale other than ``full`` is kept as the tag ``scale``.
    """
    changed = apply_parameters(sections, parameters or {})
    scales = changed.pop("scales", {})
    if not isinstance(scales, Mapping) or not all(isinstance(v, Mapping) for v in scales.values()):
        raise SettingError(f"must map names to keys and their values, got {scales!r}.", "scales")
    in_file = changed.pop("scale", FULL)
    chosen = in_file if scale is None else scale
    check_choice("scale", chosen, [FULL, *scales])
    for key, value in scales.get(chosen, {}).items():
        if not _replace(changed, str(key), value, changed):
            raise SettingError(
                f"must be a section or name a key of one, such as `data.limit`; sections are "
                f"{list(changed)}.",
                *("scales", chosen, str(key)),
            )
    if chosen != FULL:
        changed["tags"] = {**_tags(changed), "scale": chosen}
    return changed


def apply_parameters(sections: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return sections with the parameters that an NNI tuner has chosen.

    Parameters
    ----------
    sections
        Not changed.
    parameters
        ``strategy.confidence`` replaces the key ``confidence`` of ``strategy``, ``seed`` the seed.
        If a choice holds several parameters (a mapping with ``_name``), each is applied, and the
        names of these choices become the tag ``row``.

    Raises
    ------
    SettingError
        If a parameter names no section.
    """
    changed = copy.deepcopy(dict(sections))
    for key, value in parameters.items():
        if isinstance(value, Mapping) and "_name" in value:
            tags = _tags(changed)
            names = [tags["row"]] if "row" in tags else []
            changed["tags"] = {**tags, "row": ", ".join([*names, str(value["_name"])])}
            inner = {name: item for name, item in value.items() if name != "_name"}
            changed = apply_parameters(changed, inner)
        elif not _replace(changed, str(key), value, OPTIONS):
            raise SettingError(
                "must be `seed` or name a key of a section, such as `strategy.confidence`; "
                f"sections are {[name for name in sections if name not in OPTIONS]}.",
                *("searchSpace", str(key)),
            )
    return changed


def check_sections(
    sections: Mapping[str, Any], expected: Sequence[str], optional: Sequence[str] = ()
) -> None:
    """Raise a SettingError if a section is unknown or missing, or the tags are not a mapping."""
    known = [*expected, *optional, *OPTIONS]
    for key in sections:
        if key in _MOVED:
            raise SettingError(f"is now a tag: write `{_MOVED[key]}`.", key)
        if key not in known:
            hint = did_you_mean(key, known)
            raise SettingError(f"is not a section.{hint} Sections are {known}.", str(key))
    for key in expected:
        if key not in sections:
            raise SettingError(f"is missing: the file needs {', '.join(expected)}.", key)
    _tags(sections)


def read_yaml(file: Path) -> dict[str, Any]:
    """Read a mapping from a YAML file."""
    if not file.is_file():
        raise SettingError(f"must be a settings file, but there is no such file: {str(file)!r}.")
    try:
        content = yaml.safe_load(file.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingError(f"{str(file)!r} must be YAML: {one_line(error)}.") from error
    if not isinstance(content, dict):
        raise SettingError(f"{str(file)!r} must be a mapping of sections, got {content!r}.")
    return content


def _tags(sections: Mapping[str, Any]) -> dict[str, Any]:
    tags = sections.get("tags", {})
    if not isinstance(tags, Mapping):
        raise SettingError(f"must be a mapping, such as {{table: r-tab1}}, got {tags!r}.", "tags")
    return dict(tags)


def _replace(sections: dict[str, Any], key: str, value: Any, whole: Container[str]) -> bool:
    """Replace a key of a section, or one of *whole*; return whether there is such a place."""
    *path, last = key.split(".")
    place: Any = sections
    for name in path:
        place = place.get(name) if isinstance(place, Mapping) else None
    if not isinstance(place, dict) or (not path and last not in whole):
        return False
    place[last] = copy.deepcopy(value)
    return True
