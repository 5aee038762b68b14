"""Networks to evaluate: a chosen one, a published one, a reference, or a class of the user's."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from nni_robust.check import did_you_mean
from nni_robust.data import RobustDataModule
from nni_robust.results.chosen import load_chosen, read_chosen
from nni_robust.settings.networks import NETWORKS, build_network, section_label
from nni_robust.space import PUBLISHED

_WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
# Of what wrapped a network when it was saved.
_PREFIXES = ("module.", "model.", "_model.", "_orig_mod.")
_COUNTER = "num_batches_tracked"  # older files lack it, and evaluation does not read it


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A network to evaluate, and where it comes from.

    Attributes
    ----------
    label
        Names its files.
    network
        With its weights, in evaluation mode.
    origin
        How to build it again, for the record.
    sample, genotype
        Its architecture, where it was searched.
    """

    label: str
    network: nn.Module
    origin: dict[str, Any]
    sample: dict[str, Any] = field(default_factory=dict)
    genotype: list[str] | None = None


def chosen_subject(folder: Path, label: str) -> Subject:
    """Load the chosen network of a search, or that of a training.

    Parameters
    ----------
    folder
        ``final/KEY`` in the results.
    label
        Names its files.
    """
    chosen = read_chosen(folder)
    return Subject(
        label=label,
        network=load_chosen(folder),
        origin={"folder": str(folder.absolute())},
        sample=chosen["sample"],
        genotype=chosen["genotype"],
    )


def named_subject(what: str, weights: Path | None, data: RobustDataModule) -> Subject:
    """Build a network from its name or class, and load its weights.

    Parameters
    ----------
    what
        A key of :data:`nni_robust.settings.networks.NETWORKS`, ``package.module:Class``, or with
        arguments a mapping in YAML, ``{name: resnet18, width: 0.5}``.
    weights
        A state dict. A class may do without.
    data
        Gives ``num_classes`` and ``in_channels`` where they are not among the arguments.

    Raises
    ------
    ValueError
        If there is no such network, or the weights do not fit.
    """
    section = check_named(what, weights)
    name = str(section.get("name"))
    with torch.random.fork_rng():
        torch.manual_seed(0)  # a class that draws its weights draws the same ones every time
        network = build_network(section, data)
    origin: dict[str, Any] = {"network": section}
    if weights is not None:
        state = read_state(weights)
        dtypes = sorted({str(v.dtype) for v in state.values() if v.is_floating_point()})
        origin |= {
            "weights": str(weights.absolute()),
            "weights_sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
            "weights_dtypes": dtypes,
        }
        restore(network, state, str(weights))
    genotype = list(PUBLISHED[name].genotypes) if name in PUBLISHED else None
    return Subject(
        label=section_label(section), network=network.eval(), origin=origin, genotype=genotype
    )


def check_named(what: str, weights: Path | None) -> dict[str, Any]:
    """Refuse a network that there is not, or that lacks its weights; give its section."""
    section = _read_section(what)
    name = str(section.get("name"))
    if name not in NETWORKS and ":" not in name:
        raise ValueError(
            f"network must be a folder of results, package.module:Class or one of "
            f"{sorted(NETWORKS)}, got {what!r}.{did_you_mean(name, NETWORKS)}"
        )
    if weights is None and name in NETWORKS:
        raise ValueError(f"weights must be given: {name} comes without any. Add --weights FILE.")
    return section


def read_state(path: Path) -> dict[str, Tensor]:
    """Read a state dict, alone or in a mapping, under one of the names that are in use.

    Raises
    ------
    ValueError
        If there is no file, it is damaged, or holds something else.
    """
    if not path.is_file():
        raise ValueError(f"weights must be a file, but there is none at {str(path)!r}.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise ValueError(
            f"weights must be a state dict of tensors and plain values, but {str(path)!r} is "
            f"damaged or holds other objects: {' '.join(str(error).split())[:200]}"
        ) from error
    state = content
    for key in _WRAPPERS if isinstance(content, Mapping) else ():
        if isinstance(content.get(key), Mapping):
            state = content[key]
            break
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        keys = f" with the keys {[*state][:5]}" if isinstance(state, Mapping) else ""
        raise ValueError(
            f"weights must be a state dict, from names to tensors, alone or under one of "
            f"{[*_WRAPPERS]}, got a {type(state).__name__}{keys} in {str(path)!r}."
        )
    broken = [name for name, value in state.items() if not value.isfinite().all()]
    if broken:
        raise ValueError(
            f"weights must be finite, but {broken[0]} and {len(broken) - 1} more in {str(path)!r} "
            "are not: the training has diverged."
        )
    return dict(state)


def restore(network: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load a state dict; ``module.`` and the like before every name are taken off.

    Parameters
    ----------
    network
        Changed in place.
    state
        From names to tensors.
    source
        Where the state is from, for the message.

    Raises
    ------
    ValueError
        In one line, if tensors are missing, unknown, or of another shape.
    """
    wanted = network.state_dict()
    while state and not {*state} <= {*wanted}:
        prefix = next((p for p in _PREFIXES if all(key.startswith(p) for key in state)), None)
        if prefix is None:
            break
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    missing = [key for key in wanted if key not in state and not key.endswith(_COUNTER)]
    unknown = [key for key in state if key not in wanted]
    reshaped = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(value.shape)}"
        for key, value in wanted.items()
        if isinstance(value, Tensor) and key in state and state[key].shape != value.shape
    ]
    faults = {"missing": missing, "unknown": unknown, "of another shape": reshaped}
    complaints = [
        f"{len(keys)} {fault} ({keys[0]}{', ...' if len(keys) > 1 else ''})"
        for fault, keys in faults.items()
        if keys
    ]
    if complaints:
        raise ValueError(
            f"weights must fit the network, but of the {len(state)} tensors in {source!r} and the "
            f"{len(wanted)} of the network there are {', '.join(complaints)}."
        )
    network.load_state_dict(state, strict=False)  # only counters may lack


def _read_section(what: str) -> dict[str, Any]:
    try:
        content = yaml.safe_load(what) if what.lstrip().startswith("{") else {"name": what}
    except yaml.YAMLError as error:
        raise ValueError(
            f"network must be a name or a mapping in YAML, got {what!r}: "
            f"{' '.join(str(error).split())}."
        ) from error
    if not isinstance(content, dict) or "name" not in content:
        raise ValueError(f"network must be a mapping with a name, got {what!r}.")
    return content
