"""Objects as the plain values of settings files, for records."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nni.nas.nn.pytorch import ModelSpace

from nni_robust.attack import ATTACKS, Ascent, Attack
from nni_robust.check import Options
from nni_robust.data import DATASETS, RobustDataModule
from nni_robust.settings.signature import signature_of
from nni_robust.space import SPACES


def describe(value: Any) -> Any:
    """Return an object as the plain values that :func:`~nni_robust.settings.grammar.build` reads.

    Parameters
    ----------
    value
        An attack, a data module, a space, a recipe, or a container of them.
    """
    if isinstance(value, RobustDataModule):
        return {"name": _name_of(type(value), DATASETS), **describe_arguments(value)}
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


def describe_call(value: Any) -> dict[str, Any]:
    """Return the arguments of an object that NNI traces, defaults included.

    Parameters
    ----------
    value
        A space, or an evaluator wrapped in ``nni.trace``.
    """
    described: dict[str, Any] = dict(signature_of(type(value)).defaults)
    for name, argument in value.trace_kwargs.items():
        if isinstance(argument, Options):
            described |= _fields(argument)
        else:
            described[name] = argument
    return {name: describe(argument) for name, argument in described.items()}


def describe_arguments(value: Any) -> dict[str, Any]:
    """Return the arguments of an object that keeps them as attributes of the same names."""
    signature = signature_of(type(value))
    found: dict[str, Any] = {}
    for name in signature.groups:
        found |= _fields(getattr(value, name))
    plain = [name for name in signature.parameters if name not in found]
    return found | {name: describe(getattr(value, name)) for name in plain}


def flatten(settings: Any, path: str = "") -> dict[str, Any]:
    """Return nested settings as one mapping from paths to values.

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


def _fields(value: Any) -> dict[str, Any]:
    fields = [field.name for field in dataclasses.fields(value) if field.init]
    return {name: describe(getattr(value, name)) for name in fields}


def _name_of(cls: type, table: Mapping[str, Any]) -> str:
    names = [name for name, entry in table.items() if entry is cls]
    return names[0] if names else f"{cls.__module__}:{cls.__qualname__}"
