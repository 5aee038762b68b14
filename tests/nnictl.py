"""Real experiments for the tests: NNI's own manager, in a home folder that goes with the test."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml


def free_port() -> int:
    """Choose a port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Nnictl:
    """The command ``nnictl`` with a home folder of its own.

    NNI keeps its list of experiments, and by default their folders, under ``~/nni-experiments``.
    """

    home: Path

    def __call__(self, *arguments: str, timeout: float = 120) -> str:
        """Run it with the environment's Python first in PATH, as trials say ``python3``."""
        programs = Path(sys.executable).parent
        done = subprocess.run(
            [programs / "nnictl", *arguments],
            env={
                **os.environ,
                "HOME": str(self.home),
                "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0, f"nnictl {' '.join(arguments)}:\n{done.stdout}"
        return done.stdout

    def manifest(self) -> dict[str, Any]:
        """Read NNI's list of experiments."""
        return dict(json.loads((self.home / "nni-experiments" / ".experiment").read_text()))


@contextlib.contextmanager
def running_experiment(config: dict[str, Any], folder: Path) -> Iterator[tuple[Nnictl, str, int]]:
    """Start an experiment below an empty folder; stop it in the end.

    Yields ``nnictl``, the experiment's identifier and its port. The home folder is
    ``folder / "home"``; relative paths in the configuration start from *folder*.
    """
    nnictl = Nnictl(folder / "home")
    nnictl.home.mkdir()
    file = folder / "experiment.yml"
    file.write_text(yaml.safe_dump(config))
    port = free_port()
    try:
        nnictl("create", "--config", str(file), "--port", str(port))
        (experiment_id,) = nnictl.manifest()
        yield nnictl, experiment_id, port
    finally:
        nnictl("stop", "--all")
