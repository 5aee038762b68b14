"""The keys of a settings section as JSON Schema, read from signatures and docstrings."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter
from pydantic.errors import PydanticSchemaGenerationError

from nni_robust.attack import Attack, ThreatModel
from nni_robust.settings.description import describe
from nni_robust.settings.signature import Signature, signature_of
from nni_robust.training import Objective, Recipe

NUMBER: dict[str, Any] = {
    "anyOf": [{"type": "number"}, {"type": "string", "pattern": r"^[\d\s.eE+/-]+$"}]
}
"""A number, or text that is one: a fraction such as 8/255, or 3e-4, which YAML reads as text."""

_REFERENCES = {
    Attack: "attack",
    ThreatModel: "threat_model",
    Objective: "objective",
    Recipe: "recipe",
}
_HEADINGS = ("Parameters", "Attributes")


def section_schema(
    name: str, target: Any, *, given: Sequence[str] = (), title: str | None = None
) -> dict[str, Any]:
    """Return the JSON Schema of a section.

    Parameters
    ----------
    name
        Name of the section's object, the only value of the key ``name``.
    target
        The class or function that the name stands for.
    given
        Arguments that the section does not hold, since they come from elsewhere.
    title
        What the object is; by default the first line of its docstring.

    Returns
    -------
    dict
        Every key with its type, default and description. References to attacks, recipes and so on
        point to ``#/$defs``.
    """
    signature = signature_of(target)
    texts = parameter_texts(target, signature)
    keys = [key for key in signature.parameters if key not in given]
    properties: dict[str, Any] = {"name": {"const": name}}
    for key in keys:
        entry = type_schema(signature.hints.get(key, Any))
        if key in signature.defaults:
            entry = {**entry, "default": _plain(signature.defaults[key])}
        properties[key] = {**entry, "description": texts.get(key, "")}
    first = (inspect.getdoc(target) or "").split("\n\n")[0]
    return {
        "type": "object",
        "description": title or " ".join(first.split()),
        "properties": properties,
        "required": ["name", *(key for key in signature.required if key in keys)],
        "additionalProperties": False,
    }


def type_schema(hint: Any) -> dict[str, Any]:
    """Return the JSON Schema of an annotation.

    Examples
    --------
    >>> type_schema(int | None)
    {'anyOf': [{'type': 'integer'}, {'type': 'null'}]}
    """
    for cls, name in _REFERENCES.items():
        if hint == cls:
            return {"$ref": f"#/$defs/{name}"}
    if hint is float:
        return dict(NUMBER)
    arguments = typing.get_args(hint)
    if set(arguments) == {Any, type(None)}:  # Python 3.10 reads `x: Any = None` so
        return {}
    if type(None) in arguments:
        inner = [type_schema(argument) for argument in arguments if argument is not type(None)]
        return {"anyOf": [*inner, {"type": "null"}]}
    if typing.get_origin(hint) is Sequence:
        return {"type": "array", "items": type_schema(arguments[0])}
    try:
        return TypeAdapter(hint).json_schema()
    except PydanticSchemaGenerationError:  # an object of a class of the user's
        return {}


def parameter_texts(target: Any, signature: Signature) -> dict[str, str]:
    """Return the description of each argument from the docstrings of a class and its bases.

    Descriptions of arguments in groups come from the docstring of the group.
    """
    places = [target, *signature.groups.values()]
    if inspect.isclass(target):
        places = [*inspect.getmro(target), *signature.groups.values()]
    texts: dict[str, str] = {}
    for place in places:
        for key, text in _listed(inspect.cleandoc(place.__doc__ or "")).items():
            if not text.startswith("As "):  # a reference to a base, which says it itself
                texts.setdefault(key, text)
    return texts


def _listed(docstring: str) -> dict[str, str]:
    """Read the parameters that a NumPy docstring lists."""
    texts: dict[str, str] = {}
    for heading in _HEADINGS:
        match = re.search(rf"^{heading}\n-+\n(.*?)(?=\n\n?\S+\n---|\Z)", docstring, re.S | re.M)
        names: list[str] = []
        for line in match[1].splitlines() if match else []:
            if line and not line.startswith(" "):
                names = [name.strip(" *") for name in line.split(":")[0].split(",")]
            else:
                for name in names:
                    texts[name] = f"{texts.get(name, '')} {line.strip()}".strip()
    return {name: _unmarked(text) for name, text in texts.items()}


def _unmarked(text: str) -> str:
    """Return a text without the roles of reStructuredText.

    Examples
    --------
    >>> _unmarked("see :class:`~nni_robust.space.RobNetSpace` and ``8/255``")
    'see RobNetSpace and 8/255'
    """
    text = re.sub(r":\w+:`~?(?:[\w.]+\.)?(\w+)`", r"\1", text)
    return text.replace("``", "")


def _plain(value: Any) -> Any:
    plain = describe(value)
    return plain if isinstance(plain, (Mapping, list, str, int, float, type(None))) else str(plain)
