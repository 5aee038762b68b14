"""Run one trial: read its task, carry it out, report once."""

from __future__ import annotations

import logging
import os
import time
import warnings
from pathlib import Path
from typing import Any

import nni
import torch

from nni_robust.check import SettingError
from nni_robust.job.build import build_job, build_search
from nni_robust.manager.client import Client
from nni_robust.manager.experiments import results_folder
from nni_robust.manager.trial_input import read_trial_input
from nni_robust.settings.sections import read_sections

_ATTEMPTS = 20


def in_trial() -> bool:
    """Whether NNI's manager has started this process as a trial."""
    return bool(os.environ.get("NNI_TRIAL_JOB_ID")) and bool(os.environ.get("NNI_OUTPUT_DIR"))


def run_trial(directory: str | None) -> None:
    """Evaluate the sample that the strategy host has submitted for this trial.

    Parameters
    ----------
    directory
        Folder of the results of experiments, or None for NNI's own folder of this experiment.

    Raises
    ------
    SettingError
        If NNI's manager has not started this process, or the trial's input is missing.
    """
    if not in_trial():
        raise SettingError(
            "this command is a trial of an experiment, and only NNI's manager runs it. Start an "
            "experiment with `nnictl create --config FILE`. To run a whole one-shot search or a "
            "training in this process, use `nni-robust search FILE` or `nni-robust train FILE`."
        )
    results = _results(directory)
    trial_input = read_trial_input(results, int(_own_record()["parameter_id"]))
    _share_cores(trial_input.concurrency)
    _quieten()
    search = build_search(trial_input.settings, directory=results)
    search.executable().freeze(trial_input.sample).execute()


def run_job(command: str, file: Path, directory: str | None, scale: str | None = None) -> Path:
    """Run the job of a settings file, in this process or as a trial of an NNI experiment.

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
    if in_trial():
        sections = read_sections(file, parameters=_own_record()["parameters"], scale=scale)
        _share_cores(_concurrency())
        results: Path = _results(directory) / nni.get_trial_id()
    else:
        sections = read_sections(file, scale=scale)
        results = Path(directory or str(sections.get("directory") or "results"))
    build_job(command, sections, directory=results).run()
    return results


def _results(directory: str | None) -> Path:
    """Return the folder of the results of the experiment that this trial belongs to."""
    # NNI's folder of a trial is EXPERIMENT/environments/local-env/trials/TRIAL.
    experiment = Path(os.environ["NNI_OUTPUT_DIR"]).absolute().parents[3]
    return results_folder(experiment, directory, nni.get_experiment_id())


def _share_cores(trials: int) -> None:
    # Trials that share cores must not share threads: those that wait would spin.
    cores = len(os.sched_getaffinity(0)) // trials
    torch.set_num_threads(max(1, min(cores, torch.get_num_threads())))


def _own_record() -> dict[str, Any]:
    """Receive this trial's parameters: those that the manager has on record.

    NNI's local service hands out parameters in the order in which trials ask, and so may swap
    those of trials that start together. Its records, its web page and a resume follow the order
    in which the trials were started.
    """
    nni.get_next_parameter()
    if os.environ.get("NNI_PLATFORM") != "local":
        return dict(nni.trial._params)
    for _ in range(_ATTEMPTS):
        record = _client().record(nni.get_trial_id())
        if record is not None:
            nni.trial._params = record  # NNI labels this trial's reports with it
            return record
        time.sleep(0.5)  # the manager starts a trial before it writes it down
    raise RuntimeError(f"the manager has no parameters on record for trial {nni.get_trial_id()}.")


def _concurrency() -> int:
    """Return the number of trials that share this machine."""
    if os.environ.get("NNI_PLATFORM") != "local":
        return 1
    return int(_client().profile()["params"].get("trialConcurrency", 1))


def _client() -> Client:
    return Client.of_channel(os.environ["NNI_TRIAL_COMMAND_CHANNEL"])


def _quieten() -> None:
    for name in ("pytorch_lightning", "onnx_ir", "onnxscript", "torch.onnx"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # NNI warns that validation loaders are missing; the callbacks measure on validation images.
    logging.getLogger("nni.nas.evaluator").setLevel(logging.ERROR)
    # Lightning recommends data loaders with workers; ours hold the images in memory.
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    warnings.filterwarnings("ignore", ".*LeafSpec.*")  # caused by Lightning itself
