"""Parameters that NNI's tuners may choose: every end and every choice of a search space."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

_RANGES = ("uniform", "loguniform", "quniform", "qloguniform", "randint")  # lowest, highest, ...


def single_parameters(space: Mapping[str, Any]) -> list[dict[str, Any]]:
    """List no parameter, and then every parameter alone at each of its ends or choices.

    Parameters
    ----------
    space
        NNI's ``searchSpace``.

    Examples
    --------
    >>> single_parameters({"seed": {"_type": "choice", "_value": [0, 1]}})
    [{}, {'seed': 0}, {'seed': 1}]
    """
    return [{}, *({key: value} for key, domain in space.items() for value in _values(domain))]


def _values(domain: Mapping[str, Any]) -> list[Any]:
    """List the values of a domain; a choice of several parameters gives all combinations."""
    kind, values = domain.get("_type"), domain.get("_value", [])
    if kind != "choice":
        return list(values[:2]) if kind in _RANGES else []
    found: list[Any] = []
    for value in values:
        if not (isinstance(value, Mapping) and "_name" in value):
            found.append(value)
            continue
        inner = {name: _values(item) for name, item in value.items() if name != "_name"}
        found += [
            {"_name": value["_name"], **dict(zip(inner, chosen, strict=True))}
            for chosen in itertools.product(*inner.values())
        ]
    return found
