"""Run every table of examples/tables under NNI's manager, and print the seconds that each takes.

    python benchmarks/run_tables.py [NAME ...] [--scale SCALE] [--keep FOLDER] [--port PORT]

NAME is a file name without suffix, such as r_tab1; by default all tables run, trainings before the
attacks on the trained networks. NNI's list of experiments and the results are saved to FOLDER, or
to a temporary folder. Scales other than ``small`` expect the datasets in FOLDER/data. The exit
status is 1 if a table failed.

Last figures, with the number of trials, which all succeeded: two cores of an AMD EPYC, one thread
per trial, Python 3.11, torch 2.13.0+cpu; 46 minutes in total.

    a_tab1               64 s  10        r_tab4              103 s   4
    a_tab1_clean         63 s  10        r_tab6               65 s   4
    a_tab2_source        20 s   1        r_tab7               44 s   6
    a_tab4              101 s   6        a_fig3              275 s  40
    a_tab5               92 s   5        a_tab2               32 s   5
    comparison          221 s  15        a_tab3               97 s  25
    r_fig5               80 s   9        comparison_attack   107 s  15
    r_fig7               70 s   4        r_fig10              58 s   8
    r_tab1              693 s  16        r_tab2               55 s   6
    r_tab3              252 s  12        r_tab8              259 s  36
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from nni_robust.manager.experiments import find_experiment, read_manifest
from nni_robust.manager.follow import follow

TABLES = Path(__file__).parents[1] / "examples" / "tables"


def names() -> list[str]:
    """Return the names of the experiments, trainings before the attacks on their networks."""
    files = [path for path in TABLES.glob("*.yml") if not path.stem.endswith("_rows")]
    return [
        path.stem
        for path in sorted(files, key=lambda path: (" attack " in path.read_text(), path.stem))
    ]


def write_scaled(name: str, scale: str, folder: Path) -> Path:
    """Write a copy of an experiment with another scale to a folder, and return its path."""
    content = yaml.safe_load((TABLES / f"{name}.yml").read_text())
    content["trialCommand"] = content["trialCommand"].replace("--scale full", f"--scale {scale}")
    content["trialConcurrency"] = 2  # two cores, one thread per trial
    if "classArgs" in content["tuner"]:
        content["tuner"]["classArgs"]["scale"] = scale
    file = folder / f"{name}.yml"
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return file


def nnictl(*arguments: str) -> None:
    """Run NNI's command with this Python first in PATH, because trials call ``python3``."""
    programs = Path(sys.executable).parent
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(
        [programs / "nnictl", *arguments],
        env={**os.environ, "PATH": path, "PYTHONWARNINGS": "ignore"},
        stdout=subprocess.DEVNULL,
        check=True,
    )


def run(name: str, scale: str, folder: Path, port: int) -> int:
    """Run one experiment to its end, print its time and return its exit status."""
    started = time.monotonic()
    before = set(read_manifest())
    nnictl("create", "--config", str(write_scaled(name, scale, folder)), "--port", str(port))
    (experiment_id,) = set(read_manifest()) - before
    try:
        outcome = follow(find_experiment(experiment_id))
    finally:
        nnictl("stop", experiment_id)
    seconds = time.monotonic() - started
    status = outcome.exit_status or int(outcome.failed > 0)
    print(
        f"{name:<16}{seconds:8.0f} s  {outcome.succeeded:3} trials  {outcome.message}", flush=True
    )
    return status


def main() -> int:
    """Run the requested tables and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--scale", default="small")
    parser.add_argument("--keep", type=Path, metavar="FOLDER")
    parser.add_argument("--port", type=int, default=8899)
    options = parser.parse_args()
    if unknown := set(options.names) - set(names()):
        parser.error(f"NAME must be one of {names()}, got {sorted(unknown)}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = (options.keep or Path(scratch)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        os.environ["HOME"] = str(folder)  # where NNI keeps its experiments
        for file in TABLES.glob("*_rows.yml"):
            shutil.copy(file, folder)
        chosen = [name for name in names() if name in options.names or not options.names]
        statuses = [run(name, options.scale, folder, options.port) for name in chosen]
    return max(statuses, default=0)


if __name__ == "__main__":
    sys.exit(main())
