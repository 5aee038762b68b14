"""The file of an evaluation that was stopped and can be continued."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nni_robust.atomic import replacing
from nni_robust.attack import Attack
from nni_robust.check import SettingError, one_line
from nni_robust.evaluator.outcome import OUTCOMES, ImageSequence

FORMAT = 2
"""Version of the file. It is part of the file's name, so files of other versions are ignored."""

_IMAGES_AT_ONCE = 256
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")  # differs from run to run


class ProgressFile:
    """The outcomes of one evaluation, in a file named by a digest of all its inputs.

    Parameters
    ----------
    folder
        Folder of the file; files of other evaluations may be there too.
    network
        Enters the digest with its modules and its weights.
    x, y
        Images and labels.
    attacks
        The suite, in its order.
    **conditions
        Everything else that the result depends on, as JSON values.
    """

    def __init__(
        self,
        folder: str | Path,
        network: nn.Module,
        x: ImageSequence,
        y: Tensor,
        attacks: Sequence[Attack],
        **conditions: Any,
    ) -> None:
        evaluation = {
            "network": _network_digest(network),
            "images": _image_digest(x, y),
            "attacks": [_as_json(attack) for attack in attacks],
            **conditions,
        }
        # In the form that is read back: a tuple becomes a list.
        self.evaluation: dict[str, Any] = json.loads(json.dumps(evaluation, default=repr))
        identity = json.dumps([FORMAT, self.evaluation], sort_keys=True)
        self.path = Path(folder) / f"{hashlib.sha256(identity.encode()).hexdigest()[:16]}.json"
        self._names = ["clean", *(attack.name for attack in attacks)]
        self._num_images = len(x)

    def read(self) -> dict[str, str] | None:
        """Return the outcomes so far; see :class:`nni_robust.evaluator.outcome.Robustness`.

        Returns
        -------
        dict or None
            None if there is no file.

        Raises
        ------
        SettingError
            If the file is damaged.
        """
        if not self.path.is_file():
            return None
        try:
            content = json.loads(self.path.read_text())
            outcomes: dict[str, str] = content["outcomes"]
            sound = all(
                {*value} <= {*OUTCOMES} and len(value) == self._num_images
                for value in outcomes.values()
            )
            if [*outcomes] != self._names or not sound:
                raise ValueError(
                    f"it must hold an outcome for each of {self._num_images} images and each of "
                    f"{self._names}."
                )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise SettingError(
                f"must be the file of an evaluation, but {str(self.path)!r} is damaged: "
                f"{one_line(error)} Delete it to start again.",
                "state",
            ) from error
        return outcomes

    def write(self, outcomes: Mapping[str, str]) -> None:
        """Write the outcomes so far, the whole file or nothing."""
        content = {"format": FORMAT, "evaluation": self.evaluation, "outcomes": outcomes}
        with replacing(self.path) as scratch:
            scratch.write_text(json.dumps(content, indent=1) + "\n")


def _as_json(value: Any) -> Any:
    """Return an attack as JSON values, with a digest for a network inside it."""
    if isinstance(value, nn.Module):
        return _network_digest(value)
    if dataclasses.is_dataclass(value):
        fields = {f.name: _as_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"class": type(value).__qualname__, **fields}
    return value


def _network_digest(network: nn.Module) -> str:
    modules = _ADDRESS.sub("", repr(network))  # modules without weights appear only here
    return _digest(network.state_dict(), modules)


def _image_digest(x: ImageSequence, y: Tensor) -> str:
    digest = hashlib.sha256(_digest({"y": y}).encode())
    digest.update(f"{tuple(x.shape)}".encode())
    for start in range(0, len(x), _IMAGES_AT_ONCE):
        digest.update(_digest({"x": x[start : start + _IMAGES_AT_ONCE]}).encode())
    return digest.hexdigest()


def _digest(tensors: Mapping[str, Any], text: str = "") -> str:
    digest = hashlib.sha256(text.encode())
    for name, value in tensors.items():
        if isinstance(value, Tensor):  # the state of a module may hold other things
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            flat = value.detach().cpu().contiguous().reshape(-1)
            digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()
