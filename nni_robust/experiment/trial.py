"""One trial of the strategy host: read the task, do it, report once."""

from __future__ import annotations

import json
import logging
import os
import time
import warnings
from pathlib import Path
from urllib.parse import urlparse

import nni
import torch

from nni_robust.experiment.config import build_search
from nni_robust.experiment.manager import local_session
from nni_robust.experiment.task import read_task, results_folder

_ATTEMPTS = 20
_TIMEOUT = 30.0  # seconds


def run_trial(directory: str | None) -> None:
    """Do what NNI's manager asks this process for.

    Parameters
    ----------
    directory
        Folder of the results of experiments, or None for NNI's own folder of this experiment.
    """
    # NNI's folder of a trial is EXPERIMENT/environments/local-env/trials/TRIAL.
    experiment = Path(os.environ["NNI_OUTPUT_DIR"]).absolute().parents[3]
    results = results_folder(experiment, directory, nni.get_experiment_id())
    task = read_task(results, _own_parameter_id())
    # Trials that share cores must not share threads: those that wait would spin.
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // task.concurrency))
    _quieten()
    search = build_search(task.settings, directory=results)
    model = search.executable().freeze(task.sample)
    model.execute()


def _own_parameter_id() -> int:
    """Receive the number of this trial's parameters: of those that the manager has on record.

    NNI's local service hands out parameters in the order in which trials ask, and may so swap
    those of trials that start together; its records, its web page and a resume go by the order
    in which they were started.
    """
    nni.get_next_parameter()
    if os.environ.get("NNI_PLATFORM") != "local":
        return int(nni.trial._params["parameter_id"])
    channel = urlparse(os.environ["NNI_TRIAL_COMMAND_CHANNEL"])
    prefix = channel.path.split("/env/")[0]
    url = f"http://{channel.netloc}{prefix}/api/v1/nni/trial-jobs/{nni.get_trial_id()}"
    for _ in range(_ATTEMPTS):
        with local_session() as session:
            answer = session.get(url, timeout=_TIMEOUT)
        if answer.ok and answer.json().get("hyperParameters"):
            record = json.loads(answer.json()["hyperParameters"][0])
            nni.trial._params = record  # what NNI labels this trial's reports by
            return int(record["parameter_id"])
        time.sleep(0.5)  # the manager starts a trial before it writes it down
    raise RuntimeError(
        f"the manager has no parameters on record for trial {nni.get_trial_id()}: {url} answers "
        f"{answer.status_code}."
    )


def _quieten() -> None:
    for name in ("pytorch_lightning", "onnx_ir", "onnxscript", "torch.onnx"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Lightning advises on data loaders with workers; ours hold the images in memory.
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
