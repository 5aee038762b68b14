"""Real experiments for the tests: NNI's own manager, with a home folder for each test."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from nni_robust.manager.client import Client, Trial
from nni_robust.manager.experiments import ExperimentEntry
from nni_robust.manager.follow import Outcome, follow


def free_port() -> int:
    """Return a port on which nobody listens."""
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
        """Run it with the environment's Python first in PATH, because trials say ``python3``."""
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
        """Return NNI's list of experiments."""
        return dict(json.loads((self.home / "nni-experiments" / ".experiment").read_text()))


@dataclass
class Experiment:
    """A running experiment, and what its manager knows of it."""

    nnictl: Nnictl
    entry: ExperimentEntry

    @classmethod
    def of(cls, nnictl: Nnictl, experiment_id: str, port: int) -> Experiment:
        """Return the experiment that :func:`running_experiment` yields."""
        directory = nnictl.home / "nni-experiments" / experiment_id
        return cls(nnictl, ExperimentEntry(experiment_id, "", port, "", directory))

    @property
    def results(self) -> Path:
        return self.entry.directory / "results"

    def trials(self) -> list[Trial]:
        return Client(self.entry.address).trials()

    def stages(self, status: str) -> list[str | None]:
        return [trial.stage for trial in self.trials() if trial.status == status]

    def intermediates(self) -> list[dict[str, Any]]:
        return [report for trial in self.trials() for report in trial.intermediates]

    def end(self) -> Outcome:
        return follow(self.entry, timeout=400)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 200
        while not condition():
            assert time.monotonic() < deadline, f"waited in vain; trials: {self.trials()}"
            time.sleep(0.5)

    def stop_and_resume(self) -> None:
        self.nnictl("stop", self.entry.id)
        self.nnictl("resume", self.entry.id, "--port", str(self.entry.port))


@contextlib.contextmanager
def running_experiment(config: dict[str, Any], folder: Path) -> Iterator[tuple[Nnictl, str, int]]:
    """Start an experiment below an empty folder, and stop it at the end.

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
