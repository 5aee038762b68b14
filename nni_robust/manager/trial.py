"""One trial: read what is to be done, do it, report once."""

from __future__ import annotations

import json
import logging
import os
import time
import warnings
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import nni
import torch

from nni_robust.job.build import build_job, build_search
from nni_robust.manager.experiments import local_session
from nni_robust.manager.trial_input import read_task, results_folder
from nni_robust.settings.sections import read_sections

_ATTEMPTS = 20
_TIMEOUT = 30.0  # seconds


def run_trial(directory: str | None) -> None:
    """Do what NNI's manager asks this process for.

    Parameters
    ----------
    directory
        Folder of the results of experiments, or None for NNI's own folder of this experiment.
    """
    results = _results(directory)
    task = read_task(results, int(_own_record()["parameter_id"]))
    _share_cores(task.concurrency)
    _quieten()
    search = build_search(task.settings, directory=results)
    model = search.executable().freeze(task.sample)
    model.execute()


def run_job(command: str, file: Path, directory: str | None, scale: str | None = None) -> Path:
    """Run the job of a settings file: in this process, or as a trial of an NNI experiment.

    Parameters
    ----------
    command
        ``search``, ``train`` or ``attack``; see :func:`~nni_robust.job.build.build_job`.
    file
        The settings file. In a trial, NNI's parameters are applied to it.
    directory
        Folder of the results, or None for ``directory`` in the file, else ``results``. In a trial:
        folder of the results of experiments, or None for NNI's own folder of this experiment.
    scale
        One of the file's ``scales``, or None for ``scale`` in the file, else ``full``.

    Returns
    -------
    Path
        Folder of the results.

    Raises
    ------
    SettingError
        With the path of the key.
    """
    _quieten()
    parameters: dict[str, Any] = {}
    if in_trial():
        parameters = _own_record()["parameters"]
        _share_cores(_concurrency())
    sections = read_sections(file, parameters=parameters, scale=scale)
    if in_trial():
        results: Path = _results(directory) / nni.get_trial_id()
    else:
        results = Path(directory or str(sections.get("directory") or "results"))
    build_job(command, sections, directory=results).run()
    return results


def in_trial() -> bool:
    """Whether NNI's manager has started this process as a trial."""
    return bool(os.environ.get("NNI_TRIAL_JOB_ID")) and bool(os.environ.get("NNI_OUTPUT_DIR"))


def _results(directory: str | None) -> Path:
    # NNI's folder of a trial is EXPERIMENT/environments/local-env/trials/TRIAL.
    experiment = Path(os.environ["NNI_OUTPUT_DIR"]).absolute().parents[3]
    return results_folder(experiment, directory, nni.get_experiment_id())


def _share_cores(trials: int) -> None:
    # Trials that share cores must not share threads: those that wait would spin.
    cores = len(os.sched_getaffinity(0)) // trials
    torch.set_num_threads(max(1, min(cores, torch.get_num_threads())))


def _own_record() -> dict[str, Any]:
    """Receive this trial's parameters: those that the manager has on record.

    NNI's local service hands out parameters in the order in which trials ask, and may so swap
    those of trials that start together; its records, its web page and a resume go by the order
    in which they were started.
    """
    nni.get_next_parameter()
    if os.environ.get("NNI_PLATFORM") != "local":
        return dict(nni.trial._params)
    trial = f"trial-jobs/{nni.get_trial_id()}"
    for _ in range(_ATTEMPTS):
        answer = _ask_manager(trial)
        if answer.get("hyperParameters"):
            record: dict[str, Any] = json.loads(answer["hyperParameters"][0])
            nni.trial._params = record  # what NNI labels this trial's reports by
            return record
        time.sleep(0.5)  # the manager starts a trial before it writes it down
    raise RuntimeError(f"the manager has no parameters on record for trial {nni.get_trial_id()}.")


def _concurrency() -> int:
    """Trials that share this machine."""
    if os.environ.get("NNI_PLATFORM") != "local":
        return 1
    return int(_ask_manager("experiment").get("params", {}).get("trialConcurrency", 1))


def _ask_manager(path: str) -> dict[str, Any]:
    channel = urlparse(os.environ["NNI_TRIAL_COMMAND_CHANNEL"])
    prefix = channel.path.split("/env/")[0]
    url = f"http://{channel.netloc}{prefix}/api/v1/nni/{path}"
    with local_session() as session:
        answer = session.get(url, timeout=_TIMEOUT)
    return answer.json() if answer.ok else {}


def _quieten() -> None:
    noisy = ("pytorch_lightning", "nni.nas.evaluator", "onnx_ir", "onnxscript", "torch.onnx")
    for name in noisy:
        logging.getLogger(name).setLevel(logging.WARNING)
    # Lightning advises on data loaders with workers; ours hold the images in memory.
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    warnings.filterwarnings("ignore", ".*LeafSpec.*")  # of Lightning's own making
