"""Settings as plain values, and the objects they stand for: the grammar of a search file."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import inspect
import re
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from nni.nas.nn.pytorch import ModelSpace
from pydantic import TypeAdapter, ValidationError

from nni_robust.attack import ATTACKS, Ascent, Attack, ThreatModel
from nni_robust.data import DATASETS, RobustDataModule
from nni_robust.space import SPACES
from nni_robust.training import OBJECTIVES, RECIPES, Objective, Recipe

_FRACTION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*/\s*(0*[1-9]\d*(?:\.\d+)?)\s*")


def build(section: Any, table: Mapping[str, Any], path: str, **given: Any) -> Any:
    """Build the object that a section describes.

    Parameters
    ----------
    section
        ``{name: ..., argument: value, ...}``; the name is one of the table, or
        ``package.module:Class``.
    table
        From a name to a class.
    path
        Where the section stands, for messages: ``evaluator.test_attacks[1]``.
    **given
        Arguments that the section does not hold: objects built before. Those that the
        constructor does not know are left out. ``threat_model`` goes to every attack below
        that has none of its own, and to those that the constructor takes by default.

    Raises
    ------
    ValueError
        In one line: the path, what was expected and what came.
    """
    if not isinstance(section, Mapping) or "name" not in section:
        raise ValueError(
            f"{path} must be a mapping with a name, one of {sorted(table)}, got {section!r}."
        )
    target = _find(section["name"], table, f"{path}.name")
    hints, parameters = _arguments(target)
    arguments = {k: v for k, v in given.items() if k in parameters}
    for key, value in section.items():
        if key == "name":
            continue
        if key not in parameters or (key in given and not _is_plain(given[key])):
            raise ValueError(_unknown_key(path, key, parameters))
        hint = hints.get(key, Any)
        arguments[key] = _convert(value, hint, f"{path}.{key}", given.get("threat_model"))
    left = {name: p.default for name, p in parameters.items() if name not in arguments}
    missing = [name for name, default in left.items() if default is inspect.Parameter.empty]
    if missing:
        raise ValueError(f"{path}.{missing[0]} is missing: {section['name']} needs it.")
    if "threat_model" in given:
        moved = {name: _moved(default, given["threat_model"]) for name, default in left.items()}
        arguments |= {name: value for name, value in moved.items() if value is not left[name]}
    return call(target, arguments, path)


def call(target: Callable[..., Any], arguments: Mapping[str, Any], path: str) -> Any:
    """Call a constructor; what it refuses is reported with the path."""
    try:
        return target(**arguments)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}.{' '.join(str(error).split())}") from error
    except Exception as error:  # a user's class raises whatever it likes
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} cannot be built: {type(error).__name__}: {reason}") from error


def describe(value: Any) -> Any:
    """Write an object as the plain values that :func:`build` reads.

    Parameters
    ----------
    value
        An attack, a data module, a space, a recipe, or a container of such.
    """
    if isinstance(value, RobustDataModule):
        arguments = {key: getattr(value, key) for key in _arguments(type(value))[1]}
        return {"name": _name_of(type(value), DATASETS), **describe(arguments)}
    if isinstance(value, ModelSpace):
        return {"name": _name_of(type(value), SPACES), **describe_call(value)}
    if isinstance(value, Attack):
        step = {"step_size": value.step} if isinstance(value, Ascent) else {}
        return {"name": _name_of(type(value), ATTACKS), **_fields(value), **step}
    if dataclasses.is_dataclass(value):
        return _fields(value)
    if isinstance(value, Mapping):
        return {str(key): describe(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [describe(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return value


def flatten(settings: Any, path: str = "") -> dict[str, Any]:
    """Write nested settings flat, by their paths.

    Examples
    --------
    >>> flatten({"data": {"seed": 0}, "attacks": [{"steps": 7}]})
    {'data.seed': 0, 'attacks[0].steps': 7}
    """
    if isinstance(settings, Mapping):
        items = [(f"{path}.{key}" if path else str(key), item) for key, item in settings.items()]
    elif isinstance(settings, list) and settings:
        items = [(f"{path}[{index}]", item) for index, item in enumerate(settings)]
    else:
        return {path: settings}
    flat: dict[str, Any] = {}
    for key, item in items:
        flat.update(flatten(item, key))
    return flat


def describe_call(value: Any) -> dict[str, Any]:
    """Write the arguments of an object that NNI traces, defaults included.

    Parameters
    ----------
    value
        A space, or an evaluator wrapped in ``nni.trace``.
    """
    defaults = {
        name: parameter.default
        for name, parameter in _arguments(type(value))[1].items()
        if parameter.default is not parameter.empty
    }
    described: dict[str, Any] = describe({**defaults, **value.trace_kwargs})
    return described


def _fields(value: Any) -> dict[str, Any]:
    fields = [field.name for field in dataclasses.fields(value) if field.init]
    return {name: describe(getattr(value, name)) for name in fields}


def _name_of(cls: type, table: Mapping[str, Any]) -> str:
    names = [name for name, entry in table.items() if entry is cls]
    return names[0] if names else f"{cls.__module__}:{cls.__qualname__}"


def _find(name: Any, table: Mapping[str, Any], path: str) -> Any:
    if name in table:
        return table[name]
    module, colon, attribute = str(name).partition(":")
    if not colon:
        raise ValueError(
            f"{path} must be one of {sorted(table)} or package.module:Class, got {name!r}."
        )
    try:
        return getattr(importlib.import_module(module), attribute)
    except Exception as error:  # the module runs when it is imported
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ValueError(f"{path} must name a class that can be imported: {reason}.") from error


def _arguments(target: Any) -> tuple[dict[str, Any], dict[str, inspect.Parameter]]:
    # NNI wraps constructors; the original, with its annotations, lies behind the wrapper.
    wrapped = getattr(target, "__wrapped__", target)
    if inspect.isclass(wrapped):
        constructor = getattr(target, "_init_wrapped", None) or wrapped.__init__
        bound = list(inspect.signature(constructor).parameters.items())[1:]  # without self
    else:  # a function that makes what is asked for
        constructor, bound = target, list(inspect.signature(target).parameters.items())
    parameters = {
        name: parameter
        for name, parameter in bound
        if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    }
    # A dataclass may inherit fields whose annotations only its base's module can read. A class
    # derived from a dataclass may have a constructor of its own.
    owner = next((c for c in getattr(target, "__mro__", ()) if "__init__" in vars(c)), None)
    hinted = target if owner and "__dataclass_fields__" in vars(owner) else constructor
    return typing.get_type_hints(hinted), parameters


def _unknown_key(path: str, key: Any, parameters: Mapping[str, Any]) -> str:
    hint = did_you_mean(key, parameters)
    return f"{path}.{key} is not known; known are {sorted(parameters)}.{hint}"


def did_you_mean(name: Any, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """Ask, at the end of a message, for the known name that an unknown one is most like.

    Examples
    --------
    >>> did_you_mean("epoch", ["epochs", "seed"]), did_you_mean("x", ["epochs", "seed"])
    (" Did you mean 'epochs'?", '')
    """
    close = difflib.get_close_matches(str(name), known, n=1, cutoff=cutoff)
    return f" Did you mean {close[0]!r}?" if close else ""


def _moved(default: Any, threat_model: ThreatModel) -> Any:
    """Give a default its attacks within a threat model; what holds none comes back itself."""
    if isinstance(default, Attack):
        return dataclasses.replace(default, threat_model=threat_model)
    if isinstance(default, tuple) and any(isinstance(item, Attack) for item in default):
        return [_moved(item, threat_model) for item in default]
    return default


def _is_plain(value: Any) -> bool:
    return isinstance(value, (str, int, float, ThreatModel))


def _convert(value: Any, hint: Any, path: str, threat_model: ThreatModel | None) -> Any:
    """Turn a plain value into what the annotation asks for."""
    options = [a for a in typing.get_args(hint) if a is not type(None)]
    if value is None and type(None) in typing.get_args(hint):
        return None
    if _is_union(hint) and len(options) == 1:
        hint = options[0]
    if hint is Attack:
        given = {} if threat_model is None else {"threat_model": threat_model}
        return build(value, ATTACKS, path, **given)
    if typing.get_origin(hint) is Sequence and typing.get_args(hint) == (Attack,):
        if not isinstance(value, list) or not value:
            raise ValueError(f"{path} must be a list of attacks, got {value!r}.")
        return [_convert(v, Attack, f"{path}[{i}]", threat_model) for i, v in enumerate(value)]
    if hint is ThreatModel:
        return build_threat_model(value, path)
    if hint == Objective:
        return build(value, OBJECTIVES, path)
    if hint is Recipe:
        return _recipe(value, path)
    return _plain(value, hint, path)


def build_threat_model(value: Any, path: str) -> ThreatModel:
    """Build a threat model from ``{norm: linf, epsilon: 8/255}``."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{path} must be a mapping such as {{epsilon: 8/255}}, got {value!r}.")
    model: ThreatModel = build(
        {"name": "threat_model", **value}, {"threat_model": ThreatModel}, path
    )
    return model


