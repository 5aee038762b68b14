"""The files of a search: checkpoints, the chosen network, where everything lies."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nni_robust.atomic import replacing
from nni_robust.check import SettingError
from nni_robust.record import Record

FORMAT = 1
"""Version of the files; a reader refuses another."""


_PLACES = ("directory", "root")


class SearchFiles:
    """Paths of a search's files below one folder.

    Parameters
    ----------
    directory
        The folder; on storage that all machines of the search share.

    Notes
    -----
    ``supernet.pt``; ``supernet.ckpt``, from which an interrupted training goes on;
    ``candidates/KEY.pt``; ``records.jsonl``, a line for every evaluated network;
    ``final/KEY/``, the chosen network as ``genotype.json``, ``weights.pt``, ``network.onnx``, and
    drawn, ``cells.svg`` and ``cells.png``. A one-shot search has ``derived.json``,
    ``network.ckpt``, ``best.pt`` and ``last.pt`` besides, the training of its network.
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
        """Sample of the network that a one-shot search has derived."""
        return self.directory / "derived.json"

    @property
    def records(self) -> Path:
        """Every evaluated network, one JSON line each."""
        return self.directory / "records.jsonl"

    def claim(self, settings: Mapping[str, Any]) -> None:
        """Reserve the folder for one search: note its settings, or compare with those noted.

        Raises
        ------
        ValueError
            If the folder holds another search, whose weights and records would be mixed in.
        """
        path = self.directory / "settings.json"
        text = json.dumps(settings, indent=1, sort_keys=True)
        asked = json.loads(text)  # as it is read again: a tuple is a list
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
    """Name a network by ten hexadecimal digits that depend on its sample alone."""
    text = json.dumps(dict(sample), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def write_chosen(folder: Path, record: Record) -> None:
    """Write ``genotype.json``: what the network is, and how it was measured."""
    content = {
        "format": FORMAT,
        "genotype": record.genotype,
        "sample": record.sample,
        "settings": record.settings,
        "metrics": record.metrics,
        "seed": record.seed,
        "versions": record.versions,
    }
    write_text(folder / "genotype.json", json.dumps(content, indent=1))


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
    """Write a text file: whole, or not at all."""
    with replacing(path) as scratch:
        scratch.write_text(f"{text}\n")


def export_onnx(path: Path, network: nn.Module, image_shape: tuple[int, int, int]) -> None:
    """Write a network as ONNX, for batches of any size.

    Parameters
    ----------
    path
        The file.
    network
        Runs in evaluation mode.
    image_shape
        (C, H, W).
    """
    network = network.cpu().eval()
    # A batch of two, since an exporter takes a size of one for a constant.
    example = torch.zeros(2, *image_shape)
    with _errors_only("torch.onnx"):  # it reports that torchvision is not installed
        program = torch.onnx.export(
            network,
            (example,),
            input_names=["x"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    program.save(str(path))


@contextmanager
def _errors_only(name: str) -> Iterator[None]:
    """Raise the level of a logger for the time of the block."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def tensorboard_directory() -> Path | None:
    """Folder that the TensorBoard button of NNI's web page reads, for the current trial.

    Returns
    -------
    Path or None
        None outside a trial of NNI's local training service.
    """
    output, trial = os.environ.get("NNI_OUTPUT_DIR"), os.environ.get("NNI_TRIAL_JOB_ID")
    if os.environ.get("NNI_PLATFORM") != "local" or not output or not trial:
        return None
    # The trial's folder is EXPERIMENT/environments/local-env/trials/TRIAL; the button looks
    # elsewhere.
    experiment = Path(output).absolute().parents[3]
    return experiment / "trials" / trial / "output" / "tensorboard"
