"""The grammar of settings files: sections of plain values, and the objects that they describe.

A section is a mapping with a ``name``. The name selects a class from a table, the other keys are
the arguments of its constructor. :func:`build` turns a section into an object and
:mod:`nni_robust.settings.description` turns an object into a section.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from nni_robust.attack import ATTACKS, Attack, ThreatModel
from nni_robust.check import SettingError, below, check_choice, did_you_mean, one_line
from nni_robust.settings.signature import Signature, signature_of
from nni_robust.training import OBJECTIVES, RECIPES, Objective, Recipe

_FRACTION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*/\s*(0*[1-9]\d*(?:\.\d+)?)\s*")


def build(section: Any, table: Mapping[str, Any], *path: str | int, **given: Any) -> Any:
    """Build the object that a section describes.

    Parameters
    ----------
    section
        ``{name: ..., argument: value, ...}``. The name is one of the table, or
        ``package.module:Class``. Arguments that the class takes in groups, values derived from
        :class:`~nni_robust.check.Options`, are keys of the section itself.
    table
        Maps names to classes.
    *path
        Keys that lead to the section, for messages.
    **given
        Arguments that the section does not hold, such as objects built before. Those that the
        constructor does not know are left out. ``threat_model`` reaches every attack of the
        section that has none of its own, and the attacks that the constructor has as defaults.

    Raises
    ------
    SettingError
        With the path of the key, what was expected and what came.
    """
    with below(*path):
        if not isinstance(section, Mapping) or "name" not in section:
            raise SettingError(
                f"must be a mapping with a name, one of {sorted(table)}, got {section!r}."
            )
        target = _find(section["name"], table)
        signature = signature_of(target)
        arguments = {k: v for k, v in given.items() if k in signature.parameters}
        threat_model = given.get("threat_model")
        for name, value in section.items():
            if name == "name":
                continue
            if name not in signature.parameters or not _may_replace(given, name):
                raise SettingError(f"is not known.{_known(name, signature, given)}", str(name))
            with below(str(name)):
                arguments[name] = _convert(value, signature.hints.get(name, Any), threat_model)
        missing = [name for name in signature.required if name not in arguments]
        if missing:
            raise SettingError(f"is missing: {section['name']} needs it.", missing[0])
        if threat_model is not None:
            arguments |= _moved_defaults(signature, arguments, threat_model)
    try:
        return call(target, arguments, signature)
    except SettingError as error:
        # An argument that was built before has a path of its own, outside this section.
        outside = error.path and not _may_replace(given, str(error.path[0]))
        raise (error if outside else error.under(*path)) from error.__cause__


def call(
    target: Callable[..., Any], arguments: Mapping[str, Any], signature: Signature | None = None
) -> Any:
    """Call a constructor; every error becomes a :class:`SettingError`.

    Parameters
    ----------
    target
        A class, or a function that returns what is asked for.
    arguments
        By name.
    signature
        Puts flat arguments into groups; None if the target has no groups.
    """
    try:
        return target(**(arguments if signature is None else signature.grouped(arguments)))
    except SettingError:
        raise
    except (ValueError, TypeError) as error:
        # By custom, a message begins with the name of the argument: that is its path.
        name, _, problem = one_line(error).partition(" ")
        known = inspect.signature(target).parameters if signature is None else signature.parameters
        if re.split(r"[.\[]", name)[0] in {"name", *known}:
            raise SettingError(problem, name) from error
        raise SettingError(f"is not valid: {one_line(error)}") from error
    except Exception as error:  # a user's class raises whatever it likes
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise SettingError(f"cannot be built: {reason}") from error


def build_threat_model(value: Any, *path: str) -> ThreatModel:
    """Build a threat model from ``{norm: linf, epsilon: 8/255}``."""
    with below(*path):
        if not isinstance(value, Mapping):
            raise SettingError(f"must be a mapping such as {{epsilon: 8/255}}, got {value!r}.")
        section = {"name": "threat_model", **value}
        model: ThreatModel = build(section, {"threat_model": ThreatModel})
    return model


def _may_replace(given: Mapping[str, Any], name: str) -> bool:
    """Whether a section may give this argument: only numbers and threat models are replaced."""
    return isinstance(given.get(name, 0), (int, float, ThreatModel))


def _known(name: Any, signature: Signature, given: Mapping[str, Any]) -> str:
    known = sorted(key for key in signature.parameters if _may_replace(given, key))
    return f"{did_you_mean(name, known)} Known are {known}."


def _find(name: Any, table: Mapping[str, Any]) -> Any:
    if name in table:
        return table[name]
    module, colon, attribute = str(name).partition(":")
    if not colon:
        raise SettingError(
            f"must be one of {sorted(table)} or package.module:Class, got {name!r}."
            f"{did_you_mean(name, table)}",
            "name",
        )
    try:
        return getattr(importlib.import_module(module), attribute)
    except Exception as error:  # the module runs when it is imported
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise SettingError(
            f"must name a class that can be imported, got {name!r}: {reason}.", "name"
        ) from error


def _moved_defaults(
    signature: Signature, arguments: Mapping[str, Any], threat_model: ThreatModel
) -> dict[str, Any]:
    """Return the defaults that hold attacks, with the attacks in the threat model."""
    moved: dict[str, Any] = {}
    for name, default in signature.defaults.items():
        if name in arguments:
            continue
        if isinstance(default, Attack):
            moved[name] = dataclasses.replace(default, threat_model=threat_model)
        elif isinstance(default, tuple) and any(isinstance(item, Attack) for item in default):
            moved[name] = [dataclasses.replace(a, threat_model=threat_model) for a in default]
    return moved


def _convert(value: Any, hint: Any, threat_model: ThreatModel | None) -> Any:
    """Turn a plain value into what the annotation asks for."""
    options = [a for a in typing.get_args(hint) if a is not type(None)]
    optional = type(None) in typing.get_args(hint)
    if value is None and optional:
        return None
    if optional and len(options) == 1:
        hint = options[0]
    if hint is Attack:
        return _attack(value, threat_model)
    if typing.get_origin(hint) is Sequence and typing.get_args(hint) == (Attack,):
        if not isinstance(value, list) or not value:
            raise SettingError(f"must be a list of attacks, got {value!r}.")
        return [_attack(item, threat_model, index) for index, item in enumerate(value)]
    if hint is ThreatModel:
        return build_threat_model(value)
    if hint == Objective:
        return build(value, OBJECTIVES)
    if hint is Recipe:
        return _recipe(value)
    return _plain(value, hint)


def _attack(value: Any, threat_model: ThreatModel | None, *path: int) -> Attack:
    given = {} if threat_model is None else {"threat_model": threat_model}
    attack: Attack = build(value, ATTACKS, *path, **given)
    return attack


def _recipe(value: Any) -> Recipe:
    """Build a recipe from its name, or from a mapping whose name gives what it leaves out."""
    section = {"name": value} if isinstance(value, str) else value
    if not isinstance(section, Mapping):
        raise SettingError(f"must be one of {sorted(RECIPES)} or a mapping, got {value!r}.")
    name = section.get("name", "paper")
    check_choice("name", name, sorted(RECIPES))
    base = {f.name: getattr(RECIPES[name], f.name) for f in dataclasses.fields(Recipe) if f.init}
    plain = {key: item for key, item in section.items() if key != "name"}
    left = {key: item for key, item in base.items() if key not in plain}
    recipe: Recipe = build({"name": "recipe", **plain}, {"recipe": Recipe}, **left)
    return recipe


def _plain(value: Any, hint: Any) -> Any:
    """Check a plain value against an annotation; a number may be a fraction such as 8/255."""
    numbers = {int, float} & {hint, *typing.get_args(hint)}
    if isinstance(value, bool) and numbers and bool not in typing.get_args(hint):
        raise SettingError(f"must be a number, got {value!r}.")
    try:
        return TypeAdapter(hint).validate_python(_read_fractions(value))
    except ValidationError as error:
        place = [item for item in error.errors()[0]["loc"] if isinstance(item, int)]
        if typing.get_origin(hint) is Literal:
            known = list(typing.get_args(hint))
            raise SettingError(
                f"must be one of {known}, got {value!r}.{did_you_mean(value, map(str, known))}"
            ) from error
        raise SettingError(f"must be of type {_type_name(hint)}, got {value!r}.", *place) from error


def _type_name(hint: Any) -> str:
    """Return an annotation in the words of its source.

    Examples
    --------
    >>> _type_name(int), _type_name(tuple[float, float] | None)
    ('int', 'tuple[float, float] | None')
    """
    name = str(hint) if typing.get_args(hint) else getattr(hint, "__name__", str(hint))
    return re.sub(r"\b(?:typing|collections\.abc)\.", "", name)


def _read_fractions(value: Any) -> Any:
    if isinstance(value, str) and (match := _FRACTION.fullmatch(value)):
        return float(match[1]) / float(match[2])
    if isinstance(value, list):
        return [_read_fractions(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _read_fractions(item) for key, item in value.items()}
    return value