def _recipe(value: Any, path: str) -> Recipe:
    section = {"name": value} if isinstance(value, str) else value
    if not isinstance(section, Mapping):
        raise ValueError(f"{path} must be one of {sorted(RECIPES)} or a mapping, got {value!r}.")
    name = section.get("name", "paper")
    if name not in RECIPES:
        raise ValueError(f"{path}.name must be one of {sorted(RECIPES)}, got {name!r}.")
    base = _fields(RECIPES[name])
    merged = {**base, **{key: item for key, item in section.items() if key != "name"}}
    recipe: Recipe = build({"name": "recipe", **merged}, {"recipe": Recipe}, path)
    return recipe


def _plain(value: Any, hint: Any, path: str) -> Any:
    # A constructor of this package is meant by the name alone; a number may be a fraction.
    numbers = {int, float} & {hint, *typing.get_args(hint)}
    if isinstance(value, bool) and numbers and bool not in typing.get_args(hint):
        raise ValueError(f"{path} must be a number, got {value!r}.")
    try:
        return TypeAdapter(hint).validate_python(_read_fractions(value))
    except ValidationError as error:
        first = error.errors()[0]
        place = "".join(f"[{item}]" for item in first["loc"] if isinstance(item, int))
        wanted = getattr(hint, "__name__", None) or str(hint).replace("typing.", "")
        if typing.get_origin(hint) is Literal:
            raise ValueError(
                f"{path}{place} must be one of {list(typing.get_args(hint))}, got {value!r}."
            ) from error
        raise ValueError(f"{path}{place} must be of type {wanted}, got {value!r}.") from error


def _read_fractions(value: Any) -> Any:
    if isinstance(value, str) and (match := _FRACTION.fullmatch(value)):
        return float(match[1]) / float(match[2])
    if isinstance(value, list):
        return [_read_fractions(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _read_fractions(item) for key, item in value.items()}
    return value


def _is_union(hint: Any) -> bool:
    return type(None) in typing.get_args(hint)
