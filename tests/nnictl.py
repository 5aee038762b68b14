"""Real experiments for the tests: NNI's own manager, in a home folder that goes with the test."""

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

import requests
import yaml

from nni_robust.manager.experiments import ExperimentEntry
from nni_robust.manager.follow import Outcome, follow


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


@dataclass
class Experiment:
    """A running experiment, and what its manager tells."""

    nnictl: Nnictl
    entry: ExperimentEntry

    @classmethod
    def of(cls, nnictl: Nnictl, experiment_id: str, port: int) -> Experiment:
        """Take what :func:`running_experiment` yields."""
        directory = nnictl.home / "nni-experiments" / experiment_id
        return cls(nnictl, ExperimentEntry(experiment_id, "", port, "", directory))

    @property
    def results(self) -> Path:
        return self.entry.directory / "results"

    def jobs(self) -> list[dict[str, Any]]:
        jobs = requests.get(f"{self.entry.api}/trial-jobs", timeout=20).json()
        return [job | {"record": json.loads(job["hyperParameters"][0])} for job in jobs]

    def stages(self, status: str) -> list[str]:
        jobs = [job for job in self.jobs() if job["status"] == status]
        return [job["record"]["parameters"].get("stage") for job in jobs]

    def reports(self, kind: str = "PERIODICAL") -> list[dict[str, Any]]:
        metrics = requests.get(f"{self.entry.api}/metric-data", timeout=20).json()
        return [json.loads(json.loads(m["data"])) for m in metrics if m["type"] == kind]

    def end(self) -> Outcome:
        return follow(self.entry, timeout=400)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 200
        while not condition():
            assert time.monotonic() < deadline, f"waited in vain; trials: {self.jobs()}"
            time.sleep(0.5)

    def stop_and_resume(self) -> None:
        self.nnictl("stop", self.entry.id)
        self.nnictl("resume", self.entry.id, "--port", str(self.entry.port))


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
