"""The arguments of a constructor, as the keys of a settings section."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nni_robust.check import Options


@dataclass(frozen=True)
class Signature:
    """The keys that a section for one class or function may have.

    Attributes
    ----------
    hints
        Annotation of each key.
    defaults
        Default of each key that has one.
    parameters
        All keys, in the order of the constructor.
    groups
        Arguments that are groups of keys, and their classes.
    """

    hints: dict[str, Any]
    defaults: dict[str, Any]
    parameters: tuple[str, ...]
    groups: dict[str, type[Options]]

    @property
    def required(self) -> list[str]:
        """Keys without a default."""
        return [name for name in self.parameters if name not in self.defaults]

    def grouped(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return flat arguments as the constructor takes them, groups built."""
        left = dict(arguments)
        groups = {}
        for name, group in self.groups.items():
            keys = [field.name for field in _init_fields(group) if field.name in left]
            groups[name] = group(**{key: left.pop(key) for key in keys})
        return {**left, **groups}


def signature_of(target: Any) -> Signature:
    """Read the keys from a class, a dataclass, or a function that returns an object."""
    # NNI wraps constructors; the original, with its annotations, is behind the wrapper.
    wrapped = getattr(target, "__wrapped__", target)
    if inspect.isclass(wrapped):
        constructor = getattr(target, "_init_wrapped", None) or wrapped.__init__
        listed = list(inspect.signature(constructor).parameters.values())[1:]  # without self
    else:
        constructor, listed = target, list(inspect.signature(target).parameters.values())
    # A dataclass may inherit fields whose annotations only the module of its base can resolve. A
    # class derived from a dataclass may have a constructor of its own.
    owner = next((c for c in getattr(target, "__mro__", ()) if "__init__" in vars(c)), None)
    generated = owner is not None and "__dataclass_fields__" in vars(owner)
    hints = typing.get_type_hints(target if generated else constructor)
    found = Signature({}, {}, (), {})
    for parameter in listed:
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        hint = hints.get(parameter.name, Any)
        found = _with_parameter(found, parameter.name, hint, parameter.default)
    return found


def _with_parameter(found: Signature, name: str, hint: Any, default: Any) -> Signature:
    if inspect.isclass(hint) and issubclass(hint, Options):
        group = typing.get_type_hints(hint)
        for field in _init_fields(hint):
            assert field.name not in found.hints, f"{hint} and another argument share {field.name}"
            found = _with_parameter(found, field.name, group[field.name], _default_of(field))
        return dataclasses.replace(found, groups={**found.groups, name: hint})
    given = {} if default is inspect.Parameter.empty else {name: default}
    return Signature(
        hints={**found.hints, name: hint},
        defaults={**found.defaults, **given},
        parameters=(*found.parameters, name),
        groups=found.groups,
    )


def _init_fields(cls: Any) -> list[dataclasses.Field[Any]]:
    return [field for field in dataclasses.fields(cls) if field.init]


def _default_of(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default
