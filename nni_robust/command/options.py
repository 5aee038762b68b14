"""Options that several commands share, as checked values.

:mod:`nni_robust.command.arguments` says what each option means.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from nni_robust.check import SettingError, check_count, check_seed, one_line
from nni_robust.data.module import SplitName
from nni_robust.job.base import choose_device
from nni_robust.results.files import check_writable


@dataclass(frozen=True, kw_only=True)
class TargetOptions:
    """Which network is attacked, on which data, and under which threat model."""

    network: Path | dict[str, Any]
    weights: Path | None = None
    data: dict[str, Any] | None = None
    root: str | None = None
    norm: str | None = None
    epsilon: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.network, Path) and self.weights is not None:
            raise SettingError("must be left out: a folder of results has its own.", "--weights")

    @classmethod
    def read(cls, given: argparse.Namespace) -> TargetOptions:
        """Read the options from a command line."""
        return cls(
            network=read_network(given.network),
            weights=given.weights,
            data=None if given.data is None else read_section(given.data, "--data"),
            root=given.root,
            norm=given.norm,
            epsilon=given.epsilon,
        )


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a network is attacked, and where the records are saved."""

    split: SplitName
    batch_size: int
    seed: int
    device: str
    output: Path | None

    def __post_init__(self) -> None:
        check_count("--batch-size", self.batch_size)
        check_seed(self.seed, "--seed")
        if self.output is not None:
            check_writable(self.output.absolute(), "--output")

    @classmethod
    def read(cls, given: argparse.Namespace) -> RunOptions:
        """Read the options from a command line."""
        return cls(
            split=given.split,
            batch_size=given.batch_size,
            seed=given.seed,
            device=given.device,
            output=given.output,
        )

    @property
    def torch_device(self) -> torch.device:
        """The device; an unknown one raises a SettingError."""
        if self.device == "auto":
            return choose_device("auto")
        try:
            probe = torch.zeros(1, device=self.device)
            probe.item()  # not every device holds numbers
            return probe.device
        except (RuntimeError, AssertionError) as error:  # torch asserts that it was built for it
            reason = one_line(str(error).splitlines()[0])
            raise SettingError(
                f"must be auto or a device of this machine, got {self.device!r}: {reason}",
                "--device",
            ) from error


def read_option(text: str, name: str) -> Any:
    """Return the content of an option in YAML; the name is that of the option."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingError(f"must be YAML, got {text!r}: {one_line(error)}.", name) from error


def read_folder(text: str | Path) -> Path:
    """Return a folder of results; raise a SettingError if there is none."""
    if not str(text) or not Path(text).is_dir():
        raise SettingError(f"must be a folder of results, got {str(text)!r}.", "DIR")
    return Path(text)


def read_network(text: str) -> Path | dict[str, Any]:
    """Return a folder of results if there is one, or else the section of a network."""
    if not text.strip():
        raise SettingError("must be a folder or the name of a network, got ''.", "network")
    return Path(text) if Path(text).is_dir() else read_section(text, "network")


def read_section(text: str, name: str) -> dict[str, Any]:
    """Return a section from its name or from YAML."""
    content = read_option(text, name) if text.lstrip().startswith("{") else {"name": text}
    if not isinstance(content, dict) or "name" not in content:
        raise SettingError(f"must be a mapping with a name, got {text!r}.", name)
    return content
