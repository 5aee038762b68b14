"""The files of a search or training: where each is, and whose folder it is."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nni_robust.atomic import replacing
from nni_robust.check import SettingError

FORMAT = 1
"""Version of the files; a reader refuses any other."""

_PLACES = ("directory", "root")


class SearchFiles:
    """The paths of a search's files below one folder.

    Parameters
    ----------
    directory
        The folder, on storage that all machines of the search share.

    Notes
    -----
    ``settings.json``, the settings that own the folder; ``records.jsonl``, one line per evaluated
    network; ``supernet.pt``, and ``supernet.ckpt``, from which its training continues;
    ``candidates/KEY.pt``; ``final/KEY/``, the chosen network: ``genotype.json``, ``weights.pt``,
    ``network.onnx``, and the drawings ``cells.svg`` and ``cells.png``. A one-shot search also has
    ``derived.json``, and the files of a training: ``network.ckpt``, ``best.pt`` and ``last.pt``.
    """

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory).expanduser().absolute()

    @property
    def supernet(self) -> Path:
        """Weights of the trained supernet."""
        return self.directory / "supernet.pt"

    @property
    def training(self) -> Path:
        """State of the supernet's training after its last epoch."""
        return self.directory / "supernet.ckpt"

    @property
    def derived(self) -> Path:
        """Sample of the network that a one-shot search derived."""
        return self.directory / "derived.json"

    @property
    def records(self) -> Path:
        """One JSON line per evaluated network."""
        return self.directory / "records.jsonl"

    def claim(self, settings: Mapping[str, Any]) -> None:
        """Reserve the folder for one job: store its settings, or compare them with those stored.

        Raises
        ------
        SettingError
            If the folder holds the results of another job, or its settings are damaged.
        """
        path = self.directory / "settings.json"
        text = json.dumps(settings, indent=1, sort_keys=True)
        asked = json.loads(text)  # in the form in which it is read again: a tuple is a list
        if not path.is_file():
            check_writable(self.directory, "directory")
            write_text(path, text)
            return
        try:
            noted = json.loads(path.read_text())
        except ValueError as error:
            raise SettingError(
                f"{str(path)!r} must be JSON, but it is damaged: {error}. Delete it if the folder "
                "holds this very search."
            ) from error
        keys = sorted(
            key
            for key in {*noted, *asked}
            if noted.get(key) != asked.get(key)
            and key.rpartition(".")[2] not in _PLACES  # folders may be moved
        )
        if keys:
            raise SettingError(
                f"must be empty or hold this very search, but {str(self.directory)!r} holds one "
                f"that differs in {', '.join(keys)}. Choose another directory.",
                "directory",
            )

    def candidate(self, sample: Mapping[str, Any]) -> Path:
        """Weights of a fine-tuned candidate."""
        return self.directory / "candidates" / f"{sample_key(sample)}.pt"

    def final(self, sample: Mapping[str, Any]) -> Path:
        """Folder of a chosen network."""
        return self.directory / "final" / sample_key(sample)

    def finals(self) -> list[Path]:
        """Folders of all chosen networks."""
        return sorted(path.parent for path in self.directory.glob("final/*/genotype.json"))


def sample_key(sample: Mapping[str, Any]) -> str:
    """Return ten hexadecimal digits that depend on the sample alone."""
    text = json.dumps(dict(sample), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def check_writable(folder: Path, name: str) -> None:
    """Raise a SettingError, with the key *name*, if a folder cannot be created or written to."""
    there = next(place for place in (folder, *folder.parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise SettingError(
            f"must be a place where files can be written, but {str(folder)!r} is not: "
            f"{error.strerror}.",
            name,
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write a text file as a whole or not at all."""
    with replacing(path) as scratch:
        scratch.write_text(f"{text}\n")
