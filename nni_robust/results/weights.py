"""Files of weights: write and read state dicts, and restore networks from them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nni_robust.atomic import replacing
from nni_robust.check import SettingError, one_line

FORMAT = 1
"""Version of the files that this package writes; another version is refused."""

_WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
# What torch and other packages put before every name when a wrapped network is saved.
_PREFIXES = ("module.", "model.", "_model.", "_orig_mod.")
_COUNTER = "num_batches_tracked"  # older files lack it, and evaluation does not read it
_LONGEST_REASON = 200  # characters of torch's own message


def save_weights(path: Path, network: nn.Module) -> None:
    """Write the state dict of a network: the whole file, or none."""
    state = {name: value.detach().cpu() for name, value in network.state_dict().items()}
    with replacing(path) as scratch:
        torch.save({"format": FORMAT, "state_dict": state}, scratch)


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict that :func:`save_weights` or another program wrote.

    Parameters
    ----------
    path
        A state dict, or a mapping that holds one as ``state_dict``, ``model_state_dict``, ``model``
        or ``net``.

    Raises
    ------
    SettingError
        If the file is missing, damaged, of another format version, holds something else, or its
        values are not finite.
    """
    content = read_tensors(path)
    state = content
    if isinstance(content, Mapping):
        version = content.get("format", FORMAT)
        if isinstance(version, int) and version != FORMAT:
            raise SettingError(
                f"must have format {FORMAT}, got {version!r} in {str(path)!r}.", "weights"
            )
        wrapped = (content.get(key) for key in _WRAPPERS)
        state = next((value for value in wrapped if isinstance(value, Mapping)), content)
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        keys = f" with the keys {[*state][:5]}" if isinstance(state, Mapping) else ""
        raise SettingError(
            f"must be a state dict, from names to tensors, alone or under one of "
            f"{[*_WRAPPERS]}, got a {type(state).__name__}{keys} in {str(path)!r}.",
            "weights",
        )
    broken = [name for name, value in state.items() if not value.isfinite().all()]
    if broken:
        raise SettingError(
            f"must be finite, but {broken[0]} and {len(broken) - 1} more in {str(path)!r} are not: "
            "the training has diverged.",
            "weights",
        )
    return dict(state)


def restore(network: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load a state dict into a network, without a prefix such as ``module.`` before every name.

    Parameters
    ----------
    network
        Changed in place.
    state
        From names to tensors.
    source
        Where the state comes from, for the message.

    Raises
    ------
    SettingError
        If tensors are missing, unknown, or of another shape.
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
        raise SettingError(
            f"must fit the network: it has {len(wanted)} tensors and {source!r} has {len(state)}, "
            f"with {', '.join(complaints)}.",
            "weights",
        )
    network.load_state_dict(state, strict=False)  # only counters may be missing


def describe_weights(path: Path, state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return what a record says about a file of weights: place, SHA-256 and types of numbers."""
    dtypes = sorted({str(value.dtype) for value in state.values() if value.is_floating_point()})
    return {
        "weights": str(path.absolute()),
        "weights_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "weights_dtypes": dtypes,
    }


def read_tensors(path: Path) -> Any:
    """Read a file of tensors and plain values, without running code from it.

    Raises
    ------
    SettingError
        If the file is missing, damaged, or holds other objects.
    """
    if not path.is_file():
        raise SettingError(f"must be a file, but there is none at {str(path)!r}.", "weights")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each layer of torch has its own exceptions
        reason = one_line(error).partition(". ")[0][:_LONGEST_REASON]
        raise SettingError(
            f"{str(path)!r} must hold tensors and plain values, but it is damaged or holds other "
            f"objects: {reason}. If a search or training of this package wrote it, delete it and "
            "run that again."
        ) from error
