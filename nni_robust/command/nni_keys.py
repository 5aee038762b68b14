"""Checks of the keys of an experiment that are NNI's own."""

from __future__ import annotations

import dataclasses
import importlib
import itertools
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from nni.experiment.config import ExperimentConfig
from nni.experiment.config.utils import unset_base_path

from nni_robust.check import SettingError, below, did_you_mean, one_line

_RANGES = ("uniform", "loguniform", "quniform", "qloguniform", "randint")  # lowest, highest, ...
_TUNER_KEYS = ("name", "className", "codeDirectory", "classArgs")


def check_nni_keys(content: Mapping[str, Any], path: Path) -> None:
    """Raise a SettingError unless NNI accepts an experiment, and this machine can run it.

    Parameters
    ----------
    content
        What the file holds.
    path
        The file.
    """
    names = [_camel(item.name) for item in dataclasses.fields(ExperimentConfig)]
    for key in content:
        if _camel(str(key)) not in names:
            _refuse_key("NNI's experiments", names, str(key))
    tuner = content.get("tuner")
    for key in tuner if isinstance(tuner, Mapping) else ():
        if key not in _TUNER_KEYS:
            _refuse_key("NNI's tuners", _TUNER_KEYS, "tuner", str(key))
    for key in ("maxTrialNumber", "trialConcurrency"):
        _check_number(key, content.get(key))
    if isinstance(tuner, Mapping) and "className" in tuner and "codeDirectory" not in tuner:
        raise SettingError(
            "is missing: NNI requires it with className, even for an installed class. Write "
            "`codeDirectory: .`.",
            *("tuner", "codeDirectory"),
        )
    _check_service(content)
    _check_by_nni(path)


def imported_class(class_name: str, *, like: str) -> Any:
    """Import the class of a tuner.

    Parameters
    ----------
    class_name
        As in ``tuner.className``.
    like
        The name to suggest if it resembles a wrong one.

    Raises
    ------
    SettingError
        If it cannot be imported.
    """
    module, _, attribute = class_name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingError(
            f"must name a class that can be imported, got {class_name!r}: {error}."
            f"{did_you_mean(class_name, [like])}",
            *("tuner", "className"),
        ) from error


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
    for key, domain in space.items():
        with below("searchSpace", key):
            _check_domain(domain)
    return [{}, *({key: value} for key, domain in space.items() for value in _values(domain))]


def _check_domain(domain: Any) -> None:
    """Raise a SettingError unless a domain has a type and values, at any depth."""
    values = domain.get("_value") if isinstance(domain, Mapping) else None
    if not isinstance(values, list) or not values or "_type" not in domain:
        raise SettingError(
            f"must be a mapping such as {{_type: choice, _value: [0.1, 0.2]}}, got {domain!r}."
        )
    for value in values:
        if isinstance(value, Mapping) and "_name" in value:
            for key, inner in value.items():
                if key != "_name":
                    with below(str(key)):
                        _check_domain(inner)


def _refuse_key(what: str, known: Collection[str], *path: str) -> None:
    hint = did_you_mean(path[-1], known, cutoff=0.5)
    raise SettingError(f"is not a key of {what}.{hint}", *path)


def _check_number(key: str, value: Any) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise SettingError(f"must be a whole number, got {value!r}.", key)
    if value is not None and value < 1:
        raise SettingError(f"must be at least 1, got {value!r}.", key)


def _check_service(content: Mapping[str, Any]) -> None:
    """Require a training service, and the GPUs that its trials ask for."""
    service = content.get("trainingService")
    if not isinstance(service, Mapping) or "platform" not in service:
        raise SettingError(
            f"must be a mapping such as {{platform: local}}, got {service!r}.", "trainingService"
        )
    if content.get("trialGpuNumber") and service["platform"] == "local":
        import torch

        if not torch.cuda.is_available():
            raise SettingError(
                "must be 0 on this machine, which has no GPU that PyTorch can use, got "
                f"{content['trialGpuNumber']!r}: NNI's manager would die.",
                "trialGpuNumber",
            )


def _check_by_nni(path: Path) -> None:
    try:
        ExperimentConfig.load(path).validate()
    except Exception as error:  # AssertionError, AttributeError, ...
        reason = one_line(error) or f"{type(error).__name__} in NNI's own check"
        raise SettingError(f"NNI refuses the file: {reason}") from error
    finally:
        unset_base_path()  # a file that NNI refuses leaves it set, and the next load then fails


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _values(domain: Mapping[str, Any]) -> list[Any]:
    """List the values of a domain; a choice of several parameters gives all combinations."""
    kind, values = domain["_type"], domain["_value"]
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
